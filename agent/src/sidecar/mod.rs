//! Running tasks in the surroundings of the pod's main container.
//!
//! The supervisor of such a task calls [`enter`] between its own start and the task's: it finds the main container and
//! joins its namespaces and cgroup by system calls. What the task's own process has to take on after that, right before
//! its program, is in the [`Surroundings`] that it answers.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a task's program finds around it, beside what its spec says.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The environment that the task's own variables are added to.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the program starts if the task does not say.
    pub working_dir: Option<PathBuf>,
    /// As whom it runs; none for the agent's own user. Its output pipes are given to that user.
    pub user: Option<User>,
    /// Whether the task gets a cgroup of its own below the supervisor's.
    pub own_cgroup: bool,
}

impl Surroundings {
    /// The agent's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            environment: std::env::vars_os()
                .filter(|(name, _)| name != crate::init::MARK)
                .collect(),
            own_cgroup: true,
            ..Self::default()
        }
    }
}

/// A user with its groups, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Why a task cannot run in the main container.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This build does not know how.
    #[error("sidecar mode is not available in this build: container `{0}` cannot be entered")]
    Unavailable(String),
}

/// Moves the calling process, which is single-threaded, into the main container's namespaces and cgroup.
///
/// Whoever calls holds the task's folder open and uses no paths afterwards. The process that returns may be a child of
/// the one that called, which has then ended with [`NOT_NEEDED`](crate::supervise::NOT_NEEDED): a PID namespace is only
/// entered by children.
pub fn enter(main_container: &str) -> Result<Surroundings, Error> {
    Err(Error::Unavailable(main_container.to_owned()))
}

/// Checks at the agent's start what can be known then: privileges that are missing, for example.
pub fn check(main_container: &str) -> Result<(), Error> {
    Err(Error::Unavailable(main_container.to_owned()))
}
