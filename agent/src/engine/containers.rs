//! Tasks that are containers: the engine's side of [`Containers`](crate::container::Containers).
//!
//! They have no supervisor. The runtime keeps the container and its end, so that a later agent finds both; the timeout
//! is kept by whichever agent lives.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::follow::{Begin, Over, own_identity};
use super::{Engine, Error};
use crate::container::{ContainerTask, Containers, Error as Trouble, Exit, Found};
use crate::protocol::{Container, Moment, Reason, Spec};
use crate::store::Progress;
use crate::store::TaskId;
use crate::store::records::{Claim, Ended, Started, Starting};

/// How soon something is tried again at the runtime, at first and at last.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) async fn follow_container(
        self: &Arc<Self>,
        id: &TaskId,
        container: &Container,
        begin: Begin,
    ) -> Result<Over, Error> {
        let Some(containers) = self.containers.clone() else {
            return Ok(Over::Again(
                "start the agent with --enable-container-mode to see to this container".to_owned(),
            ));
        };
        let Some(task) = self.container_task(id, container) else {
            return Ok(Over::Ended);
        };
        let progress = self.progress(id).await?;
        if progress.ended.is_some() {
            return Ok(Over::Ended);
        }
        if begin == Begin::Launch && !progress.claimed {
            if self.table().get(id).is_some_and(|entry| entry.stop.is_some()) {
                self.end_unstarted(id, Reason::Killed, "Task was stopped before it was started")
                    .await?;
                return Ok(Over::Ended);
            }
            let claimed = id.clone();
            let claim = Claim {
                supervisor: own_identity(),
                claimed_at: Moment::now(),
            };
            let taken = self.blocking(move |engine| engine.store.claim(&claimed, &claim)).await;
            if let Err(error) = taken {
                return Ok(Over::Again(error.to_string()));
            }
        }
        let ended = match self.see_through(&*containers, &task, &progress).await {
            Ok(ended) => ended,
            Err(Trouble::Unavailable(trouble)) => return Ok(Over::Again(trouble)),
            Err(Trouble::Refused(message)) => failed(message),
        };
        self.note_end(id, ended).await;
        // The end is on the disk: nothing of the container is needed any more. What fails now is done with the task's
        // removal.
        if let Err(error) = containers.remove(&task).await {
            log::warn!("failed to remove the container of task `{}`: {error}", task.name);
        }
        Ok(Over::Ended)
    }

    /// From wherever the container is to its end.
    async fn see_through(
        self: &Arc<Self>,
        containers: &dyn Containers,
        task: &ContainerTask,
        progress: &Progress,
    ) -> Result<Ended, Trouble> {
        let Progress { started, starting, .. } = progress;
        let begun = *starting || started.is_some();
        let found = find(containers, task, begun).await?;
        let found = match found {
            Found::Absent if begun => return Ok(lost(started.as_ref())),
            Found::Absent | Found::Created => tokio::select! {
                biased;
                () = self.stop_wanted(&task.id) => {
                    containers.remove(task).await?;
                    return Ok(unstarted());
                }
                found = self.start_container(containers, task) => found?,
            },
            found => found,
        };
        let started_at = match found {
            Found::Running { started_at } => started_at,
            Found::Exited(exit) => {
                let why = self.why_ended(task, &exit);
                // Its output may not have been collected to the end.
                return Ok(containers
                    .wait(task)
                    .await?
                    .map_or_else(|| ended(exit, why), |exit| ended(exit, why)));
            }
            Found::Unstartable(reason) => return Ok(failed(reason)),
            Found::Absent | Found::Created => return Ok(lost(started.as_ref())),
        };
        let noted = started.clone().unwrap_or(Started {
            started_at,
            process: None,
            cgroup: None,
        });
        if started.is_none() {
            let (of, record) = (task.id.clone(), noted.clone());
            let written = self.blocking(move |engine| engine.store.start(&of, &record)).await;
            if let Err(error) = written {
                log::error!("{error}; the container goes on");
            }
            self.tell_start(&task.id, started_at);
        }
        let mut why = None;
        let mut exit = containers.wait(task);
        let timeout = task.spec.timeout_seconds.map(Duration::from_secs);
        let elapsed = Duration::from_micros(Moment::now().0.saturating_sub(started_at.0));
        let timeout = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout.saturating_sub(elapsed)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = &mut exit => return Ok(exit?.map_or_else(|| lost(Some(&noted)), |exit| ended(exit, None))),
            () = timeout => why = why.or(Some(Reason::TaskTimeout)),
            () = self.stop_wanted(&task.id) => why = why.or(Some(Reason::Killed)),
        }
        let grace = self
            .table()
            .get(&task.id)
            .map_or(Duration::ZERO, |entry| match &entry.stop {
                Some(stop) => Duration::from_millis(stop.grace_ms),
                None => self.grace_of(entry),
            });
        tokio::select! {
            exit = exit => Ok(exit?.map_or_else(|| lost(Some(&noted)), |exit| ended(exit, why))),
            never = stop(containers, task, grace) => match never {},
        }
    }

    /// Makes the container, if there is none, and starts it, after it was noted that this may have been done: if it is
    /// gone from then on, it is not started again. The answer is what it came to.
    async fn start_container(
        self: &Arc<Self>,
        containers: &dyn Containers,
        task: &ContainerTask,
    ) -> Result<Found, Trouble> {
        containers.prepare(task).await?;
        let of = task.id.clone();
        let starting = Starting {
            starting_at: Moment::now(),
        };
        let noted = self.blocking(move |engine| engine.store.begin(&of, &starting)).await;
        noted.map_err(|error| Trouble::Unavailable(error.to_string()))?;
        let message = match containers.start(task).await {
            Ok(started_at) => return Ok(Found::Running { started_at }),
            Err(Trouble::Refused(message)) => message,
            Err(trouble) => return Err(trouble),
        };
        // Another agent may have asked for the start before, with more success.
        Ok(match find(containers, task, true).await? {
            Found::Created => Found::Unstartable(message),
            found => found,
        })
    }

    /// Why a container ended while no agent was there: one before this may have stopped it.
    fn why_ended(&self, task: &ContainerTask, exit: &Exit) -> Option<Reason> {
        let stop = self.table().get(&task.id).and_then(|entry| entry.stop.clone());
        let stopped = stop.is_some_and(|stop| stop.requested_at <= exit.finished_at);
        let limit = exit.started_at.zip(task.spec.timeout_seconds);
        let late = limit.is_some_and(|(start, timeout)| {
            let end = start.0.saturating_add(timeout.saturating_mul(1_000_000));
            end <= exit.finished_at.0
        });
        match (late, stopped) {
            (true, _) => Some(Reason::TaskTimeout),
            (false, true) => Some(Reason::Killed),
            (false, false) => None,
        }
    }

    /// Removes the containers of tasks that have ended or are not there any more, which an agent leaves that ends before it
    /// has removed them.
    pub(super) async fn sweep_containers(self: Arc<Self>) {
        let Some(containers) = self.containers.clone() else {
            return;
        };
        let needed = |id: &TaskId| self.table().get(id).is_some_and(|entry| !entry.is_terminated());
        let mut pause = FIRST_PAUSE;
        while let Err(error) = containers.sweep(&needed).await {
            log::warn!("failed to look for containers that are left over: {error}; it is tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Removes what a container task has at the runtime, however often that takes.
    pub(super) async fn remove_container(self: &Arc<Self>, id: &TaskId) {
        let spec = self.table().get(id).map(|entry| Arc::clone(&entry.spec));
        let Some(Spec::Container(container)) = spec.as_deref() else {
            return;
        };
        let Some(task) = self.container_task(id, container) else {
            return;
        };
        let Some(containers) = self.containers.clone() else {
            let over = |progress: Progress| !progress.claimed || progress.ended.is_some();
            if self.progress(id).await.is_ok_and(over) {
                return;
            }
            log::error!(
                "task `{}` is deleted once the agent is started with --enable-container-mode: its container may run",
                task.name
            );
            return std::future::pending().await;
        };
        let mut pause = FIRST_PAUSE;
        while let Err(error) = containers.remove(&task).await {
            log::error!(
                "failed to remove the container of task `{}`: {error}; it is tried again",
                task.name
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits until the task is to stop.
    async fn stop_wanted(&self, id: &TaskId) {
        let mut version = self.version();
        while self.table().get(id).is_some_and(|entry| entry.stop.is_none()) {
            if version.changed().await.is_err() {
                return;
            }
        }
    }

    fn container_task(&self, id: &TaskId, container: &Container) -> Option<ContainerTask> {
        Some(ContainerTask {
            id: id.clone(),
            name: self.table().get(id)?.name.clone(),
            spec: container.clone(),
            folder: self.folder(id),
            log_limit: self.settings.log_limit,
        })
    }
}

/// Looks for a task's container. One that may have been started is looked for until the runtime answers: the task does
/// not wait to be started again. A question that is not answered says nothing about the container, whatever the reason.
async fn find(containers: &dyn Containers, task: &ContainerTask, patient: bool) -> Result<Found, Trouble> {
    let mut pause = FIRST_PAUSE;
    loop {
        let (Trouble::Unavailable(trouble) | Trouble::Refused(trouble)) = match containers.find(task).await {
            Ok(found) => return Ok(found),
            Err(trouble) => trouble,
        };
        if !patient {
            return Err(Trouble::Unavailable(trouble));
        }
        log::warn!("task `{}`: {trouble}; it is asked again", task.name);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks for a container's end until the runtime has agreed, each time with what is left of the grace. The end itself
/// comes from whoever waits for it.
async fn stop(containers: &dyn Containers, task: &ContainerTask, grace: Duration) -> Infallible {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    while let Err(error) = containers.stop(task, grace.saturating_sub(begun.elapsed())).await {
        log::warn!(
            "failed to stop the container of task `{}`: {error}; it is tried again",
            task.name
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    std::future::pending().await
}

fn ended(exit: Exit, stopped: Option<Reason>) -> Ended {
    let reason = match (exit.exit_code, stopped) {
        (_, Some(Reason::TaskTimeout)) => Reason::TaskTimeout,
        (0, _) => Reason::Succeeded,
        (_, Some(reason)) => reason,
        (_, None) => Reason::Failed,
    };
    let signal = (exit.exit_code > 128 && exit.exit_code <= 128 + 64).then(|| exit.exit_code - 128);
    Ended {
        exit_code: exit.exit_code,
        signal,
        reason,
        message: exit.message,
        started_at: exit.started_at,
        finished_at: exit.finished_at,
    }
}

fn failed(message: String) -> Ended {
    Ended {
        exit_code: 126,
        signal: None,
        reason: Reason::StartFailed,
        message: Some(message),
        started_at: None,
        finished_at: Moment::now(),
    }
}

fn unstarted() -> Ended {
    Ended {
        exit_code: 137,
        reason: Reason::Killed,
        ..failed("Task was stopped before it was started".to_owned())
    }
}

fn lost(started: Option<&Started>) -> Ended {
    Ended {
        exit_code: 137,
        reason: Reason::Lost,
        started_at: started.map(|started| started.started_at),
        ..failed("The task's container is gone, and nothing knows how it ended; it is not run again".to_owned())
    }
}

#[cfg(test)]
mod tests;
