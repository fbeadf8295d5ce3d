//! `cargo xtask bench`: set-up, build, a cluster of its own, and the program that measures; see `tests/src/bin/bench`.

mod agent;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::cargo::{self, Barriers, Products};
use crate::cluster;
use crate::demo;
use crate::interrupt;
use crate::places;
use crate::progress::Step;
use crate::setup::{self, Needs};

/// What is measured besides the runner.
#[derive(Clone, Debug, Subcommand)]
enum Other {
    /// Measure `podrun-agent` instead, as it is delivered, on this machine and without a cluster
    Agent(agent::Options),
}

/// What is measured.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    other: Option<Other>,
    /// Print one JSON document, with every sample, instead of the table
    #[arg(long)]
    json: bool,
    /// Measure only these parts, such as a,b,c: a submit to outcome, b first line and end, c files, d memory, e loading,
    /// f WebAssembly against native
    #[arg(long, value_name = "PARTS")]
    only: Option<String>,
    /// How often each variant is measured
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Repeat the order, pauses and files of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// How many tasks run at once in part d
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// Also find out where the time of an upload goes
    #[arg(long)]
    profile: bool,
    /// Measure on the cluster that KUBECONFIG names, as whoever it names
    #[arg(long)]
    use_current_cluster: bool,
}

impl Options {
    /// The program's own arguments.
    fn arguments(&self) -> Vec<String> {
        let flags = [(self.json, "--json"), (self.profile, "--profile")];
        let mut arguments: Vec<String> = flags
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag.to_owned())
            .collect();
        let values = [
            ("--only", self.only.clone()),
            ("--runs", self.runs.map(|runs| runs.to_string())),
            ("--seed", self.seed.map(|seed| seed.to_string())),
            ("--tasks", self.tasks.map(|tasks| tasks.to_string())),
        ];
        for (flag, value) in values {
            arguments.extend(value.map(|value| format!("{flag}={value}")));
        }
        arguments
    }
}

/// Measures; on a cluster of its own, which is taken down whatever happened, unless told otherwise.
pub(crate) fn bench(options: &Options) -> Result<()> {
    if let Some(Other::Agent(options)) = options.other {
        return agent::bench(options);
    }
    let own = !options.use_current_cluster;
    let given = demo::given_kubeconfig();
    if !own {
        let path = given
            .as_ref()
            .context("--use-current-cluster needs KUBECONFIG to name a cluster")?;
        eprintln!(
            "· measuring on the cluster that KUBECONFIG names: context `{}` of {}",
            demo::context(path),
            path.display()
        );
    }
    setup::ensure(Needs {
        build: true,
        cluster: own,
        images: own,
        hosts: false,
    })?;
    let products = cargo::build(Barriers::Without)?;
    let mut command = program(options, &products)?;
    if !own {
        if let Some(kubectl) = kubectl_if_built()? {
            command.env("PODRUN_KUBECTL", kubectl);
        }
        return interrupt::run(&mut command);
    }
    cluster::sweep_tests()?;
    let name = cluster::test_name();
    let measured = cluster::bring_up(&name).and_then(|running| {
        let _raised = Watchers::raise()?;
        command
            .arg("--disposable")
            .env("KUBECONFIG", &running.kubeconfig)
            .env("PODRUN_TEST_RUNNER_KUBECONFIG", &running.runner_kubeconfig)
            .env("PODRUN_KUBECTL", cluster::kubectl()?);
        interrupt::run(&mut command)
    });
    let step = Step::start("taking the cluster down");
    let down = cluster::take_down(&name);
    step.done("");
    measured.and(down)
}

/// How many inotify instances a user may have. The kubelet takes one for each log that it follows, and many machines allow
/// 128 in all; the former limit comes back with the end of this.
struct Watchers {
    former: String,
}

impl Watchers {
    const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
    const ENOUGH: u32 = 1024;

    fn raise() -> Result<Option<Self>> {
        let former = fs::read_to_string(Self::LIMIT).with_context(|| format!("failed to read `{}`", Self::LIMIT))?;
        if former.trim().parse().is_ok_and(|limit: u32| limit >= Self::ENOUGH) {
            return Ok(None);
        }
        match fs::write(Self::LIMIT, Self::ENOUGH.to_string()) {
            Ok(()) => Ok(Some(Self { former })),
            Err(error) => {
                eprintln!("· `{}` stays at {}: {error}", Self::LIMIT, former.trim());
                Ok(None)
            }
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::LIMIT, &self.former) {
            eprintln!("· `{}` stays at {}: {error}", Self::LIMIT, Self::ENOUGH);
        }
    }
}

/// The program as it was built.
fn program(options: &Options, products: &Products) -> Result<Command> {
    let mut command = Command::new(beside(&products.podrun));
    command
        .args(options.arguments())
        .current_dir(places::workspace()?)
        .env("PODRUN_RUNNER", &products.runner);
    Ok(command)
}

/// The program lies where `podrun` does.
fn beside(podrun: &Path) -> PathBuf {
    podrun.with_file_name("bench")
}

/// The linked kubectl, unless another one is named or none was built: then the one in PATH is compared with.
fn kubectl_if_built() -> Result<Option<PathBuf>> {
    if env::var_os("PODRUN_KUBECTL").is_some() || !cluster::is_built()? {
        return Ok(None);
    }
    cluster::kubectl().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_is_passed_on() {
        let mut options = Options {
            other: None,
            json: false,
            only: None,
            runs: None,
            seed: None,
            tasks: None,
            profile: false,
            use_current_cluster: false,
        };
        assert_eq!(options.arguments(), Vec::<String>::new());
        options.json = true;
        options.only = Some("a,c".into());
        options.runs = Some(2);
        assert_eq!(options.arguments(), ["--json", "--only=a,c", "--runs=2"]);
    }
}
