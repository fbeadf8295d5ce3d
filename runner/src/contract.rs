//! The contract's types under short names, and the host as a trait, so that the rest of the runner neither knows whether
//! it is a component nor names generated code.

pub use crate::bindings::exports::podrun::task_runner::runner::{Descriptor, Directories};
pub use crate::bindings::podrun::task_runner::host::Directive;
pub use crate::bindings::podrun::task_runner::types::{
    Connection, Credential, Diagnostic, Endpoint, Error, Event, Input, Level, LogLine, Metric, Origin, Outcome, Output,
    OutputFile, Phase, Progress, Snapshot, Status, Task,
};
use std::path::PathBuf;

/// An error in the middle of a sentence: its own text alone. What is generated prints it as Rust code.
pub(crate) fn text(error: &Error) -> &str {
    match error {
        Error::InvalidArgument(text)
        | Error::Conflict(text)
        | Error::NotFound(text)
        | Error::AccessDenied(text)
        | Error::Unavailable(text)
        | Error::Detached(text)
        | Error::Other(text) => text,
    }
}

/// What the runner asks of the host that loaded it.
pub trait Host {
    /// Hands over events, in order, with the cursor that covers them; an empty list is the heartbeat.
    fn emit(&self, events: &[Event], cursor: Option<&str>) -> Directive;

    /// Asks for a credential; `refused` says that the last one was not accepted.
    fn authenticate(&self, refused: bool) -> Option<Credential>;

    /// Folder that holds the task's input files.
    fn inputs(&self) -> PathBuf {
        PathBuf::from("/inputs")
    }

    /// Folder that output files are written to, under `work` and `out`.
    fn outputs(&self) -> PathBuf {
        PathBuf::from("/outputs")
    }
}
