//! Files that are there whole or not at all, in a folder that is held open.
//!
//! Everything goes through the folder's descriptor, never through a path: supervisors write from inside other
//! containers' file systems.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// How many files are brought to the disk side by side, at most: the disk takes them together.
const ABREAST: usize = 16;

/// What a crash of the machine may do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file is on the disk when the call returns.
    Durable,
    /// The file survives every process, but may be gone after the machine lost power.
    Volatile,
}

/// Opens a folder to work in.
pub fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Writes a file, in place of the one that may be there. No process ever sees a part of it.
///
/// It gets its name before it is on the disk, so that file systems with a journal put both there in one go. A machine
/// that loses power in between may leave a torn file: whoever reads files counts those as missing.
pub fn replace(folder: impl AsFd, name: &str, content: &[u8], durability: Durability) -> io::Result<()> {
    let folder = folder.as_fd();
    // Nobody else writes to it at the same time: the process is part of the name.
    let temporary = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(content)?;
    rustix::fs::renameat(folder, &temporary, folder, name)?;
    if durability == Durability::Durable {
        file.sync_all()?;
        sync(folder)?;
    }
    Ok(())
}

/// Makes a file unless it is there already. The answer says whether this call made it. That it is there is what counts:
/// its content may be missing after a crash.
pub fn create(folder: impl AsFd, name: &str, content: &[u8], durability: Durability) -> io::Result<bool> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = match rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // A full disk has a place for the name still.
    let _ = file.write_all(content);
    if durability == Durability::Durable {
        file.sync_all()?;
        sync(folder)?;
    }
    Ok(true)
}

/// Makes files and folders last, side by side: a disk, and a file system with a journal, take many at once in little
/// more time than one. All of them are on the disk when this returns without an error, which comes with its path.
pub fn sync_all(paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    let sync = |paths: &[PathBuf]| {
        paths.iter().try_for_each(|path| {
            let synced = File::open(path).and_then(|opened| opened.sync_all());
            synced.map_err(|error| (path.clone(), error))
        })
    };
    let mut chunks = paths.chunks(paths.len().div_ceil(ABREAST).max(1));
    let Some(first) = chunks.next() else { return Ok(()) };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut here = vec![first];
        for chunk in chunks {
            match std::thread::Builder::new().spawn_scoped(scope, move || sync(chunk)) {
                Ok(thread) => threads.push(thread),
                Err(_) => here.push(chunk),
            }
        }
        let own = here.into_iter().try_for_each(sync);
        // All are waited for, whatever becomes of one.
        let panicked = || Err((PathBuf::new(), io::Error::other("a thread panicked")));
        let others: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| panicked()))
            .collect();
        others.into_iter().fold(own, Result::and)
    })
}

/// Makes what was renamed into a folder last.
pub fn sync(folder: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(folder)?)
}

/// Reads a file of at most `limit` bytes; nothing if it is not there.
pub fn read(folder: impl AsFd, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match open(folder, name) {
        Ok(file) => read_all(file, name, limit).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a file to read it. It may be anything: nothing is followed, and nobody is waited for.
pub fn open(folder: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Reads what was opened, which may not be larger than `limit` bytes.
pub fn read_all(file: OwnedFd, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::from(file).take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("`{name}` is larger than {limit} bytes"),
        ));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_and_created_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = open_folder(place.path()).unwrap();
        replace(&folder, "a", b"1", Durability::Durable).unwrap();
        replace(&folder, "a", b"22", Durability::Volatile).unwrap();
        assert_eq!(read(&folder, "a", 2).unwrap().unwrap(), b"22");
        assert!(read(&folder, "a", 1).is_err());
        assert_eq!(read(&folder, "b", 1).unwrap(), None);
        assert!(create(&folder, "b", b"first", Durability::Volatile).unwrap());
        assert!(!create(&folder, "b", b"second", Durability::Durable).unwrap());
        assert_eq!(read(&folder, "b", 9).unwrap().unwrap(), b"first");
        assert_eq!(
            std::fs::read_dir(place.path()).unwrap().count(),
            2,
            "no temporary file is left"
        );
    }

    #[test]
    fn many_are_made_to_last_and_one_that_cannot_be_is_told() {
        let place = tempfile::tempdir().unwrap();
        let mut paths: Vec<_> = (0..50).map(|one| place.path().join(format!("{one}"))).collect();
        for path in &paths {
            std::fs::write(path, "x").unwrap();
        }
        paths.push(place.path().to_owned());
        sync_all(&[]).unwrap();
        sync_all(&paths[..1]).unwrap();
        sync_all(&paths).unwrap();
        std::fs::remove_file(&paths[33]).unwrap();
        let (path, error) = sync_all(&paths).unwrap_err();
        assert_eq!((&path, error.kind()), (&paths[33], io::ErrorKind::NotFound));
    }
}
