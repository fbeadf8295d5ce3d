//! What an agent makes of the tasks that it finds.

use std::sync::Arc;

use super::follow::Begin;
use super::{Engine, Entry, Error};
use crate::protocol::Spec;
use crate::store::Stored;
use crate::store::records::Ended;
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
            if let Err(error) = self.look(&id) {
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
            // Whether it has a supervisor is asked first: an end that is written meanwhile is then seen.
            let supervised = channel::is_supervised(&self.folder(&id)).unwrap_or_else(|error| {
                log::warn!("failed to look for the supervisor of task {id}: {error}");
                false
            });
            let progress = match self.store.progress(&id) {
                Ok(progress) => progress,
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
}

struct Adopted {
    entry: Entry,
    ended: Option<Ended>,
    begun: bool,
    supervised: bool,
}
