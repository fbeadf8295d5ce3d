//! The data directory: one folder per task, files that are whole or absent, nothing that a crash can break.
//!
//! ```text
//! lock              held by the agent that works here
//! tasks/ID/         a task; ID is random, so that names never become paths
//!   task            what was asked for
//!   claim           somebody is about to start it; from then on nobody else ever does
//!   starting        its container is about to be started; from then on no other one ever is
//!   started, ended  what became of it
//!   stop            it is to stop, and perhaps to be removed
//!   control, events pipes to and from its supervisor; nobody at the other end means that it is gone
//!   stdout.N        the output from byte N on, stderr likewise
//! tasks/.new-ID     being created; tasks/.gone-ID being removed
//! damaged/ID        what could not be read, for a person to look at
//! ```
//!
//! A claim has to outlive whatever forgets it. Processes that die forget nothing that was written; a machine forgets
//! what was not on its disk yet. A task that is to be started at once therefore has the id of the machine's run in its
//! `task` file, which is on the disk before the task is accepted: in another run it is `Lost`, claimed or not, so that
//! its claim need not wait for the disk. A task without such an id, one that was queued for example, waits for as long as
//! it takes, and its claim is on the disk before it is started.

pub mod atomic;
mod error;
mod id;
pub mod records;
mod scan;
pub mod segments;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::Error;
pub use id::TaskId;
pub use scan::Stored;

use atomic::Durability;
use records::{Claim, Ended, Started, Starting, Stop, Task};

/// Files in a task's folder.
pub mod file {
    /// What was asked for.
    pub const TASK: &str = "task";
    /// The right to start the task.
    pub const CLAIM: &str = "claim";
    /// The container is about to be started.
    pub const STARTING: &str = "starting";
    /// The program was started.
    pub const STARTED: &str = "started";
    /// The program ended.
    pub const ENDED: &str = "ended";
    /// The task is to stop.
    pub const STOP: &str = "stop";
    /// The pipe to the supervisor.
    pub const CONTROL: &str = "control";
    /// The pipe from the supervisor.
    pub const EVENTS: &str = "events";
}

/// How long an agent waits for its predecessor to be gone.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 2 });

/// The largest record that is read.
const LARGEST: u64 = 64 << 20;

/// What became of a task so far, as its folder tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether somebody took the right to start it.
    pub claimed: bool,
    /// Whether its container may have been started.
    pub starting: bool,
    /// It was started.
    pub started: Option<Started>,
    /// It ended.
    pub ended: Option<Ended>,
}

/// The data directory, for the one agent that works in it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    _lock: File,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
}

