//! The journal is closed and opened again wherever a crash could fall.

use podrun_host::{Event, LogLine, Outcome, Output, Phase, Progress, Status, Task};
use serde_json::json;
use std::path::PathBuf;

use super::*;
use crate::access::Access;

fn settings() -> Settings {
    Settings {
        defaults: Some("/d.yaml".into()),
        runner: None,
        outputs: None,
        secrets: Some("/s.yaml".into()),
        kv: None,
        namespace_files: None,
        access: Access::None,
    }
}

pub(crate) fn begin(journal: &mut Journal, id: &str) {
    let identity = json!({"id": "f"});
    let new = NewExecution {
        id,
        flow: "f",
        namespace: "n",
        source: Path::new("/f.yaml"),
        identity: &identity,
        settings: &settings(),
        inputs: &[],
    };
    journal.begin(&new).unwrap();
}

fn attempt(id: &str) -> Attempt {
    Attempt {
        execution: id.into(),
        task: "t".into(),
        number: 1,
    }
}

fn request() -> Task {
    Task {
        id: "x.t.1".into(),
        image: "busybox".into(),
        command: vec!["/bin/sh".into(), "-c".into(), "echo $$".into()],
        env: vec![("A".into(), "b".into())],
        inputs: Vec::new(),
        outputs: vec!["*.txt".into()],
        timeout: Some(5),
        labels: Vec::new(),
        options: "{}".into(),
    }
}

fn log(message: &str) -> Event {
    Event::Log(LogLine {
        source: None,
        level: podrun_host::Level::Info,
        time: 1,
        message: message.into(),
        partial: false,
        lossy: false,
    })
}

fn outcome() -> Outcome {
    Outcome {
        status: Status::Succeeded,
        reason: None,
        retryable: false,
        exit_code: Some(0),
        message: String::new(),
        files: Vec::new(),
        started: Some(1),
        finished: Some(2),
        details: Vec::new(),
    }
}

/// A journal file that is opened anew for every step.
struct Crashing {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Crashing {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.db");
        Self { _dir: dir, path }
    }

    fn open(&self) -> Journal {
        Journal::open(&self.path).unwrap()
    }

    fn task_run(&self) -> TaskRun {
        self.open().task_run(&attempt("x")).unwrap().unwrap()
    }

    fn messages(&self) -> Vec<String> {
        self.open()
            .lines("x", 0, 100)
            .unwrap()
            .into_iter()
            .map(|line| line.message)
            .collect()
    }
}

#[test]
fn every_step_is_there_after_a_crash() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let execution = crashing.open().execution("x").unwrap().unwrap();
    assert_eq!((execution.state, execution.settings), (State::Running, settings()));
    assert!(crashing.open().task_run(&attempt("x")).unwrap().is_none());

    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    let task_run = crashing.task_run();
    assert_eq!(
        (task_run.request, task_run.handle, task_run.cursor),
        (Some(request()), None, None)
    );

    crashing.open().record(id, &[Event::Started("h".into())], None).unwrap();
    assert_eq!(crashing.task_run().handle.as_deref(), Some("h"));

    let batch = [Event::Phase(Phase::Running), log("one"), log("two")];
    crashing.open().record(id, &batch, Some("c2")).unwrap();
    let output = Event::Output(Output {
        name: "n".into(),
        value: "3".into(),
    });
    crashing.open().record(id, &[output], Some("c3")).unwrap();
    assert_eq!(crashing.task_run().cursor.as_deref(), Some("c3"));
    assert_eq!(crashing.messages(), ["one", "two"]);
    assert_eq!(
        crashing.open().outputs(id).unwrap(),
        json!({"n": 3}).as_object().unwrap().clone()
    );

    crashing.open().record(id, &[Event::Ended(outcome())], None).unwrap();
    let task_run = crashing.task_run();
    assert_eq!((task_run.outcome, task_run.cleaned), (Some(outcome()), false));
    crashing.open().set_cleaned(id).unwrap();
    assert!(crashing.task_run().cleaned);

    crashing.open().finish("x", State::Succeeded, None).unwrap();
    assert_eq!(crashing.open().execution("x").unwrap().unwrap().state, State::Succeeded);
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    let mut journal = crashing.open();
    // The second event cannot be stored, as if the process died between the two.
    journal
        .connection
        .execute_batch("CREATE TEMP TRIGGER stop BEFORE INSERT ON outputs BEGIN SELECT RAISE(ABORT, 'x'); END")
        .unwrap();
    let output = Event::Output(Output {
        name: "n".into(),
        value: "3".into(),
    });
    journal
        .record(id, &[log("one"), output.clone()], Some("c1"))
        .unwrap_err();
    drop(journal);
    assert_eq!(crashing.messages(), Vec::<String>::new());
    assert_eq!(crashing.task_run().cursor, None);
    crashing.open().record(id, &[log("one"), output], Some("c1")).unwrap();
    assert_eq!(crashing.messages(), ["one"]);
}

#[test]
fn a_batch_without_a_cursor_keeps_the_last_one() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    crashing.open().record(id, &[log("one")], Some("c1")).unwrap();
    let progress = Event::Progress(Progress {
        what: "outputs".into(),
        done: 1,
        total: None,
    });
    crashing.open().record(id, &[progress], None).unwrap();
    assert_eq!(crashing.task_run().cursor.as_deref(), Some("c1"));
}

#[test]
fn repeated_phases_count_once_and_the_end_closes_the_last() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    for phase in [Phase::Pending, Phase::Running, Phase::Running] {
        crashing.open().record(id, &[Event::Phase(phase)], None).unwrap();
    }
    crashing.open().record(id, &[Event::Ended(outcome())], None).unwrap();
    let names: Vec<String> = crashing
        .open()
        .phases(id)
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["pending", "running", "ended"]);
}

