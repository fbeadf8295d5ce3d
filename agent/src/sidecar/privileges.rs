//! What the agent must be allowed to do for tasks in the main container, and what these tasks are not.

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{Error, User};

/// A capability and its name in manifests.
pub(super) type Needed = (CapabilitySet, &'static str);

/// Needed for every task: joining namespaces (three of them), giving up what the container does not have, and reading the
/// environment of processes of other users.
pub(super) const ALWAYS: [Needed; 5] = [
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN"),
    (CapabilitySet::SYS_CHROOT, "SYS_CHROOT"),
    (CapabilitySet::SYS_PTRACE, "SYS_PTRACE"),
    (CapabilitySet::SETPCAP, "SETPCAP"),
    (CapabilitySet::SETUID, "SETUID"),
];

/// Needed too if the container's user is not the agent's: becoming that user, and stopping its processes.
const FOR_OTHER_USERS: [Needed; 2] = [(CapabilitySet::SETGID, "SETGID"), (CapabilitySet::KILL, "KILL")];

/// What tasks as this user need.
pub(super) fn for_tasks_of(user: &User) -> Vec<Needed> {
    let more: &[Needed] = if *user == User::own() { &[] } else { &FOR_OTHER_USERS };
    [&ALWAYS[..], more].concat()
}

/// Fails with the names of all that is missing.
pub(super) fn check(needed: &[Needed]) -> Result<(), Error> {
    // A kernel that does not tell is asked when it matters.
    let Ok(own) = rustix::thread::capabilities(None) else {
        return Ok(());
    };
    match missing(own.effective, needed) {
        names if names.is_empty() => Ok(()),
        names => Err(Error::Privileges(names)),
    }
}

fn missing(own: CapabilitySet, needed: &[Needed]) -> String {
    let missing = needed.iter().filter(|(capability, _)| !own.contains(*capability));
    missing.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// Gives up, for ever and for every later program, what is not in a set.
pub(super) fn keep(bounding: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(capability) {
            Ok(true) if !bounding.contains(capability) => {
                rustix::thread::remove_capability_from_bounding_set(capability)?;
            }
            Ok(_) => {}
            // The kernel knows no more.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    // What a program inherits it has whatever the bounds are.
    rustix::thread::clear_ambient_capability_set()?;
    let mut own = rustix::thread::capabilities(None)?;
    own.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named() {
        assert_eq!(missing(CapabilitySet::all(), &ALWAYS), "");
        assert_eq!(
            missing(CapabilitySet::SYS_CHROOT, &ALWAYS),
            "SYS_ADMIN, SYS_PTRACE, SETPCAP, SETUID"
        );
        let other = User {
            uid: 12345,
            gid: 0,
            groups: Vec::new(),
        };
        assert_eq!(for_tasks_of(&other).len(), 7);
        assert_eq!(for_tasks_of(&User::own()).len(), 5);
    }
}