impl Store {
    /// Takes the directory, which is created if need be, and clears what an earlier crash left half done.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let folder = |name: &str| {
            let path = root.join(name);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map(|()| path.clone()).map_err(Error::at("create folder", &path))
        };
        let tasks = folder("tasks")?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(Error::at("create", &path))?;
        take(&lock, root, &path)?;
        for entry in fs::read_dir(&tasks).map_err(Error::at("read folder", &tasks))? {
            let entry = entry.map_err(Error::at("read folder", &tasks))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                discard(&entry.path());
            }
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    /// The folder of a task.
    #[must_use]
    pub fn folder(&self, id: &TaskId) -> PathBuf {
        self.tasks().join(id.as_str())
    }

    /// Makes tasks last: all of them are on the disk when the call returns. After an error none is there, unless the
    /// agent dies before it has removed them again.
    pub fn create(&self, tasks: &[(TaskId, Task)]) -> Result<(), Error> {
        let all = tasks.iter().try_for_each(|(id, task)| self.create_one(id, task));
        // All get their names first: then one commit of the file system's journal is enough for all.
        let all = all.and_then(|()| {
            let folders = tasks.iter().map(|(id, _)| self.folder(id));
            let paths = folders.flat_map(|folder| [folder.join(file::TASK), folder]);
            self.sync(&paths.chain([self.tasks()]).collect::<Vec<_>>())
        });
        if all.is_err() {
            for (id, _) in tasks {
                let _ = self.remove(id);
            }
        }
        all
    }

    fn create_one(&self, id: &TaskId, task: &Task) -> Result<(), Error> {
        self.step("create", id)?;
        let new = self.tasks().join(format!(".new-{id}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&new);
        made.map_err(Error::at("create folder", &new))?;
        let written = write(&new, file::TASK, task, Durability::Volatile).and_then(|()| {
            self.step("publish", id)?;
            let folder = self.folder(id);
            fs::rename(&new, &folder).map_err(Error::at("create folder", &folder))
        });
        if written.is_err() {
            discard(&new);
        }
        written
    }

    /// Asks for tasks' ends, for good: they are never started from now on, by nobody. What fails for one holds up none
    /// of the others.
    pub fn stop(&self, stops: &[(TaskId, Stop)]) -> Result<(), Error> {
        let write_one = |id: &TaskId, stop: &Stop| {
            self.step("stop", id)?;
            write(&self.folder(id), file::STOP, stop, Durability::Volatile)
        };
        self.write_all(file::STOP, stops, write_one)
    }

    /// Writes a file for each of many tasks, and makes all of them last together.
    fn write_all<T>(
        &self,
        name: &str,
        all: &[(TaskId, T)],
        write_one: impl Fn(&TaskId, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut paths = Vec::with_capacity(all.len() * 2);
        let mut failed = Ok(());
        for (id, record) in all {
            match write_one(id, record) {
                Ok(()) => paths.extend([self.folder(id).join(name), self.folder(id)]),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        self.sync(&paths).and(failed)
    }

    /// What became of a task so far.
    pub fn progress(&self, id: &TaskId) -> Result<Progress, Error> {
        #[cfg(test)]
        self.faults.look();
        let folder = self.folder(id);
        let is_there = |name| {
            let path = folder.join(name);
            path.try_exists().map_err(Error::at("look for", &path))
        };
        Ok(Progress {
            // The end is read first: what was before it is there if it is.
            ended: lenient(&folder, file::ENDED)?,
            started: lenient(&folder, file::STARTED)?,
            starting: is_there(file::STARTING)?,
            claimed: is_there(file::CLAIM)?,
        })
    }

    /// Takes the right to start a task. The answer says whether this call took it.
    pub fn claim(&self, id: &TaskId, claim: &Claim) -> Result<bool, Error> {
        self.step("claim", id)?;
        create(&self.folder(id), file::CLAIM, claim)
    }

    /// Notes that a task's container is about to be started.
    pub fn begin(&self, id: &TaskId, starting: &Starting) -> Result<(), Error> {
        self.step("begin", id)?;
        write(&self.folder(id), file::STARTING, starting, Durability::Durable)
    }

    /// Notes that a task was started which has no supervisor.
    pub fn start(&self, id: &TaskId, started: &Started) -> Result<(), Error> {
        self.step("start", id)?;
        write(&self.folder(id), file::STARTED, started, Durability::Durable)
    }

    /// Notes the end of a task whose supervisor cannot do it any more. An end that is there stays.
    pub fn end(&self, id: &TaskId, ended: &Ended) -> Result<Ended, Error> {
        self.end_all(&[(id.clone(), ended.clone())])?;
        Ok(lenient(&self.folder(id), file::ENDED)?.unwrap_or_else(|| ended.clone()))
    }

    /// As [`end`](Self::end), of many tasks together. What fails for one holds up none of the others.
    pub fn end_all(&self, ends: &[(TaskId, Ended)]) -> Result<(), Error> {
        let write_one = |id: &TaskId, ended: &Ended| {
            self.step("end", id)?;
            let folder = self.folder(id);
            match lenient::<Ended>(&folder, file::ENDED)? {
                Some(_) => Ok(()),
                None => write(&folder, file::ENDED, ended, Durability::Volatile),
            }
        };
        self.write_all(file::ENDED, ends, write_one)
    }

    /// Takes tasks back for good, which needs no room on the disk: they are not found again. Nothing may run of them.
    /// Their files stay until they are [removed](Self::remove), or until the next start.
    pub fn withdraw(&self, ids: &[TaskId]) -> Result<(), Error> {
        let mut any = false;
        for id in ids {
            self.step("withdraw", id)?;
            let folder = self.folder(id);
            match fs::rename(&folder, self.gone(id)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => {
                    renamed.map_err(Error::at("remove", &folder))?;
                    any = true;
                }
            }
        }
        if any { self.sync(&[self.tasks()]) } else { Ok(()) }
    }

    /// Removes a task's state. After a crash in between the rest goes at the next start.
    pub fn remove(&self, id: &TaskId) -> Result<(), Error> {
        self.withdraw(std::slice::from_ref(id))?;
        self.step("discard", id)?;
        discard(&self.gone(id));
        Ok(())
    }

    fn gone(&self, id: &TaskId) -> PathBuf {
        self.tasks().join(format!(".gone-{id}"))
    }

    /// Every task that is there, the oldest first. What cannot be read is set aside.
    pub fn load(&self) -> Result<Vec<Stored>, Error> {
        scan::load(self)
    }

    fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    fn sync(&self, paths: &[PathBuf]) -> Result<(), Error> {
        #[cfg(test)]
        paths.iter().try_for_each(|path| self.faults.step("sync", path))?;
        atomic::sync_all(paths).map_err(|(path, error)| Error::at("sync", &path)(error))
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "in tests a crash may happen here"
    )]
    fn step(&self, _what: &'static str, _id: &TaskId) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, what: &'static str, id: &TaskId) -> Result<(), Error> {
        self.faults.step(what, &self.folder(id))
    }
}

/// Takes the lock of an agent's directory. An agent that was killed while it started a supervisor may leave it held for
/// a moment, by a process that has not become that supervisor yet.
fn take(lock: &File, root: &Path, path: &Path) -> Result<(), Error> {
    let last = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < last => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::WouldBlock) => return Err(Error::Busy(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(Error::at("lock", path)(error)),
        }
    }
}

/// Writes a record into a task's folder.
fn write<T: Serialize>(folder: &Path, name: &str, record: &T, durability: Durability) -> Result<(), Error> {
    put(folder, name, record, |folder, content| {
        atomic::replace(folder, name, content, durability)
    })
}

/// Writes a record into a task's folder unless it is there; says whether it was not.
fn create<T: Serialize>(folder: &Path, name: &str, record: &T) -> Result<bool, Error> {
    put(folder, name, record, |folder, content| {
        atomic::create(folder, name, content, Durability::Durable)
    })
}

fn put<T: Serialize, R>(
    path: &Path,
    name: &str,
    record: &T,
    put: impl FnOnce(&rustix::fd::OwnedFd, &[u8]) -> io::Result<R>,
) -> Result<R, Error> {
    let path = path.join(name);
    let content = serde_json::to_vec(record).map_err(|error| Error::at("write", &path)(error.into()))?;
    let folder = path.parent().unwrap_or(&path);
    let folder = atomic::open_folder(folder).map_err(Error::at("open", folder))?;
    put(&folder, &content).map_err(Error::at("write", &path))
}

/// Reads a record; nothing if it is not there.
fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, Error> {
    let path = folder.join(name);
    let folder = atomic::open_folder(folder).map_err(Error::at("open", folder))?;
    let content = atomic::read(&folder, name, LARGEST).map_err(Error::at("read", &path))?;
    let record = content.map(|content| serde_json::from_slice(&content)).transpose();
    record.map_err(|error| Error::Damaged { path, source: error })
}

/// As [`read`], but a record that is damaged counts as missing.
fn lenient<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, Error> {
    match read(folder, name) {
        Err(error @ Error::Damaged { .. }) => {
            log::warn!("{error}; it counts as missing");
            Ok(None)
        }
        other => other,
    }
}

/// Removes what nobody needs any more; what stays is tried again at the next start.
fn discard(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("failed to remove `{}`: {error}", path.display());
    }
}

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod tests;
