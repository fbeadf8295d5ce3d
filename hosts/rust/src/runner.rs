//! One loaded component, and the calls that the contract knows.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::{Connection, Credential, Descriptor, Diagnostic, Directories, Error, Run, Snapshot, Task};

/// Where tasks run.
#[derive(Clone)]
pub struct Target {
    /// JSON for the runner; satisfies [`Descriptor::config_schema`].
    pub config: String,
    /// Answers the runner's questions for a credential. With none, the host runs the command that the config names.
    pub credentials: Option<Arc<dyn Credentials>>,
}

/// Answers a runner's questions for a credential.
pub trait Credentials: Send + Sync {
    /// The credential to use; `refused` says that the last one was not accepted.
    fn credential(&self, refused: bool) -> BoxFuture<'_, Option<Credential>>;
}

/// The only folders that a run sees. None stands for an empty one.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// `/inputs`, read-only.
    pub inputs: Option<PathBuf>,
    /// `/outputs`, writable.
    pub outputs: Option<PathBuf>,
}

/// One loaded component; each call uses a fresh instance.
#[derive(Clone, Debug)]
pub struct Runner;

fn missing() -> Error {
    Error::Other("calls are not built yet".to_owned())
}

impl Runner {
    /// What this runner is and takes.
    pub async fn describe(&self) -> Result<Descriptor, Error> {
        Err(missing())
    }
    /// What calls with this config need.
    pub async fn connect(&self, _config: &str) -> Result<Connection, Error> {
        Err(missing())
    }
    /// Paths inside the task `id`.
    pub async fn layout(&self, _config: &str, _id: &str) -> Result<Directories, Error> {
        Err(missing())
    }
    /// The contract's `run`.
    pub fn start(&self, _target: &Target, _task: Task, _folders: Folders, _after: Option<String>) -> Run {
        std::process::abort()
    }
    /// The contract's `attach`.
    pub fn attach(&self, _target: &Target, _handle: String, _folders: Folders, _after: Option<String>) -> Run {
        std::process::abort()
    }
    /// The contract's `kill`.
    pub async fn kill(&self, _target: &Target, _handle: &str, _grace: Option<u32>) -> Result<(), Error> {
        Err(missing())
    }
    /// The contract's `status`.
    pub async fn status(&self, _target: &Target, _handle: &str) -> Result<Snapshot, Error> {
        Err(missing())
    }
    /// The contract's `list`.
    pub async fn list(&self, _target: &Target, _labels: &[(String, String)]) -> Result<Vec<Snapshot>, Error> {
        Err(missing())
    }
    /// The contract's `check`.
    pub async fn check(&self, _target: &Target) -> Result<Vec<Diagnostic>, Error> {
        Err(missing())
    }
    /// The contract's `render`.
    pub async fn render(&self, _target: &Target, _task: &Task, _server: bool) -> Result<String, Error> {
        Err(missing())
    }
}
