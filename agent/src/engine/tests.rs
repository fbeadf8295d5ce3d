//! `setTasks` against a model: random sets, and a crash at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::{Process, Reason, State};
use crate::store::records::{Claim, Ended};

/// Nothing is started: what is about to run is only claimed, by the test.
fn settings() -> Settings {
    Settings {
        max_active: 0,
        max_tasks: 100,
        grace: Duration::ZERO,
        log_limit: 1 << 10,
        reconcile_interval: Duration::from_millis(10),
        main_container: None,
        boot_id: None,
    }
}

fn task(name: u8, version: u8) -> Desired {
    Desired {
        name: Name::try_from(format!("task-{name}")).unwrap(),
        spec: Spec::Process(Process {
            command: vec![format!("version-{version}")],
            ..Process::default()
        }),
    }
}

type Set = BTreeMap<u8, u8>;

fn tasks(set: &Set) -> Vec<Desired> {
    set.iter().map(|(name, version)| task(*name, *version)).collect()
}

/// What happens between two sets.
#[derive(Debug, Clone)]
enum Step {
    /// The desired set, and the number of steps on the disk after which the agent crashes.
    Set(Set, Option<usize>),
    /// A supervisor claims the task with this name, and perhaps ends it.
    Run(u8, bool),
    /// The agent dies and starts anew.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let set = proptest::collection::btree_map(0..4_u8, 0..2_u8, 0..4);
    prop_oneof![
        4 => (set, proptest::option::of(0..24_usize)).prop_map(|(set, crash)| Step::Set(set, crash)),
        2 => (0..4_u8, any::<bool>()).prop_map(|(name, ends)| Step::Run(name, ends)),
        1 => Just(Step::Restart),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A life of the agent: it ends when this is dropped, as if it had been killed.
struct Life {
    runtime: tokio::runtime::Runtime,
    engine: Arc<Engine>,
}

impl Life {
    fn begin(place: &std::path::Path) -> Self {
        Self::begin_in(place, None)
    }

    /// In a run of the machine.
    fn begin_in(place: &std::path::Path, boot_id: Option<&str>) -> Self {
        let runtime = runtime();
        let store = Store::open(place).unwrap();
        let settings = Settings {
            boot_id: boot_id.map(str::to_owned),
            ..settings()
        };
        let engine = runtime.block_on(Engine::start(store, settings, None)).unwrap();
        Self { runtime, engine }
    }

    fn set(&self, set: &Set) -> Vec<TaskId> {
        self.runtime.block_on(self.engine.set(tasks(set), |_| ())).unwrap();
        self.engine.table().all().map(|entry| entry.id.clone()).collect()
    }

    fn state(&self, id: &TaskId) -> State {
        self.engine.table().get(id).unwrap().state()
    }

    /// How a task ended, once that is known.
    fn end(&self, id: &TaskId) -> crate::protocol::Terminated {
        let known = async {
            let mut version = self.engine.version();
            loop {
                if let State::Terminated(end) = self.state(id) {
                    return end;
                }
                version.changed().await.unwrap();
            }
        };
        let known = async { tokio::time::timeout(Duration::from_secs(20), known).await };
        self.runtime.block_on(known).expect("the end is known")
    }

    /// What names mean, as far as it is not being deleted.
    fn current(&self) -> BTreeMap<String, (TaskId, Spec)> {
        let table = self.engine.table();
        let live = table.all().filter(|entry| entry.deleting().is_none());
        let mut current = BTreeMap::new();
        for entry in live {
            let there = current.insert(entry.name.to_string(), (entry.id.clone(), (*entry.spec).clone()));
            assert!(there.is_none(), "{} is there twice", entry.name);
        }
        current
    }

    fn await_removals(&self) {
        self.runtime.block_on(async {
            let mut version = self.engine.version();
            while self.engine.table().all().any(|entry| entry.deleting().is_some()) {
                version.changed().await.unwrap();
            }
        });
    }
}

fn specs(set: &Set) -> BTreeMap<String, Spec> {
    tasks(set)
        .into_iter()
        .map(|task| (task.name.to_string(), task.spec))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn sets_converge_whatever_happens_and_nothing_claimed_waits_again(steps in proptest::collection::vec(step(), 1..8)) {
        let place = tempfile::tempdir().unwrap();
        let mut life = Life::begin(place.path());
        let mut claimed = BTreeSet::new();
        let mut ends = BTreeMap::new();
        for step in steps {
            match step {
                Step::Restart => {
                    drop(life);
                    life = Life::begin(place.path());
                }
                Step::Run(name, ended) => {
                    let found = life.current().get(&format!("task-{name}")).map(|(id, _)| id.clone());
                    if let Some(id) = found
                        && life.engine.store.claim(&id, &Claim { supervisor: follow::own_identity(), claimed_at: Moment::now() }).unwrap()
                    {
                        if ended {
                            let end = Ended { exit_code: 7, signal: None, reason: Reason::Failed, message: None, started_at: None, finished_at: Moment(1) };
                            life.engine.store.end(&id, &end).unwrap();
                            ends.insert(id.clone(), 7);
                        }
                        claimed.insert(id);
                        // The table learns of it as it would from a supervisor: by looking, here after a restart.
                        drop(life);
                        life = Life::begin(place.path());
                    }
                }
                Step::Set(set, crash) => {
                    let before = life.current();
                    let wanted = specs(&set);
                    life.engine.store.faults.after(crash.unwrap_or(usize::MAX));
                    let result = life.runtime.block_on(life.engine.set(tasks(&set), |_| ()));
                    if crash.is_some() {
                        // Whatever was done, the agent dies now; the client does not know and asks again.
                        drop(life);
                        life = Life::begin(place.path());
                        for (name, (id, spec)) in life.current() {
                            let old = before.get(&name).is_some_and(|(old, _)| *old == id);
                            prop_assert!(old || wanted.get(&name) == Some(&spec), "{} is neither old nor wanted", name);
                        }
                        life.runtime.block_on(life.engine.set(tasks(&set), |_| ())).unwrap();
                    } else {
                        result.unwrap();
                    }
                    let after = life.current();
                    let names: BTreeMap<_, _> = after.iter().map(|(name, (_, spec))| (name.clone(), spec.clone())).collect();
                    prop_assert_eq!(&names, &wanted);
                    for (name, (id, spec)) in &before {
                        if wanted.get(name) == Some(spec) {
                            prop_assert_eq!(&after[name].0, id, "an equal task is left alone");
                        }
                    }
                    let version = *life.engine.version().borrow();
                    life.await_removals();
                    let settled = *life.engine.version().borrow();
                    life.runtime.block_on(life.engine.set(tasks(&set), |_| ())).unwrap();
                    prop_assert!(version <= settled);
                    prop_assert_eq!(*life.engine.version().borrow(), settled, "a repeat changes nothing");
                }
            }
            for entry in life.engine.table().all() {
                match entry.state() {
                    State::Terminated(end) => {
                        prop_assert!(claimed.contains(&entry.id));
                        prop_assert_eq!(end.exit_code, ends.get(&entry.id).copied().unwrap_or(137));
                    }
                    State::Waiting(_) => prop_assert!(!claimed.contains(&entry.id), "it could run twice"),
                    State::Running(_) => prop_assert!(false, "nothing runs here"),
                }
            }
        }
    }
}

fn stop(delete: bool) -> Stop {
    Stop {
        requested_at: Moment(1),
        grace_ms: 0,
        delete,
    }
}

fn failed() -> Ended {
    Ended {
        exit_code: 7,
        signal: None,
        reason: Reason::Failed,
        message: None,
        started_at: None,
        finished_at: Moment(1),
    }
}

#[test]
fn a_drain_leaves_alone_what_ended_before_it_was_stopped() {
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path());
    let id = life.set(&Set::from([(1, 1)])).remove(0);
    life.engine.store.end(&id, &failed()).unwrap();
    drop(life);
    let life = Life::begin(place.path());
    let _inside = life.runtime.enter();
    // It was under way when the drain looked.
    life.engine.note_stop(&id, stop(false));
    assert!(!life.engine.table().get(&id).unwrap().followed, "nobody removes it");
    assert_eq!(life.end(&id).exit_code, 7);
}

#[test]
fn what_waits_at_a_drain_waits_on_and_what_was_stopped_before_its_claim_ends() {
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path());
    let ids = life.set(&Set::from([(1, 1), (2, 1), (3, 1), (0, 1)]));
    life.runtime.block_on(life.engine.stop_all());
    drop(life);
    let folder = |id: &TaskId| place.path().join("tasks").join(id.as_str());
    assert!(ids.iter().all(|id| !folder(id).join("stop").exists()));
    // A supervisor that died before it claimed its task, and a record that was torn.
    std::fs::write(folder(&ids[0]).join("stop"), serde_json::to_vec(&stop(false)).unwrap()).unwrap();
    std::fs::write(folder(&ids[1]).join("stop"), "{").unwrap();
    let life = Life::begin(place.path());
    assert_eq!(life.end(&ids[0]).reason, Reason::Killed);
    assert_eq!(life.end(&ids[1]).reason, Reason::Killed);
    assert!(matches!(life.state(&ids[2]), State::Waiting(_)));
    // The table was asked for a stop when the task had just gone back to waiting.
    life.runtime
        .block_on(async { life.engine.note_stop(&ids[2], stop(false)) });
    assert_eq!(life.end(&ids[2]).reason, Reason::Killed);
    drop(life);
    let life = Life::begin(place.path());
    assert_eq!(life.end(&ids[2]).reason, Reason::Killed);
    assert!(matches!(life.state(&ids[3]), State::Waiting(_)));
}

