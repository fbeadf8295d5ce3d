//! What an agent makes of the tasks that it finds.

use std::sync::Arc;

use super::follow::Begin;
use super::{Engine, Entry, Error};
use crate::protocol::Spec;
use crate::store::records::Ended;
use crate::store::{self, Progress, Stored, TaskId};
use crate::supervise::channel;
use crate::supervise::tree::Census;

impl Engine {
    /// Takes up every task: ended ones keep their result, those with a supervisor go on, those that were started and
    /// have none are lost, the others wait.
    pub(super) async fn adopt(self: &Arc<Self>, found: Vec<Stored>) -> Result<(), Error> {
        let engine = Arc::clone(self);
        let adopted = self.blocking(move |_| Ok(engine.look_at_all(found))).await?;
        let mut follow = Vec::new();
        let mut finish = Vec::new();
        {
            let mut table = self.table();
            for Adopted {
                mut entry,
                ended,
                begun,
                supervised,
            } in adopted
            {
                let id = entry.id.clone();
                let removing = entry.deleting().is_some();
                let container = matches!(*entry.spec, Spec::Container(_));
                // A container is looked for by whoever follows it. The end of one that was stopped before it was started
                // is still to be noted.
                let stopped = entry.is_stopping();
                let goes_on = ended.is_none() && (supervised || container && begun || stopped);
                if goes_on || supervised {
                    entry.followed = true;
                    follow.push(id.clone());
                } else if removing {
                    entry.followed = true;
                    finish.push(id.clone());
                }
                table.insert(entry);
                if goes_on {
                    table.launching(&id);
                }
                if let Some(ended) = ended {
                    table.terminated(&id, ended.into());
                }
            }
            log::info!("{} tasks found, {} of them under way", table.len(), table.active());
        }
        for id in follow {
            if let Err(error) = self.look(&id).await {
                log::warn!("task {id}: {error}; it is looked again");
            }
            let stop = self
                .table()
                .get(&id)
                .and_then(|entry| entry.stop.as_ref().map(|stop| stop.delete));
            if let Some(delete) = stop
                && let Err(error) = channel::request_stop(&self.folder(&id), delete)
            {
                log::warn!("failed to reach the supervisor of task {id}: {error}");
            }
            tokio::spawn(Arc::clone(self).follow(id, Begin::Adopt));
        }
        for id in finish {
            tokio::spawn(Arc::clone(self).finish(id));
        }
        Ok(())
    }

    fn look_at_all(&self, found: Vec<Stored>) -> Vec<Adopted> {
        let mut census = None;
        let mut adopted = Vec::with_capacity(found.len());
        let mut lost = Vec::new();
        for Stored { id, task, stop, .. } in found {
            let (supervised, progress) = match self.standing(&id) {
                Ok(standing) => standing,
                Err(error) => {
                    log::error!("task `{}` is left alone: {error}", task.name);
                    continue;
                }
            };
            let process = matches!(task.spec, Spec::Process(_));
            let other_run = task.boot_id.is_some() && task.boot_id != self.settings.boot_id;
            let ended = match progress.ended.clone() {
                None if process && (progress.claimed || other_run) && !supervised => {
                    let census = census.get_or_insert_with(Census::take);
                    let ended = self.lose(&id, &progress, census);
                    log::warn!(
                        "task `{}` is lost: it was started, or may have been, and nothing knows how it ended",
                        task.name
                    );
                    lost.push((id.clone(), ended.clone()));
                    Some(ended)
                }
                ended => ended,
            };
            let claim = self.claim_outlives(&task);
            let mut entry = Entry::new(id, task.name, task.spec, task.created_at);
            entry.stop = stop;
            entry.claim = claim;
            adopted.push(Adopted {
                entry,
                ended,
                begun: progress.claimed,
                supervised,
            });
        }
        if let Err(error) = self.store.end_all(&lost) {
            // The next agent comes to the same.
            log::error!("{error}; the tasks are lost all the same");
        }
        adopted
    }

    /// Whether a task has a supervisor, and what became of it so far. Supervisors come up and end meanwhile: each opens
    /// its pipes before it claims the task, and closes them after it has written the end.
    fn standing(&self, id: &TaskId) -> Result<(bool, Progress), store::Error> {
        let supervised = || {
            channel::is_supervised(&self.folder(id)).unwrap_or_else(|error| {
                log::warn!("failed to look for the supervisor of task {id}: {error}");
                false
            })
        };
        settle(supervised, || self.store.progress(id))
    }
}

/// See [`Engine::standing`].
fn settle<E>(supervised: impl Fn() -> bool, progress: impl Fn() -> Result<Progress, E>) -> Result<(bool, Progress), E> {
    // An end that is written between the two questions is seen.
    let look = || Ok((supervised(), progress()?));
    match look()? {
        // Its supervisor may have come up between the two.
        (false, progress) if progress.claimed && progress.ended.is_none() => look(),
        settled => Ok(settled),
    }
}

struct Adopted {
    entry: Entry,
    ended: Option<Ended>,
    begun: bool,
    supervised: bool,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::protocol::{Moment, Reason};

    /// A supervisor's life, of which `at` tells how far it is.
    fn life(at: usize) -> (bool, Progress) {
        let claimed = Progress {
            claimed: true,
            ..Progress::default()
        };
        let ended = Progress {
            ended: Some(Ended {
                exit_code: 0,
                signal: None,
                reason: Reason::Succeeded,
                message: None,
                started_at: None,
                finished_at: Moment(1),
            }),
            ..claimed.clone()
        };
        let steps = [
            (false, Progress::default()),
            (true, Progress::default()),
            (true, claimed),
            (true, ended.clone()),
            (false, ended),
        ];
        steps[at.min(4)].clone()
    }

    #[test]
    fn a_supervisor_that_comes_up_or_ends_meanwhile_is_never_taken_for_dead() {
        for pace in 0..5_usize.pow(5) {
            let (now, pace) = (Cell::new(0), Cell::new(pace));
            // Before each question it gets on by so many steps.
            let next = || {
                now.set(now.get() + pace.get() % 5);
                pace.set(pace.get() / 5);
                life(now.get())
            };
            let (supervised, progress) = settle(|| next().0, || Ok::<_, ()>(next().1)).unwrap();
            assert!(supervised || !progress.claimed || progress.ended.is_some());
        }
        let dead = life(2).1;
        let (supervised, progress) = settle(|| false, || Ok::<_, ()>(dead.clone())).unwrap();
        assert_eq!((supervised, progress), (false, dead));
    }
}
