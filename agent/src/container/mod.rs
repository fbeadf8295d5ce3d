//! Tasks that are containers in the agent's own pod, run by the node's runtime.
//!
//! The engine decides and remembers; a [`Containers`] does. Whatever it makes carries the task's id, so that it is
//! found again after any restart: the engine asks [`Containers::find`] before it starts anything a second time.

mod client;
mod closed;
mod cri;
mod ends;
mod log;
mod output;
mod pod;
mod runtime;
mod spec;
mod volumes;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use crate::protocol::{Container, Moment, Name};
use crate::store::TaskId;

pub use pod::Unknown;
pub use runtime::{ConnectError, Runtime};

/// A call under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A task that is a container.
#[derive(Debug, Clone)]
pub struct ContainerTask {
    /// Which one; becomes a label of the container.
    pub id: TaskId,
    /// The task's name.
    pub name: Name,
    /// What to run.
    pub spec: Container,
    /// The task's folder, into whose `stdout.N` and `stderr.N` files its output goes.
    pub folder: PathBuf,
    /// How many bytes of each stream are kept.
    pub log_limit: u64,
}

/// What became of a task's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Absent,
    /// It was made and not started.
    Created,
    /// It runs.
    Running {
        /// Since when.
        started_at: Moment,
    },
    /// It ended.
    Exited(Exit),
    /// It could not be started, for this reason.
    Unstartable(String),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub exit_code: i32,
    /// When it was started.
    pub started_at: Option<Moment>,
    /// When it ended.
    pub finished_at: Moment,
    /// What the runtime says about it, if it says more than the exit code.
    pub message: Option<String>,
}

/// Why the runtime did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It never will, as it says: the task is at fault, or the pod.
    #[error("{0}")]
    Refused(String),
    /// It may later.
    #[error("{0}")]
    Unavailable(String),
}

/// The node's runtime, for tasks. Every call may be made again after a crash, and then does no harm.
pub trait Containers: Send + Sync {
    /// Looks for the task's container.
    fn find<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Found>;

    /// Pulls the image and makes the container, if there is none. It is not started.
    fn prepare<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()>;

    /// Starts the container that was made, unless it was started. Answers when that was.
    fn start<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Moment>;

    /// Waits until the container has ended and its output is in the files. Also after a restart of the agent; it then
    /// sees to the output again. A runtime that is out of reach is waited for. Nothing means that the container is gone.
    fn wait<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Option<Exit>>;

    /// Sends TERM, and KILL after the grace. The end comes from [`wait`](Self::wait).
    fn stop<'a>(&'a self, task: &'a ContainerTask, grace: Duration) -> Pending<'a, ()>;

    /// Removes the container and everything that was made for it. There may be none.
    fn remove<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()>;

    /// Removes the containers of tasks that do not need them any more.
    fn sweep<'a>(&'a self, needed: &'a (dyn Fn(&TaskId) -> bool + Send + Sync)) -> Pending<'a, ()>;
}
