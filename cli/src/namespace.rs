//! The files of a namespace: what lies in its folder, below the one that `--namespace-files` names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, named};
use crate::flow::Flow;
use crate::state::StateDir;

/// The most files that a namespace may have.
const MOST: usize = 100_000;

/// The files of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folder {
    pub(crate) files: Vec<File>,
}

/// A file of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    /// Relative to the namespace's folder.
    pub(crate) path: String,
    pub(crate) source: PathBuf,
    pub(crate) executable: bool,
}

/// The files of a flow's namespace below the folder that was named, if one of its tasks wants any. A namespace without a
/// folder has none.
pub(crate) fn of(flow: &Flow, named: Option<&Path>, state: &StateDir) -> Result<Folder, Error> {
    let mut folder = Folder::default();
    if flow.scripts().iter().any(|task| task.script.namespace_files.is_some()) {
        let root = match named {
            Some(root) if !root.is_dir() => {
                let root = root.display();
                return Err(Error::Usage(format!("--namespace-files: there is no folder `{root}`")));
            }
            Some(root) => root.join(&flow.namespace),
            None => state.namespaces().join(&flow.namespace),
        };
        if root.exists() {
            folder.walk(&root, "")?;
        }
    }
    Ok(folder)
}

impl Folder {
    /// Add what lies below `folder`, whose own path is `prefix`, in the order of names. Links are not followed: what is
    /// meant to be there lies there.
    fn walk(&mut self, folder: &Path, prefix: &str) -> Result<(), Error> {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(named("read", folder))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                return Err(Error::Usage(format!(
                    "`{}` has a name that is not UTF-8: rename it",
                    path.display()
                )));
            };
            let below = match prefix {
                "" => name,
                prefix => format!("{prefix}/{name}"),
            };
            let kind = entry.file_type().map_err(named("look at", &path))?;
            if kind.is_dir() {
                self.walk(&path, &below)?;
            } else if kind.is_file() {
                let metadata = entry.metadata().map_err(named("look at", &path))?;
                self.files.push(File {
                    path: below,
                    source: path,
                    executable: metadata.permissions().mode() & 0o111 != 0,
                });
            }
            if self.files.len() > MOST {
                let folder = folder.display();
                return Err(Error::Usage(format!(
                    "the namespace's files in `{folder}` are more than {MOST}"
                )));
            }
        }
        Ok(())
    }
}
