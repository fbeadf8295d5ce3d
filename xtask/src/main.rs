//! Every developer command of Podrun, as `cargo xtask COMMAND`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands speak to whoever runs them"
)]

mod bench;
mod cargo;
mod cluster;
mod demo;
mod deny;
mod image;
mod interrupt;
mod mutants;
mod places;
mod progress;
mod setup;
mod test;

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use cargo::Barriers;
use setup::Needs;

/// Every developer command of Podrun.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, max_term_width = 120)]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing, build, bring up a cluster unless KUBECONFIG names one, and run examples/hello.yaml on it
    Demo,
    /// Install what is missing, build, and run every test, those on a cluster on one of their own
    Test(test::Options),
    /// Measure against a bare pod, a native watch, kubectl cp and the natively compiled runner, on a cluster of its own
    Bench(bench::Options),
    /// Break one promise at a time, and fail unless the test that guards it notices
    Mutants(test::MutantOptions),
    /// Build the component and `podrun`
    Build,
    /// Install what the other commands need; root on Debian gets packages by itself
    Setup,
    /// A real one-node Kubernetes on this machine, and images for it
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Run kubectl on a cluster of `cluster up`
    Kubectl {
        #[command(flatten)]
        name: cluster::Name,
        /// What kubectl is asked
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Command::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo => interrupt::watch().and_then(|()| demo::demo()),
        Task::Test(options) => interrupt::watch().and_then(|()| test::test(options)),
        Task::Bench(options) => interrupt::watch().and_then(|()| bench::bench(&options)),
        Task::Mutants(options) => interrupt::watch().and_then(|()| test::mutants(&options)),
        Task::Build => {
            interrupt::watch()?;
            setup::ensure(Needs {
                build: true,
                cluster: false,
                images: false,
                hosts: false,
            })?;
            let products = cargo::build(Barriers::Without)?;
            println!("{}\n{}", products.podrun.display(), products.runner.display());
            Ok(())
        }
        Task::Setup => setup::ensure(Needs {
            build: true,
            cluster: true,
            images: true,
            hosts: true,
        }),
        Task::Cluster(action) => cluster::run(action),
        Task::Kubectl { name, arguments } => {
            let mut command = cluster::kubectl_for(&name)?;
            Err(command.args(arguments).exec()).context("failed to start kubectl")
        }
    }
}
