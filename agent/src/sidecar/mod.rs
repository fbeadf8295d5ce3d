//! Running tasks in the surroundings of the pod's main container.
//!
//! A supervisor stays where the agent is: its files are the agent's, and nothing that the main container puts into its own
//! file system is ever opened by it. It only moves into that container's cgroups, so that it lives as long as the task.
//! The task's own process joins the namespaces, between its fork and its program.
//!
//! The main container is hostile. What is believed of it is what the kernel and the kubelet say; its processes' memory
//! (their environment) is believed only where lying gains nothing.

mod cgroups;
mod find;
mod privileges;
mod proc;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, Gid, ThreadNameSpaceType, Uid};

use proc::Process;

/// The variable by which a process says that it is the main container's.
pub const MARKER: &str = "SANDBOX_MAIN_CONTAINER";

/// What a task's program finds around it, beside what its spec says.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The environment that the task's own variables are added to.
    pub environment: Vec<(OsString, OsString)>,
    /// The container that its process joins; none for the agent's own.
    pub main: Option<Main>,
}

impl Surroundings {
    /// The agent's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            environment: std::env::vars_os()
                .filter(|(name, _)| name != crate::init::MARK)
                .collect(),
            main: None,
        }
    }
}

/// The main container, held by its first process: whatever else gets that process's number is not meant.
#[derive(Debug)]
pub struct Main {
    process: OwnedFd,
    working_dir: OwnedFd,
    user: User,
    bounding: CapabilitySet,
    no_new_privileges: bool,
}

/// A user with its groups, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups, in order.
    pub groups: Vec<u32>,
}

/// Why a task cannot run in the main container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No container answers to the name, or it is just being started.
    #[error(
        "container `{0}` is not running: another container of this pod must be called so, or have the variable \
         {MARKER}={0}, and the pod needs `shareProcessNamespace: true`"
    )]
    Absent(String),
    /// Several do.
    #[error(
        "{1} containers answer to `{0}`, by their name or by the variable {MARKER}: only the main container may; set \
         --main-container-name, or remove the variable from the others"
    )]
    Ambiguous(String, usize),
    /// Nothing outside of this container can be seen.
    #[error("sidecar mode needs a pod with `shareProcessNamespace: true`: this container sees no process but its own")]
    NotShared,
    /// The container is set apart in a way that tasks cannot follow.
    #[error("container `{0}` has {1} namespace of its own, which sidecar mode cannot join")]
    SetApart(String, &'static str),
    /// The agent may not do what is needed.
    #[error(
        "sidecar mode lacks {0}: run the agent's container as user 0 and add these to its \
         `securityContext.capabilities.add`"
    )]
    Privileges(String),
    /// The kernel refuses something.
    #[error("failed to {0} of container `{1}`: {2}")]
    Io(&'static str, String, io::Error),
}

impl Error {
    /// Whether it may pass by itself: containers of a pod are started one after the other, and again when they end.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Absent(_))
    }
}

/// Finds the main container, and moves the calling process, a supervisor, into its cgroups if that is permitted.
pub fn enter(name: &str) -> Result<Surroundings, Error> {
    // No process of the container may look into one of ours that has its user already and still holds the task's files.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.map_err(|error| Error::Io("hide from the processes", name.to_owned(), error.into()))?;
    let first = find::first_process(name)?;
    let about = |error: proc::Error| match error {
        // It ended while it was looked at.
        proc::Error::Gone => Error::Absent(name.to_owned()),
        proc::Error::Io(step, error) => Error::Io(step, name.to_owned(), error),
    };
    for (link, article) in [("pid", "a PID"), ("user", "a user")] {
        if first.namespace(link).map_err(about)? != Process::own().and_then(|own| own.namespace(link)).map_err(about)? {
            return Err(Error::SetApart(name.to_owned(), article));
        }
    }
    // Until its program is executed, what is seen is the runtime's, with the runtime's privileges.
    if !first.is_executed().map_err(about)? {
        return Err(Error::Absent(name.to_owned()));
    }
    let status = first.status().map_err(about)?;
    privileges::check(&privileges::for_tasks_of(&status.user))?;
    let surroundings = Surroundings {
        environment: variables(&first.environment().map_err(about)?),
        main: Some(Main {
            working_dir: first.working_dir().map_err(about)?,
            user: status.user,
            bounding: status.bounding,
            no_new_privileges: status.no_new_privileges,
            process: first.hold().map_err(about)?,
        }),
    };
    if let Err(error) = cgroups::join(&first) {
        crate::supervise::complain(&format!(
            "the cgroups of container `{name}` cannot be joined: {error}; the task runs in the agent's, and ends with the \
             agent's container"
        ));
    }
    Ok(surroundings)
}

/// Checks at the agent's start what can be known then.
pub fn check() -> Result<(), Error> {
    if std::process::id() == 1
        || crate::init::is_started_by_init() && rustix::process::getppid() == Some(rustix::process::Pid::INIT)
    {
        return Err(Error::NotShared);
    }
    privileges::check(&privileges::ALWAYS)
}

impl Main {
    /// Makes the calling process, a task's, one of the container's: in its namespaces, as its user, in its working
    /// directory, with no privilege that it does not have.
    pub fn join(&self) -> io::Result<()> {
        let namespaces = ThreadNameSpaceType::MOUNT
            | ThreadNameSpaceType::NETWORK
            | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
            | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
            | ThreadNameSpaceType::CONTROL_GROUP;
        let step = |step| move |error| io::Error::other(format!("failed to {step}: {}", io::Error::from(error)));
        rustix::thread::move_into_thread_name_spaces(self.process.as_fd(), namespaces)
            .map_err(step("join its namespaces"))?;
        privileges::keep(self.bounding).map_err(step("give up privileges that it does not have"))?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(step("renounce new privileges"))?;
        }
        self.user.take_on().map_err(step("become its user"))?;
        rustix::process::fchdir(&self.working_dir).map_err(step("change into its working directory"))
    }
}

impl User {
    fn own() -> Self {
        let mut groups: Vec<_> = rustix::process::getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(Gid::as_raw)
            .collect();
        groups.sort_unstable();
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups,
        }
    }

    fn take_on(&self) -> rustix::io::Result<()> {
        if *self == Self::own() {
            return Ok(());
        }
        let groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }
}

/// The variables in what the kernel shows of a process's environment. Its process may have written anything there.
fn variables(environment: &[u8]) -> Vec<(OsString, OsString)> {
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let (name, value) = variable.split_at_checked(at)?;
        Some((
            OsStr::from_bytes(name).to_owned(),
            OsStr::from_bytes(value.get(1..)?).to_owned(),
        ))
    });
    variables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_may_hold_anything() {
        let pairs = variables(b"A=1\0\0=x\0noequals\0B==2\0\xff=\xfe\0C=\0D=cut");
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let expected: [(&[u8], &[u8]); 5] = [
            (b"A", b"1"),
            (b"B", b"=2"),
            (b"\xff", b"\xfe"),
            (b"C", b""),
            (b"D", b"cut"),
        ];
        assert_eq!(pairs, expected);
    }
}
