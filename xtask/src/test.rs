//! `cargo xtask test`: set-up, build, every check, then the tests on a cluster that is made for them and taken down again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{self, Barriers, Products, TestProgram, cargo};
use crate::cluster::{self, ApiServer, Running};
use crate::demo;
use crate::deny;
use crate::interrupt;
use crate::mutants;
use crate::places;
use crate::progress::{Elapsed, Step};
use crate::setup::{self, Needs, WASM};

/// What is tested.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Options {
    /// Also what takes long: more repetitions, an API server of the next version, mutants
    #[arg(long)]
    full: bool,
    /// Run the cluster tests on the cluster that KUBECONFIG names, as whoever it names
    #[arg(long)]
    use_current_cluster: bool,
}

/// How a step ended.
#[derive(Clone, Debug)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// All steps so far.
#[derive(Debug, Default)]
struct Report {
    steps: Vec<(String, Verdict, Duration)>,
}

impl Report {
    /// Carries out a step and keeps how it ended. After an interrupt nothing more is started.
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        if interrupt::requested() {
            self.skip(name, "interrupted");
            return None;
        }
        let step = Step::start(name);
        let started = Instant::now();
        match work() {
            Ok(value) => {
                self.steps.push((name.to_owned(), Verdict::Passed, step.done("")));
                Some(value)
            }
            Err(error) => {
                eprintln!("✗ {name} ({}): {error:#}", Elapsed(started.elapsed()));
                self.steps.push((
                    name.to_owned(),
                    Verdict::Failed(format!("{error:#}")),
                    started.elapsed(),
                ));
                None
            }
        }
    }

    fn skip(&mut self, name: &str, reason: &str) {
        eprintln!("- {name}: skipped, {reason}");
        self.steps
            .push((name.to_owned(), Verdict::Skipped(reason.to_owned()), Duration::ZERO));
    }

    fn failures(&self) -> usize {
        self.steps
            .iter()
            .filter(|(_, verdict, _)| matches!(verdict, Verdict::Failed(_)))
            .count()
    }

    /// The table at the end.
    fn table(&self) -> String {
        let mut table = String::new();
        for (name, verdict, elapsed) in &self.steps {
            let line = match verdict {
                Verdict::Passed => format!("  passed   {:>12}  {name}\n", Elapsed(*elapsed).to_string()),
                Verdict::Failed(reason) => {
                    let reason = reason.lines().next().unwrap_or_default();
                    format!("  FAILED   {:>12}  {name}: {reason}\n", Elapsed(*elapsed).to_string())
                }
                Verdict::Skipped(reason) => format!("  skipped  {:>12}  {name}: {reason}\n", ""),
            };
            table.push_str(&line);
        }
        table
    }
}

/// Runs the tests; an error when anything failed.
pub(crate) fn test(options: Options) -> Result<()> {
    let started = Instant::now();
    let given = demo::given_kubeconfig();
    if options.use_current_cluster {
        let path = given
            .as_ref()
            .context("--use-current-cluster needs KUBECONFIG to name a cluster")?;
        eprintln!(
            "· testing on the cluster that KUBECONFIG names: context `{}` of {}",
            demo::context(path),
            path.display()
        );
    }
    setup::ensure(Needs {
        build: true,
        cluster: !options.use_current_cluster,
        images: !options.use_current_cluster,
        hosts: true,
    })?;
    let mut report = Report::default();
    if let Some(products) = report.step("build", || cargo::build(Barriers::With)) {
        checks(&mut report);
        tests_without_a_cluster(&mut report, &products);
        match (options.use_current_cluster, given) {
            (true, Some(kubeconfig)) => tests_on_given_cluster(&mut report, &products, &kubeconfig, options),
            _ => tests_on_own_cluster(&mut report, &products, options),
        }
    }
    println!("\n{}", report.table());
    let failures = report.failures();
    if failures > 0 {
        bail!(
            "{failures} of {} steps failed after {}",
            report.steps.len(),
            Elapsed(started.elapsed())
        );
    }
    if interrupt::requested() {
        bail!("interrupted after {}", Elapsed(started.elapsed()));
    }
    println!("all passed in {}", Elapsed(started.elapsed()));
    Ok(())
}

