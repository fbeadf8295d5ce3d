//! One task's way from its launch, or from the agent's start, to its end.

use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;

use super::{Engine, Error, Pause};
use crate::protocol::{Moment, Reason, Spec};
use crate::store::records::{Claim, Ended, Identity};
use crate::store::{Progress, TaskId};
use crate::supervise::cgroup::Cgroup;
use crate::supervise::tree::Census;
use crate::supervise::{Order, launch};

/// How often a task is tried whose supervisor does not come up.
const TRIES: u32 = 5;

/// How the following of a task begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// The task is to be started.
    Launch,
    /// It was started before this agent.
    Adopt,
}

/// How the following of a task ends.
#[derive(Debug)]
pub(super) enum Over {
    /// Its end is known, and nothing of it runs.
    Ended,
    /// It could not be started for a reason that may pass.
    Again(String),
}

impl Engine {
    /// Sees a task through to its end and, if that was asked for, to its removal.
    pub(super) async fn follow(self: Arc<Self>, id: TaskId, begin: Begin) {
        let spec = self.table().get(&id).map(|entry| Arc::clone(&entry.spec));
        let over = match spec.as_deref() {
            Some(Spec::Process(_)) => self.follow_process(&id, begin).await,
            Some(Spec::Container(container)) => self.follow_container(&id, container, begin).await,
            None => return,
        };
        let over = match over {
            Ok(Over::Ended) => None,
            Ok(Over::Again(trouble)) => Some(trouble),
            Err(error) => Some(error.to_string()),
        };
        let removing = {
            let mut table = self.table();
            let Some(entry) = table.get_mut(&id) else { return };
            let removing = entry.deleting().is_some();
            entry.followed = removing;
            if let Some(trouble) = &over
                && !removing
            {
                self.pause(&id);
                table.wait_again(&id, trouble.clone());
            }
            removing
        };
        if let Some(trouble) = over {
            log::warn!("task {id}: {trouble}");
            self.changed();
        }
        if removing {
            self.finish(id).await;
        } else {
            self.schedule();
        }
    }

