//! Which tasks there are and where each stands. Pure: no clock, no files, no processes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::protocol::answer;
use crate::protocol::{Moment, Name, Reason, Running, Spec, State, Terminated, Waiting};
use crate::store::TaskId;
use crate::store::atomic::Durability;
use crate::store::records::Stop;

/// Every task, by age. A name means the youngest that has it; older ones are being removed.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<TaskId, Entry>,
    names: HashMap<Name, BTreeSet<TaskId>>,
    waiting: BTreeSet<TaskId>,
    active: usize,
}

/// A task.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which one.
    pub id: TaskId,
    /// What it is called.
    pub name: Name,
    /// What it runs.
    pub spec: Arc<Spec>,
    /// When it was accepted.
    pub created_at: Moment,
    /// What the claim has to outlive that it is started.
    pub claim: Durability,
    /// Where it stands.
    phase: Phase,
    /// It is to stop.
    pub stop: Option<Stop>,
    /// Something waits for what becomes of it, and sees to its removal.
    pub followed: bool,
    /// Why it could not be started yet.
    pub trouble: Option<String>,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Waiting { queued: bool },
    Launching,
    Running(Running),
    Terminated(Terminated),
}

impl Phase {
    fn is_active(&self) -> bool {
        matches!(self, Self::Launching | Self::Running(_))
    }

    fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }
}

impl Entry {
    /// A task that was not started.
    #[must_use]
    pub fn new(id: TaskId, name: Name, spec: Spec, created_at: Moment) -> Self {
        Self {
            id,
            name,
            spec: Arc::new(spec),
            created_at,
            claim: Durability::Durable,
            phase: Phase::Waiting { queued: false },
            stop: None,
            followed: false,
            trouble: None,
        }
    }

    /// When its removal was asked for, if it was.
    #[must_use]
    pub fn deleting(&self) -> Option<Moment> {
        let stop = self.stop.as_ref().filter(|stop| stop.delete);
        stop.map(|stop| stop.requested_at)
    }

    /// Whether it is to stop and to be kept.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| !stop.delete)
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        matches!(self.phase, Phase::Terminated(_))
    }

    /// Whether it is under way.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase.is_active()
    }

    /// Where it stands, as clients see it.
    #[must_use]
    pub fn state(&self) -> State {
        let waiting = |reason| {
            State::Waiting(Waiting {
                reason,
                message: self.trouble.clone(),
            })
        };
        match &self.phase {
            Phase::Waiting { queued: true } => waiting(Reason::Queued),
            Phase::Waiting { queued: false } | Phase::Launching => waiting(Reason::Initialized),
            Phase::Running(running) => State::Running(*running),
            Phase::Terminated(terminated) => State::Terminated(terminated.clone()),
        }
    }

    /// Calls back with the task as clients see it.
    pub fn show<T>(&self, show: impl FnOnce(answer::Task<'_>) -> T) -> T {
        let state = self.state();
        show(answer::Task::new(
            &self.name,
            &self.spec,
            &state,
            self.created_at,
            self.deleting(),
        ))
    }
}

/// How many tasks there are of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Waiting, not because of the limit.
    pub waiting: usize,
    /// Waiting because of the limit.
    pub queued: usize,
    /// Running.
    pub running: usize,
    /// Over.
    pub terminated: usize,
    /// Being removed, whatever their state.
    pub deleting: usize,
}

impl Table {
    /// Adds a task.
    pub fn insert(&mut self, entry: Entry) {
        let id = entry.id.clone();
        self.active += usize::from(entry.phase.is_active());
        if entry.phase.is_waiting() {
            self.waiting.insert(id.clone());
        }
        self.names.entry(entry.name.clone()).or_default().insert(id.clone());
        self.entries.insert(id, entry);
    }

    /// Forgets a task.
    pub fn remove(&mut self, id: &TaskId) -> Option<Entry> {
        let entry = self.entries.remove(id)?;
        self.active -= usize::from(entry.phase.is_active());
        self.waiting.remove(id);
        if let Some(family) = self.names.get_mut(&entry.name) {
            family.remove(id);
            if family.is_empty() {
                self.names.remove(&entry.name);
            }
        }
        Some(entry)
    }

