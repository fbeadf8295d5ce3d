//! Crashes at chosen steps, for tests: after the last step that is allowed every further one fails. And reads that hang.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::Error;

#[derive(Debug)]
pub(crate) struct Faults {
    left: AtomicUsize,
    hanging: Mutex<bool>,
    changed: Condvar,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            left: AtomicUsize::new(usize::MAX),
            hanging: Mutex::default(),
            changed: Condvar::new(),
        }
    }
}

impl Faults {
    /// Allows so many more steps.
    pub(crate) fn after(&self, steps: usize) {
        self.left.store(steps, Ordering::Relaxed);
    }

    pub(super) fn step(&self, what: &'static str, path: &Path) -> Result<(), Error> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(Error::at(what, path)(std::io::Error::other("crash of a test")));
        }
        if left != usize::MAX {
            self.left.store(left - 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether looks hang from now on, each for a few seconds at most.
    pub(crate) fn hang(&self, hanging: bool) {
        *self.hanging.lock().unwrap() = hanging;
        self.changed.notify_all();
    }

    pub(super) fn look(&self) {
        let hanging = self.hanging.lock().unwrap();
        let longest = Duration::from_secs(5);
        drop(self.changed.wait_timeout_while(hanging, longest, |hanging| *hanging));
    }
}
