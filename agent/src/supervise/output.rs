//! One output stream of a task: from its pipe into files of a limited size.
//!
//! The files are named after the position of their first byte in the stream. When a file holds half of what may be
//! kept, the next one begins and all before the last go, so that at least half of the limit is always there.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::store::segments;

/// How much is moved before other things get their turn.
const TURN: u64 = 1 << 20;

/// The stream's way into the files.
#[derive(Debug)]
pub(super) struct Output {
    name: &'static str,
    /// The pipe's reading end, until the stream has ended.
    pipe: Option<OwnedFd>,
    file: Option<Segment>,
    /// Where the file before this one begins. It stays until the next one does.
    previous: Option<u64>,
    /// How large one file may grow.
    segment_size: u64,
    /// Whether the kernel can move bytes from the pipe to the file by itself.
    splices: bool,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    length: u64,
    file: OwnedFd,
}

/// How a transfer went.
enum Moved {
    Bytes(u64),
    NothingThere,
    Ended,
    /// The file cannot take it; the pipe still has it.
    Refused,
}

impl Output {
    /// A stream of which `limit` bytes are kept, and the end of it that the task writes to.
    pub(super) fn new(name: &'static str, limit: u64) -> io::Result<(Self, OwnedFd)> {
        let (pipe, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let output = Self {
            name,
            pipe: Some(pipe),
            file: None,
            previous: None,
            segment_size: (limit / 2).max(1),
            splices: true,
        };
        Ok((output, writer))
    }

    /// What to wait on; none once the stream has ended.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Moves what is there into files of `folder`. Trouble with the files loses output and never stops the task.
    /// The answer says whether more may be there.
    pub(super) fn pump(&mut self, folder: impl AsFd) -> bool {
        self.take(folder, TURN)
    }

    /// Moves what is there now, and not what comes meanwhile: whoever writes all the time would never let it end.
    pub(super) fn drain(&mut self, folder: impl AsFd) {
        let there = self.pipe.as_ref().map(rustix::io::ioctl_fionread);
        if let Some(Ok(there @ 1..)) = there {
            self.take(folder, there);
        }
    }

    fn take(&mut self, folder: impl AsFd, most: u64) -> bool {
        let mut left = most;
        while left > 0 {
            let Some(pipe) = self.pipe.take() else { return false };
            let moved = match self.transfer(pipe.as_fd(), folder.as_fd(), left) {
                Moved::Refused => drop_some(&pipe),
                other => other,
            };
            if matches!(moved, Moved::Ended) {
                return false;
            }
            self.pipe = Some(pipe);
            match moved {
                Moved::Bytes(moved) => left = left.saturating_sub(moved),
                _ => return false,
            }
        }
        true
    }

    fn transfer(&mut self, pipe: BorrowedFd<'_>, folder: BorrowedFd<'_>, most: u64) -> Moved {
        // A file is begun only when there is something to put into it.
        match rustix::io::ioctl_fionread(pipe) {
            Ok(0) | Err(_) => return look(pipe),
            Ok(_) => {}
        }
        if self.begin_file(folder).is_err() {
            return Moved::Refused;
        }
        let Some(segment) = &mut self.file else {
            return Moved::Refused;
        };
        let most = most.min(self.segment_size - segment.length);
        if self.splices {
            match segment.splice(pipe, most) {
                Err(Errno::INVAL | Errno::NOSYS) => self.splices = false,
                other => return settle(other),
            }
        }
        settle(segment.copy(pipe, most))
    }

    /// Sees to it that there is a file with room.
    fn begin_file(&mut self, folder: BorrowedFd<'_>) -> io::Result<()> {
        let start = match &self.file {
            Some(segment) if segment.length < self.segment_size => return Ok(()),
            Some(segment) => segment.start + segment.length,
            None => 0,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let name = segments::name(self.name, start);
        let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let full = self.file.replace(Segment { start, length: 0, file });
        if let Some(oldest) = std::mem::replace(&mut self.previous, full.map(|segment| segment.start)) {
            let _ = rustix::fs::unlinkat(folder, segments::name(self.name, oldest), AtFlags::empty());
        }
        Ok(())
    }
}

impl Segment {
    fn splice(&mut self, pipe: BorrowedFd<'_>, most: u64) -> rustix::io::Result<u64> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut position = self.length;
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = rustix::pipe::splice(pipe, None, &self.file, Some(&mut position), most, flags)? as u64;
        self.length += moved;
        Ok(moved)
    }

    fn copy(&mut self, pipe: BorrowedFd<'_>, most: u64) -> rustix::io::Result<u64> {
        let mut buffer = [0; 4096];
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.len());
        let read = rustix::io::read(pipe, buffer.get_mut(..most).unwrap_or_default())?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            // What the file refuses is lost: the pipe does not have it any more.
            let Ok(written) = rustix::io::pwrite(&self.file, rest, self.length) else {
                break;
            };
            self.length += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(read as u64)
    }
}

fn settle(moved: rustix::io::Result<u64>) -> Moved {
    match moved {
        Ok(0) => Moved::Ended,
        Ok(moved) => Moved::Bytes(moved),
        Err(Errno::AGAIN | Errno::INTR) => Moved::NothingThere,
        Err(_) => Moved::Refused,
    }
}

/// An empty pipe: whether it has ended. Nothing is read, because something may arrive meanwhile.
fn look(pipe: BorrowedFd<'_>) -> Moved {
    let mut look = [PollFd::new(&pipe, PollFlags::IN)];
    let now = Timespec::default();
    match rustix::event::poll(&mut look, Some(&now)) {
        Ok(_) if look.iter().all(|one| one.revents() == PollFlags::HUP) => Moved::Ended,
        _ => Moved::NothingThere,
    }
}

/// Reads what no file takes, so that the task can go on.
fn drop_some(pipe: impl AsFd) -> Moved {
    match rustix::io::read(pipe, &mut [0; 4096]) {
        Err(Errno::AGAIN | Errno::INTR) => Moved::NothingThere,
        Ok(0) | Err(_) => Moved::Ended,
        Ok(dropped) => Moved::Bytes(dropped as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic;

    fn kept(place: &std::path::Path) -> Vec<(u64, Vec<u8>)> {
        let files = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = files
            .map(|entry| {
                let start = segments::start("stdout", entry.file_name().to_str().unwrap()).unwrap();
                (start, std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_last_bytes_are_kept_and_named_by_position() {
        for splices in [true, false] {
            let place = tempfile::tempdir().unwrap();
            let folder = atomic::open_folder(place.path()).unwrap();
            let (mut output, writer) = Output::new("stdout", 8).unwrap();
            output.splices = splices;
            assert!(!output.pump(&folder));
            assert_eq!(kept(place.path()), [], "no file before the first byte");
            for part in [&b"0123"[..], b"45", b"678901", b"2"] {
                rustix::io::write(&writer, part).unwrap();
                output.pump(&folder);
            }
            assert_eq!(kept(place.path()), [(8, b"8901".to_vec()), (12, b"2".to_vec())]);
            drop(writer);
            output.pump(&folder);
            assert!(output.pipe().is_none());
        }
    }

    #[test]
    fn whoever_writes_without_pause_does_not_hold_up_an_end() {
        let place = tempfile::tempdir().unwrap();
        let folder = atomic::open_folder(place.path()).unwrap();
        let (mut output, writer) = Output::new("stdout", 1 << 20).unwrap();
        rustix::io::write(&writer, &[b'x'; 1000]).unwrap();
        // Nothing that is written during the look is moved: here somebody writes as soon as there is room again.
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        let flood = std::thread::spawn(move || while rustix::io::write(&writer, &[b'y'; 1 << 16]).is_ok() {});
        output.drain(&folder);
        let moved: usize = kept(place.path()).iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((1000..=1 << 16).contains(&moved), "{moved}");
        drop(output);
        flood.join().unwrap();
    }

    #[test]
    fn a_full_disk_does_not_stop_the_task() {
        let (mut output, writer) = Output::new("stdout", 1 << 20).unwrap();
        // Nothing can be created in /proc.
        let folder = atomic::open_folder(std::path::Path::new("/proc")).unwrap();
        for _ in 0..100 {
            rustix::io::write(&writer, &[0; 4096]).unwrap();
            output.pump(&folder);
        }
        assert!(output.pipe().is_some());
    }
}
