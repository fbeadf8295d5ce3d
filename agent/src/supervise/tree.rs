//! Finding and signalling every process of a task, wherever its family went.

use std::collections::HashSet;
use std::fs;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::MARK;
use super::identity::Stat;
use crate::store::records::Identity;
use crate::store::{TaskId, atomic};

/// The file in `/proc/PID` that shows an environment.
const ENVIRONMENT: &str = "environ";

/// The most that is read of an environment: programs get no larger one.
const LARGEST_ENVIRONMENT: u64 = 8 << 20;

/// A process at the moment when it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    pid: i32,
    start_time: u64,
}

impl Member {
    /// Sends a signal to exactly this process. One that is gone needs none.
    fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let same = || Stat::of(self.pid).is_some_and(|stat| stat.start_time == self.start_time);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The descriptor was there before the look, so the look was at the process that it means.
            Ok(descriptor) if same() => {
                let _ = rustix::process::pidfd_send_signal(&descriptor, signal);
            }
            Err(Errno::NOSYS | Errno::PERM | Errno::MFILE | Errno::NFILE) if same() => {
                let _ = rustix::process::kill_process(pid, signal);
            }
            _ => {}
        }
    }
}

/// Every living descendant of a process. A subreaper's descendants are all that it or its children ever started.
#[must_use]
pub fn descendants(ancestor: i32) -> Vec<Member> {
    let all: Vec<_> = processes().filter_map(|pid| Some((pid, Stat::of(pid)?))).collect();
    let mut family = HashSet::from([ancestor]);
    let mut found = Vec::new();
    loop {
        let before = family.len();
        for (pid, stat) in &all {
            if family.contains(&stat.parent) && family.insert(*pid) && !stat.ended {
                found.push(Member {
                    pid: *pid,
                    start_time: stat.start_time,
                });
            }
        }
        if family.len() == before {
            return found;
        }
    }
}

/// Sends a signal to every process of a family; the answer says how many there were.
pub fn signal(members: &[Member], signal: Signal) -> usize {
    members.iter().for_each(|member| member.signal(signal));
    members.len()
}

/// Kills every descendant, stopping all first so that none can start another meanwhile.
pub fn kill(ancestor: i32) -> usize {
    let mut stopped = HashSet::new();
    // Whoever starts processes faster than this stops them is killed in the next rounds.
    for _ in 0..8 {
        let new: Vec<_> = descendants(ancestor)
            .into_iter()
            .filter(|member| stopped.insert(*member))
            .collect();
        if new.is_empty() {
            break;
        }
        signal(&new, Signal::STOP);
    }
    signal(&descendants(ancestor), Signal::KILL)
}

/// Everything that runs, to find what supervisors that died left behind.
#[derive(Debug)]
pub struct Census {
    processes: Vec<(Member, i32, Option<Vec<u8>>)>,
}

impl Census {
    /// Looks at every process once.
    #[must_use]
    pub fn take() -> Self {
        let own = std::process::id().cast_signed();
        let living = processes().filter(|pid| *pid != own).filter_map(|pid| {
            let stat = Stat::of(pid).filter(|stat| !stat.ended)?;
            let start_time = stat.start_time;
            Some((Member { pid, start_time }, stat.session, mark(pid)))
        });
        Self {
            processes: living.collect(),
        }
    }

    /// Kills whoever carries the task's mark, and who is in its program's session unless it carries another mark.
    /// The answer says how many processes that were.
    #[must_use]
    pub fn kill_strays(&self, id: &TaskId, program: Option<&Identity>) -> usize {
        let own = Identity::of(std::process::id().cast_signed());
        let strays = self.strays(id, program, own.as_ref());
        signal(&strays, Signal::STOP);
        signal(&strays, Signal::KILL)
    }

    fn strays(&self, id: &TaskId, program: Option<&Identity>, own: Option<&Identity>) -> Vec<Member> {
        let here = |program: &&Identity| {
            own.is_some_and(|own| own.boot_id == program.boot_id && own.pid_namespace == program.pid_namespace)
        };
        // A session's number is not used again as long as anybody is in it, and afterwards by another process.
        let used_again = |program: &Identity| {
            let mut members = self.processes.iter().map(|(member, _, _)| member);
            members.any(|member| member.pid == program.pid && member.start_time != program.start_time)
        };
        let session = program.filter(here).filter(|program| !used_again(program));
        let is_stray = |member: &Member, of: i32, mark: Option<&[u8]>| match mark {
            Some(mark) => mark == id.as_str().as_bytes(),
            None => session.is_some_and(|program| program.pid == of && program.start_time <= member.start_time),
        };
        let strays = self
            .processes
            .iter()
            .filter(|(member, of, mark)| is_stray(member, *of, mark.as_deref()));
        strays.map(|(member, _, _)| *member).collect()
    }
}

/// The numbers of all processes.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// What a process has in the place where it was given its environment; `folder` is its folder in `/proc`.
///
/// The kernel shows it to one user only, and whoever may become that user opens it as such. That is less than being
/// allowed to read any file.
pub(crate) fn environment(folder: impl AsFd) -> std::io::Result<Vec<u8>> {
    let mut opened = open_as_owner(&folder);
    if matches!(opened, Err(Errno::ACCESS)) {
        // A process that is about to execute its program changes hands.
        opened = open_as_owner(&folder);
    }
    atomic::read_all(opened?, ENVIRONMENT, LARGEST_ENVIRONMENT)
}

fn open_as_owner(folder: impl AsFd) -> rustix::io::Result<OwnedFd> {
    // The file's owner, not the folder's: it is root's while its process hides from its own user.
    let owner = rustix::fs::statat(&folder, ENVIRONMENT, AtFlags::SYMLINK_NOFOLLOW)?.st_uid;
    let former = nix::unistd::setfsuid(owner.into());
    let opened = atomic::open(&folder, ENVIRONMENT);
    nix::unistd::setfsuid(former);
    opened
}

/// The mark that a process was started with; none too if its environment cannot be read or was cleared.
fn mark(pid: i32) -> Option<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
    let environment = environment(folder).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let id = TaskId::new();
        let identity = |pid, start_time, boot: &str, pid_namespace| Identity {
            pid,
            start_time,
            boot_id: boot.to_owned(),
            pid_namespace,
        };
        let own = identity(1, 1, "boot", 9);
        let process = |pid, start_time, session, mark: Option<&str>| {
            let mark = mark.map(|mark| mark.as_bytes().to_vec());
            (Member { pid, start_time }, session, mark)
        };
        let strays = |processes: Vec<_>, program: &Identity| {
            let strays = Census { processes }.strays(&id, Some(program), Some(&own));
            strays.iter().map(|member| member.pid).collect::<Vec<_>>()
        };
        let program = identity(20, 100, "boot", 9);
        let family = vec![
            process(20, 100, 20, None),
            process(21, 105, 20, None),
            process(22, 105, 20, Some("another")),
            process(30, 105, 30, Some(id.as_str())),
            process(31, 105, 31, None),
        ];
        assert_eq!(strays(family.clone(), &program), [20, 21, 30]);
        // Its program is gone, its session is not.
        assert_eq!(strays(family[1..].to_vec(), &program), [21, 30]);
        for other in [identity(20, 100, "boot before", 9), identity(20, 100, "boot", 8)] {
            assert_eq!(
                strays(family.clone(), &other),
                [30],
                "another machine's or container's number"
            );
        }
        let later = vec![process(20, 500, 20, None), process(21, 505, 20, None)];
        assert_eq!(strays(later, &program), [0_i32; 0], "another session of that number");
    }
}
