//! On a terminal: what stands at the bottom while a task runs, the question that Ctrl-C asks, and the summary.
//!
//! The terminal is that of `script`, which is part of every Debian.

use std::process::Command;

use crate::sandbox::{Running, Sandbox, WAITING};

/// A call on a terminal of its own, which answers to its keys.
fn on_a_terminal(sandbox: &Sandbox, line: &str) -> Running {
    let program = sandbox.podrun.program().display().to_string();
    let prepared = sandbox.podrun.command(&[""; 0]);
    let mut command = Command::new("script");
    for (name, value) in prepared.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(sandbox.path(""));
    let line = format!("stty cols 100 rows 30; exec {program} {line}");
    Running::new(command.args(["--quiet", "--return", "--command", &line, "/dev/null"]))
}

#[test]
#[ignore = "needs cluster"]
fn a_terminal_shows_what_the_task_does_and_how_it_ended() {
    let sandbox = Sandbox::new("screen");
    sandbox.write("flow.yaml", WAITING);
    let run = on_a_terminal(&sandbox, "run flow.yaml --execution-id x");
    run.await_text("wait: pending");
    run.await_text("wait: running");
    run.await_text("ready");
    sandbox.go();
    let screen = run.end().expect(0).out;
    for part in [
        "succeeded",
        "exit code 0",
        "pending ",
        "running ",
        "pod x-wait-1-",
        "execution x succeeded",
    ] {
        assert!(screen.contains(part), "no `{part}` in {screen:?}");
    }
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn an_interrupt_asks_what_is_meant() {
    let sandbox = Sandbox::new("question");
    sandbox.write("flow.yaml", WAITING);
    let mut run = on_a_terminal(&sandbox, "run flow.yaml --execution-id x");
    run.await_text("ready");
    run.say("\u{3}");
    run.await_text("Stop the task (s), leave it running (l), or continue (c)?");
    run.say("l\n");
    let screen = run.end().expect(75).out;
    assert!(screen.contains("podrun attach x"), "{screen:?}");
    assert_eq!(sandbox.pods().len(), 1);

    let mut run = on_a_terminal(&sandbox, "attach x");
    run.await_text("wait: running");
    run.say("\u{3}");
    run.await_text("Stop the task (s)");
    run.say("s\n");
    run.end().expect(130);
    assert_eq!(sandbox.ps()["state"], "cancelled");
    sandbox.nothing_is_left();
}
