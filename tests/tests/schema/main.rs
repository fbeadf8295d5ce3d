//! What `podrun` says about flows: its schema in the eyes of another validator, and the pages of the reference.
//!
//! Needs the program and the real component, no cluster.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use podrun_tests::skip;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The program, which finds the component in its environment; none if there is none.
fn podrun() -> Option<Command> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (Some(program), Some(_)) = (set("PODRUN_BIN"), set("PODRUN_RUNNER")) else {
        skip("PODRUN_BIN and PODRUN_RUNNER are not set: `cargo xtask test` sets them");
        return None;
    };
    Some(Command::new(program))
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{}{error}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn another_validator_accepts_the_examples_and_refuses_mistakes() {
    let Some(mut podrun) = podrun() else { return };
    let Some(python) = std::env::var_os("PODRUN_TEST_PYTHON").filter(|value| !value.is_empty()) else {
        return skip("PODRUN_TEST_PYTHON is not set");
    };
    let imports = Command::new(&python)
        .args(["-c", "import jsonschema, yaml"])
        .output()
        .unwrap();
    if !imports.status.success() {
        return skip("Python has no packages jsonschema and PyYAML");
    }
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, output(podrun.arg("schema"))).unwrap();
    let examples = workspace().join("examples");
    let mistakes = workspace().join("cli/tests/mistakes");
    let mut command = Command::new(&python);
    command
        .arg(workspace().join("tests/tests/schema/validate.py"))
        .arg(&schema);
    for name in [
        "hello",
        "python",
        "seed/shell",
        "seed/python",
        "seed/defaults",
        "seed/gke",
        "seed/eks",
    ] {
        command.arg(examples.join(format!("{name}.yaml")));
    }
    command.arg("--invalid");
    for name in [
        "flow-property",
        "flow-id",
        "task-property",
        "task-type",
        "task-retry-interval",
        "script-commands-text",
        "script-output-item",
        "runner-option",
        "runner-option-value",
        "runner-config",
        "log-level",
        "input-property",
        "switch-cases",
        "many-at-once",
    ] {
        command.arg(mistakes.join(format!("{name}.yaml")));
    }
    output(&mut command);
}

#[test]
fn the_pages_of_the_reference_are_current() {
    let Some(mut podrun) = podrun() else { return };
    let folder = tempfile::tempdir().unwrap();
    output(podrun.args(["schema", "--reference"]).arg(folder.path()));
    let written = pages(folder.path());
    let committed = pages(&workspace().join("docs/reference"));
    let differ: Vec<&String> = written
        .keys()
        .chain(committed.keys())
        .filter(|name| written.get(*name) != committed.get(*name))
        .collect();
    assert!(
        differ.is_empty(),
        "{differ:?} differ: run `podrun schema --reference docs/reference`"
    );
}

/// The pages of a folder, by name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}
