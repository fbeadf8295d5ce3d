use super::records::FORMAT;
use super::*;
use crate::protocol::{Moment, Name, Process, Reason, Spec};

fn task(name: &str) -> Task {
    Task {
        format: FORMAT,
        name: Name::try_from(name.to_owned()).unwrap(),
        spec: Spec::Process(Process {
            command: vec!["true".to_owned()],
            ..Process::default()
        }),
        created_at: Moment(5),
        boot_id: None,
    }
}

fn ended(exit_code: i32) -> Ended {
    Ended {
        exit_code,
        signal: None,
        reason: Reason::Failed,
        message: None,
        started_at: None,
        finished_at: Moment(9),
    }
}

#[test]
fn what_was_stored_is_found_oldest_first() {
    let place = tempfile::tempdir().unwrap();
    let tasks: Vec<_> = ["b", "a"].map(|name| (TaskId::new(), task(name))).into();
    {
        let store = Store::open(place.path()).unwrap();
        store.create(&tasks).unwrap();
        store.end(&tasks[0].0, &ended(3)).unwrap();
        assert!(matches!(Store::open(place.path()), Err(Error::Busy(_))));
    }
    let store = Store::open(place.path()).unwrap();
    let found = store.load().unwrap();
    assert_eq!(
        found.iter().map(|stored| stored.task.clone()).collect::<Vec<_>>(),
        [task("b"), task("a")]
    );
    assert_eq!(found[0].progress.ended, Some(ended(3)));
    store.remove(&tasks[0].0).unwrap();
    store.remove(&tasks[0].0).unwrap();
    assert_eq!(store.load().unwrap().len(), 1);
}

#[test]
fn a_claim_is_taken_once_and_an_end_stays() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let id = TaskId::new();
    store.create(&[(id.clone(), task("t"))]).unwrap();
    let claim = Claim {
        supervisor: records::Identity::of(std::process::id().cast_signed()).unwrap(),
        claimed_at: Moment(1),
    };
    assert!(store.claim(&id, &claim).unwrap());
    assert!(!store.claim(&id, &claim).unwrap());
    assert_eq!(store.end(&id, &ended(1)).unwrap(), ended(1));
    assert_eq!(store.end(&id, &ended(2)).unwrap(), ended(1));
}

#[test]
fn records_of_newer_agents_are_read() {
    let newer = r#"{"format": 9, "name": "t", "spec": {"process": {"command": ["true"], "nice": 5}}, "createdAt": 5, "more": {}}"#;
    let read: Task = serde_json::from_str(newer).unwrap();
    assert_eq!((read.format, read.name), (9, task("t").name));
    let newer = r#"{"exitCode": 3, "reason": "Failed", "finishedAt": 9, "startedAt": null, "usage": {"cpu": 1}}"#;
    assert_eq!(serde_json::from_str::<Ended>(newer).unwrap(), ended(3));
}

#[test]
fn names_never_become_paths() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    store.create(&[(TaskId::new(), task("$(reboot) %2f \\ :*?"))]).unwrap();
    let names: Vec<_> = fs::read_dir(place.path().join("tasks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(names.iter().all(|name| TaskId::parse(name.to_str().unwrap()).is_some()));
}

#[test]
fn a_creation_that_fails_half_way_leaves_nothing_that_is_not_told() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path()).unwrap();
    let tasks: Vec<_> = ["a", "b"].map(|name| (TaskId::new(), task(name))).into();
    // The first one is there when the second one fails.
    fs::create_dir(place.path().join("tasks").join(format!(".new-{}", tasks[1].0))).unwrap();
    store.create(&tasks).unwrap_err();
    assert_eq!(store.load().unwrap(), []);
}
