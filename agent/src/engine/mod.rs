//! The decisions: which tasks there are, which are started, stopped, replaced and removed.
//!
//! The truth is in the [`Store`]; the [`Table`] is what the agent knows of it. Everything that changes tasks happens
//! one after the other and is on the disk before it is answered.

mod adopt;
mod containers;
mod drain;
mod error;
mod follow;
pub mod plan;
pub mod table;
mod totals;

use std::collections::HashSet;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::container::Containers;
use crate::protocol::{Desired, Moment, Name, Spec};
use crate::store::atomic::Durability;
use crate::store::records::{FORMAT, Stop, Task};
use crate::store::{self, Store, TaskId};
use crate::supervise::channel;

pub use error::Error;
pub use table::{Count, Entry, Table};
pub use totals::Totals;

/// What an engine is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many tasks may be under way at once.
    pub max_active: usize,
    /// How many tasks are kept.
    pub max_tasks: usize,
    /// How long a task may take to end after TERM, unless it says so itself.
    pub grace: Duration,
    /// How many bytes of each output stream are kept.
    pub log_limit: u64,
    /// How often is looked for what no event told.
    pub reconcile_interval: Duration,
    /// The container in whose surroundings processes run; none for the agent's own.
    pub main_container: Option<String>,
    /// Which run of the machine this is, if that can be known.
    pub boot_id: Option<String>,
}

/// All tasks of an agent.
pub struct Engine {
    settings: Settings,
    store: Store,
    table: Mutex<Table>,
    /// Held by whoever changes the set of tasks.
    changes: tokio::sync::Mutex<()>,
    version: watch::Sender<u64>,
    draining: AtomicBool,
    stopping_all: AtomicBool,
    containers: Option<Arc<dyn Containers>>,
    /// Tasks that are not to be tried again before a time.
    pauses: Mutex<std::collections::HashMap<TaskId, Pause>>,
    /// Supervisors that are about to end and have to be reaped.
    ending: Mutex<Vec<Child>>,
    totals: Totals,
}

/// How long a task that could not be started rests.
#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    failures: u32,
}

impl Engine {
    /// Takes up what is in the store: running tasks go on, ended ones keep their result, the others wait.
    pub async fn start(
        store: Store,
        settings: Settings,
        containers: Option<Arc<dyn Containers>>,
    ) -> Result<Arc<Self>, Error> {
        let found = store.load()?;
        let engine = Arc::new(Self {
            settings,
            store,
            table: Mutex::default(),
            changes: tokio::sync::Mutex::default(),
            // Versions of a later agent are greater, so that no client waits for one that is past.
            version: watch::Sender::new(Moment::now().0),
            draining: AtomicBool::new(false),
            stopping_all: AtomicBool::new(false),
            containers,
            pauses: Mutex::default(),
            ending: Mutex::default(),
            totals: Totals::default(),
        });
        engine.adopt(found).await?;
        engine.schedule();
        tokio::spawn(Arc::clone(&engine).sweep_containers());
        tokio::spawn(Arc::clone(&engine).reconcile());
        Ok(engine)
    }

