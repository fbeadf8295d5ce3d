//! The two pipes in a task's folder. They tell reliably whether the supervisor lives, in whatever PID namespace and
//! after whatever restarts: the kernel closes its ends when it dies.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::store::{atomic, file};

/// Makes both pipes, if they are not there.
pub fn make(folder: &Path) -> io::Result<()> {
    let folder = atomic::open_folder(folder)?;
    for name in [file::CONTROL, file::EVENTS] {
        let make = || rustix::fs::mkfifoat(&folder, name, Mode::RUSR | Mode::WUSR);
        match make() {
            Err(Errno::EXIST) if !is_pipe(&rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?) => {
                rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
                make()?;
            }
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The request to end a task, and the one to end a task whose result nobody needs.
const STOP: &[u8] = b"s";
const DELETE: &[u8] = b"d";

/// Tells the supervisor that its task is to stop: how is in the `stop` file, if there was room for it. The answer says
/// whether there is a supervisor.
pub fn request_stop(folder: &Path, delete: bool) -> io::Result<bool> {
    let Some(pipe) = open_control(folder)? else {
        return Ok(false);
    };
    match rustix::io::write(&pipe, if delete { DELETE } else { STOP }) {
        // A full pipe holds enough requests.
        Ok(_) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::PIPE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the task has a supervisor.
pub fn is_supervised(folder: &Path) -> io::Result<bool> {
    open_control(folder).map(|pipe| pipe.is_some())
}

fn open_control(folder: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(folder.join(file::CONTROL), flags, Mode::empty()) {
        // Something else by that name has nobody at its other end.
        Ok(pipe) => Ok(is_pipe(&rustix::fs::fstat(&pipe)?).then_some(pipe)),
        Err(Errno::NXIO | Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_pipe(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Fifo
}

/// What an agent wants of a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    /// The task is to end.
    Stop,
    /// Nobody needs to know how it ended either.
    Delete,
}

/// The supervisor's ends. As long as they are open the supervisor counts as alive.
#[derive(Debug)]
pub(super) struct Ends {
    /// Requests come here.
    pub(super) control: OwnedFd,
    events: OwnedFd,
}

impl Ends {
    /// Opens both. Reading and writing at once keeps a pipe usable while nobody is at its other end.
    pub(super) fn open(folder: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = |name| rustix::fs::openat(&folder, name, flags, Mode::empty());
        Ok(Self {
            control: open(file::CONTROL)?,
            events: open(file::EVENTS)?,
        })
    }

    /// Tells an agent, if there is one, to look at the folder.
    pub(super) fn notify(&self) {
        let _ = rustix::io::write(&self.events, b"!");
    }

    /// Whether there is a request, which stays.
    pub(super) fn has_request(&self) -> bool {
        rustix::io::ioctl_fionread(&self.control).is_ok_and(|there| there > 0)
    }

    /// What was requested; forgets it.
    pub(super) fn take_request(&self) -> Option<Request> {
        let mut buffer = [0; 16];
        let mut request = None;
        while let Ok(read @ 1..) = rustix::io::read(&self.control, &mut buffer) {
            let delete = buffer.iter().take(read).any(|byte| DELETE == [*byte]);
            request = request.max(Some(if delete { Request::Delete } else { Request::Stop }));
        }
        request
    }
}
