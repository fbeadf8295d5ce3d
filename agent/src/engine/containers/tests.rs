//! What the engine makes of a runtime, with one that does as it is told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use tokio::sync::watch;

use super::*;
use crate::container::Pending;
use crate::engine::Settings;
use crate::protocol::{Desired, Name, State, Terminated};
use crate::store::Store;

/// A runtime that outlives agents.
struct Fake {
    state: watch::Sender<Node>,
    /// The tasks whose end somebody waited for: their output is collected.
    collected: Mutex<HashSet<TaskId>>,
}

#[derive(Default, Clone)]
struct Node {
    containers: BTreeMap<TaskId, Found>,
    starts: usize,
    /// How many questions are not answered.
    deaf: usize,
    /// How many requests are refused with an error of the runtime's own, questions and stops.
    confused: usize,
    /// Whether somebody waits for an image, or for a start.
    pulling: bool,
    starting: bool,
    /// Whether images come.
    pulls: Pulls,
    /// What becomes of a start.
    start: Start,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Pulls {
    #[default]
    Works,
    Refused,
    Never,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Start {
    #[default]
    Works,
    Refused,
    Never,
    /// It is refused, because an earlier one had success.
    Late,
}

impl Node {
    fn confused(&mut self) -> Result<(), Trouble> {
        if self.confused == 0 {
            return Ok(());
        }
        self.confused -= 1;
        Err(Trouble::Refused("an error of the runtime's own".into()))
    }
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: watch::Sender::default(),
            collected: Mutex::default(),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Node) -> T) -> T {
        let mut result = None;
        self.state.send_modify(|node| result = Some(change(node)));
        result.unwrap()
    }

    fn end(&self, exit_code: i32, finished_at: Moment) {
        self.change(|node| {
            for found in node.containers.values_mut() {
                *found = exited(exit_code, finished_at);
            }
        });
    }

    fn is_empty(&self) -> bool {
        self.state.borrow().containers.is_empty()
    }
}

fn exited(exit_code: i32, finished_at: Moment) -> Found {
    Found::Exited(Exit {
        exit_code,
        started_at: Some(START),
        finished_at,
        message: None,
    })
}

const START: Moment = Moment(1_700_000_000_000_000);

impl Containers for Fake {
    fn find<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Found> {
        let found = self.change(|node| {
            if node.deaf > 0 {
                node.deaf -= 1;
                return Err(Trouble::Unavailable("deaf".into()));
            }
            node.confused()?;
            Ok(node.containers.get(&task.id).cloned().unwrap_or(Found::Absent))
        });
        Box::pin(async { found })
    }

    fn prepare<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()> {
        Box::pin(async {
            let pulls = self.state.borrow().pulls;
            match pulls {
                Pulls::Works => {
                    self.change(|node| {
                        node.containers.entry(task.id.clone()).or_insert(Found::Created);
                    });
                    Ok(())
                }
                Pulls::Refused => Err(Trouble::Refused("no such image".into())),
                Pulls::Never => {
                    self.change(|node| node.pulling = true);
                    std::future::pending().await
                }
            }
        })
    }

    fn start<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Moment> {
        Box::pin(async {
            let start = self.state.borrow().start;
            let begin = |node: &mut Node| {
                node.starts += 1;
                let running = Found::Running { started_at: START };
                node.containers.insert(task.id.clone(), running);
            };
            match start {
                Start::Works => {
                    self.change(begin);
                    Ok(START)
                }
                Start::Refused => Err(Trouble::Refused("no such program".into())),
                Start::Never => {
                    self.change(|node| node.starting = true);
                    std::future::pending().await
                }
                Start::Late => {
                    self.change(begin);
                    Err(Trouble::Refused("container is already in starting state".into()))
                }
            }
        })
    }

    fn wait<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, Option<Exit>> {
        Box::pin(async {
            let mut state = self.state.subscribe();
            let over = |node: &Node| !matches!(node.containers.get(&task.id), Some(Found::Running { .. }));
            let node = state.wait_for(over).await.unwrap();
            self.collected.lock().unwrap().insert(task.id.clone());
            Ok(match node.containers.get(&task.id) {
                Some(Found::Exited(exit)) => Some(exit.clone()),
                _ => None,
            })
        })
    }

    fn stop<'a>(&'a self, _task: &'a ContainerTask, _grace: Duration) -> Pending<'a, ()> {
        Box::pin(async {
            self.change(Node::confused)?;
            self.end(143, Moment::now());
            Ok(())
        })
    }

