//! Tasks that are containers: the engine's side of [`Containers`](crate::container::Containers).
//!
//! They have no supervisor. The runtime keeps the container and its end, so that a later agent finds both; the timeout
//! is kept by whichever agent lives.

use std::sync::Arc;
use std::time::Duration;

use super::follow::{Begin, Over, own_identity};
use super::{Engine, Error};
use crate::container::{ContainerTask, Containers, Error as Trouble, Exit, Found};
use crate::protocol::{Container, Moment, Reason, Spec};
use crate::store::TaskId;
use crate::store::records::{Claim, Ended, Started};

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
        let progress = self.store.progress(id)?;
        if progress.ended.is_some() {
            return Ok(Over::Ended);
        }
        if begin == Begin::Launch && !progress.claimed {
            if self.table().get(id).is_some_and(|entry| entry.stop.is_some()) {
                self.end_unstarted(id, Reason::Killed, "Task was stopped before it was started")
                    .await?;
                self.look(id)?;
                return Ok(Over::Ended);
            }
            let claimed = id.clone();
            let claim = Claim {
                supervisor: own_identity(),
                claimed_at: Moment::now(),
            };
            self.blocking(move |engine| engine.store.claim(&claimed, &claim))
                .await?;
        }
        let ended = match self.see_through(&*containers, &task, progress.started).await {
            Ok(ended) => ended,
            Err(Trouble::Unavailable(trouble)) => return Ok(Over::Again(trouble)),
            Err(Trouble::Refused(message)) => failed(message),
        };
        let of = id.clone();
        self.blocking(move |engine| engine.store.end(&of, &ended)).await?;
        self.look(id)?;
        Ok(Over::Ended)
    }

    /// From wherever the container is to its end.
    async fn see_through(
        self: &Arc<Self>,
        containers: &dyn Containers,
        task: &ContainerTask,
        started: Option<Started>,
    ) -> Result<Ended, Trouble> {
        let started_at = match containers.find(task).await? {
            Found::Absent if started.is_some() => return Ok(lost(started)),
            Found::Absent | Found::Created => tokio::select! {
                started = containers.start(task) => started?,
                () = self.stop_wanted(&task.id) => {
                    containers.remove(task).await?;
                    return Ok(Ended { exit_code: 137, reason: Reason::Killed, ..failed("Task was stopped before it was started".to_owned()) });
                }
            },
            Found::Running { started_at } => started_at,
            Found::Exited(exit) => return Ok(ended(exit, None)),
        };
        if started.is_none() {
            let record = Started {
                started_at,
                process: None,
                cgroup: None,
            };
            let of = task.id.clone();
            let noted = self.blocking(move |engine| engine.store.start(&of, &record)).await;
            let noted = noted.and_then(|()| self.look(&task.id));
            if let Err(error) = noted {
                log::error!("{error}; the container goes on");
            }
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
            exit = &mut exit => return Ok(ended(exit?, None)),
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
        let stop = containers.stop(task, grace);
        let (exit, stopped) = tokio::join!(exit, stop);
        if let Err(error) = stopped {
            log::warn!("failed to stop the container of task `{}`: {error}", task.name);
        }
        Ok(ended(exit?, why))
    }

    /// Removes what a container task has at the runtime, however often that takes.
    pub(super) async fn remove_container(self: &Arc<Self>, id: &TaskId) {
        let spec = self.table().get(id).map(|entry| Arc::clone(&entry.spec));
        let Some(Spec::Container(container)) = spec.as_deref() else {
            return;
        };
        let (Some(containers), Some(task)) = (self.containers.clone(), self.container_task(id, container)) else {
            return;
        };
        let mut pause = Duration::from_millis(100);
        while let Err(error) = containers.remove(&task).await {
            log::error!(
                "failed to remove the container of task `{}`: {error}; it is tried again",
                task.name
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
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

fn lost(started: Option<Started>) -> Ended {
    Ended {
        exit_code: 137,
        reason: Reason::Lost,
        started_at: started.map(|started| started.started_at),
        ..failed("The task's container is gone, and nothing knows how it ended; it is not run again".to_owned())
    }
}