#[test]
fn what_is_forgotten_is_gone_and_what_has_a_handle_and_no_end_goes_on() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    assert!(crashing.open().going_on("x").unwrap().is_empty());
    crashing.open().record(id, &[Event::Started("h".into())], None).unwrap();
    assert!(!crashing.open().going_on("x").unwrap().is_empty());
    crashing.open().record(id, &[log("one")], Some("1")).unwrap();
    crashing.open().forget(id).unwrap();
    assert!(crashing.open().task_run(&attempt("x")).unwrap().is_none());
    assert!(crashing.open().going_on("x").unwrap().is_empty());
    let id = crashing.open().prepare(&attempt("x"), &request()).unwrap().id;
    let ended = [Event::Started("h".into()), Event::Ended(outcome())];
    crashing.open().record(id, &ended, None).unwrap();
    assert!(crashing.open().going_on("x").unwrap().is_empty());
}

#[test]
fn a_stop_is_seen_by_whoever_drives_the_execution() {
    let crashing = Crashing::new();
    let mut driver = crashing.open();
    begin(&mut driver, "x");
    assert!(!driver.stop_requested("x").unwrap());
    crashing.open().request_stop("x").unwrap();
    assert!(driver.stop_requested("x").unwrap());
    driver.finish("x", State::Cancelled, None).unwrap();
    assert!(!driver.stop_requested("x").unwrap());
}

#[test]
fn ids_are_used_once_and_lines_of_other_executions_stay_apart() {
    let crashing = Crashing::new();
    let mut journal = crashing.open();
    begin(&mut journal, "x");
    begin(&mut journal, "y");
    let identity = json!({});
    let again = NewExecution {
        id: "x",
        flow: "g",
        namespace: "n",
        source: Path::new("/g.yaml"),
        identity: &identity,
        settings: &settings(),
        inputs: &[],
    };
    journal.begin(&again).unwrap_err();
    for id in ["x", "y"] {
        let task_run = journal.prepare(&attempt(id), &request()).unwrap();
        journal.record(task_run.id, &[log(id)], None).unwrap();
    }
    assert_eq!(crashing.messages(), ["x"]);
}

#[test]
fn lines_come_in_pages_and_those_of_executions_at_the_same_time_stay_apart() {
    let crashing = Crashing::new();
    let mut journal = crashing.open();
    let mut task_runs = Vec::new();
    for id in ["before", "x", "y"] {
        begin(&mut journal, id);
        task_runs.push(journal.prepare(&attempt(id), &request()).unwrap().id);
    }
    journal.record(task_runs[0], &[log("before")], None).unwrap();
    for number in 0..5 {
        journal
            .record(task_runs[1], &[log(&format!("x{number}"))], None)
            .unwrap();
        journal
            .record(task_runs[2], &[log(&format!("y{number}"))], None)
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = journal.lines("x", after, 2).unwrap();
        let Some(last) = page.last() else { break };
        after = last.sequence;
        seen.extend(page.into_iter().map(|line| line.message));
    }
    assert_eq!(seen, ["x0", "x1", "x2", "x3", "x4"]);
    assert!(journal.lines("nosuch", 0, 2).unwrap().is_empty());
}

#[test]
fn a_newer_journal_is_refused() {
    let crashing = Crashing::new();
    crashing
        .open()
        .connection
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let refusal = Journal::open(&crashing.path).unwrap_err().to_string();
    assert!(refusal.contains("newer podrun"), "{refusal}");
}

#[test]
fn a_task_without_a_runner_is_stored_whole_and_needs_no_cleaning() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    let outputs = json!({"value": {"a": 1}}).as_object().unwrap().clone();
    let Event::Log(line) = log("said") else {
        panic!("a line")
    };
    crashing
        .open()
        .settle(&attempt("x"), &outcome(), &outputs, &[line])
        .unwrap();
    let task_run = crashing.open().task_run(&attempt("x")).unwrap().unwrap();
    assert_eq!((task_run.request, task_run.cleaned), (None, true));
    assert_eq!(task_run.outcome, Some(outcome()));
    assert_eq!(crashing.open().outputs(task_run.id).unwrap(), outputs);
    assert_eq!(crashing.open().lines("x", 0, 10).unwrap()[0].message, "said");
    // It ended once.
    assert!(
        crashing
            .open()
            .settle(&attempt("x"), &outcome(), &outputs, &[])
            .is_err()
    );
}

#[test]
fn a_decision_is_made_once() {
    let crashing = Crashing::new();
    begin(&mut crashing.open(), "x");
    assert_eq!(crashing.open().decision("x", "t.0", "condition").unwrap(), None);
    crashing.open().decide("x", "t.0", "condition", &json!(true)).unwrap();
    assert_eq!(
        crashing.open().decision("x", "t.0", "condition").unwrap(),
        Some(json!(true))
    );
    assert_eq!(crashing.open().decision("x", "t.1", "condition").unwrap(), None);
    assert!(crashing.open().decide("x", "t.0", "condition", &json!(false)).is_err());
}

#[test]
fn a_journal_of_the_first_version_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    begin(&mut Journal::open(&path).unwrap(), "x");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch("DROP TABLE decisions; PRAGMA user_version = 1;")
        .unwrap();
    drop(old);
    let mut journal = Journal::open(&path).unwrap();
    journal.decide("x", "t", "value", &json!("a")).unwrap();
    assert!(journal.execution("x").unwrap().is_some());
}