/// Which mutants are checked, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct MutantOptions {
    /// Only these, by the names of their files in tests/mutants
    names: Vec<String>,
    /// Run the cluster tests on the cluster that KUBECONFIG names, as whoever it names
    #[arg(long)]
    use_current_cluster: bool,
}

/// Checks mutants alone, on a cluster of their own.
pub(crate) fn mutants(options: &MutantOptions) -> Result<()> {
    setup::ensure(Needs {
        build: true,
        cluster: !options.use_current_cluster,
        images: !options.use_current_cluster,
        hosts: false,
    })?;
    let products = cargo::build(Barriers::With)?;
    let programs = cargo::test_programs()?;
    let mut environment = of_products(&products)?;
    if options.use_current_cluster {
        // What else the tests read, such as the audit log's place, is the caller's to set.
        return check_mutants(&programs, &environment, &options.names);
    }
    let name = cluster::test_name();
    let checked = cluster::bring_up(&name).and_then(|running| {
        environment.extend(of_cluster(&running)?);
        check_mutants(&programs, &environment, &options.names)
    });
    cluster::take_down(&name)?;
    checked
}

fn check_mutants(programs: &[TestProgram], environment: &Environment, only: &[String]) -> Result<()> {
    mutants::check(mutants::Tests { programs, environment }, only)
}

/// What needs no test program.
fn checks(report: &mut Report) {
    report.step("format", || interrupt::run(&mut cargo(&["fmt", "--all", "--check"])?));
    report.step("lints", || {
        interrupt::run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "--deny=warnings",
        ])?)
    });
    report.step("lints of the component", || {
        interrupt::run(&mut cargo(&[
            "clippy",
            "--package=podrun-runner",
            "--target",
            WASM,
            "--",
            "--deny=warnings",
        ])?)
    });
    report.step("documentation", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps", "--all-features"])?;
        interrupt::run(command.env("RUSTDOCFLAGS", "--deny=warnings"))
    });
    if report
        .step("dependencies: bans, licenses, sources", deny::check_offline)
        .is_some()
    {
        match deny::fetch_advisories() {
            Ok(()) => drop(report.step("dependencies: advisories", deny::check_advisories)),
            Err(error) => report.skip("dependencies: advisories", &format!("{error:#}")),
        }
    }
}

fn tests_without_a_cluster(report: &mut Report, products: &Products) {
    report.step("tests without a cluster", || {
        let mut command = cargo(&["test", "--workspace", "--all-features"])?;
        interrupt::run(command.envs(of_products(products)?))
    });
}

/// Makes a cluster, tests on it, and takes it down whatever happened.
fn tests_on_own_cluster(report: &mut Report, products: &Products, options: Options) {
    report.step("clusters of tests that were killed", cluster::sweep_tests);
    let name = cluster::test_name();
    let Some(programs) = report.step("build the cluster tests", cargo::test_programs) else {
        report.skip("tests on a cluster", "they did not build");
        return;
    };
    let next_name = format!("{name}-next");
    let next = if options.full {
        report.step("cluster with the next API server", || {
            cluster::bring_up_with(&next_name, ApiServer::V1_35)
        })
    } else {
        None
    };
    if let Some(running) = report.step("cluster", || cluster::bring_up(&name)) {
        let environment = || {
            let mut environment = of_products(products)?;
            environment.extend(of_options(options));
            environment.extend(of_cluster(&running)?);
            // Everything is there: a test that is left out for want of something did not pass.
            environment.push(("PODRUN_TEST_STRICT", "1".into()));
            environment.extend(next.as_ref().map(of_next_cluster).into_iter().flatten());
            Ok(environment)
        };
        run_cluster_tests(report, &programs, "podrun-tests", environment);
        if options.full {
            report.step("mutants", || check_mutants(&programs, &environment()?, &[]));
        }
        if report.failures() > 0 {
            keep_logs(&running);
        }
    }
    take_down(report, &name);
    if options.full {
        take_down(report, &next_name);
    }
    // Each of these makes clusters of its own: one test at a time is enough for the machine.
    run_cluster_tests(report, &programs, "xtask", || {
        Ok(vec![("RUST_TEST_THREADS", "1".into())])
    });
}

