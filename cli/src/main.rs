//! `podrun` runs flow files whose scripts run in Kubernetes pods.
//!
//! It is the reference host: all that knows Kubernetes is a component that `podrun-host` loads. What is here reads
//! flows, keeps the journal that lets a killed run go on, and shows what happens.

mod access;
mod args;
mod at;
mod commands;
mod defaults;
mod document;
mod engine;
mod error;
mod explain;
mod expression;
mod faults;
mod files;
mod flow;
mod google;
mod inputs;
mod interrupt;
mod journal;
mod kubeconfig;
mod lock;
mod names;
mod namespace;
mod out;
mod patterns;
mod plan;
mod redact;
mod reference;
mod report;
mod scope;
mod secrets;
mod session;
mod state;
mod types;
mod ui;

use std::io::Write as _;

use clap::{CommandFactory, Parser};

use crate::args::{Arguments, Command};
use crate::error::{Ended, Error};
use crate::report::Report;

fn main() {
    let arguments = Arguments::parse();
    let mut ui = ui::choose(arguments.json, arguments.verbosity());
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(format!("failed to start the runtime: {error}")))
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(&arguments, ui.as_mut()));
            // A call that was detached may still wait for the network; nobody waits for it.
            runtime.shutdown_background();
            result
        });
    let mut code = error::exit_code(&result);
    if let Err(error) = &result {
        ui.show(&[Report::Error {
            message: error::message(error),
            exit_code: code,
        }]);
    }
    if let Some(error) = out::failure() {
        let message = format!("standard output cannot be written: {error}");
        // Nobody is left to tell if this fails, too.
        let _ = writeln!(std::io::stderr(), "error: {message}");
        if code == 0 {
            code = error::exit_code(&Err(Error::Internal(message)));
        }
    }
    std::process::exit(code.into());
}

async fn dispatch(arguments: &Arguments, ui: &mut dyn ui::Ui) -> Result<Ended, Error> {
    match &arguments.command {
        Command::Run(run) => commands::run::run(run, ui).await,
        Command::Attach(attach) => commands::run::attach(attach, ui).await,
        Command::Ps(ps) => commands::ps::ps(ps, arguments.json),
        Command::Logs(logs) => commands::logs::logs(logs, ui).await,
        Command::Kill(kill) => commands::kill::kill(kill, ui).await,
        Command::Doctor(doctor) => commands::doctor::doctor(doctor, arguments.json).await,
        Command::Validate(validate) => commands::validate::validate(validate, arguments.json).await,
        Command::Explain(explain) => commands::explain::explain(explain, arguments.json).await,
        Command::Render(render) => commands::render::render(render, arguments.json).await,
        Command::Schema(schema) => commands::schema::schema(schema).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "podrun", &mut script);
            // Its failure is told at the end.
            let _ = out::out().write_all(&script);
            Ok(Ended::Succeeded)
        }
    }
}
