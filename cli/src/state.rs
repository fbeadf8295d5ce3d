//! The state folder: the journal, and the files of each execution.
//!
//! ```text
//! journal.db
//! namespaces/<namespace>/                       files for `namespaceFiles`, put there by whoever runs flows
//! executions/<id>/lock                          who drives it
//! executions/<id>/inputs/<input>                copies of FILE inputs
//! executions/<id>/tasks/<task>.<attempt>/inputs   what the task gets
//! executions/<id>/tasks/<task>.<attempt>/outputs  what came back: work/ and out/
//! ```
//! Everything is readable by its owner only.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::error::{Error, state};

/// The folder in which everything durable lies.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The folder that `PODRUN_STATE_DIR` names, or the platform's one; created if it is missing.
    pub(crate) fn open() -> Result<Self, Error> {
        let root = match std::env::var_os("PODRUN_STATE_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(&dir).map_err(state("find", Path::new(&dir)))?,
            None => {
                let base = etcetera::choose_base_strategy().map_err(|_| {
                    Error::Usage("no home folder to keep the journal in: set PODRUN_STATE_DIR to a folder".into())
                })?;
                base.state_dir().unwrap_or_else(|| base.data_dir()).join("podrun")
            }
        };
        Self::at(root)
    }

    /// The state folder `root`, created if it is missing.
    pub(crate) fn at(root: PathBuf) -> Result<Self, Error> {
        private_folder(&root)?;
        let mode = fs::metadata(&root)
            .map_err(state("look at", &root))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).map_err(state("make private", &root))?;
        }
        Ok(Self { root })
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal.db")
    }

    /// Where the files of namespaces lie unless the caller says otherwise.
    pub(crate) fn namespaces(&self) -> PathBuf {
        self.root.join("namespaces")
    }

    /// The folder of one execution.
    pub(crate) fn execution(&self, id: &str) -> ExecutionDir {
        ExecutionDir {
            root: self.root.join("executions").join(id),
        }
    }
}

/// The folder of one execution.
#[derive(Clone, Debug)]
pub(crate) struct ExecutionDir {
    root: PathBuf,
}

impl ExecutionDir {
    pub(crate) fn create(&self) -> Result<(), Error> {
        private_folder(&self.root)
    }

    /// Remove the folder with all that is in it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        fs::remove_dir_all(&self.root).map_err(state("remove", &self.root))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn input(&self, input: &str) -> PathBuf {
        self.root.join("inputs").join(input)
    }

    /// The folder of one attempt of a task.
    pub(crate) fn task(&self, task: &str, attempt: u32) -> PathBuf {
        self.root.join("tasks").join(format!("{task}.{attempt}"))
    }

    /// What an attempt of a task gets.
    pub(crate) fn task_inputs(&self, task: &str, attempt: u32) -> PathBuf {
        self.task(task, attempt).join("inputs")
    }

    /// What an attempt of a task gave back.
    pub(crate) fn task_outputs(&self, task: &str, attempt: u32) -> PathBuf {
        self.task(task, attempt).join("outputs")
    }
}

/// Where compiled components are kept; none if there is no place for them. A folder of its own: the host refuses one that
/// others may write to, and whoever made `podrun` in the cache folder may have let them.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    let dir = base.cache_dir().join("podrun").join("components");
    private_folder(&dir).ok()?;
    Some(dir)
}

/// Create a folder and its parents, for the owner only.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Error::Usage(format!(
                "failed to create `{}`: {source}: set PODRUN_STATE_DIR to a folder that can be written",
                path.display()
            )),
            _ => Error::State {
                action: "create",
                path: path.to_owned(),
                source,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_even_if_it_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/state");
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let state = StateDir::at(root.clone()).unwrap();
        state.execution("x").create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&root.join("executions/x")), 0o700);
    }
}
