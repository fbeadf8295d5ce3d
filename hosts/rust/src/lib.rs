//! Loads a Podrun task runner component in wasmtime, grants it little, and drives it.
//!
//! ```no_run
//! use podrun_host::{Folders, Host, Options, Target, Task};
//!
//! # fn task() -> Task { unimplemented!() }
//! # fn store(_: &[podrun_host::Event], _: Option<&str>) {}
//! # #[tokio::main]
//! # async fn main() -> Result<(), podrun_host::Error> {
//! let host = Host::new(Options { cache_dir: Some("/var/cache/worker/podrun".into()), ..Options::default() })?;
//! let runner = host.load("podrun-runner.wasm".as_ref()).await?;
//! let target = Target { config: r#"{"masterUrl": "https://k8s:6443", "oauthToken": "..."}"#.into(), credentials: None };
//! let folders = Folders { inputs: Some("job/in".into()), outputs: Some("job/out".into()) };
//! let mut run = runner.start(&target, task(), folders, None);
//! while let Some(batch) = run.next().await {
//!     store(&batch.events, batch.cursor.as_deref()); // in one transaction
//!     batch.commit();
//! }
//! println!("{:?}", run.outcome().await?.status);
//! # Ok(())
//! # }
//! ```
//!
//! # What a runner is granted
//!
//! Each call runs in an instance of its own, which is gone when the call is over. `describe`, `connect` and `layout` see
//! nothing of the outside. The other calls may open TCP connections to the addresses that `connect` named for the config
//! at hand, and to no others: not for listening, not by UDP, and names are resolved by the host, anew for each call. A
//! run sees two folders, `/inputs` (read-only) and `/outputs`. There are no arguments, no environment and no standard
//! input; what a runner writes to standard output or error is logged by `tracing` under `podrun_host::guest` at debug
//! level. Memory is bounded by [`Options::memory_limit`], and a runner that computes without a pause ends after
//! [`Options::guest_deadline`], while waiting costs it nothing.
//!
//! # What a host has to do
//!
//! Store the events and the cursor of a [`Batch`] before [`Batch::commit`]: the runner creates nothing before `started`
//! is committed, and deletes nothing before `ended` is. After a crash, the same [`Task`] goes to [`Runner::start`] again
//! with the last cursor. [`Run::detach`], dropping a [`Run`], or dropping a [`Batch`] uncommitted leaves the task as it
//! is, to be taken up by any other process.
//!
//! A [`Credential`] and a [`Target`] hold secrets. This crate logs neither; a credential's `Debug` shows its content.

/// The README's example is compiled with this crate's own.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

mod bindings;
mod cache;
mod clock;
mod credentials;
mod durable;
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
pub use durable::origin_folder;
pub use error::{Error, Source};
pub use futures::future::BoxFuture;
pub use host::{Host, Options};
pub use run::{Batch, Control, Run};
pub use runner::{Folders, Runner, Target};
