//! Which process a number means: numbers are used again, start times and boots are not.

use std::fs;
use std::os::linux::fs::MetadataExt as _;

use crate::store::records::Identity;

/// Which run of the machine this is.
#[must_use]
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Identity {
    /// The process with this number, if it is there.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: Stat::of(pid)?.start_time,
            boot_id: boot_id()?,
            pid_namespace: fs::metadata("/proc/self/ns/pid").ok()?.st_ino(),
        })
    }
}

/// What `/proc` tells about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its parent.
    pub(super) parent: i32,
    /// Its session.
    pub(super) session: i32,
    /// When it started, in clock ticks since the machine did.
    pub(crate) start_time: u64,
    /// Whether it has ended and waits to be reaped.
    pub(super) ended: bool,
}

impl Stat {
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in brackets may hold anything, brackets too: what counts comes after the last one.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let after = line.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = std::str::from_utf8(line.get(after..)?).ok()?.split_ascii_whitespace();
        Some(Self {
            ended: matches!(fields.next()?, "Z" | "X"),
            parent: fields.next()?.parse().ok()?,
            session: fields.nth(1)?.parse().ok()?,
            start_time: fields.nth(15)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_line_is_answered_and_no_name_confuses(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            name in proptest::collection::vec(any::<u8>(), 0..16),
            parent: i32,
            session: i32,
            start_time: u64,
        ) {
            let _ = Stat::parse(&bytes);
            let mut line = b"7 (".to_vec();
            line.extend(name);
            line.extend(format!(") S {parent} 1 {session}{} {start_time} 5 6\n", " 0".repeat(15)).into_bytes());
            let stat = Stat::parse(&line).unwrap();
            prop_assert_eq!((stat.parent, stat.session, stat.start_time, stat.ended), (parent, session, start_time, false));
        }
    }

    #[test]
    fn hostile_names_do_not_confuse() {
        let line = b"42 (a) b (x) Z 7 8 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 77777 1 2\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.parent, stat.session, stat.start_time, stat.ended),
            (7, 9, 77777, true)
        );
        assert_eq!(Stat::parse(b""), None);
        assert_eq!(Stat::parse(b"1 (x) R 1"), None);
    }
}
