//! The agent as PID 1, or as an init where it is not.

use std::fs;
use std::process::Command;

use serde_json::json;

use super::agent::{Agent, Place, await_line, await_pid, await_some, await_true, children, is_alive, kill, program};

/// As PID 1 of a namespace of its own.
fn as_pid_1(place: &Place) -> Agent {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", program()]);
    Agent::spawn(place, command)
}

/// The child that is no supervisor.
pub(crate) fn server_of(init: i32) -> i32 {
    let line = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    children(init)
        .into_iter()
        .find(|pid| !line(pid).contains("supervise"))
        .unwrap()
}

#[test]
fn pid_1_starts_a_killed_server_again_and_tasks_go_on() {
    let place = Place::new();
    let mut agent = as_pid_1(&place);
    let init = children(agent.pid()).remove(0);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let runs = place.path().join("runs");
    agent.script(
        "t",
        &format!("echo run >> {}; read line < {}; exit 9", runs.display(), gate.display()),
    );
    await_line(&runs);
    agent.await_running("t");
    let before = agent.get("/tasks/t").json();
    for round in 1..=3 {
        let server = server_of(init);
        kill(server, if round == 2 { "TERM" } else { "KILL" });
        agent.address = agent.find_address(round);
        assert_eq!(agent.get("/tasks/t").json(), before);
    }
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(agent.await_end("t")["exitCode"], 9);
    assert_eq!(fs::read_to_string(&runs).unwrap(), "run\n");
    // The supervisor was an orphan: init has reaped it.
    await_true("nobody but the server", || children(init).len() == 1);
}

#[test]
fn pid_1_stops_the_tasks_at_its_end_and_keeps_their_results() {
    let place = Place::new();
    let mut agent = as_pid_1(&place);
    let init = children(agent.pid()).remove(0);
    let ready = place.path().join("ready");
    agent.script(
        "polite",
        &format!(
            "trap 'exit 12' TERM; echo $$ > {}; while :; do sleep 0.05; done",
            ready.display()
        ),
    );
    agent.script("plain", "exec sleep 1000");
    agent.await_running("plain");
    await_pid(&ready);
    kill(init, "TERM");
    let status = await_some("the end", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{status:?} {}", agent.log());
    let agent = Agent::start(&place);
    let polite = agent.await_end("polite");
    assert_eq!((&polite["exitCode"], &polite["reason"]), (&json!(12), &json!("Killed")));
    assert_eq!(agent.await_end("plain")["signal"], 15);
}

#[test]
fn queued_tasks_wait_for_the_next_container() {
    let place = Place::new();
    let mut agent = as_pid_1(&place);
    agent.kill_container();
    let mut agent = {
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
            program(),
            "--max-active-tasks=1",
        ]);
        Agent::spawn(&place, command)
    };
    agent.script("first", "exec sleep 1000");
    agent.await_running("first");
    agent.script("second", "exit 2");
    let init = children(agent.pid()).remove(0);
    kill(init, "TERM");
    await_some("the end", || agent.child.try_wait().unwrap());
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("first")["reason"], "Killed");
    assert_eq!(agent.await_end("second")["exitCode"], 2);
}

impl Agent {
    /// Ends everything in its PID namespace at once.
    fn kill_container(&mut self) {
        kill(children(self.pid()).remove(0), "KILL");
        self.child.wait().unwrap();
    }
}

#[test]
fn orphans_are_reaped() {
    let place = Place::new();
    let agent = as_pid_1(&place);
    let init = children(agent.pid()).remove(0);
    agent.script("t", "(setsid sh -c 'sleep 0.05' &) ; exit 0");
    agent.await_end("t");
    await_true("no zombie", || {
        let zombie =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        !children(init).iter().any(zombie)
    });
    assert!(is_alive(init));
}

#[test]
fn a_server_that_cannot_start_ends_the_container_with_64() {
    let place = Place::new();
    let output = Command::new(program())
        .args(["--init", "--listen-addr=256.0.0.1:1"])
        .arg(format!("--data-dir={}", place.data().display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("failed to listen at `256.0.0.1:1`"), "{text}");
}

#[test]
fn install_puts_the_program_into_a_folder() {
    let place = Place::new();
    let folder = place.path().join("a/b");
    for _ in 0..2 {
        let output = Command::new(program()).arg("install").arg(&folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let installed = folder.join("podrun-agent");
    assert_eq!(fs::read(&installed).unwrap(), fs::read(program()).unwrap());
    let version = Command::new(&installed).arg("--version").output().unwrap();
    assert!(version.status.success());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let output = Command::new(program()).args(["install", "/proc/x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}
