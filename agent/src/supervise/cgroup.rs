//! A cgroup of a task's own, where this process may make one: what is in it can be killed as a whole.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::process::Pid;

use crate::store::TaskId;

/// A task's cgroup. It holds the task, never its supervisor.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below this process's own; none where that is not permitted, which is what most containers get.
    #[must_use]
    pub fn make(id: &TaskId) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        // The second version comes first: processes are born into it.
        let (second, first): (Vec<_>, Vec<_>) = own.lines().partition(|line| line.starts_with("0::"));
        second.into_iter().chain(first).filter_map(parent).find_map(|parent| {
            let path = parent.join(format!("podrun-{id}"));
            fs::create_dir(&path).ok()?;
            let cgroup = Self { path };
            if cgroup.is_usable() {
                return Some(cgroup);
            }
            cgroup.remove();
            None
        })
    }

    /// The one that a record names.
    #[must_use]
    pub fn named(path: &str, id: &TaskId) -> Option<Self> {
        let path = PathBuf::from(path);
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        let ours = plain && path.starts_with("/sys/fs/cgroup") && path.ends_with(format!("podrun-{id}"));
        ours.then_some(Self { path })
    }

    /// Its folder, for the record.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its folder, if processes can be made right in it.
    #[must_use]
    pub fn open_unified(&self) -> Option<OwnedFd> {
        self.is_unified().then(|| File::open(&self.path).ok().map(Into::into))?
    }

    /// Takes in a process that could not be made in it: not in one of the first version, and not where a container's seccomp
    /// profile forbids it. This is slow, and who it started before stays outside.
    pub fn take_in(&self, pid: Pid) {
        let (file, pid) = (self.path.join("cgroup.procs"), pid.as_raw_nonzero().to_string());
        let members = fs::read_to_string(&file).unwrap_or_default();
        if !members.lines().any(|member| member == pid) {
            let _ = fs::write(file, pid);
        }
    }

    fn is_unified(&self) -> bool {
        self.path.join("cgroup.controllers").exists()
    }

    /// Kills everything in it, in one step of the kernel where it can.
    pub fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        let freeze = |state| fs::write(self.path.join("freezer.state"), state).is_ok();
        freeze("FROZEN");
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
            // Frozen processes cannot end, so the numbers mean who was listed.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        freeze("THAWED");
    }

    /// Removes it and what was made below it; whoever is still in it keeps it there.
    pub fn remove(&self) {
        remove(&self.path);
    }

    fn is_usable(&self) -> bool {
        let members = fs::OpenOptions::new().write(true).open(self.path.join("cgroup.procs"));
        let killable = ["cgroup.kill", "freezer.state"]
            .iter()
            .any(|name| self.path.join(name).exists());
        members.is_ok() && killable
    }
}

fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// The folder of this process's own cgroup that a line of `/proc/self/cgroup` names, in the hierarchies that can kill:
/// the unified one, and the first version's freezer.
fn parent(line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let roots: &[&str] = match controllers {
        "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
        "freezer" => &["/sys/fs/cgroup/freezer"],
        _ => return None,
    };
    let own = std::process::id().to_string();
    roots.iter().find_map(|root| {
        // A container may see its own cgroup as the root of the mount.
        let whole = Path::new(root).join(path.trim_start_matches('/'));
        [whole, PathBuf::from(root)].into_iter().find(|candidate| {
            let members = fs::read_to_string(candidate.join("cgroup.procs")).unwrap_or_default();
            members.lines().any(|member| member == own)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_process_that_was_made_outside_is_taken_in() {
        let id = TaskId::new();
        let Some(cgroup) = Cgroup::make(&id) else {
            let _ = writeln!(std::io::stderr(), "skipped: no cgroup can be made here");
            return;
        };
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        cgroup.take_in(Pid::from_child(&child));
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        cgroup.kill();
        child.wait().unwrap();
        cgroup.remove();
        assert!(cgroups.contains(&format!("podrun-{id}")), "{cgroups}");
    }

    #[test]
    fn only_own_folders_are_named() {
        let id = TaskId::new();
        assert!(Cgroup::named(&format!("/sys/fs/cgroup/unified/podrun-{id}"), &id).is_some());
        assert!(Cgroup::named("/sys/fs/cgroup/unified", &id).is_none());
        assert!(Cgroup::named(&format!("/etc/podrun-{id}"), &id).is_none());
        assert!(Cgroup::named(&format!("/sys/fs/cgroup/../../etc/podrun-{id}"), &id).is_none());
        assert!(Cgroup::named("/sys/fs/cgroup/podrun-other", &id).is_none());
    }
}
