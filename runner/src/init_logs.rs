//! The log lines of the author's init containers, one container after the other, before those of the script.

use crate::{
    client::Cluster,
    contract::{Error, Level},
    follow::{Follower, Start},
    pod::Stored,
    session::{Halt, Session},
    status::{self, State},
};
use k8s_openapi::api::core::v1::Pod;
use std::collections::VecDeque;

/// The logs that were not yet read to their end.
#[derive(Default)]
pub(crate) struct InitLogs<'c> {
    left: VecDeque<(String, Follower<'c>)>,
    pod: String,
    /// The first of those left runs.
    running: bool,
}

impl<'c> InitLogs<'c> {
    /// The logs of all init containers that end, from `start` on.
    pub(crate) fn new(cluster: &'c Cluster<'c>, session: &'c Session<'c>, pod: &Pod, start: &Start) -> Self {
        let names: Vec<&str> = status::init_containers(pod)
            .filter(|(_, beside)| !beside)
            .map(|(name, _)| name)
            .collect();
        let done = start.cursor.as_ref().map_or(0, |cursor| match &cursor.container {
            Some(container) => names.iter().position(|name| name == container).unwrap_or_default(),
            None => names.len(),
        });
        let left = names.into_iter().skip(done).map(|name| {
            let follower = Follower::new(cluster, session, start, Some(name));
            (name.to_owned(), follower)
        });
        Self {
            left: left.collect(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            running: false,
        }
    }

    /// Reads the logs of those that ended to their end.
    pub(crate) async fn catch_up(&mut self, session: &Session<'_>, pod: &Pod, stored: &Stored) -> Result<(), Halt> {
        self.running = false;
        while let Some((name, follower)) = self.left.front_mut() {
            match status::state(pod, name) {
                State::Waiting { .. } => return Ok(()),
                State::Running(_) => {
                    self.running = true;
                    return Ok(());
                }
                State::Ended(_) => {}
            }
            match follower.rest(&self.pod, stored.wait_for_logs).await {
                // The script does not depend on what its preparation said.
                Err(Halt::Error(Error::Unavailable(why))) => session.note(
                    Level::Warn,
                    format!("lines of init container `{name}` may be missing: {why}"),
                ),
                done => done?,
            }
            self.left.pop_front();
        }
        Ok(())
    }

    /// Waits for lines of the one that runs and hands them over; for ever if none does. Can be dropped and called again.
    pub(crate) async fn read(&mut self) -> Result<(), Halt> {
        match self.left.front_mut() {
            Some((_, follower)) if self.running => follower.step(&self.pod).await,
            _ => std::future::pending().await,
        }
    }
}
