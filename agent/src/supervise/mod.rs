//! The small process above every task: it starts the task, keeps its output, ends it, and writes down how it ended,
//! whether or not the agent lives.
//!
//! It is this program again with a hidden command, single-threaded, with as little memory as can be. What it knows it
//! has from its [`Order`] and from the task's folder; it talks to agents only through files and pipes there.

pub mod cgroup;
pub mod channel;
mod child;
pub mod identity;
pub mod launch;
mod output;
mod run;
pub mod tree;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use crate::store::atomic::Durability;

/// The hidden command that makes this program a supervisor.
pub const COMMAND: &str = "supervise";

/// The variable by which every process of a task can be told from others.
pub const MARK: &str = "PODRUN_AGENT_TASK";

/// The words on the command line for what a claim has to outlive.
const DURABLE: &str = "durable";
const VOLATILE: &str = "volatile";

/// The exit code of a supervisor that was not needed: another one has the task, or it is not to be started.
pub const NOT_NEEDED: u8 = 0;

/// What an agent tells a supervisor, on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The task's folder, absolute.
    pub folder: PathBuf,
    /// How long the task may take to end after TERM, in milliseconds, unless whoever stops it says otherwise.
    pub grace_ms: u64,
    /// How many bytes of each stream are kept.
    pub log_limit: u64,
    /// Whether the claim has to outlive this run of the machine; if not, it need not wait for the disk.
    pub claim: Durability,
    /// How many files the task may have open until it asks for more; none for as many as the agent.
    pub open_files: Option<u64>,
    /// The container whose surroundings the task runs in; none for the agent's own.
    pub main_container: Option<String>,
}

impl Order {
    /// The command line that says it, without the program.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![
            COMMAND.into(),
            self.folder.clone().into(),
            self.grace_ms.to_string().into(),
            self.log_limit.to_string().into(),
            match self.claim {
                Durability::Durable => DURABLE.into(),
                Durability::Volatile => VOLATILE.into(),
            },
            self.open_files.unwrap_or(0).to_string().into(),
        ];
        arguments.extend(self.main_container.as_ref().map(Into::into));
        arguments
    }

    /// What a command line says, after the hidden command.
    pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let number = |arguments: &mut dyn Iterator<Item = OsString>| arguments.next()?.to_str()?.parse().ok();
        Some(Self {
            folder: arguments.next()?.into(),
            grace_ms: number(&mut arguments)?,
            log_limit: number(&mut arguments)?,
            claim: match arguments.next()?.to_str()? {
                DURABLE => Durability::Durable,
                VOLATILE => Durability::Volatile,
                _ => return None,
            },
            open_files: number(&mut arguments).map(|most| (most > 0).then_some(most))?,
            main_container: match arguments.next() {
                Some(name) => Some(name.into_string().ok()?),
                None => None,
            },
        })
    }
}

/// Supervises one task to its end. The answer is the process's exit code.
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let Some(order) = Order::parse(arguments) else {
        complain("the agent alone starts this command");
        return crate::FAILURE;
    };
    match run::supervise(&order) {
        Ok(()) => NOT_NEEDED,
        Err(error) => {
            complain(&format!("supervisor of `{}`: {error}", order.folder.display()));
            crate::FAILURE
        }
    }
}

/// Says something on standard error, if anybody is there.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "podrun-agent: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_command_line() {
        for (claim, open_files, main_container) in [
            (Durability::Durable, None, None),
            (Durability::Volatile, Some(1024), Some("main".to_owned())),
        ] {
            let order = Order {
                folder: "/var/lib/x y".into(),
                grace_ms: 10_000,
                log_limit: 1 << 40,
                claim,
                open_files,
                main_container,
            };
            let mut arguments = order.to_arguments().into_iter();
            assert_eq!(arguments.next().unwrap(), COMMAND);
            assert_eq!(Order::parse(arguments), Some(order));
        }
        assert_eq!(Order::parse(["/x".into(), "y".into()].into_iter()), None);
    }
}
