//! Files that are there whole or not at all, in a folder that is held open.
//!
//! Everything goes through the folder's descriptor, never through a path: supervisors write from inside other
//! containers' file systems.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

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
    Ok(rustix::fs::openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Writes a file, in place of the one that may be there.
pub fn replace(folder: impl AsFd, name: &str, content: &[u8], durability: Durability) -> io::Result<()> {
    let folder = folder.as_fd();
    let temporary = write_temporary(folder, name, content, durability)?;
    rustix::fs::renameat(folder, &temporary, folder, name)?;
    settle(folder, durability)
}

/// Writes a file unless it is there already. The answer says whether this call wrote it.
pub fn create(folder: impl AsFd, name: &str, content: &[u8], durability: Durability) -> io::Result<bool> {
    let folder = folder.as_fd();
    let temporary = write_temporary(folder, name, content, durability)?;
    let linked = rustix::fs::linkat(folder, &temporary, folder, name, AtFlags::empty());
    rustix::fs::unlinkat(folder, &temporary, AtFlags::empty())?;
    match linked {
        Ok(()) => settle(folder, durability).map(|()| true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads a file of at most `limit` bytes; nothing if it is not there.
pub fn read(folder: impl AsFd, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("`{name}` is larger than {limit} bytes")));
    }
    Ok(Some(content))
}

/// Makes what was renamed into a folder last.
pub fn settle(folder: impl AsFd, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Durable => Ok(rustix::fs::fsync(folder)?),
        Durability::Volatile => Ok(()),
    }
}

/// A name that nobody else writes to at the same time: the process is part of it.
fn write_temporary(folder: impl AsFd, name: &str, content: &[u8], durability: Durability) -> io::Result<String> {
    let temporary = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(content)?;
    if durability == Durability::Durable {
        file.sync_all()?;
    }
    Ok(temporary)
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
        assert!(create(&folder, "b", b"first", Durability::Durable).unwrap());
        assert!(!create(&folder, "b", b"second", Durability::Durable).unwrap());
        assert_eq!(read(&folder, "b", 9).unwrap().unwrap(), b"first");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
