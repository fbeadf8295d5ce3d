//! Loads a Podrun task runner component in wasmtime, grants it little, and drives it.

#[expect(missing_docs, reason = "generated from wit/, where every item is documented")]
mod bindings;
mod cache;
mod clock;
mod credentials;
mod error;
mod guest_output;
mod host;
mod limits;
mod network;
mod run;
mod runner;
mod state;
mod trap;

pub use bindings::exports::podrun::task_runner::runner::{Descriptor, Directories};
pub use bindings::podrun::task_runner::types::{
    Connection, Credential, Diagnostic, Endpoint, Event, Input, Level, LogLine, LogSource, Metric, Origin, Outcome,
    Output, OutputFile, Phase, Progress, Snapshot, Status, Task,
};
pub use credentials::Credentials;
pub use error::{Error, Source};
pub use futures::future::BoxFuture;
pub use host::{Host, Options};
pub use run::{Batch, Control, Run};
pub use runner::{Folders, Runner, Target};
