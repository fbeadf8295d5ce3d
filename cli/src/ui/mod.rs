//! How reports look: live on a terminal, plain lines elsewhere, JSON for machines.
//!
//! What scripts write goes to standard output in every form. A closed standard output never ends a run.

mod json;
mod plain;
mod terminal;
mod text;

pub(crate) use text::{duration, table};

use std::io::IsTerminal;

use crate::report::Report;

/// Shows reports.
pub(crate) trait Ui {
    /// Show what happened, in order.
    fn show(&mut self, reports: &[Report]);

    /// Put a question to whoever watches.
    fn ask(&mut self, question: &str);

    /// Whether somebody watches who can be asked.
    fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }
}

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Only what scripts write, and errors.
    Quiet,
    Normal,
    /// Also what helps to find a fault.
    Verbose,
}

/// The form that fits where the output goes.
pub(crate) fn choose(json: bool, verbosity: Verbosity) -> Box<dyn Ui> {
    let live = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if json {
        Box::new(json::Json::new(crate::out::out()))
    } else if live && !dumb && verbosity > Verbosity::Quiet {
        Box::new(terminal::Terminal::new(verbosity, colours()))
    } else {
        Box::new(plain::Plain::new(
            crate::out::out(),
            std::io::stderr(),
            verbosity,
            false,
        ))
    }
}

/// Colours are for people who did not turn them off: <https://no-color.org>.
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