#[test]
fn in_another_run_of_the_machine_what_was_to_start_at_once_is_lost_claimed_or_not() {
    for (recorded, claimed, now, lost) in [
        (Some("one"), false, Some("one"), false),
        (Some("one"), true, Some("one"), true),
        (Some("one"), false, Some("two"), true),
        (Some("one"), true, Some("two"), true),
        // Whether it is another one cannot be known.
        (Some("one"), false, None, true),
        // It was queued, or an older agent accepted it: its claim is on the disk if it was taken.
        (None, false, Some("two"), false),
        (None, true, Some("two"), true),
    ] {
        let place = tempfile::tempdir().unwrap();
        let id = TaskId::new();
        let Desired { name, spec } = task(1, 1);
        let record = Task {
            format: FORMAT,
            name,
            spec,
            created_at: Moment(1),
            boot_id: recorded.map(str::to_owned),
        };
        {
            let store = Store::open(place.path()).unwrap();
            store.create(&[(id.clone(), record)]).unwrap();
            let claim = Claim {
                supervisor: follow::own_identity(),
                claimed_at: Moment::now(),
            };
            assert!(!claimed || store.claim(&id, &claim).unwrap());
        }
        let what = format!("{recorded:?} {claimed} {now:?}");
        let life = Life::begin_in(place.path(), now);
        if lost {
            assert_eq!(life.end(&id).reason, Reason::Lost, "{what}");
            drop(life);
            // It stays lost, also back in the first run, which cannot be.
            let life = Life::begin_in(place.path(), recorded);
            assert_eq!(life.end(&id).reason, Reason::Lost, "{what}");
        } else {
            assert!(matches!(life.state(&id), State::Waiting(_)), "{what}");
            let claim = life.engine.table().get(&id).unwrap().claim;
            assert_eq!(claim == Durability::Volatile, recorded.is_some(), "{what}");
        }
    }
}