    async fn follow_process(self: &Arc<Self>, id: &TaskId, begin: Begin) -> Result<Over, Error> {
        let folder = self.folder(id);
        let launch = begin == Begin::Launch && self.table().get(id).is_some_and(|entry| entry.stop.is_none());
        let order = launch.then(|| Order {
            folder: folder.clone(),
            grace_ms: self.table().get(id).map_or(0, |entry| millis(self.grace_of(entry))),
            log_limit: self.settings.log_limit,
            main_container: self.settings.main_container.clone(),
        });
        let place = folder.clone();
        let begun = self
            .blocking(move |_| Ok(begin_supervisor(&place, order.as_ref())))
            .await?;
        let (events, mut child) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ok(Over::Again(format!("failed to start its supervisor: {error}"))),
        };
        let mut supervised = launch::has_supervisor(&events);
        let mut events = receiver(events)?;
        let mut interval = tokio::time::interval(self.settings.reconcile_interval);
        interval.tick().await;
        while supervised || child.as_mut().is_some_and(|child| !has_ended(child)) {
            self.look(id)?;
            let news = tokio::select! {
                news = hear(&mut events) => news,
                // A pipe that nobody has opened yet does not tell when nobody will.
                _ = interval.tick(), if !supervised => false,
            };
            if news {
                supervised = true;
                continue;
            }
            // The end may have been that of a supervisor that was not needed: the other one is told by a new look.
            let again = launch::listen(&folder).map_err(internal)?;
            supervised = launch::has_supervisor(&again);
            events = receiver(again)?;
        }
        if let Some(child) = child {
            self.bury(child);
        }
        self.conclude(id).await
    }

    /// What a task without a supervisor came to.
    async fn conclude(self: &Arc<Self>, id: &TaskId) -> Result<Over, Error> {
        let progress = self.store.progress(id)?;
        if progress.ended.is_none() && progress.claimed {
            let lost = id.clone();
            self.blocking(move |engine| engine.lose(&lost, &progress, &Census::take()))
                .await?;
        } else if progress.ended.is_none() {
            let stop = self.table().get(id).and_then(|entry| entry.stop.clone());
            let failures = self.pauses().get(id).map_or(0, |pause| pause.failures);
            match stop {
                // Never started, and about to be removed.
                Some(stop) if stop.delete => return Ok(Over::Ended),
                Some(_) => {
                    self.end_unstarted(id, Reason::Killed, "Task was stopped before it was started")
                        .await?
                }
                None if failures + 1 >= TRIES => {
                    let message = "its supervisor could not be started; the agent's own log says why";
                    self.end_unstarted(id, Reason::StartFailed, message).await?;
                }
                None => {
                    return Ok(Over::Again(
                        "its supervisor ended before it started the task".to_owned(),
                    ));
                }
            }
        }
        self.look(id)?;
        Ok(Over::Ended)
    }

    /// Takes over what a task's folder tells.
    pub(super) fn look(self: &Arc<Self>, id: &TaskId) -> Result<(), Error> {
        let progress = self.store.progress(id)?;
        let (mut changed, mut ended) = (false, false);
        let mut table = self.table();
        if let Some(started) = &progress.started
            && table.running(id, started.started_at)
        {
            self.totals.started.fetch_add(1, Ordering::Relaxed);
            changed = true;
        }
        if let Some(end) = progress.ended {
            let reason = end.reason;
            if table.terminated(id, end.into()) {
                self.totals.count_end(reason);
                (changed, ended) = (true, true);
            }
        }
        drop(table);
        if changed {
            self.changed();
        }
        if ended {
            // There may be room for another.
            self.schedule();
        }
        Ok(())
    }

    /// Notes the end of a task that was never started, so that it never will be.
    pub(super) async fn end_unstarted(
        self: &Arc<Self>,
        id: &TaskId,
        reason: Reason,
        message: &str,
    ) -> Result<(), Error> {
        let ended = Ended {
            exit_code: if reason == Reason::Killed { 137 } else { 126 },
            signal: None,
            reason,
            message: Some(message.to_owned()),
            started_at: None,
            finished_at: Moment::now(),
        };
        let id = id.clone();
        self.blocking(move |engine| {
            let claim = Claim {
                supervisor: own_identity(),
                claimed_at: Moment::now(),
            };
            if engine.store.claim(&id, &claim)? {
                engine.store.end(&id, &ended)?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that a task's end will never be known, after ending what may be left of it.
    pub(super) fn lose(&self, id: &TaskId, progress: &Progress, census: &Census) -> Result<Ended, crate::store::Error> {
        let program = progress.started.as_ref().and_then(|started| started.process.as_ref());
        let cgroup = progress
            .started
            .as_ref()
            .and_then(|started| Cgroup::named(started.cgroup.as_deref()?, id));
        if let Some(cgroup) = &cgroup {
            cgroup.kill();
        }
        let strays = census.kill_strays(id, program);
        if let Some(cgroup) = &cgroup {
            cgroup.remove();
        }
        if strays > 0 {
            log::warn!("task {id}: its supervisor was killed; {strays} processes that it left were killed too");
        }
        let ended = Ended {
            exit_code: 137,
            signal: None,
            reason: Reason::Lost,
            message: Some(
                "The container of the task, or its supervisor, died before the end was known; it is not run again"
                    .to_owned(),
            ),
            started_at: progress.started.as_ref().map(|started| started.started_at),
            finished_at: Moment::now(),
        };
        self.store.end(id, &ended)
    }

    /// Gives a task that could not be started a rest, each time a longer one.
    fn pause(&self, id: &TaskId) {
        let mut pauses = self.pauses();
        let failures = pauses.get(id).map_or(1, |pause| pause.failures.saturating_add(1));
        let rest = Duration::from_millis(100 << failures.min(8));
        pauses.insert(
            id.clone(),
            Pause {
                until: Instant::now() + rest,
                failures,
            },
        );
    }
}

/// Makes the pipes, listens, and starts a supervisor, in this order, so that nothing it tells is missed.
fn begin_supervisor(folder: &Path, order: Option<&Order>) -> io::Result<(std::fs::File, Option<Child>)> {
    let events = launch::listen(folder)?;
    Ok((events, order.map(launch::start).transpose()?))
}

fn receiver(pipe: std::fs::File) -> Result<Receiver, Error> {
    Receiver::from_file(pipe).map_err(internal)
}

/// Waits for news; false at the pipe's end.
async fn hear(events: &mut Receiver) -> bool {
    let mut buffer = [0; 64];
    loop {
        if events.readable().await.is_err() {
            return false;
        }
        match events.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

pub(super) fn own_identity() -> Identity {
    Identity::of(std::process::id().cast_signed()).unwrap_or_else(|| Identity {
        pid: std::process::id().cast_signed(),
        start_time: 0,
        boot_id: String::new(),
        pid_namespace: 0,
    })
}

fn internal(error: io::Error) -> Error {
    Error::Internal(error.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
