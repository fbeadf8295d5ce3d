//! Why the engine does not do something.

use crate::protocol::Name;
use crate::store;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is such a task.
    #[error("task `{0}` is already there: delete it first, or replace it with /setTasks")]
    Duplicate(Name),
    /// There was such a task, and it is not gone yet.
    #[error("task `{0}` is being deleted: try again when it is gone")]
    Deleting(Name),
    /// As many tasks are kept as may be.
    #[error("{0} tasks would be kept, and --max-tasks is {1}: delete some that have ended")]
    Full(usize, usize),
    /// As many are being deleted as may be.
    #[error("{0} tasks would be on their way out, and --max-tasks is {1}: wait until some are gone")]
    Leaving(usize, usize),
    /// The agent takes nothing new.
    #[error("the agent is draining and takes no new tasks")]
    Draining,
    /// The task is a container, and there is no runtime.
    #[error("task `{0}` is a container: start the agent with --enable-container-mode")]
    NoContainers(Name),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A defect of this program.
    #[error("internal error: {0}")]
    Internal(String),
}