    fn remove<'a>(&'a self, task: &'a ContainerTask) -> Pending<'a, ()> {
        self.change(|node| node.containers.remove(&task.id));
        Box::pin(async { Ok(()) })
    }

    fn sweep<'a>(&'a self, known: &'a (dyn Fn(&TaskId) -> bool + Send + Sync)) -> Pending<'a, ()> {
        self.change(|node| node.containers.retain(|id, _| known(id)));
        Box::pin(async { Ok(()) })
    }
}

/// A life of the agent: it ends when this is dropped, as if it had been killed.
struct Life {
    runtime: tokio::runtime::Runtime,
    engine: Arc<Engine>,
}

impl Life {
    fn begin(place: &Path, fake: &Arc<Fake>) -> Self {
        Self::begin_with(place, Some(Arc::<Fake>::clone(fake)))
    }

    fn begin_with(place: &Path, containers: Option<Arc<dyn Containers>>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let settings = Settings {
            max_active: 100,
            max_tasks: 100,
            grace: Duration::ZERO,
            log_limit: 1 << 10,
            reconcile_interval: Duration::from_millis(10),
            main_container: None,
            boot_id: None,
        };
        let started = Engine::start(Store::open(place).unwrap(), settings, containers);
        let engine = runtime.block_on(started).unwrap();
        Self { runtime, engine }
    }

    fn create(&self, timeout_seconds: Option<u64>) -> TaskId {
        let container = Container {
            image: "image".into(),
            timeout_seconds,
            ..Container::default()
        };
        let desired = Desired {
            name: name(),
            spec: Spec::Container(container),
        };
        let created = self.engine.create(desired, |entry| entry.id.clone());
        self.runtime.block_on(created).unwrap()
    }

    /// Waits until the one task is in a state, or gone.
    #[track_caller]
    fn until(&self, wanted: impl Fn(Option<&State>) -> bool) {
        let reached = async {
            let mut version = self.engine.version();
            loop {
                let state = self.engine.table().named(&name()).map(crate::engine::Entry::state);
                if wanted(state.as_ref()) {
                    return;
                }
                version.changed().await.unwrap();
            }
        };
        let reached = async { tokio::time::timeout(Duration::from_secs(20), reached).await };
        self.runtime.block_on(reached).expect("the state is reached");
    }

    #[track_caller]
    fn running(&self) {
        self.until(|state| matches!(state, Some(State::Running(_))));
    }

    #[track_caller]
    fn end(&self) -> Terminated {
        let end = Mutex::new(None);
        self.until(|state| {
            if let Some(State::Terminated(terminated)) = state {
                *end.lock().unwrap() = Some(terminated.clone());
            }
            end.lock().unwrap().is_some()
        });
        end.into_inner().unwrap().unwrap()
    }

    /// Waits for something of the runtime.
    fn sees(&self, fake: &Fake, wanted: impl Fn(&Node) -> bool) {
        let mut state = fake.state.subscribe();
        let seen = async {
            tokio::time::timeout(Duration::from_secs(20), state.wait_for(|node| wanted(node)))
                .await
                .is_ok()
        };
        assert!(self.runtime.block_on(seen), "the runtime is in that state");
    }
}

fn name() -> Name {
    Name::try_from("task".to_owned()).unwrap()
}

#[test]
fn a_container_runs_once_and_leaves_its_end_and_nothing_else() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    fake.end(3, Moment(START.0 + 5));
    let end = life.end();
    assert_eq!((end.exit_code, end.reason), (3, Reason::Failed));
    assert_eq!((end.started_at, end.finished_at), (Some(START), Moment(START.0 + 5)));
    life.sees(&fake, |node| node.containers.is_empty());
    assert_eq!(fake.state.borrow().starts, 1);
}

#[test]
fn a_deleted_one_is_stopped_and_removed() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    life.runtime.block_on(life.engine.delete(name())).unwrap();
    life.until(|state| state.is_none());
    assert!(fake.is_empty());
}

