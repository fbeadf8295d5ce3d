//! How tasks are ended: politely, in time, and with their whole family.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::agent::{Agent, Place, await_pid, await_some, await_true, children, is_alive, kill};
use super::init::server_of;

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
    kill(agent.pid(), "TERM");
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

/// A disk of its own that can be filled.
struct Disk(PathBuf);

impl Disk {
    fn at(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1M", "none"]).arg(path).status();
        assert!(mounted.unwrap().success());
        Self(path.to_owned())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_keeps_nobody_alive_and_can_be_freed() {
    let place = Place::new();
    let disk = Disk::at(&place.data());
    let agent = Agent::start_with(&place, &["--grace-period=300ms"]);
    let file = |name: &str| place.path().join(name);
    agent.script("done", "exit 1");
    agent.await_end("done");
    let deaf = |name: &str| {
        format!(
            "trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done",
            file(name).display()
        )
    };
    agent.script("deaf", &deaf("deaf"));
    // Its program ends at TERM, and what it started does not.
    let late = format!(
        "({}) & exec sleep 1000",
        deaf("late").replace("$$", "$(exec sh -c 'echo $PPID')")
    );
    agent.create("late", json!({"command": ["sh", "-c", late], "timeoutSeconds": 1}));
    let (deaf, late) = (await_pid(&file("deaf")), await_pid(&file("late")));
    disk.fill();
    agent.delete("deaf");
    agent.await_gone("deaf");
    assert!(!is_alive(deaf));
    await_true("the end of what the late one left", || !is_alive(late));
    agent.delete("done");
    agent.await_gone("done");
    fs::remove_file(disk.filler()).unwrap();
    assert_eq!(agent.await_end("late")["reason"], "TaskTimeout");
}

#[test]
fn one_task_that_a_full_disk_breaks_does_not_stop_a_start() {
    let place = Place::new();
    let disk = Disk::at(&place.data());
    let agent = Agent::start(&place);
    agent.script("t", "exec sleep 1000");
    agent.await_running("t");
    let supervisor = children(agent.pid()).remove(0);
    agent.kill();
    kill(supervisor, "KILL");
    await_true("the end of the supervisor", || !is_alive(supervisor));
    disk.fill();
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("t")["reason"], "Lost");
    agent.delete("t");
    agent.await_gone("t");
}

#[test]
fn whoever_floods_the_output_does_not_hold_up_the_end() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("t", "yes & yes & exit 3");
    assert_eq!(agent.await_end("t")["exitCode"], 3);
    agent.delete("t");
    agent.await_gone("t");
}

/// Ends an agent politely while a task `t` runs that ends only when it reads a line from the gate. Answers the task's process
/// and the gate.
fn begin_drain(place: &Place, agent: &Agent) -> (i32, PathBuf) {
    let (ready, gate) = (place.path().join("ready"), place.path().join("gate"));
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = format!(
        "trap 'read line < {}; exit 0' TERM; echo $$ > {}; while :; do sleep 0.05; done",
        gate.display(),
        ready.display()
    );
    agent.script("t", &script);
    let pid = await_pid(&ready);
    kill(agent.pid(), "TERM");
    await_true("not ready", || agent.get("/ready").status == 503);
    (pid, gate)
}

#[test]
fn the_agent_is_not_ready_while_it_stops_its_tasks() {
    let place = Place::new();
    let mut agent = Agent::start_with(&place, &["--init"]);
    let (_, gate) = begin_drain(&place, &agent);
    assert_eq!(agent.get("/health").status, 200);
    fs::write(&gate, "go\n").unwrap();
    let status = await_some("the end", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{}", agent.log());
}

#[test]
fn while_tasks_end_in_a_drain_deletions_are_taken_and_new_tasks_are_not() {
    let place = Place::new();
    let mut agent = Agent::start_with(&place, &["--init"]);
    let (pid, gate) = begin_drain(&place, &agent);
    let new = json!({"name": "new", "process": {"command": ["true"]}});
    assert_eq!(agent.ask("POST", "/tasks", &new.to_string()).status, 503);
    agent.delete("t");
    assert!(is_alive(pid), "neither answer waits for the end of the task");
    fs::write(&gate, "go\n").unwrap();
    let status = await_some("the end", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{}", agent.log());
    Agent::start(&place).await_gone("t");
}

#[test]
fn a_drain_leaves_their_grace_to_tasks_that_were_stopped_before_it() {
    let place = Place::new();
    let mut agent = Agent::start_with(&place, &["--init"]);
    let file = |name: &str| place.path().join(name);
    // Longer than an agent waits for tasks whose grace is over.
    let cleanup = |name: &str| {
        format!(
            "trap 'sleep 7; echo clean > {}; exit 0' TERM; echo $$ > {}; while :; do sleep 0.05; done",
            file(&format!("{name}.clean")).display(),
            file(name).display(),
        )
    };
    for name in ["deleted", "drained"] {
        let command = ["sh", "-c", &cleanup(name)];
        agent.create(name, json!({"command": command, "terminationGracePeriodSeconds": 60}));
        await_pid(&file(name));
    }
    agent.delete("deleted");
    kill(agent.pid(), "TERM");
    await_true("not ready", || agent.get("/ready").status == 503);
    await_true("the stop of the second task", || {
        place.tasks().iter().all(|task| task.join("stop").exists())
    });
    // The next server finds all of them stopped.
    kill(server_of(agent.pid()), "KILL");
    let status = await_some("the end", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{}", agent.log());
    for name in ["deleted", "drained"] {
        assert!(file(&format!("{name}.clean")).exists(), "{name}: {}", agent.log());
    }
}

#[test]
fn an_end_before_the_stop_or_the_timeout_is_the_tasks_own_however_late_it_is_seen() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, timeout) in [("timeout", 1), ("signal", 1000), ("request", 1000)] {
        let ready = place.path().join(name);
        let script = format!("echo $$ > {}; read line < {}; exit 3", ready.display(), gate.display());
        let begun = Instant::now();
        agent.create(
            name,
            json!({"command": ["sh", "-c", script], "timeoutSeconds": timeout}),
        );
        let program = await_pid(&ready);
        let supervisor = children(agent.pid()).into_iter().find(|pid| is_alive(*pid)).unwrap();
        kill(supervisor, "STOP");
        fs::write(&gate, "go\n").unwrap();
        await_true("the end of the program", || !is_alive(program));
        match name {
            "signal" => kill(supervisor, "TERM"),
            "request" => {
                let folders = place.tasks();
                let folder = folders.iter().find(|folder| !folder.join("ended").exists()).unwrap();
                fs::write(folder.join("control"), "s").unwrap();
            }
            _ => await_true("the end of its time", || begun.elapsed() > Duration::from_secs(2)),
        }
        kill(supervisor, "CONT");
        let ended = agent.await_end(name);
        assert_eq!(
            (&ended["exitCode"], &ended["reason"]),
            (&json!(3), &json!("Failed")),
            "{name}"
        );
    }
}
