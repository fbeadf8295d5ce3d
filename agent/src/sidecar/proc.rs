//! A process as `/proc` shows it, held so that a later one with the same number is never mistaken for it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::CapabilitySet;

use super::User;
use crate::store::atomic;
use crate::supervise::identity::Stat;
use crate::supervise::tree;

/// The most that is read of a file.
const LARGEST: u64 = 8 << 20;

/// Why something of a process is not known.
#[derive(Debug)]
pub(super) enum Error {
    /// It has ended.
    Gone,
    /// The kernel refuses to tell.
    Io(&'static str, io::Error),
}

fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |error| {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::SRCH | Errno::NOENT) => Error::Gone,
            _ => Error::Io(step, error),
        }
    }
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    /// Its folder in `/proc`: from its end on, nothing can be read there, whoever gets its number.
    folder: OwnedFd,
}

/// As whom a process runs, and what it and its children can at most do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) user: User,
    pub(super) bounding: CapabilitySet,
    pub(super) no_new_privileges: bool,
}

impl Process {
    /// The process that has the number now, if there is one.
    pub(super) fn open(pid: i32) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
        Some(Self { pid, folder })
    }

    /// The calling one.
    pub(super) fn own() -> Result<Self, Error> {
        Self::open(std::process::id().cast_signed()).ok_or(Error::Gone)
    }

    /// Which cgroups it is in, a line for each hierarchy.
    pub(super) fn cgroups(&self) -> Option<String> {
        String::from_utf8(self.read("cgroup").ok()?).ok()
    }

    /// When it was started, in clock ticks since the machine was.
    pub(super) fn start_time(&self) -> Option<u64> {
        Some(Stat::parse(&self.read("stat").ok()?)?.start_time)
    }

    /// What is mounted for it, a line for each mount.
    pub(super) fn mounts(&self) -> io::Result<String> {
        self.read("mountinfo")
            .map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    /// What it has in the place where it was given its environment.
    pub(super) fn environment(&self) -> Result<Vec<u8>, Error> {
        tree::environment(&self.folder).map_err(at("read the environment"))
    }

    /// A namespace of it, as a number.
    pub(super) fn namespace(&self, link: &str) -> Result<(u64, u64), Error> {
        let stat = rustix::fs::statat(&self.folder, format!("ns/{link}"), AtFlags::empty());
        stat.map(|stat| (stat.st_dev, stat.st_ino))
            .map_err(at("look at the namespaces"))
    }

    /// A namespace of it, to join.
    pub(super) fn open_namespace(&self, link: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(
            &self.folder,
            format!("ns/{link}"),
            flags,
            Mode::empty(),
        )?)
    }

    /// Whether its program comes from its own file system. A runtime's own process, which becomes the container's first
    /// one, does not until it has executed it.
    pub(super) fn is_executed(&self) -> Result<bool, Error> {
        let step = "look at the program";
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = rustix::fs::openat(&self.folder, "exe", flags, Mode::empty()).map_err(at(step))?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).map_err(at(step))?;
        let mount = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))
            .map(str::trim);
        let mounts = self.mounts().map_err(at(step))?;
        Ok(mount.is_some_and(|mount| mounts.lines().any(|line| line.split(' ').next() == Some(mount))))
    }

    /// As whom it runs.
    pub(super) fn status(&self) -> Result<Status, Error> {
        let step = "read the user";
        let text = self.read("status").map_err(at(step))?;
        let odd = || Error::Io(step, io::Error::other("`/proc` shows it in an unknown form"));
        parse_status(&String::from_utf8_lossy(&text)).ok_or_else(odd)
    }

    /// Its working directory, wherever that is.
    pub(super) fn working_dir(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, "cwd", flags, Mode::empty()).map_err(at("open the working directory"))
    }

    /// A descriptor that means this process for ever.
    pub(super) fn hold(&self) -> Result<OwnedFd, Error> {
        let pid = Pid::from_raw(self.pid).ok_or(Error::Gone)?;
        let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(at("hold the first process"))?;
        // It was there after the descriptor was, so the descriptor means it.
        self.read("stat").map_err(at("hold the first process"))?;
        Ok(held)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        atomic::read(&self.folder, name, LARGEST)?.ok_or_else(|| Errno::SRCH.into())
    }
}

/// What matters in `/proc/PID/status`. Names in it cannot hold a line's end: the kernel escapes it.
fn parse_status(text: &str) -> Option<Status> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    // Real, effective, saved, for files: the second is what it can do.
    let id = |name| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    let mut groups: Vec<u32> = field("Groups")?
        .split_ascii_whitespace()
        .filter_map(|group| group.parse().ok())
        .collect();
    groups.sort_unstable();
    Some(Status {
        user: User {
            uid: id("Uid")?,
            gid: id("Gid")?,
            groups,
        },
        bounding: CapabilitySet::from_bits_retain(u64::from_str_radix(field("CapBnd")?.trim(), 16).ok()?),
        no_new_privileges: field("NoNewPrivs")?.trim() != "0",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_status_is_answered(text in "\\PC{0,64}", lines in proptest::collection::vec("(Uid|Gid|Groups|CapBnd|NoNewPrivs|Name):[\t 0-9a-fx]{0,12}", 0..9)) {
            let _ = parse_status(&text);
            let _ = parse_status(&lines.join("\n"));
        }

        #[test]
        fn a_status_is_what_the_kernel_wrote(uid: u32, gid: u32, groups: Vec<u32>, bounding: u64, privileges: bool) {
            let list: String = groups.iter().map(|group| format!("{group} ")).collect();
            let text = format!(
                "Name:\tx\nUid:\t1\t{uid}\t2\t3\nGid:\t1\t{gid}\t2\t3\nGroups:\t{list}\nCapBnd:\t{bounding:016x}\nNoNewPrivs:\t{}\n",
                u8::from(privileges)
            );
            let status = parse_status(&text).unwrap();
            prop_assert_eq!((status.user.uid, status.user.gid), (uid, gid));
            prop_assert_eq!(status.user.groups.len(), groups.len());
            prop_assert_eq!((status.bounding.bits(), status.no_new_privileges), (bounding, privileges));
        }
    }

    #[test]
    fn a_status_says_who_and_what() {
        let text = "Name:\tx\\nUid:\t0\nUid:\t1000\t1001\t0\t0\nGid:\t5\t6\t7\t8\nGroups:\t9 2 \nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n";
        let status = parse_status(text).unwrap();
        assert_eq!(
            status.user,
            User {
                uid: 1001,
                gid: 6,
                groups: vec![2, 9]
            }
        );
        assert!(status.bounding.contains(CapabilitySet::KILL) && !status.bounding.contains(CapabilitySet::SYS_ADMIN));
        assert!(status.no_new_privileges);
        assert_eq!(parse_status("Uid:\t0\n"), None);
    }

    #[test]
    fn this_process_is_executed_and_tells() {
        let own = Process::own().unwrap();
        assert!(own.is_executed().unwrap());
        assert_eq!(own.status().unwrap().user, User::own());
        assert!(own.start_time().is_some() && own.cgroups().is_some());
        assert_eq!(
            own.namespace("pid").unwrap(),
            Process::own().unwrap().namespace("pid").unwrap()
        );
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id().cast_signed()).unwrap();
        process.status().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process.hold(), Err(Error::Gone)));
        assert!(matches!(process.status(), Err(Error::Gone)));
        assert!(matches!(process.environment(), Err(Error::Gone)));
    }
}
