//! How tasks are ended: politely, in time, and with their whole family.

use std::time::{Duration, Instant};

use serde_json::json;

use super::agent::{Agent, Place, await_pid, await_true, is_alive};

#[test]
fn daemons_that_left_the_group_go_too() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let file = |name: &str| place.path().join(name);
    // A daemon in a session of its own whose parents are gone, one that ignores TERM, and one without any environment.
    let script = format!(
        "(setsid sh -c 'sh -c \"echo \\$\\$ > {a}; exec sleep 1000\" & exit' &) \n\
         (trap '' TERM; setsid sh -c 'echo $$ > {b}; while :; do sleep 1000; done' &) \n\
         (setsid env -i /bin/sh -c 'echo $$ > {c}; exec /bin/sleep 1000' &) \n\
         exec sleep 1000",
        a = file("a").display(),
        b = file("b").display(),
        c = file("c").display(),
    );
    agent.create(
        "t",
        json!({"command": ["sh", "-c", script], "terminationGracePeriodSeconds": 1}),
    );
    let family = ["a", "b", "c"].map(|name| await_pid(&file(name)));
    agent.delete("t");
    let task = agent.get("/tasks/t");
    assert!(
        task.status == 404 || task.json()["deletionTimestamp"].is_string(),
        "{task:?}"
    );
    agent.await_gone("t");
    for pid in family {
        assert!(!is_alive(pid));
    }
    assert!(place.tasks().is_empty());
}

#[test]
fn a_task_that_traps_term_and_exits_0_is_reported_0() {
    let place = Place::new();
    // A drain stops tasks and keeps their results, as PID 1 does it: here by the same request from a file.
    let agent = Agent::start_with(&place, &["--init"]);
    let ready = place.path().join("ready");
    let script = format!(
        "trap 'exit 0' TERM; echo $$ > {}; while :; do sleep 0.05; done",
        ready.display()
    );
    agent.script("t", &script);
    agent.script("killed", "exec sleep 1000");
    await_pid(&ready);
    agent.await_running("killed");
    super::agent::kill(agent.pid(), "TERM");
    let mut agent = agent;
    assert!(agent.child.wait().unwrap().success(), "{}", agent.log());
    let agent = Agent::start(&place);
    let trapped = agent.await_end("t");
    assert_eq!(
        (&trapped["exitCode"], &trapped["reason"]),
        (&json!(0), &json!("Succeeded"))
    );
    let killed = agent.await_end("killed");
    assert_eq!(
        (&killed["exitCode"], &killed["signal"], &killed["reason"]),
        (&json!(143), &json!(15), &json!("Killed"))
    );
}

#[test]
fn a_task_that_ignores_term_is_gone_after_its_grace() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--grace-period=300ms"]);
    let ready = place.path().join("ready");
    agent.script(
        "t",
        &format!(
            "trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done",
            ready.display()
        ),
    );
    let pid = await_pid(&ready);
    let begun = Instant::now();
    agent.delete("t");
    assert!(begun.elapsed() < Duration::from_millis(300), "DELETE answers at once");
    assert!(agent.get("/tasks/t").json()["deletionTimestamp"].is_string());
    agent.await_gone("t");
    let took = begun.elapsed();
    assert!(!is_alive(pid));
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[test]
fn a_stopped_process_hears_term_too() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let ready = place.path().join("ready");
    agent.script("t", &format!("echo $$ > {}; kill -STOP $$; exit 0", ready.display()));
    await_pid(&ready);
    let begun = Instant::now();
    agent.delete("t");
    agent.await_gone("t");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn timeouts_end_tasks() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.create("t", json!({"command": ["sleep", "1000"], "timeoutSeconds": 1}));
    let trap = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    agent.create("trap", json!({"command": ["sh", "-c", trap], "timeoutSeconds": 1}));
    let ended = agent.await_end("t");
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("TaskTimeout"), &json!(143))
    );
    let trapped = agent.await_end("trap");
    assert_eq!(
        (&trapped["reason"], &trapped["exitCode"]),
        (&json!("TaskTimeout"), &json!(0))
    );
}

#[test]
fn a_forking_task_does_not_outrun_its_end() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--grace-period=0"]);
    let ready = place.path().join("ready");
    // Each child starts the next one and ends, in sessions of their own, and ignores TERM.
    let script = format!(
        "trap '' TERM; f() {{ setsid sh -c \"$1\" sh \"$1\" & }}; echo $$ > {}; \
         s='trap \"\" TERM; sleep 0.01; setsid sh -c \"$1\" sh \"$1\" &'; f \"$s\"; f \"$s\"; sleep 1000",
        ready.display()
    );
    agent.script("t", &script);
    await_pid(&ready);
    let mark = place.tasks()[0].file_name().unwrap().to_str().unwrap().to_owned();
    agent.delete("t");
    agent.await_gone("t");
    await_true("nobody with the task's mark", || {
        let marked = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|window| window == mark.as_bytes())
        };
        !super::agent::processes().iter().any(marked)
    });
}
