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
        let adopted = self.blocking(move |_| engine.look_at_all(found)).await?;
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
                // A container is looked for by whoever follows it.
                let goes_on = ended.is_none() && (supervised || container && begun);
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
            self.look(&id)?;
            let stop = self.table().get(&id).is_some_and(|entry| entry.stop.is_some());
            if stop && let Err(error) = channel::request_stop(&self.folder(&id)) {
                log::warn!("failed to reach the supervisor of task {id}: {error}");
            }
            tokio::spawn(Arc::clone(self).follow(id, Begin::Adopt));
        }
        for id in finish {
            tokio::spawn(Arc::clone(self).finish(id));
        }
        Ok(())
    }

    fn look_at_all(&self, found: Vec<Stored>) -> Result<Vec<Adopted>, crate::store::Error> {
        let mut census = None;
        let mut adopted = Vec::with_capacity(found.len());
        for Stored { id, task, stop, .. } in found {
            // Whether it has a supervisor is asked first: an end that is written meanwhile is then seen.
            let supervised = channel::is_supervised(&self.folder(&id)).unwrap_or_else(|error| {
                log::warn!("failed to look for the supervisor of task {id}: {error}");
                false
            });
            let progress = self.store.progress(&id)?;
            let process = matches!(task.spec, Spec::Process(_));
            let ended = match progress.ended.clone() {
                None if process && progress.claimed && !supervised => {
                    let census = census.get_or_insert_with(Census::take);
                    let ended = self.lose(&id, &progress, census)?;
                    log::warn!(
                        "task `{}` is lost: it was started, and nothing knows how it ended",
                        task.name
                    );
                    Some(ended)
                }
                ended => ended,
            };
            let mut entry = Entry::new(id, task.name, task.spec, task.created_at);
            entry.stop = stop;
            adopted.push(Adopted {
                entry,
                ended,
                begun: progress.claimed,
                supervised,
            });
        }
        Ok(adopted)
    }
}

struct Adopted {
    entry: Entry,
    ended: Option<Ended>,
    begun: bool,
    supervised: bool,
}
