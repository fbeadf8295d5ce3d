//! Every developer command of Podrun, as `cargo xtask COMMAND`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands speak to whoever runs them"
)]

mod cluster;
mod image;
mod places;
mod progress;
mod setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every developer command of Podrun.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, max_term_width = 120)]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A real one-node Kubernetes on this machine
    #[command(subcommand)]
    Cluster(cluster::Action),
}

fn main() -> ExitCode {
    let result = match Command::parse().task {
        Task::Cluster(action) => cluster::run(action),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
