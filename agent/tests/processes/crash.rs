//! What survives when the agent, or a supervisor, or the whole container dies at any moment.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent::{Agent, Place, await_line, await_pid, await_some, await_true, children, is_alive, kill, program};
use super::http;

#[test]
fn running_tasks_are_adopted_and_finished_ones_keep_their_result() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script("done", "exit 7");
    let done = agent.await_end("done");
    agent.script(
        "long",
        &format!("echo $$; read line < {}; echo after; exit 5", gate.display()),
    );
    agent.await_running("long");
    let before = agent.get("/tasks/long").json();
    agent.kill();
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("done"), done);
    assert_eq!(agent.get("/tasks/long").json(), before, "it runs as before");
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(agent.await_end("long")["exitCode"], 5);
    assert!(agent.get("/tasks/long/logs").text().ends_with("\nafter\n"));
}

#[test]
fn an_end_while_the_agent_is_dead_is_the_true_one() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script("t", &format!("read line < {}; kill -USR1 $$", gate.display()));
    agent.await_running("t");
    agent.kill();
    let before = podrun_agent::protocol::Moment::now().to_string();
    fs::write(&gate, "go\n").unwrap();
    let folder = place.tasks().remove(0);
    await_true("the end on the disk", || folder.join("ended").exists());
    let after = podrun_agent::protocol::Moment::now().to_string();
    let agent = Agent::start(&place);
    let ended = agent.await_end("t");
    assert_eq!((&ended["signal"], &ended["exitCode"]), (&json!(10), &json!(138)));
    let finished = ended["finishedAt"].as_str().unwrap();
    assert!(
        *before <= *finished && *finished <= *after,
        "{before} {finished} {after}"
    );
}

#[test]
fn a_timeout_holds_while_the_agent_is_dead() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.create("t", json!({"command": ["sleep", "1000"], "timeoutSeconds": 1}));
    agent.await_running("t");
    agent.kill();
    let folder = place.tasks().remove(0);
    await_true("the end on the disk", || folder.join("ended").exists());
    assert_eq!(Agent::start(&place).await_end("t")["reason"], "TaskTimeout");
}

#[test]
fn a_deletion_survives_the_agent() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let ready = place.path().join("ready");
    let script = format!(
        "trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done",
        ready.display()
    );
    agent.create(
        "t",
        json!({"command": ["sh", "-c", script], "terminationGracePeriodSeconds": 1}),
    );
    let pid = await_pid(&ready);
    agent.delete("t");
    agent.kill();
    let agent = Agent::start(&place);
    agent.await_gone("t");
    assert!(!is_alive(pid));
    assert!(place.tasks().is_empty());
}

/// Kills the agent at moments spread over everything that it does with new tasks, again and again.
#[test]
fn nothing_runs_twice_and_nothing_accepted_is_forgotten_at_any_moment() {
    let place = Place::new();
    let runs = place.path().join("runs");
    fs::create_dir(&runs).unwrap();
    let mut accepted = Vec::new();
    let mut asked = Vec::new();
    for round in 0..40_u64 {
        let agent = Agent::start(&place);
        let address = agent.address.clone();
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let name = format!("t-{round}-{client}");
                asked.push(name.clone());
                let (address, file) = (address.clone(), runs.join(&name));
                std::thread::spawn(move || {
                    let script = format!("echo run >> {}", file.display());
                    let task = json!({"name": name, "process": {"command": ["sh", "-c", script]}}).to_string();
                    let answer = http::ask(&address, "POST", "/tasks", task.as_bytes());
                    answer.is_ok_and(|answer| answer.status == 201).then_some(name)
                })
            })
            .collect();
        // From before the first request until after the last end.
        let moment = Instant::now() + Duration::from_micros(round * round * 20);
        await_true("the moment", || moment <= Instant::now());
        agent.kill();
        accepted.extend(clients.into_iter().filter_map(|client| client.join().unwrap()));
    }
    let agent = Agent::start(&place);
    let tasks = agent.get("/getTasks").json();
    let names: Vec<_> = tasks
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["name"].as_str().unwrap())
        .collect();
    for name in &accepted {
        assert!(
            names.contains(&name.as_str()),
            "task {name} was accepted and is forgotten"
        );
    }
    assert!(!accepted.is_empty());
    for name in names {
        assert_eq!(agent.await_end(name)["reason"], "Succeeded");
    }
    for name in asked {
        let count = fs::read_to_string(runs.join(&name)).map_or(0, |text| text.lines().count());
        assert!(count <= 1, "task {name} ran {count} times");
        assert!(
            count == 1 || !accepted.contains(&name),
            "task {name} was accepted and did not run"
        );
    }
}