fn tests_on_given_cluster(report: &mut Report, products: &Products, kubeconfig: &Path, options: Options) {
    report.skip("tests of the cluster itself", "--use-current-cluster makes none");
    let Some(programs) = report.step("build the cluster tests", cargo::test_programs) else {
        return;
    };
    run_cluster_tests(report, &programs, "podrun-tests", || {
        let mut environment = of_products(products)?;
        environment.extend(of_options(options));
        environment.push(("KUBECONFIG", kubeconfig.into()));
        Ok(environment)
    });
}

/// Runs the ignored tests of a package, one program after another. One without any says so itself.
fn run_cluster_tests(
    report: &mut Report,
    programs: &[TestProgram],
    package: &str,
    environment: impl Fn() -> Result<Environment>,
) {
    for program in programs.iter().filter(|program| program.package == package) {
        report.step(&format!("{package}: {}", program.target), || {
            let mut command = Command::new(&program.executable);
            command
                .arg("--ignored")
                .current_dir(&program.folder)
                .env("CARGO_MANIFEST_DIR", &program.folder);
            interrupt::run(command.envs(environment()?))
        });
    }
}

/// Even an interrupted run takes its cluster down.
fn take_down(report: &mut Report, name: &str) {
    let started = Instant::now();
    let verdict = match cluster::take_down(name) {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}")),
    };
    report
        .steps
        .push(("cluster down".to_owned(), verdict, started.elapsed()));
}

/// Variables that tests read.
type Environment = Vec<(&'static str, OsString)>;

fn of_products(products: &Products) -> Result<Environment> {
    Ok(vec![
        ("PODRUN_BIN", products.podrun.clone().into()),
        ("PODRUN_RUNNER", products.runner.clone().into()),
        ("PODRUN_TEST_PYTHON", setup::python()?.into()),
        ("PODRUN_TEST_NODE_MODULES", setup::node_modules()?.into()),
    ])
}

fn of_options(options: Options) -> Environment {
    if options.full {
        vec![("PODRUN_TEST_FULL", "1".into())]
    } else {
        Vec::new()
    }
}

fn of_cluster(running: &Running) -> Result<Environment> {
    Ok(vec![
        ("KUBECONFIG", running.kubeconfig.clone().into()),
        (
            "PODRUN_TEST_RUNNER_KUBECONFIG",
            running.runner_kubeconfig.clone().into(),
        ),
        ("PODRUN_TEST_CLUSTER_DIR", running.folder.clone().into()),
        ("PODRUN_KUBECTL", cluster::kubectl()?.into()),
    ])
}

/// The cluster whose API server is of the next version.
fn of_next_cluster(running: &Running) -> Environment {
    vec![
        ("PODRUN_TEST_NEXT_KUBECONFIG", running.kubeconfig.clone().into()),
        (
            "PODRUN_TEST_NEXT_RUNNER_KUBECONFIG",
            running.runner_kubeconfig.clone().into(),
        ),
        ("PODRUN_TEST_NEXT_CLUSTER_DIR", running.folder.clone().into()),
    ]
}

/// A failure can be looked into after the cluster is gone.
fn keep_logs(running: &Running) {
    let keep = || -> Result<PathBuf> {
        let kept = places::cache()?.join("logs/last-failed-cluster");
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir_all(&kept)?;
        fs::copy(running.folder.join("audit.log"), kept.join("audit.log"))?;
        for entry in fs::read_dir(running.folder.join("logs"))?.flatten() {
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
        }
        Ok(kept)
    };
    match keep() {
        Ok(kept) => eprintln!("· the cluster's logs are kept in {}", kept.display()),
        Err(error) => eprintln!("· the cluster's logs could not be kept: {error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_failures_and_says_why_something_was_skipped() {
        let mut report = Report::default();
        assert_eq!(report.step("good", || Ok(7)), Some(7));
        assert_eq!(
            report.step("bad", || -> Result<()> { bail!("broken\nin two lines") }),
            None
        );
        report.skip("other", "no network");
        assert_eq!(report.failures(), 1);
        let table = report.table();
        assert!(
            table.contains("passed") && table.contains("FAILED") && table.contains("bad: broken\n"),
            "{table}"
        );
        assert!(table.contains("other: no network"), "{table}");
    }
}
