//! How many files a process may have open. The agent has several for each task and takes all that it may; tasks get what
//! the agent was started with, because some programs do not bear more.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the agent was started with.
static FORMER: OnceLock<u64> = OnceLock::new();

/// Allows this process as many open files as it may have. What it was started with is [kept](former).
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(former) = limit.current {
        let _ = FORMER.set(former);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::warn!("no more than {former} files can be open: {error}");
        }
    }
}

/// How many open files this process was allowed before that was raised.
pub(crate) fn former() -> Option<u64> {
    FORMER.get().copied()
}

/// Allows this process, and what it starts, so many open files until it asks for more.
pub(crate) fn limit(most: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(most, |maximum| most.min(maximum));
    let limited = Rlimit {
        current: Some(most),
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, limited);
}