#[test]
fn another_agent_goes_on_with_it_wherever_the_first_one_was_killed() {
    // While its image is pulled: there, not there. While it is started: made, or running although that was not noted.
    for (pulls, found) in [
        (Pulls::Never, None),
        (Pulls::Never, Some(Found::Created)),
        (Pulls::Works, Some(Found::Created)),
        (Pulls::Works, Some(Found::Running { started_at: START })),
    ] {
        let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
        fake.change(|node| (node.pulls, node.start) = (pulls, Start::Never));
        let life = Life::begin(place.path(), &fake);
        let id = life.create(None);
        life.sees(&fake, |node| node.pulling || node.starting);
        drop(life);
        fake.change(|node| {
            (node.pulls, node.start) = (Pulls::Works, Start::Works);
            node.containers.clear();
            node.containers.extend(found.clone().map(|found| (id, found)));
        });
        let life = Life::begin(place.path(), &fake);
        life.running();
        let runs = matches!(found, Some(Found::Running { .. }));
        assert_eq!(fake.state.borrow().starts, usize::from(!runs), "{found:?}");
        drop(life);
        let life = Life::begin(place.path(), &fake);
        life.running();
        assert_eq!(fake.state.borrow().starts, usize::from(!runs), "{found:?}");
        fake.end(0, Moment::now());
        assert_eq!(life.end().reason, Reason::Succeeded);
        life.sees(&fake, |node| node.containers.is_empty());
    }
}

#[test]
fn an_end_that_no_agent_saw_is_told_as_it_was() {
    let after = |seconds: u64| Moment(START.0 + seconds * 1_000_000);
    for (timeout, exit_code, end, reason) in [
        (None, 0, after(50), Reason::Succeeded),
        (None, 1, after(50), Reason::Failed),
        (Some(60), 0, after(50), Reason::Succeeded),
        (Some(60), 1, after(59), Reason::Failed),
        (Some(60), 143, after(60), Reason::TaskTimeout),
    ] {
        let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
        let life = Life::begin(place.path(), &fake);
        // What began in the past would be over at once.
        let id = life.create(timeout.map(|_| 1 << 31));
        life.running();
        drop(life);
        shorten(place.path(), &id, timeout);
        fake.end(exit_code, end);
        let life = Life::begin(place.path(), &fake);
        let told = life.end();
        assert_eq!(
            (told.exit_code, told.reason, told.finished_at),
            (exit_code, reason, end)
        );
        assert!(fake.collected.lock().unwrap().contains(&id), "its output is collected");
        life.sees(&fake, |node| node.containers.is_empty());
    }
}

/// Gives a task on the disk another timeout.
fn shorten(place: &Path, id: &TaskId, timeout: Option<u64>) {
    let Some(timeout) = timeout else { return };
    let file = place.join("tasks").join(id.as_str()).join("task");
    let text = std::fs::read_to_string(&file).unwrap();
    let short = text.replace(&format!("{}", 1_u64 << 31), &timeout.to_string());
    assert_ne!(text, short);
    std::fs::write(&file, short).unwrap();
}

#[test]
fn one_that_is_gone_is_lost_and_not_run_again() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    fake.change(|node| node.containers.clear());
    let end = life.end();
    assert_eq!(
        (end.reason, end.exit_code, end.started_at),
        (Reason::Lost, 137, Some(START))
    );
    // So also if nobody was there.
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    drop(life);
    fake.change(|node| node.containers.clear());
    let life = Life::begin(place.path(), &fake);
    assert_eq!(life.end().reason, Reason::Lost);
    assert_eq!(fake.state.borrow().starts, 2);
}

#[test]
fn one_that_is_gone_before_its_start_was_noted_is_lost_and_not_run_again() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.change(|node| node.start = Start::Never);
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.sees(&fake, |node| node.starting);
    drop(life);
    fake.change(|node| {
        node.start = Start::Works;
        node.containers.clear();
    });
    let life = Life::begin(place.path(), &fake);
    assert_eq!(life.end().reason, Reason::Lost);
    assert_eq!(fake.state.borrow().starts, 0);
}

#[test]
fn a_start_that_is_refused_because_an_earlier_one_had_success_has_not_failed() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.change(|node| node.start = Start::Late);
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    fake.end(0, Moment::now());
    assert_eq!(life.end().reason, Reason::Succeeded);
}

/// What ends the agent's container politely ends the pod, as far as the agent knows.
#[test]
fn a_drain_stops_it_and_keeps_how_it_ended() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    life.runtime.block_on(life.engine.stop_all());
    let end = life.end();
    assert_eq!((end.exit_code, end.reason), (143, Reason::Killed));
    life.sees(&fake, |node| node.containers.is_empty());
    drop(life);
    assert_eq!(Life::begin(place.path(), &fake).end(), end);
    assert_eq!(fake.state.borrow().starts, 1, "it is not run again");
}

