//! Why a command did not do its part, and the one place where that becomes an exit code.
//!
//! Messages are lowercase fragments that name the object and, where there is one, the cure. None holds a credential.

use std::io;
use std::path::{Path, PathBuf};

use crate::document::{Problem, Problems};

/// Why a command failed. A script that fails is no error: see [`Ended`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A mistake in a flow or a defaults file.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// All mistakes in a flow or a defaults file.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// A mistake on the command line or in the environment.
    #[error("{0}")]
    Usage(String),
    /// A file that the caller named cannot be used.
    #[error("failed to {action} `{}`", path.display())]
    Named {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// What the id names belongs to somebody else, or is something else.
    #[error("{0}")]
    Conflict(String),
    /// The runner, or the host of the runner, could not do its part.
    #[error("{}", runner_message(task.as_deref(), source))]
    Runner {
        task: Option<String>,
        source: podrun_host::Error,
    },
    /// What a task needs from elsewhere cannot be had now.
    #[error("{0}")]
    Unreachable(String),
    /// The cluster was found unable to run tasks.
    #[error("{0}")]
    Unfit(String),
    /// A file or folder of our own cannot be used.
    #[error("failed to {action} `{}`", path.display())]
    State {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The journal cannot be read or written.
    #[error("failed to {action} in the journal")]
    Journal {
        action: &'static str,
        source: rusqlite::Error,
    },
    /// A defect of this program.
    #[error("internal error: {0}")]
    Internal(String),
}

fn runner_message(task: Option<&str>, source: &podrun_host::Error) -> String {
    match task {
        Some(task) => format!("task `{task}`: {source}"),
        None => source.to_string(),
    }
}

/// How a command that did its part ended.
///
/// The order is that of what the whole is when several parts ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    Succeeded,
    /// A task failed that may fail.
    Warned,
    /// A task's script, or the cluster on its behalf, failed, or what follows a task that has run has a mistake.
    Failed,
    /// Somebody stopped the execution.
    Cancelled,
    /// The task goes on without us.
    Detached,
}

/// What `--help` says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    a task failed, timed out or was lost, or after one had run a mistake in the flow showed
  2    the command line, the flow, the defaults or an input is not valid; nothing new was created
  3    the cluster cannot be reached, or refused; what was started goes on, `podrun attach ID` takes it up
  4    the execution id is in use, or belongs to another flow or other inputs
  70   internal error, or a folder cannot be used
  75   detached: the task goes on, `podrun attach ID` takes it up
  130  interrupted: the task was stopped";

/// The documented exit code of a command. The only function that knows these numbers.
pub(crate) fn exit_code(result: &Result<Ended, Error>) -> u8 {
    use podrun_host::Error as Host;
    match result {
        Ok(Ended::Succeeded | Ended::Warned) => 0,
        Ok(Ended::Failed) => 1,
        Ok(Ended::Cancelled) => 130,
        Ok(Ended::Detached) => 75,
        Err(Error::Problem(_) | Error::Problems(_) | Error::Usage(_) | Error::Named { .. }) => 2,
        Err(Error::Unreachable(_) | Error::Unfit(_)) => 3,
        Err(Error::Conflict(_)) => 4,
        Err(Error::Runner { source, .. }) => match source {
            Host::InvalidArgument(_) | Host::Folder { .. } => 2,
            Host::AccessDenied(_) | Host::Unavailable(_) | Host::Credential { .. } => 3,
            Host::Conflict(_) => 4,
            Host::NotFound(_) => 1,
            Host::Detached(_) => 75,
            _ => 70,
        },
        Err(Error::State { .. } | Error::Journal { .. } | Error::Internal(_)) => 70,
    }
}

impl Error {
    /// True if the flow itself is at fault, so that trying again with the same flow is of no use.
    pub(crate) fn is_flows_fault(&self) -> bool {
        match self {
            Self::Problem(_) | Self::Problems(_) => true,
            Self::Runner { source, .. } => matches!(source, podrun_host::Error::InvalidArgument(_)),
            _ => false,
        }
    }
}

/// The message of an error with its causes, on one line.
pub(crate) fn message(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = match error {
        // The host's own causes are part of what it says; ours start below it.
        Error::Runner { source, .. } => std::error::Error::source(source),
        error => std::error::Error::source(error),
    };
    while let Some(error) = cause {
        let add = error.to_string();
        if !text.contains(&add) {
            text.push_str(": ");
            text.push_str(&add);
        }
        cause = error.source();
    }
    text
}

/// Turns an I/O error about one of our own files into an [`Error`].
pub(crate) fn state(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State { action, path, source }
}

/// Turns an I/O error about a file that the caller named into an [`Error`].
pub(crate) fn named(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Named { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podrun_host::Error as Host;

    fn runner(source: Host) -> Result<Ended, Error> {
        Err(Error::Runner {
            task: Some("t".into()),
            source,
        })
    }

    #[test]
    fn what_the_help_promises_to_differ_differs() {
        let usage = exit_code(&Err(Error::Usage("x".into())));
        let codes = [
            exit_code(&Ok(Ended::Succeeded)),
            exit_code(&Ok(Ended::Failed)),
            usage,
            exit_code(&runner(Host::Unavailable("x".into()))),
            exit_code(&Err(Error::Conflict("x".into()))),
            exit_code(&Ok(Ended::Cancelled)),
            exit_code(&Ok(Ended::Detached)),
            exit_code(&Err(Error::Internal("x".into()))),
        ];
        assert_eq!(codes, [0, 1, 2, 3, 4, 130, 75, 70]);
        for code in codes {
            assert!(EXIT_CODES.contains(&format!("\n  {code} ")), "{code} is not documented");
        }
    }

    #[test]
    fn the_runners_refusals_have_codes() {
        assert_eq!(exit_code(&runner(Host::InvalidArgument("x".into()))), 2);
        assert_eq!(exit_code(&runner(Host::AccessDenied("x".into()))), 3);
        assert_eq!(exit_code(&runner(Host::Conflict("x".into()))), 4);
        assert_eq!(exit_code(&runner(Host::Detached("x".into()))), 75);
        assert_eq!(exit_code(&runner(Host::Other("x".into()))), 70);
    }

    #[test]
    fn causes_follow_on_the_same_line() {
        let error = named("read", Path::new("a.yaml"))(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(message(&error), "failed to read `a.yaml`: entity not found");
        assert_eq!(
            message(&runner(Host::Unavailable("no route".into())).unwrap_err()),
            "task `t`: unavailable: no route"
        );
    }
}