#[test]
fn half_written_files_do_not_stop_a_start() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("good", "exit 4");
    agent.await_end("good");
    agent.script("torn", "exit 0");
    agent.await_end("torn");
    agent.script("half", "exec sleep 1000");
    agent.await_running("half");
    agent.kill();
    for folder in place.tasks() {
        let task = fs::read_to_string(folder.join("task")).unwrap();
        if task.contains("\"torn\"") {
            fs::write(folder.join("ended"), "{\"exitCode\":").unwrap();
        }
        if task.contains("\"half\"") {
            fs::write(folder.join("task"), &task[..20]).unwrap();
        }
    }
    let tasks = place.data().join("tasks");
    fs::create_dir(tasks.join(".new-0000000000000001-00000000")).unwrap();
    fs::create_dir(tasks.join("0000000000000002-00000000")).unwrap();
    fs::create_dir(tasks.join("something else")).unwrap();
    fs::write(tasks.join("0000000000000003-00000000"), "a file").unwrap();
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("good")["exitCode"], 4);
    assert_eq!(
        agent.await_end("torn")["reason"],
        "Lost",
        "an end that cannot be read is not known"
    );
    let names = agent.get("/getTasks").json();
    assert_eq!(names.as_array().unwrap().len(), 2);
    assert!(place.data().join("damaged").join("0000000000000002-00000000").exists());
    assert_eq!(
        fs::read_dir(place.data().join("damaged")).unwrap().count(),
        3,
        "{}",
        agent.log()
    );
}

#[test]
fn a_task_whose_supervisor_is_killed_is_lost_and_leaves_nothing() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let daemon = place.path().join("daemon");
    let main = place.path().join("main");
    let script = format!(
        "echo $$ > {}; setsid sh -c 'echo $$ > {}; exec sleep 1000' & exec sleep 1000",
        main.display(),
        daemon.display()
    );
    agent.script("t", &script);
    let (daemon, main) = (await_pid(&daemon), await_pid(&main));
    let supervisor = children(agent.pid()).remove(0);
    kill(supervisor, "KILL");
    let ended = agent.await_end("t");
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("Lost"), &json!(137)));
    await_true("the end of what it left", || !is_alive(daemon) && !is_alive(main));
    agent.kill();
    assert_eq!(Agent::start(&place).await_end("t"), ended, "it stays lost");
}

/// An agent in a PID namespace of its own, which dies as a container does: all at once.
fn contained(place: &Place) -> Agent {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", program()]);
    Agent::spawn(place, command)
}

#[test]
fn when_the_container_dies_its_unfinished_tasks_are_lost_and_not_run_again() {
    let place = Place::new();
    let runs = place.path().join("runs");
    let mut agent = contained(&place);
    agent.script("done", "exit 6");
    let done = agent.await_end("done");
    agent.script("long", &format!("echo run >> {}; exec sleep 1000", runs.display()));
    await_line(&runs);
    let running = agent.await_task("long", |task| task["processStatus"]["running"].is_object());
    let init = children(agent.pid()).remove(0);
    kill(init, "KILL");
    agent.child.wait().unwrap();
    let mut agent = contained(&place);
    let lost = agent.await_end("long");
    assert_eq!(lost["reason"], "Lost");
    assert_eq!(lost["startedAt"], running["processStatus"]["running"]["startedAt"]);
    assert_eq!(agent.await_end("done"), done);
    agent.script("next", "exit 0");
    agent.await_end("next");
    assert_eq!(fs::read_to_string(&runs).unwrap(), "run\n", "it is not run again");
    agent.child.kill().unwrap();
}

#[test]
fn two_agents_do_not_share_a_directory() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let second = Command::new(program())
        .arg(format!("--data-dir={}", place.data().display()))
        .arg("--listen-addr=127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(64));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("in use by another agent"),
        "{second:?}"
    );
    drop(agent);
}

/// What a name means after crashes between the two halves of a replacement.
#[test]
fn replaced_tasks_run_one_after_the_other() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let file = place.path().join("order");
    let script = |word: &str| {
        format!(
            "echo {word} >> {f}; trap 'sleep 0.2; echo end-{word} >> {f}; exit' TERM; while :; do sleep 0.02; done",
            f = file.display()
        )
    };
    agent.set(&[("t", &script("one"))]);
    await_true("the first", || read(&file).contains("one"));
    let answer = agent.set(&[("t", &script("two"))]);
    assert_eq!(answer.as_array().unwrap().len(), 1);
    assert_eq!(answer[0]["processStatus"]["waiting"]["reason"], "Initialized");
    agent.kill();
    let agent = Agent::start(&place);
    await_true("the second", || read(&file).contains("two"));
    assert_eq!(read(&file), "one\nend-one\ntwo\n");
    let tasks: Value = agent.set(&[("t", &script("two"))]);
    assert!(tasks[0]["deletionTimestamp"].is_null());
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn an_agent_that_ends_politely_leaves_its_tasks() {
    let place = Place::new();
    let mut agent = Agent::start(&place);
    let file = place.path().join("pid");
    agent.script("t", &format!("echo $$ > {}; exec sleep 1000", file.display()));
    let pid = await_pid(&file);
    kill(agent.pid(), "TERM");
    let status = await_some("the agent's end", || agent.child.try_wait().unwrap());
    assert!(status.success());
    assert!(is_alive(pid));
    let agent = Agent::start(&place);
    agent.await_running("t");
}
