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

/// The task record says in which run of the machine a task may be started without a claim on the disk, unless the task
/// has to wait.
#[test]
fn only_what_is_started_at_once_is_bound_to_this_run_of_the_machine() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-active-tasks=1"]);
    agent.script("first", "exec sleep 1000");
    agent.await_running("first");
    agent.script("queued", "exit 0");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for folder in place.tasks() {
        let task: Value = serde_json::from_slice(&fs::read(folder.join("task")).unwrap()).unwrap();
        let expected = if task["name"] == "first" {
            json!(boot_id.trim())
        } else {
            Value::Null
        };
        assert_eq!(task["bootId"], expected, "{task}");
    }
    // After a restart of the machine the one is lost, whatever is left of its claim, and the other one runs.
    let running = children(agent.pid()).remove(0);
    agent.kill();
    kill(running, "KILL");
    await_true("the supervisor's end", || !is_alive(running));
    for folder in place.tasks() {
        let task = fs::read_to_string(folder.join("task")).unwrap();
        let _ = fs::remove_file(folder.join("claim"));
        let _ = fs::remove_file(folder.join("started"));
        fs::write(folder.join("task"), task.replace(boot_id.trim(), "of another run")).unwrap();
    }
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("first")["reason"], "Lost");
    assert_eq!(agent.await_end("queued")["reason"], "Succeeded");
}

#[test]
fn the_agent_takes_the_descriptors_that_it_may_and_tasks_do_not() {
    let place = Place::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 48; exec \"$0\" \"$@\"", program()]);
    let agent = Agent::spawn(&place, command);
    for one in 0..60 {
        agent.script(&format!("t{one}"), "ulimit -Sn; exec sleep 1000");
    }
    agent.await_tasks(|tasks| {
        let running = |task: &Value| task["processStatus"]["running"].is_object();
        tasks.iter().all(running).then_some(())
    });
    await_true("the limit of a task", || agent.get("/tasks/t59/logs").text() == "48\n");
}

/// What a drain stops keeps its result, whenever it ends, and a task that only waits is as it was.
#[test]
fn a_drain_removes_nothing() {
    let place = Place::new();
    for round in 0..10 {
        let mut agent = Agent::start_with(&place, &["--init", "--max-active-tasks=6"]);
        let before = agent.get("/getTasks").json().as_array().unwrap().len();
        for one in 0..6 {
            agent.script(&format!("t{round}-{one}"), &format!("sleep 0.0{}", one + round));
        }
        kill(agent.pid(), "TERM");
        await_some("the agent's end", || agent.child.try_wait().unwrap());
        let agent = Agent::start(&place);
        let tasks = agent.get("/getTasks").json();
        assert_eq!(
            tasks.as_array().unwrap().len(),
            before + 6,
            "{tasks:#}\n{}",
            agent.log()
        );
        for one in 0..6 {
            let ended = agent.await_end(&format!("t{round}-{one}"));
            assert!(ended["reason"] == "Killed" || ended["reason"] == "Succeeded", "{ended}");
        }
        agent.kill();
    }
}

/// Numbers that look random, from a seed that a failing test prints.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("PODRUN_AGENT_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        Self(seed.unwrap_or_else(|| podrun_agent::protocol::Moment::now().0))
    }

    /// One below a limit: splitmix64.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Kills the agent at random moments while it removes, replaces and drains.
#[test]
fn what_was_asked_for_comes_true_though_the_agent_is_killed_at_random_moments() {
    let place = Place::new();
    let runs = place.path().join("runs");
    fs::create_dir(&runs).unwrap();
    let mut random = Random::new();
    println!("PODRUN_AGENT_SEED={}", random.0);
    let agent = Agent::start(&place);
    agent.script("kept", "exit 7");
    let kept = agent.await_end("kept");
    agent.kill();
    for round in 0..24 {
        let script = |name: &str| format!("echo run >> {}; exec sleep 1000", runs.join(name).display());
        let (old, new) = (script(&format!("old-{round}")), script(&format!("new-{round}")));
        let mut agent = Agent::start_with(&place, &["--init", "--grace-period=2s"]);
        agent.set(&[("kept", "exit 7"), ("t", &old)]);
        await_true("the run", || runs.join(format!("old-{round}")).exists());
        let what = random.below(3);
        let set = json!([
            {"name": "kept", "process": {"command": ["sh", "-c", "exit 7"]}},
            {"name": "t", "process": {"command": ["sh", "-c", new]}},
        ]);
        let address = agent.address.clone();
        let request = std::thread::spawn(move || match what {
            0 => http::ask(&address, "DELETE", "/tasks/t", b""),
            1 => http::ask(&address, "POST", "/setTasks", set.to_string().as_bytes()),
            _ => http::ask(&address, "POST", "/drain", b""),
        });
        if what == 2 {
            kill(agent.pid(), "TERM");
        }
        // From before the request until after the last end.
        let moment = Instant::now() + Duration::from_micros(random.below(25_000));
        await_true("the moment", || moment <= Instant::now());
        let servers = children(agent.pid());
        kill(agent.pid(), "KILL");
        for server in servers {
            let line = fs::read(format!("/proc/{server}/cmdline")).unwrap_or_default();
            if !line.windows(9).any(|window| window == b"supervise") {
                kill(server, "KILL");
            }
        }
        let _ = agent.child.wait();
        let done = request
            .join()
            .unwrap()
            .is_ok_and(|answer| (200..300).contains(&answer.status));
        let agent = Agent::start_with(&place, &["--grace-period=2s"]);
        assert_eq!(agent.await_end("kept"), kept, "round {round}");
        match (what, done) {
            (0, true) => agent.await_gone("t"),
            (1, true) => await_true("the new one", || runs.join(format!("new-{round}")).exists()),
            (2, _) => {
                let task = agent.await_task("t", |_| true);
                assert!(task["deletionTimestamp"].is_null(), "{task}");
            }
            _ => {}
        }
        agent.set(&[("kept", "exit 7")]);
        agent.await_gone("t");
        for name in [format!("old-{round}"), format!("new-{round}")] {
            let count = read(&runs.join(&name)).lines().count();
            assert!(count <= 1, "{name} ran {count} times");
        }
        agent.kill();
    }
}