    /// Makes a task. The answer is the task as it was accepted.
    pub async fn create<T: Send + 'static>(
        self: &Arc<Self>,
        desired: Desired,
        show: impl FnOnce(&Entry) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(self);
        self.unbroken(async move {
            let _changing = engine.changes.lock().await;
            engine.admit(&desired)?;
            engine.check_draining()?;
            {
                let table = engine.table();
                match table.named(&desired.name) {
                    Some(there) if there.deleting().is_some() => return Err(Error::Deleting(desired.name)),
                    Some(_) => return Err(Error::Duplicate(desired.name)),
                    None => engine.check_room(table.len() + 1)?,
                }
            }
            let name = desired.name.clone();
            engine.make(vec![desired]).await?;
            let answer = engine.table().named(&name).map(show);
            engine.schedule();
            answer.ok_or_else(|| Error::Internal(format!("task `{name}` is gone")))
        })
        .await
    }

    /// Makes the tasks the desired ones. The answer is what the table shows right after.
    pub async fn set<T: Send + 'static>(
        self: &Arc<Self>,
        desired: Vec<Desired>,
        show: impl FnOnce(&Table) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(self);
        self.unbroken(async move {
            let _changing = engine.changes.lock().await;
            for task in &desired {
                engine.admit(task)?;
            }
            engine.check_room(desired.len())?;
            let plan = plan::plan(&engine.table(), desired);
            if !plan.create.is_empty() {
                engine.check_draining()?;
                engine.check_leaving(plan.stop.len())?;
            }
            // What goes is noted first: after a crash in between nothing is there twice.
            let (withdrawn, stopped) = engine.end(plan.stop).await?;
            withdrawn.and(stopped)?;
            engine.make(plan.create).await?;
            let answer = show(&engine.table());
            engine.schedule();
            Ok(answer)
        })
        .await
    }

    /// Asks for a task's end and removal. There may be no such task.
    pub async fn delete(self: &Arc<Self>, name: Name) -> Result<(), Error> {
        let engine = Arc::clone(self);
        self.unbroken(async move {
            let _changing = engine.changes.lock().await;
            let ids: Vec<_> = {
                let table = engine.table();
                let all = table
                    .all()
                    .filter(|entry| entry.name == name && entry.deleting().is_none());
                all.map(|entry| entry.id.clone()).collect()
            };
            let (withdrawn, stopped) = engine.end(ids).await?;
            withdrawn?;
            if let Err(error) = stopped {
                // A full disk, for example, on which nothing could be freed otherwise.
                log::error!("{error}; the task is stopped and removed all the same, unless this agent dies first");
            }
            Ok(())
        })
        .await
    }

    /// What is known of the tasks.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with everything that clients see.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Where a task's files are.
    pub fn folder(&self, id: &TaskId) -> std::path::PathBuf {
        self.store.folder(id)
    }

    /// What happened since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What the engine was told at its start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs something to its end even if nobody waits for it any more: half a change is none.
    async fn unbroken<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        tokio::spawn(change)
            .await
            .unwrap_or_else(|error| Err(Error::Internal(error.to_string())))
    }

    /// Whether a task may be accepted at all.
    fn admit(&self, desired: &Desired) -> Result<(), Error> {
        match desired.spec {
            Spec::Container(_) if self.containers.is_none() => Err(Error::NoContainers(desired.name.clone())),
            _ => Ok(()),
        }
    }

    fn check_draining(&self) -> Result<(), Error> {
        if self.is_draining() {
            Err(Error::Draining)
        } else {
            Ok(())
        }
    }

    fn check_room(&self, wanted: usize) -> Result<(), Error> {
        let most = self.settings.max_tasks;
        if wanted > most {
            Err(Error::Full(wanted, most))
        } else {
            Ok(())
        }
    }

    /// As many tasks as may be kept may be on their way out beside them, if more are to go.
    fn check_leaving(&self, more: usize) -> Result<(), Error> {
        let leaving = self.table().all().filter(|entry| entry.deleting().is_some()).count() + more;
        let most = self.settings.max_tasks;
        if leaving > most {
            Err(Error::Leaving(leaving, most))
        } else {
            Ok(())
        }
    }

    /// Makes tasks that wait to be started.
    async fn make(self: &Arc<Self>, desired: Vec<Desired>) -> Result<(), Error> {
        if desired.is_empty() {
            return Ok(());
        }
        let tasks: Vec<_> = {
            let table = self.table();
            let mut room = table.room(self.settings.max_active);
            let accept = |desired: Desired| {
                let at_once = room > 0 && table.named(&desired.name).is_none();
                room = room.saturating_sub(1);
                let process = matches!(desired.spec, Spec::Process(_));
                let task = Task {
                    format: FORMAT,
                    name: desired.name,
                    spec: desired.spec,
                    created_at: Moment::now(),
                    boot_id: self.settings.boot_id.clone().filter(|_| at_once && process),
                };
                (TaskId::new(), task)
            };
            desired.into_iter().map(accept).collect()
        };
        let tasks = self
            .blocking(move |engine| engine.store.create(&tasks).map(|()| tasks))
            .await?;
        let mut table = self.table();
        self.totals.created.fetch_add(tasks.len() as u64, Ordering::Relaxed);
        for (id, task) in tasks {
            let claim = self.claim_outlives(&task);
            let mut entry = Entry::new(id, task.name, task.spec, task.created_at);
            entry.claim = claim;
            table.insert(entry);
        }
        let room = self.settings.max_active.saturating_sub(table.active());
        table.queue_beyond(room);
        drop(table);
        self.changed();
        Ok(())
    }

    /// What a task's claim has to outlive: a task that this run of the machine was to start at once is not started in
    /// another one.
    fn claim_outlives(&self, task: &Task) -> Durability {
        match task.boot_id {
            Some(_) if task.boot_id == self.settings.boot_id => Durability::Volatile,
            _ => Durability::Durable,
        }
    }

    /// Asks for the end and the removal of tasks, which happen in any case. The first answer says whether those are gone
    /// for good of which nothing runs, the second one whether what was asked of the others outlives this agent.
    async fn end(
        self: &Arc<Self>,
        ids: Vec<TaskId>,
    ) -> Result<(Result<(), store::Error>, Result<(), store::Error>), Error> {
        if ids.is_empty() {
            return Ok((Ok(()), Ok(())));
        }
        let now = Moment::now();
        let (mut idle, mut stops) = (Vec::new(), Vec::new());
        {
            let mut table = self.table();
            for id in ids {
                let Some(entry) = table.get_mut(&id) else { continue };
                let stop = self.stop_of(entry, now, true);
                if std::mem::replace(&mut entry.followed, true) {
                    stops.push((id, stop));
                } else {
                    // Nobody starts it any more.
                    entry.stop = Some(stop);
                    idle.push(id);
                }
            }
        }
        let (withdrawn, requests) = (idle.clone(), stops.clone());
        let (withdrawn, stopped) = self
            .blocking(move |engine| Ok((engine.store.withdraw(&withdrawn), engine.store.stop(&requests))))
            .await?;
        for id in idle {
            tokio::spawn(Arc::clone(self).finish(id));
        }
        for (id, stop) in stops {
            self.note_stop(&id, stop);
        }
        self.changed();
        // A task that was removed may have been in the way of another.
        self.schedule();
        Ok((withdrawn, stopped))
    }

    /// What stops a task, with its own grace.
    fn stop_of(&self, entry: &Entry, requested_at: Moment, delete: bool) -> Stop {
        Stop {
            requested_at,
            grace_ms: u64::try_from(self.grace_of(entry).as_millis()).unwrap_or(u64::MAX),
            delete,
        }
    }

    fn grace_of(&self, entry: &Entry) -> Duration {
        entry
            .spec
            .grace_seconds()
            .map_or(self.settings.grace, Duration::from_secs)
    }

    /// A task is to stop: whoever follows it is told. Nobody does if it was not started or has ended; then it is
    /// removed if that is wanted too, and else its end is noted, unless that is known.
    fn note_stop(self: &Arc<Self>, id: &TaskId, stop: Stop) {
        let delete = stop.delete;
        let followed = {
            let mut table = self.table();
            let Some(entry) = table.get_mut(id) else { return };
            if !delete && entry.is_terminated() {
                return;
            }
            entry.stop = Some(stop);
            let followed = std::mem::replace(&mut entry.followed, true);
            if !followed && !delete {
                table.launching(id);
            }
            followed
        };
        if !followed {
            let id = id.clone();
            if delete {
                tokio::spawn(Arc::clone(self).finish(id));
            } else {
                tokio::spawn(Arc::clone(self).follow(id, follow::Begin::Adopt));
            }
            return;
        }
        if let Err(error) = channel::request_stop(&self.store.folder(id), delete) {
            log::warn!("failed to reach the supervisor of task {id}: {error}; it is tried again");
        }
        self.changed();
    }

    /// Removes a task that nothing runs of any more.
    async fn finish(self: Arc<Self>, id: TaskId) {
        self.remove_container(&id).await;
        let mut pause = Duration::from_millis(100);
        loop {
            let removed = id.clone();
            match self.blocking(move |engine| engine.store.remove(&removed)).await {
                Ok(()) => break,
                Err(error) => log::error!("{error}; it is tried again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
        self.table().remove(&id);
        self.pauses().remove(&id);
        self.changed();
        self.schedule();
    }

    /// Starts what may start.
    fn schedule(self: &Arc<Self>) {
        let now = Instant::now();
        let resting: HashSet<_> = {
            let pauses = self.pauses();
            pauses
                .iter()
                .filter(|(_, pause)| pause.until > now)
                .map(|(id, _)| id.clone())
                .collect()
        };
        let (chosen, changed) = {
            let mut table = self.table();
            if self.stopping_all() {
                return;
            }
            table.launch(self.settings.max_active, |entry| !resting.contains(&entry.id))
        };
        if changed {
            self.changed();
        }
        for id in chosen {
            tokio::spawn(Arc::clone(self).follow(id, follow::Begin::Launch));
        }
    }

    /// Now and then: tries again what failed, and finds what no event told.
    async fn reconcile(self: Arc<Self>) {
        let mut interval = tokio::time::interval(self.settings.reconcile_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.ending().retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            self.schedule();
        }
    }

    /// Reaps a supervisor, now or when it has ended.
    fn bury(&self, mut child: Child) {
        if matches!(child.try_wait(), Ok(None)) {
            self.ending().push(child);
        }
    }

    fn ending(&self) -> MutexGuard<'_, Vec<Child>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that clients see has changed.
    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn pauses(&self) -> MutexGuard<'_, std::collections::HashMap<TaskId, Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Work that waits for the disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Error::Internal(error.to_string())),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Engine")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
