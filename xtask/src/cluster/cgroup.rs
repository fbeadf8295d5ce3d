//! The cluster's control groups: one root of its own in every hierarchy (version 1) or in the only one (version 2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::{self, Process};

/// Where hierarchies are mounted.
const MOUNTS: &str = "/sys/fs/cgroup";

/// Whether the machine has the unified hierarchy only.
pub(crate) fn is_v2() -> bool {
    Path::new(MOUNTS).join("cgroup.controllers").exists()
}

/// Makes the group `name` everywhere that the kubelet looks for it.
pub(crate) fn ensure(name: &str) -> Result<()> {
    if is_v2() {
        // Children get only the controllers that their parent passes on. One that the machine lacks is no reason to stop.
        for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
            let _ = fs::write(
                Path::new(MOUNTS).join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
        let passed_on = fs::read_to_string(Path::new(MOUNTS).join("cgroup.subtree_control")).unwrap_or_default();
        for needed in ["cpu", "memory", "pids"] {
            if !passed_on.split_whitespace().any(|controller| controller == needed) {
                bail!(
                    "the cgroup controller `{needed}` cannot be passed on in {MOUNTS}: run outside a container, or with a private, writable cgroup root"
                );
            }
        }
    }
    for folder in folders(name)? {
        fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    }
    Ok(())
}

/// Kills what still runs in the group and removes it.
pub(crate) fn remove(name: &str) -> Result<()> {
    for folder in folders(name)? {
        let deadline = Instant::now() + Duration::from_secs(20);
        while folder.exists() {
            process::end(&members(&folder))?;
            match remove_tree(&folder) {
                Ok(()) => break,
                // A group stays busy for a moment after its last process is gone.
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("failed to remove `{}`", folder.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

/// Every process in the group `name`.
pub(crate) fn processes(name: &str) -> Result<Vec<Process>> {
    Ok(folders(name)?.iter().flat_map(|folder| members(folder)).collect())
}

/// The group's folder in each hierarchy.
fn folders(name: &str) -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![Path::new(MOUNTS).join(name)]);
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(MOUNTS).with_context(|| format!("failed to read `{MOUNTS}`"))? {
        let entry = entry?;
        // Links such as `cpu,cpuacct` stand for a hierarchy that is listed under its own name as well.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            folders.push(entry.path().join(name));
        }
    }
    Ok(folders)
}

/// The processes in a group and below it.
fn members(folder: &Path) -> Vec<Process> {
    let list = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let own = list
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter_map(Process::of);
    own.chain(children(folder).iter().flat_map(|child| members(child)))
        .collect()
}

/// Control groups are removed from the leaves up; their files go with them.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