#[test]
fn a_task_whose_supervisor_came_up_late_is_not_lost_before_that_one_dies() {
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path());
    let id = life.set(&Set::from([(1, 1)])).remove(0);
    let folder = life.engine.folder(&id);
    channel::make(&folder).unwrap();
    let mut pipe = std::fs::File::options();
    let pipe = pipe.read(true).write(true).open(folder.join("events")).unwrap();
    let claim = Claim {
        supervisor: follow::own_identity(),
        claimed_at: Moment::now(),
    };
    assert!(life.engine.store.claim(&id, &claim).unwrap());
    let conclude = || life.runtime.block_on(life.engine.conclude(&id)).unwrap();
    assert!(matches!(conclude(), follow::Over::Supervised));
    assert!(!life.engine.table().get(&id).unwrap().is_terminated());
    drop(pipe);
    assert!(matches!(conclude(), follow::Over::Ended));
    assert_eq!(life.end(&id).reason, Reason::Lost);
}

#[test]
fn a_look_that_hangs_holds_up_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path());
    let id = life.set(&Set::from([(1, 1)])).remove(0);
    life.engine.store.faults.hang(true);
    let engine = Arc::clone(&life.engine);
    let looking = life.runtime.spawn(async move { engine.look(&id).await });
    life.runtime.block_on(tokio::task::yield_now());
    assert!(!looking.is_finished(), "others had to wait for the look");
    life.engine.store.faults.hang(false);
    life.runtime.block_on(looking).unwrap().unwrap();
}

