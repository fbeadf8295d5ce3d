//! Tells when a runtime has closed a container's log, after which nothing comes any more.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::output::LOG;

/// Watches the folders of tasks. One for all of them: the node has few of what this takes.
#[derive(Debug)]
pub(super) struct Closed {
    /// None if there is none to be had.
    inotify: Option<OwnedFd>,
    /// Whether the log in a watched folder was closed.
    seen: Mutex<HashMap<i32, bool>>,
}

impl Closed {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let inotify = inotify.inspect_err(|error| log::warn!("ends of output are noticed late: inotify: {error}"));
        Self {
            inotify: inotify.ok(),
            seen: Mutex::default(),
        }
    }

    /// From here on the closing of the log in this folder is seen.
    pub(super) fn watch(&self, folder: &Path) {
        self.closed(folder);
    }

    /// Whether the log in this folder was closed since it is watched.
    pub(super) fn closed(&self, folder: &Path) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        // The same folder is the same watch.
        let Ok(watch) = inotify::add_watch(inotify, folder, flags) else {
            return false;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(watch).or_default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = events.next() {
            if event.events().contains(ReadFlags::IGNORED) {
                // The folder is gone.
                seen.remove(&event.wd());
            } else if event.file_name().is_some_and(|name| name.to_bytes() == LOG.as_bytes())
                && let Some(closed) = seen.get_mut(&event.wd())
            {
                *closed = true;
            }
        }
        seen.get(&watch).copied().unwrap_or_default()
    }

    /// Does not watch this folder any more.
    pub(super) fn forget(&self, folder: &Path) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(watch) = inotify::add_watch(inotify, folder, WatchFlags::CLOSE_WRITE) {
            let _ = inotify::remove_watch(inotify, watch);
            seen.remove(&watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn a_log_is_closed_when_its_writer_closes_it() {
        let closed = Closed::new();
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = (folder.path(), folder.path().join(LOG));
        assert!(!closed.closed(path));
        let first = File::create(&log).unwrap();
        // Renamed as the kubelet does it: what is closed then is the former log.
        fs::rename(&log, folder.path().join(format!("{LOG}.20261121-060000"))).unwrap();
        let second = File::create(&log).unwrap();
        drop(first);
        File::open(&log).unwrap();
        File::create(folder.path().join("stdout")).unwrap();
        assert!(!closed.closed(path), "others were closed");
        drop(second);
        assert!(closed.closed(path));
        assert!(closed.closed(path), "it stays so");
        closed.forget(path);
        assert!(!closed.closed(path));
    }

    #[test]
    fn folders_are_told_apart_and_may_go() {
        let closed = Closed::new();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(!closed.closed(one.path()) && !closed.closed(two.path()));
        File::create(two.path().join(LOG)).unwrap();
        assert!(!closed.closed(one.path()));
        assert!(closed.closed(two.path()));
        two.close().unwrap();
        assert!(!closed.closed(one.path()));
        assert_eq!(closed.seen.lock().unwrap().len(), 1, "what is gone is forgotten");
    }
}