    /// A task.
    #[must_use]
    pub fn get(&self, id: &TaskId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// A task, to change what is not its phase.
    pub fn get_mut(&mut self, id: &TaskId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    /// The task that a name means.
    #[must_use]
    pub fn named(&self, name: &Name) -> Option<&Entry> {
        self.entries.get(self.names.get(name)?.last()?)
    }

    /// The tasks that names mean, the oldest first.
    pub fn named_all(&self) -> impl Iterator<Item = &Entry> {
        self.all()
            .filter(|entry| self.names.get(&entry.name).and_then(BTreeSet::last) == Some(&entry.id))
    }

    /// Every task, those that are being replaced too.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many there are, those that are being replaced too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many are under way.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    /// How many more tasks would be started at once, at most `limit` being under way.
    #[must_use]
    pub fn room(&self, limit: usize) -> usize {
        limit.saturating_sub(self.active + self.waiting.len())
    }

    /// Which tasks may start now, at most `limit` being under way. They are launching from now on; the others that wait
    /// are queued. The answer says too whether anything changed that clients see.
    pub fn launch(&mut self, limit: usize, ready: impl Fn(&Entry) -> bool) -> (Vec<TaskId>, bool) {
        let mut chosen = Vec::new();
        let mut changed = false;
        let mut active = self.active;
        for id in &self.waiting {
            let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.stop.is_none()) else {
                continue;
            };
            let room = active < limit;
            // A name's tasks run one after the other: the next one starts when the one before has been removed.
            let first = self.names.get(&entry.name).and_then(BTreeSet::first) == Some(id);
            if room && first && ready(entry) {
                active += 1;
                chosen.push(id.clone());
            }
            let phase = Phase::Waiting { queued: !room };
            changed |= entry.phase != phase;
            entry.phase = phase;
        }
        for id in &chosen {
            self.set(id, Phase::Launching);
            if let Some(entry) = self.entries.get_mut(id) {
                entry.followed = true;
            }
        }
        (chosen, changed)
    }

    /// Of the tasks that wait, all but the oldest `room` ones are queued.
    pub fn queue_beyond(&mut self, room: usize) {
        let waiting = self
            .waiting
            .iter()
            .filter(|id| self.entries.get(id).is_some_and(|entry| entry.stop.is_none()));
        let beyond: Vec<_> = waiting.skip(room).cloned().collect();
        for id in beyond {
            self.set(&id, Phase::Waiting { queued: true });
        }
    }

    /// The task could not be started and waits again.
    pub fn wait_again(&mut self, id: &TaskId, trouble: String) {
        if let Some(entry) = self.entries.get_mut(id).filter(|entry| !entry.is_terminated()) {
            entry.trouble = Some(trouble);
            self.set(id, Phase::Waiting { queued: false });
        }
    }

    /// The task is about to be started by somebody. The answer says whether that is new.
    pub fn launching(&mut self, id: &TaskId) -> bool {
        let waiting = self.entries.get(id).is_some_and(|entry| entry.phase.is_waiting());
        waiting && self.set(id, Phase::Launching)
    }

    /// The task runs. The answer says whether that is new.
    pub fn running(&mut self, id: &TaskId, started_at: Moment) -> bool {
        let ended = self.entries.get(id).is_none_or(Entry::is_terminated);
        !ended && self.set(id, Phase::Running(Running { started_at }))
    }

    /// The task ended. The answer says whether that is new.
    pub fn terminated(&mut self, id: &TaskId, terminated: Terminated) -> bool {
        let ended = self.entries.get(id).is_none_or(Entry::is_terminated);
        !ended && self.set(id, Phase::Terminated(terminated))
    }

    /// How many tasks there are of each kind.
    #[must_use]
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for entry in self.entries.values() {
            let kind = match entry.phase {
                Phase::Waiting { queued: true } => &mut count.queued,
                Phase::Waiting { queued: false } | Phase::Launching => &mut count.waiting,
                Phase::Running(_) => &mut count.running,
                Phase::Terminated(_) => &mut count.terminated,
            };
            *kind += 1;
            count.deleting += usize::from(entry.deleting().is_some());
        }
        count
    }

    fn set(&mut self, id: &TaskId, phase: Phase) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        if entry.phase == phase {
            return false;
        }
        self.active += usize::from(phase.is_active());
        self.active -= usize::from(entry.phase.is_active());
        if phase.is_active() || matches!(phase, Phase::Terminated(_)) {
            entry.trouble = None;
        }
        if phase.is_waiting() {
            self.waiting.insert(id.clone());
        } else {
            self.waiting.remove(id);
        }
        entry.phase = phase;
        true
    }
}
