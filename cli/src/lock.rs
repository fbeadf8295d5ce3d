//! Who drives an execution: one process at a time, found out by a file lock that dies with its holder.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, state};

/// The right to drive an execution, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

/// How often a claim is tried: a process that only looks holds the lock for a moment.
const TRIES: u32 = 10;

impl Claim {
    /// Take the right to drive the execution whose lock file this is, or say who has it.
    pub(crate) fn take(path: &Path, execution: &str) -> Result<Self, Error> {
        let mut file = open(path)?;
        for attempt in 1.. {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < TRIES => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::WouldBlock) => {
                    let holder = fs::read_to_string(path).unwrap_or_default();
                    let holder = if holder.is_empty() {
                        "another process"
                    } else {
                        holder.trim()
                    };
                    return Err(Error::Conflict(format!(
                        "execution `{execution}` is driven by {holder}: follow it with `podrun logs -f {execution}`, or \
                         stop it with `podrun kill {execution}`"
                    )));
                }
                Err(TryLockError::Error(source)) => return Err(state("lock", path)(source)),
            }
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() {
            String::new()
        } else {
            format!(" on {}", host.trim())
        };
        file.set_len(0).map_err(state("write", path))?;
        writeln!(file, "process {}{host}", std::process::id()).map_err(state("write", path))?;
        Ok(Self { _file: file })
    }
}

/// Who drives the execution; none if nobody does.
pub(crate) fn holder(path: PathBuf) -> Option<String> {
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(fs::read_to_string(&path).unwrap_or_default().trim().to_owned()),
        _ => None,
    }
}

fn open(path: &Path) -> Result<File, Error> {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(state("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let claim = Claim::take(&path, "x").unwrap();
        assert!(holder(path.clone()).unwrap().contains(&std::process::id().to_string()));
        let refusal = Claim::take(&path, "x").unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("driven by process {}", std::process::id())),
            "{refusal}"
        );
        drop(claim);
        assert_eq!(holder(path.clone()), None);
        Claim::take(&path, "x").unwrap();
    }
}
