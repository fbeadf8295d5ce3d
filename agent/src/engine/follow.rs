//! One task's way from its launch, or from the agent's start, to its end.

use std::io;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe::Receiver;

use super::containers::{FIRST_PAUSE, LONGEST_PAUSE};
use super::{Engine, Entry, Error, Pause};
use crate::descriptors;
use crate::protocol::{Moment, Reason, Spec};
use crate::store::records::{Claim, Ended, Identity};
use crate::store::{Progress, TaskId};
use crate::supervise::cgroup::Cgroup;
use crate::supervise::tree::Census;
use crate::supervise::{Order, channel, launch};

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
    /// Not yet: it has a supervisor after all.
    Supervised,
}

impl Engine {
    /// Sees a task through to its end and, if that was asked for, to its removal.
    pub(super) async fn follow(self: Arc<Self>, id: TaskId, begin: Begin) {
        let spec = self.table().get(&id).map(|entry| Arc::clone(&entry.spec));
        let Some(spec) = spec else { return };
        let mut begin = begin;
        let mut pause = FIRST_PAUSE;
        let over = loop {
            let over = match &*spec {
                Spec::Process(_) => self.follow_process(&id, begin).await,
                Spec::Container(container) => self.follow_container(&id, container, begin).await,
            };
            match over {
                Ok(Over::Ended) => break None,
                // One that is to stop is not started again: its end is still to be noted.
                Ok(Over::Again(trouble)) if self.table().get(&id).is_some_and(Entry::is_stopping) => {
                    log::warn!("task {id}: {trouble}; it is tried again");
                }
                Ok(Over::Again(trouble)) => break Some(trouble),
                Ok(Over::Supervised) => {}
                // Trouble of the agent's own, with the disk for example, says nothing of the task: it may run, so it is
                // followed on.
                Err(error) => log::error!("task {id}: {error}; it is tried again"),
            }
            begin = Begin::Adopt;
            rest(&mut pause).await;
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
        let order = {
            let table = self.table();
            let entry = table
                .get(id)
                .filter(|entry| begin == Begin::Launch && entry.stop.is_none());
            entry.map(|entry| Order {
                folder: folder.clone(),
                grace_ms: millis(self.grace_of(entry)),
                log_limit: self.settings.log_limit,
                claim: entry.claim,
                open_files: descriptors::former(),
                main_container: self.settings.main_container.clone(),
            })
        };
        let (mut supervised, mut events, mut child) = match order {
            None => {
                let (supervised, events) = self.attend(id).await;
                (supervised, events, None)
            }
            Some(order) => {
                let (pipe, child) = match self.blocking(move |_| Ok(begin_supervisor(&order))).await? {
                    Ok(begun) => begun,
                    Err(error) => return Ok(Over::Again(format!("failed to start its supervisor: {error}"))),
                };
                let supervised = launch::has_supervisor(&pipe);
                let (supervised, events) = match receiver(pipe) {
                    Ok(events) => (supervised, Some(events)),
                    Err(_) => self.attend(id).await,
                };
                (supervised, events, Some(child))
            }
        };
        let mut interval = tokio::time::interval(self.settings.reconcile_interval);
        interval.tick().await;
        while supervised || child.as_mut().is_some_and(|child| !has_ended(child)) {
            let looked = self.look(id).await;
            if let Err(error) = &looked {
                log::warn!("task {id}: {error}; it is looked again");
            }
            let stop = self
                .table()
                .get(id)
                .and_then(|entry| entry.stop.as_ref().map(|stop| stop.delete));
            let news = tokio::select! {
                news = hear(events.as_mut()) => news,
                // A pipe that nobody has opened yet does not tell when nobody will, nor does a supervisor tell that it
                // was not there yet when it was to be told of a stop.
                _ = interval.tick(), if !supervised || stop.is_some() || looked.is_err() => {
                    if let Some(delete) = stop {
                        let _ = channel::request_stop(&folder, delete);
                    }
                    supervised && events.is_some()
                }
            };
            if news {
                supervised = true;
                continue;
            }
            // The end may have been that of a supervisor that was not needed: the other one is told by a new look.
            (supervised, events) = self.attend(id).await;
        }
        if let Some(child) = child {
            self.bury(child);
        }
        self.conclude(id).await
    }

    /// Listens to a task's supervisor, however often that takes. The answer says whether there is one, which may not
    /// have come up yet.
    async fn attend(&self, id: &TaskId) -> (bool, Option<Receiver>) {
        let folder = self.folder(id);
        let mut pause = FIRST_PAUSE;
        loop {
            let listening = launch::listen(&folder).and_then(|pipe| {
                let supervised = launch::has_supervisor(&pipe);
                Ok((supervised, Some(receiver(pipe)?)))
            });
            match listening {
                Ok(listening) => return listening,
                // Whoever took the folder away took the pipes too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return (false, None),
                // Too many open files, for example, which is no news of the supervisor.
                Err(error) => log::warn!("task {id}: failed to listen to its supervisor: {error}; it is tried again"),
            }
            rest(&mut pause).await;
        }
    }

    /// What a task without a supervisor came to.
    pub(super) async fn conclude(self: &Arc<Self>, id: &TaskId) -> Result<Over, Error> {
        let deleting = || self.table().get(id).is_none_or(|entry| entry.deleting().is_some());
        let mut progress = match self.progress(id).await {
            // Nobody asks any more how it ended, and nobody is there to end it.
            Err(_) if deleting() => return Ok(Over::Ended),
            progress => progress?,
        };
        if progress.ended.is_none() && progress.claimed {
            // A supervisor that an earlier agent started may have come up since this one looked for it.
            let (supervised, _) = self.attend(id).await;
            if supervised {
                return Ok(Over::Supervised);
            }
            progress = self.progress(id).await?;
        }
        if progress.ended.is_none() && progress.claimed {
            let lost = id.clone();
            let ended = self
                .blocking(move |engine| Ok(engine.lose(&lost, &progress, &Census::take())))
                .await?;
            self.note_end(id, ended).await;
            return Ok(Over::Ended);
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
        self.look(id).await?;
        Ok(Over::Ended)
    }

    /// Takes over what a task's folder tells.
    pub(super) async fn look(self: &Arc<Self>, id: &TaskId) -> Result<(), Error> {
        let progress = self.progress(id).await?;
        if let Some(started) = &progress.started {
            self.tell_start(id, started.started_at);
        }
        if let Some(end) = progress.ended {
            self.tell_end(id, end);
        }
        Ok(())
    }

    pub(super) async fn progress(self: &Arc<Self>, id: &TaskId) -> Result<Progress, Error> {
        let id = id.clone();
        self.blocking(move |engine| engine.store.progress(&id)).await
    }

    /// Takes over that a task was started.
    pub(super) fn tell_start(&self, id: &TaskId, started_at: Moment) {
        if self.table().running(id, started_at) {
            self.totals.started.fetch_add(1, Ordering::Relaxed);
            self.changed();
        }
    }

    /// Notes how a task ended that nothing runs of any more, and tells it. A disk that does not take it is tried again,
    /// unless the task is to be removed anyway.
    pub(super) async fn note_end(self: &Arc<Self>, id: &TaskId, ended: Ended) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (of, end) = (id.clone(), ended.clone());
            let error = match self.blocking(move |engine| engine.store.end(&of, &end)).await {
                Ok(ended) => return self.tell_end(id, ended),
                Err(error) => error,
            };
            log::error!("task {id}: {error}; it is tried again");
            if self.table().get(id).is_none_or(|entry| entry.deleting().is_some()) {
                return self.tell_end(id, ended);
            }
            rest(&mut pause).await;
        }
    }

