//! The crate's one error type.

use std::path::PathBuf;

use crate::bindings::podrun::task_runner::types;

/// A cause of any type.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call did not do its part. A script that fails is an [`Outcome`](crate::Outcome), never an error.
///
/// The first group is what the runner itself said, the second what this host found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task, its options or the config is not acceptable; names the field and the cure.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The id was started before with another task, which is left untouched. Holds that task's handle.
    #[error("task `{0}` was started before with other content, and is left as it is")]
    Conflict(String),
    /// What the handle names does not exist any more, or never did.
    #[error("not found: {0}")]
    NotFound(String),
    /// The target refused the credential or a verb.
    #[error("access denied: {0}")]
    AccessDenied(String),
    /// Unreachable or overloaded; retrying may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The call ended because it was detached; the task goes on under this handle.
    #[error("detached from task `{0}`, which goes on")]
    Detached(String),
    /// What has no case of its own.
    #[error("{0}")]
    Other(String),

    /// A runner's component file cannot be used.
    #[error("failed to load runner `{path}`")]
    Load {
        /// The component's file.
        path: PathBuf,
        /// What is wrong with it.
        source: Source,
    },
    /// A folder that the host was given cannot be used.
    #[error("failed to use folder `{path}`: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and the cure.
        reason: String,
    },
    /// The runner crashed, or was ended because it broke one of its limits. What it started goes on; the same call may
    /// be made again.
    #[error("runner ended during `{call}`: {reason}")]
    Trap {
        /// The contract's name of the call.
        call: &'static str,
        /// What happened, and the cure where there is one.
        reason: String,
        /// wasmtime's account of it.
        source: Source,
    },
    /// The command that yields the credential did not yield one.
    #[error("failed to get a credential from command `{command}`: {reason}")]
    Credential {
        /// The program, without its arguments, which may be private.
        command: String,
        /// How it failed, with the end of what it wrote to standard error.
        reason: String,
    },
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidArgument(text) => Self::InvalidArgument(text),
            types::Error::Conflict(handle) => Self::Conflict(handle),
            types::Error::NotFound(text) => Self::NotFound(text),
            types::Error::AccessDenied(text) => Self::AccessDenied(text),
            types::Error::Unavailable(text) => Self::Unavailable(text),
            types::Error::Detached(handle) => Self::Detached(handle),
            types::Error::Other(text) => Self::Other(text),
        }
    }
}
