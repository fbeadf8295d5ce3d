//! What a task is called on disk.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::protocol::Moment;

/// The greatest number that this process has given or seen.
static LAST: AtomicU64 = AtomicU64::new(0);

/// One task, whatever its name: a later task with the same name has another one. They sort by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(String);

impl TaskId {
    /// A new one, greater than all others that this process made or found.
    #[must_use]
    pub fn new() -> Self {
        let now = Moment::now().0;
        let mut last = LAST.load(Ordering::Relaxed);
        let number = loop {
            let next = now.max(last + 1);
            match LAST.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break next,
                Err(other) => last = other,
            }
        };
        let mut random = [0; 4];
        // Without randomness the time alone still tells the tasks of one agent apart.
        let _ = getrandom::fill(&mut random);
        Self(format!("{number:016x}-{:08x}", u32::from_le_bytes(random)))
    }

    /// From now on new ones are greater than this one, even if the clock was set back since it was made.
    pub(super) fn note(&self) {
        let number = self.0.split_once('-').map(|(number, _)| number);
        let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
        // One from a folder that somebody made up must not use up the numbers.
        if let Some(number) = number.filter(|number| *number < u64::MAX / 2) {
            LAST.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// The identity that a folder's name says, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, random) = text.split_once('-')?;
        let hexadecimal = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let valid = number.len() == 16 && random.len() == 8 && hexadecimal(number) && hexadecimal(random);
        valid.then(|| Self(text.to_owned()))
    }

    /// The identity as text: lowercase hexadecimal digits and a hyphen.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_grow_and_are_read_back() {
        let ids: Vec<_> = (0..100).map(|_| TaskId::new()).collect();
        assert!(ids.is_sorted());
        for id in &ids {
            assert_eq!(TaskId::parse(id.as_str()).as_ref(), Some(id));
        }
        for other in [
            "",
            "..",
            "a-b",
            "0123456789abcdef-0123456G",
            "0123456789abcdef-01234567/",
        ] {
            assert_eq!(TaskId::parse(other), None);
        }
    }

    #[test]
    fn new_ones_are_greater_than_any_that_was_there_before_the_clock_was_set_back() {
        let hour = Moment::now().0 + 3_600_000_000;
        let old = TaskId::parse(&format!("{hour:016x}-ffffffff")).unwrap();
        assert!(TaskId::new() < old);
        old.note();
        assert!(old < TaskId::new());
        TaskId::parse("ffffffffffffffff-00000000").unwrap().note();
        assert!(TaskId::new() < TaskId::new());
    }
}
