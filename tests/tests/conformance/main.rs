//! Flows as data, run by `podrun` on a cluster: each folder below `tests/conformance` is a test of that name. Without a
//! cluster, what they expect is only read.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use podrun_tests::conformance::{Case, Stage, cases};

/// Cases that run at a time, unless `--test-threads` says otherwise: they mostly wait.
const AT_ONCE: usize = 10;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // There is no test yet that could fail.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let cases = cases(&root)?;
    let on_a_cluster = (arguments.ignored || arguments.include_ignored) && !arguments.list;
    let stage = on_a_cluster.then(Stage::new).transpose()?.map(Arc::new);
    let mut trials = vec![Trial::test("every_expectation_can_be_read", {
        let cases = cases.clone();
        move || read(&cases)
    })];
    for case in cases {
        let stage = stage.clone();
        let trial = Trial::test(case.name.clone(), move || match &stage {
            Some(stage) => Ok(case.run(stage)?),
            None => Err("needs a cluster".into()),
        });
        trials.push(trial.with_ignored_flag(true));
    }
    Ok(libtest_mimic::run(arguments, trials).exit_code())
}

fn read(cases: &[Case]) -> Result<(), Failed> {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| case.check().err().map(|error| format!("{}: {error:#}", case.name)))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("\n").into())
}
