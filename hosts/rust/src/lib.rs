//! Loads a Podrun task runner component in wasmtime, grants it little, and drives it.

#[expect(missing_docs, reason = "generated from wit/, where every item is documented")]
mod bindings;
mod error;
mod host;
mod run;
mod runner;

pub use bindings::exports::podrun::task_runner::runner::{Descriptor, Directories};
pub use bindings::podrun::task_runner::types::{
    Connection, Credential, Diagnostic, Endpoint, Event, Input, Level, LogLine, LogSource, Metric, Origin, Outcome,
    Output, OutputFile, Phase, Progress, Snapshot, Status, Task,
};
pub use error::{Error, Source};
pub use futures::future::BoxFuture;
pub use host::{Host, Options};
pub use run::{Batch, Control, Run};
pub use runner::{Credentials, Folders, Runner, Target};
