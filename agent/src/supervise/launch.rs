//! The agent's side: starting supervisors and hearing from them.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;

use super::{Order, channel};
use crate::store::file;

/// Opens the pipe that a supervisor tells of news through. The pipe is made if need be.
pub fn listen(folder: &Path) -> io::Result<File> {
    channel::make(folder)?;
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    File::options()
        .read(true)
        .custom_flags(flags)
        .open(folder.join(file::EVENTS))
}

/// Whether a supervisor has the other end of a pipe that was just opened. If so, the pipe will tell of its end.
#[must_use]
pub fn has_supervisor(events: &File) -> bool {
    !matches!(rustix::io::read(events, &mut [0; 64]), Ok(0))
}

/// Starts a supervisor. It outlives whoever starts it.
pub fn start(order: &Order) -> io::Result<Child> {
    Command::new("/proc/self/exe")
        .arg0("podrun-agent")
        .args(order.to_arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}
