//! Output files on the disk before the outcome that names them is told.
//!
//! A runner deletes what it started once its outcome is committed, so by then a power cut must not take the files. The
//! host does this for the runner: side by side it takes a fraction of the time of one file after the other, which is
//! all that WASI offers a guest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{Origin, OutputFile};

/// How many files are on their way to the disk at once.
const AT_ONCE: usize = 16;

/// An output that the outcome names is not there, or cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("output file `{}` cannot be made durable: {source}", path.escape_debug())]
pub(crate) struct NotDurable {
    path: String,
    source: io::Error,
}

/// Syncs the files, and then the folders that hold their names.
pub(crate) async fn keep(outputs: &Path, files: &[OutputFile]) -> Result<(), NotDurable> {
    let mut paths = Vec::with_capacity(files.len());
    let mut folders = BTreeSet::new();
    for file in files {
        let place = place(file).map_err(|source| failed(&file.path, source))?;
        let above = place.ancestors().skip(1);
        folders.extend(above.map(|folder| outputs.join(folder)));
        paths.push(outputs.join(place));
    }
    sync(paths, sync_file).await?;
    sync(folders.into_iter().collect(), sync_folder).await
}

async fn sync(paths: Vec<PathBuf>, one: fn(&Path) -> io::Result<()>) -> Result<(), NotDurable> {
    stream::iter(paths)
        .map(|path| async move {
            tokio::task::spawn_blocking(move || one(&path).map_err(|source| failed(&path.to_string_lossy(), source)))
                .await
                .unwrap_or_else(|error| Err(failed("", io::Error::other(error))))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn sync_file(path: &Path) -> io::Result<()> {
    // A guest can make symbolic links; what they lead to is none of its outputs.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)?.sync_data()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix has a way to ask for this.
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

/// The folder below that of outputs which holds the files of this origin.
pub fn origin_folder(origin: Origin) -> &'static str {
    match origin {
        Origin::WorkingDir => "work",
        Origin::OutputDir => "out",
    }
}

/// Where the contract puts an output, below the folder of outputs.
fn place(file: &OutputFile) -> io::Result<PathBuf> {
    let path = Path::new(&file.path);
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(Path::new(origin_folder(file.origin)).join(path))
    } else {
        Err(io::Error::other("its path leaves the folder of outputs"))
    }
}

fn failed(path: &str, source: io::Error) -> NotDurable {
    NotDurable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> OutputFile {
        OutputFile {
            origin: Origin::WorkingDir,
            path: path.to_owned(),
            size: 1,
            mode: 0o644,
            sha256: String::new(),
        }
    }

    #[tokio::test]
    async fn files_that_are_not_there_or_not_below_the_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("work/a")).unwrap();
        fs::write(folder.path().join("work/a/b"), "x").unwrap();
        keep(folder.path(), &[file("a/b")]).await.unwrap();
        for (path, says) in [
            ("a/c", "a/c"),
            ("a", "not a regular file"),
            ("../x", "leaves the folder"),
            ("/etc/passwd", "leaves the folder"),
        ] {
            let error = keep(folder.path(), &[file("a/b"), file(path)]).await.unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("work")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("work/link")).unwrap();
        let error = keep(folder.path(), &[file("link")]).await.unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
