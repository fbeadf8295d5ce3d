//! Why the data directory cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Why the data directory, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another agent works there.
    #[error("data directory `{}` is in use by another agent: give this one its own with --data-dir", .0.display())]
    Busy(PathBuf),
    /// The operating system refused.
    #[error("failed to {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A record is not what a record looks like.
    #[error("file `{}` is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether something that should be a folder is none.
    pub(super) fn is_no_folder(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory)
    }

    /// For `map_err`: what was tried, and with what.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
