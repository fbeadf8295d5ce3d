//! The program: picks what to be, and maps the outcome to an exit code.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands speak to whoever runs them"
)]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use podrun_agent::options::{self, Asked, CommandLine};
use podrun_agent::{FAILURE, init, install, journal, serve, supervise};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // Before everything else: supervisors are many and small.
    if arguments.next_if(|command| command == supervise::COMMAND).is_some() {
        return ExitCode::from(supervise::main(arguments));
    }
    let arguments: Vec<OsString> = arguments.collect();
    let asked = options::read(arguments.iter().cloned(), |name| std::env::var(name).ok());
    match asked {
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(FAILURE)
            } else {
                ExitCode::SUCCESS
            }
        }
        Ok(Asked::Completion(shell)) => {
            clap_complete::generate(
                shell,
                &mut CommandLine::command(),
                "podrun-agent",
                &mut std::io::stdout(),
            );
            ExitCode::SUCCESS
        }
        Ok(Asked::Install(dir)) => report(install::install(&dir).map(|target| println!("{}", target.display()))),
        Ok(Asked::Serve(options)) => {
            journal::begin();
            let wants_init = options.init || std::process::id() == 1;
            if wants_init && !init::is_started_by_init() {
                return init::run(&arguments);
            }
            report(serve::serve(*options))
        }
    }
}

fn report(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILURE)
        }
    }
}
