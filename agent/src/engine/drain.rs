//! The way to an end: nothing new, then either waiting for the tasks or stopping them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Engine, Entry};
use crate::protocol::Moment;

/// How much longer than their grace tasks are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Takes no new tasks from now on. Those that are there go on.
    pub fn drain(&self) {
        if !self.draining.swap(true, Ordering::Relaxed) {
            log::info!("draining: no new tasks are taken");
            self.changed();
        }
    }

    /// Whether new tasks are refused.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn stopping_all(&self) -> bool {
        self.stopping_all.load(Ordering::Relaxed)
    }

    /// Stops every task that is under way and waits until their ends are known. Nothing waiting is started; it stays
    /// for the next agent.
    pub async fn stop_all(self: &Arc<Self>) {
        self.drain();
        self.stopping_all.store(true, Ordering::Relaxed);
        let mut version = self.version();
        let longest = self.begin_stop_all().await;
        let all_ended = async {
            while self.table().active() > 0 {
                if version.changed().await.is_err() {
                    return;
                }
            }
        };
        let patience = longest.saturating_add(PATIENCE);
        if tokio::time::timeout(patience, all_ended).await.is_err() {
            log::warn!("{} tasks have not ended in time", self.table().active());
        }
    }

    /// Asks for the end of every task that is under way. The answer is how long the last of them may take, those too
    /// that were asked before.
    async fn begin_stop_all(self: &Arc<Self>) -> Duration {
        let _changing = self.changes.lock().await;
        let now = Moment::now();
        let (stops, longest) = {
            let table = self.table();
            let active = || table.all().filter(|entry| entry.is_active());
            let longest = active().map(|entry| self.grace_left(entry, now)).max();
            let stops = active()
                .filter(|entry| entry.stop.is_none())
                .map(|entry| (entry.id.clone(), self.stop_of(entry, now, false)));
            (stops.collect::<Vec<_>>(), longest.unwrap_or_default())
        };
        log::info!("stopping {} tasks", stops.len());
        let requests = stops.clone();
        if let Err(error) = self.blocking(move |engine| engine.store.stop(&requests)).await {
            log::error!("{error}; the task is stopped all the same");
        }
        for (id, stop) in stops {
            self.note_stop(&id, stop);
        }
        self.changed();
        longest
    }

    /// How much of its grace a task has left, which is all of it until it is asked to stop.
    fn grace_left(&self, entry: &Entry, now: Moment) -> Duration {
        let Some(stop) = &entry.stop else {
            return self.grace_of(entry);
        };
        let since = Duration::from_micros(now.0.saturating_sub(stop.requested_at.0));
        Duration::from_millis(stop.grace_ms).saturating_sub(since)
    }
}
