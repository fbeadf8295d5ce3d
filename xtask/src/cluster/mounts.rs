//! Mounts below a cluster's folder: volumes, container roots, network namespaces.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

/// Unmounts everything below `folder`. It must be called before that folder is removed: a volume may be somebody
/// else's data.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    // The last mount is the first to go. One call may uncover another mount at the same place.
    for _ in 0..100 {
        let mounts = below(folder)?;
        if mounts.is_empty() {
            return Ok(());
        }
        for mount in mounts.iter().rev() {
            match unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    return Err(io::Error::from(error))
                        .with_context(|| format!("failed to unmount `{}`", mount.display()));
                }
            }
        }
    }
    bail!("mounts below `{}` keep coming back", folder.display())
}

/// The mount points below `folder`, in the order in which they were mounted.
pub(crate) fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo").context("failed to read /proc/self/mountinfo")?;
    Ok(mount_points(&table)
        .into_iter()
        .filter(|point| point.starts_with(folder))
        .collect())
}

/// The fifth field of each line, in which the kernel writes odd bytes as `\ooo`.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let points = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points
        .map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescape(point))))
        .collect()
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_spaces_are_read() {
        let table = b"36 35 98:0 /mnt1 /a\\040b/c\\134d rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:5 / /proc rw - proc proc rw\n";
        assert_eq!(
            mount_points(table),
            [PathBuf::from("/a b/c\\d"), PathBuf::from("/proc")]
        );
    }

    #[test]
    fn a_sibling_with_a_longer_name_is_not_below() {
        let table = b"1 1 0:1 / /x/dev2 rw - tmpfs tmpfs rw\n";
        assert!(!mount_points(table).iter().any(|point| point.starts_with("/x/dev")));
    }
}