    /// Takes over how a task ended.
    fn tell_end(self: &Arc<Self>, id: &TaskId, ended: Ended) {
        let reason = ended.reason;
        if self.table().terminated(id, ended.into()) {
            self.totals.count_end(reason);
            self.changed();
            // There may be room for another.
            self.schedule();
        }
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
        let of = id.clone();
        let claimed = self.blocking(move |engine| {
            let claim = Claim {
                supervisor: own_identity(),
                claimed_at: Moment::now(),
            };
            engine.store.claim(&of, &claim)
        });
        if !claimed.await? {
            return Err(Error::Internal("somebody has started it in the meantime".to_owned()));
        }
        self.note_end(id, ended).await;
        Ok(())
    }

    /// What is to be noted of a task whose end will never be known, after ending what may be left of it.
    pub(super) fn lose(&self, id: &TaskId, progress: &Progress, census: &Census) -> Ended {
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
        let message = if progress.claimed {
            "The container of the task, or its supervisor, died before the end was known; it is not run again"
        } else {
            "The machine was restarted, and whether the task had been started is not known; it is not run again"
        };
        Ended {
            exit_code: 137,
            signal: None,
            reason: Reason::Lost,
            message: Some(message.to_owned()),
            started_at: progress.started.as_ref().map(|started| started.started_at),
            finished_at: Moment::now(),
        }
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
fn begin_supervisor(order: &Order) -> io::Result<(std::fs::File, Child)> {
    let events = launch::listen(&order.folder)?;
    Ok((events, launch::start(order)?))
}

fn receiver(pipe: std::fs::File) -> io::Result<Receiver> {
    Receiver::from_file(pipe)
}

/// Waits before something is tried again, each time longer.
async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// Waits for news; false at the pipe's end.
async fn hear(events: Option<&mut Receiver>) -> bool {
    let Some(events) = events else {
        return std::future::pending().await;
    };
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