#[test]
fn a_removal_that_the_disk_refuses_is_told_and_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let life = Life::begin(place.path());
    life.set(&Set::from([(1, 1)]));
    life.engine.store.faults.after(0);
    let name = task(1, 1).name;
    life.runtime.block_on(life.engine.delete(name.clone())).unwrap_err();
    assert!(life.engine.table().named(&name).unwrap().deleting().is_some());
    life.engine.store.faults.after(usize::MAX);
    life.await_removals();
    assert_eq!(std::fs::read_dir(place.path().join("tasks")).unwrap().count(), 0);
}

#[test]
fn a_task_is_on_the_disk_before_it_is_accepted() {
    let mut failures = Vec::new();
    loop {
        let place = tempfile::tempdir().unwrap();
        let life = Life::begin(place.path());
        life.engine.store.faults.after(failures.len());
        let created = life.runtime.block_on(life.engine.create(task(1, 1), |_| ()));
        let Err(error) = created else { break };
        assert!(life.engine.table().is_empty());
        let folder = place.path().join("tasks").display().to_string();
        failures.push(error.to_string().replace(&folder, "tasks"));
    }
    let synced: Vec<_> = failures
        .iter()
        .filter_map(|failure| failure.strip_prefix("failed to sync `"))
        .collect();
    let [record, entry, folder] = synced[..] else {
        panic!("the record, its folder and the folder of all are made to last: {failures:?}")
    };
    assert!(record.contains("/task`"), "{record}");
    assert!(entry.starts_with("tasks/") && !entry.contains("/task`"), "{entry}");
    assert!(folder.starts_with("tasks`"), "{folder}");
}

/// Bytes of any kind in any file of a task's folder: the agent starts, and does not believe in what it cannot read.
mod fuzz {
    use super::*;
    use crate::store::file;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_files_are_survived(
            files in proptest::collection::vec((
                proptest::sample::select(vec![file::TASK, file::CLAIM, file::STARTED, file::ENDED, file::STOP, file::CONTROL, file::EVENTS, "stdout.00000000000000000000"]),
                content(),
            ), 0..6),
            other in "[a-f0-9.-]{1,12}",
        ) {
            let place = tempfile::tempdir().unwrap();
            let life = Life::begin(place.path());
            life.runtime.block_on(life.engine.set(vec![task(1, 1), task(2, 1)], |_| ())).unwrap();
            let id = life.engine.table().all().next().unwrap().id.clone();
            let folder = life.engine.folder(&id);
            drop(life);
            for (name, bytes) in files {
                std::fs::write(folder.join(name), bytes).unwrap();
            }
            let _ = std::fs::create_dir(place.path().join("tasks").join(other));
            let life = Life::begin(place.path());
            prop_assert!(life.current().contains_key("task-2"), "the other task is as it was");
            life.runtime.block_on(life.engine.set(vec![], |_| ())).unwrap();
            life.await_removals();
            prop_assert!(life.engine.table().is_empty());
        }
    }

    /// Anything, and what almost is a record.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let field = proptest::sample::select(vec![
            r#""format":1"#,
            r#""format":4294967295"#,
            r#""name":"task-9""#,
            r#""name":"../x""#,
            r#""spec":{"process":{"command":["true"]}}"#,
            r#""spec":{"other":{}}"#,
            r#""createdAt":1"#,
            r#""createdAt":-1"#,
            r#""exitCode":99999999999"#,
            r#""exitCode":1"#,
            r#""reason":"Failed""#,
            r#""reason":"Other""#,
            r#""finishedAt":18446744073709551615"#,
            r#""startedAt":5"#,
            r#""requestedAt":1"#,
            r#""graceMs":0"#,
            r#""delete":true"#,
            r#""delete":false"#,
            r#""process":{"pid":-1,"startTime":1,"bootId":"x","pidNamespace":1}"#,
            r#""cgroup":"/sys/fs/cgroup/../../etc""#,
        ]);
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            proptest::collection::vec(field, 0..8).prop_map(|fields| format!("{{{}}}", fields.join(",")).into_bytes()),
        ]
    }
}
