//! Joining the cgroups of a container, by mounts that only this process has: none of a container's own mounts shows more
//! than itself, and those are read-only.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::thread::LinkNameSpaceType;

use super::proc::Process;

/// Moves the calling process, which has one thread, into every cgroup of another one.
pub(super) fn join(process: &Process) -> io::Result<()> {
    // Paths are told as this process's cgroup namespace shows them, and a new mount begins at its root. In the
    // container's namespace both begin at the container.
    let namespace = process.open_namespace("cgroup")?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
    let cgroups = process.cgroups().ok_or(rustix::io::Errno::SRCH)?;
    for line in cgroups.lines() {
        let (controllers, path) = parse(line).ok_or_else(|| io::Error::other(format!("`{line}` names no cgroup")))?;
        let members = open(controllers, path);
        // The kernel takes 0 for whoever writes.
        let moved = members.and_then(|members| rustix::io::write(&members, b"0"));
        moved.map_err(|error| io::Error::other(format!("`{line}`: {}", io::Error::from(error))))?;
    }
    Ok(())
}

/// The controllers and the path in a line of `/proc/PID/cgroup`.
fn parse(line: &str) -> Option<(&str, &str)> {
    line.split_once(':')?.1.split_once(':')
}

fn open(controllers: &str, path: &str) -> rustix::io::Result<OwnedFd> {
    let root = mount(controllers)?;
    let path = format!("{}/cgroup.procs", path.trim_start_matches('/'));
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(root, path.trim_start_matches('/'), flags, Mode::empty())
}

/// A hierarchy, mounted nowhere.
fn mount(controllers: &str) -> rustix::io::Result<OwnedFd> {
    let kind = if controllers.is_empty() { "cgroup2" } else { "cgroup" };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for controller in controllers.split(',').filter(|controller| !controller.is_empty()) {
        match controller.strip_prefix("name=") {
            Some(name) => {
                rustix::mount::fsconfig_set_flag(&context, "none")?;
                rustix::mount::fsconfig_set_string(&context, "name", name)?;
            }
            None => rustix::mount::fsconfig_set_flag(&context, controller)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_controllers_and_paths() {
        assert_eq!(parse("0::/a:b"), Some(("", "/a:b")));
        assert_eq!(parse("4:cpu,cpuacct:/"), Some(("cpu,cpuacct", "/")));
        assert_eq!(parse("9:name=systemd:/x"), Some(("name=systemd", "/x")));
        assert_eq!(parse("9"), None);
    }
}