#[test]
fn a_stop_that_the_runtime_refuses_is_tried_again() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    fake.change(|node| node.confused = 2);
    life.runtime.block_on(life.engine.delete(name())).unwrap();
    life.until(|state| state.is_none());
    assert!(fake.is_empty());
}

#[test]
fn one_that_was_stopped_before_it_was_claimed_ends() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    // It is not claimed because the agent has no container mode.
    let life = Life::begin(place.path(), &fake);
    let id = life.create(None);
    drop(life);
    let folder = place.path().join("tasks").join(id.as_str());
    let _ = std::fs::remove_file(folder.join("claim"));
    std::fs::write(
        folder.join("stop"),
        "{\"requestedAt\":1,\"graceMs\":0,\"delete\":false}",
    )
    .unwrap();
    let life = Life::begin(place.path(), &fake);
    assert_eq!(life.end().reason, Reason::Killed);
    assert_eq!(fake.state.borrow().starts, 0);
}

#[test]
fn a_runtime_that_does_not_answer_does_not_make_a_running_task_wait() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    drop(life);
    fake.change(|node| (node.deaf, node.confused) = (2, 2));
    let life = Life::begin(place.path(), &fake);
    life.sees(&fake, |node| node.deaf == 0 && node.confused == 0);
    let state = life.engine.table().named(&name()).unwrap().state();
    assert!(matches!(state, State::Running(_)), "{state:?}");
    fake.end(0, Moment::now());
    assert_eq!(life.end().reason, Reason::Succeeded);
}

#[test]
fn a_runtime_that_does_not_answer_yet_is_asked_again() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.change(|node| node.deaf = 2);
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.until(|state| matches!(state, Some(State::Waiting(waiting)) if waiting.message.as_deref() == Some("deaf")));
    life.running();
}

#[test]
fn what_is_refused_has_failed_and_says_why() {
    for (pulls, start, message) in [
        (Pulls::Refused, Start::Works, "no such image"),
        (Pulls::Works, Start::Refused, "no such program"),
    ] {
        let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
        fake.change(|node| (node.pulls, node.start) = (pulls, start));
        let life = Life::begin(place.path(), &fake);
        life.create(None);
        let end = life.end();
        assert_eq!((end.reason, end.exit_code), (Reason::StartFailed, 126));
        assert_eq!(end.message.as_deref(), Some(message));
        life.sees(&fake, |node| node.containers.is_empty());
    }
}

#[test]
fn one_that_is_stopped_while_it_starts_leaves_nothing() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.change(|node| node.start = Start::Never);
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.sees(&fake, |node| node.starting);
    life.runtime.block_on(life.engine.delete(name())).unwrap();
    life.until(|state| state.is_none());
    assert!(fake.is_empty());
}

#[test]
fn one_that_ended_when_the_agent_did_goes_at_the_next_start() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    let id = life.create(None);
    life.running();
    life.runtime.block_on(life.engine.stop_all());
    let end = life.end();
    drop(life);
    // The end was noted, and the removal was yet to come.
    fake.change(|node| node.containers.insert(id, exited(end.exit_code, end.finished_at)));
    let life = Life::begin(place.path(), &fake);
    life.sees(&fake, |node| node.containers.is_empty());
    assert_eq!(life.end(), end);
}

#[test]
fn an_agent_without_container_mode_leaves_the_deletion_to_one_with_it() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    life.create(None);
    life.running();
    drop(life);
    let life = Life::begin_with(place.path(), None);
    life.runtime.block_on(life.engine.delete(name())).unwrap();
    // Everything that can go on without a runtime has its turn.
    for _ in 0..100 {
        life.runtime.block_on(tokio::task::yield_now());
    }
    // What this agent's threads have begun they end.
    drop(life);
    let kept = std::fs::read_dir(place.path().join("tasks")).unwrap().count();
    assert_eq!(kept, 1, "the task is not forgotten as long as its container runs");
    let life = Life::begin(place.path(), &fake);
    life.sees(&fake, |node| node.containers.is_empty());
    life.until(|state| state.is_none());
}

#[test]
fn containers_of_tasks_that_nobody_knows_go_at_the_start() {
    let (place, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let life = Life::begin(place.path(), &fake);
    let id = life.create(None);
    life.running();
    drop(life);
    fake.change(|node| node.containers.insert(TaskId::new(), Found::Created));
    let life = Life::begin(place.path(), &fake);
    life.sees(&fake, |node| node.containers.keys().eq([&id]));
    life.running();
}
