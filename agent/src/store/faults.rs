//! Crashes at chosen steps, for tests: after the last step that is allowed every further one fails.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;

#[derive(Debug)]
pub(crate) struct Faults {
    left: AtomicUsize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            left: AtomicUsize::new(usize::MAX),
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
}
