//! On a terminal: what stands at the bottom while a task runs, the question that Ctrl-C asks, and the summary.
//!
//! The terminal is that of `script`, which is part of every Debian.

use std::process::Command;

use crate::sandbox::{Running, Sandbox, WAITING};

/// A flow that takes a file, publishes a value and gives the file back.
const MOVING: &str = r#"
id: moving
namespace: podrun.tests
inputs:
  - id: big
    type: FILE
tasks:
  - id: move
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    inputFiles:
      big.bin: "{{ inputs.big }}"
    outputFiles: [copy.bin]
    taskRunner:
      type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes
      pullPolicy: IF_NOT_PRESENT
    commands:
      - 'echo ''::{"outputs": {"answer": 42}}::'''
      - cp big.bin copy.bin
"#;

/// A call on a terminal of its own, which answers to its keys.
fn on_a_terminal(sandbox: &Sandbox, line: &str) -> Running {
    Running::new(&mut terminal(sandbox, line))
}

fn terminal(sandbox: &Sandbox, line: &str) -> Command {
    let program = sandbox.podrun.program().display().to_string();
    let prepared = sandbox.podrun.command(&[""; 0]);
    let mut command = Command::new("script");
    for (name, value) in prepared.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let line = format!("stty cols 100 rows 30; exec {program} {line}");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .env_remove("NO_COLOR")
        .current_dir(sandbox.path(""));
    command
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

/// The start of a colour.
const COLOUR: &str = "\u{1b}[3";

#[test]
#[ignore = "needs cluster"]
fn moved_bytes_and_files_are_shown_and_verbose_tells_more() {
    let sandbox = Sandbox::new("moving");
    sandbox.write("flow.yaml", MOVING);
    sandbox.write_noise("data", 3 << 20);
    let run = "run flow.yaml -i big=@data --outputs out";
    let screen = on_a_terminal(&sandbox, run).end().expect(0).out;
    // While they move, below the lines; and what came back, in the summary.
    for part in ["of 3.00 MiB", "copy.bin", " 3.00 MiB  ", COLOUR] {
        assert!(screen.contains(part), "no `{part}` in {screen:?}");
    }
    assert_eq!(
        std::fs::read(sandbox.path("out/move/copy.bin")).unwrap(),
        std::fs::read(sandbox.path("data")).unwrap()
    );

    let mut verbose = terminal(&sandbox, &format!("{run} --verbose"));
    let verbose = Running::new(verbose.env("NO_COLOR", "1")).end().expect(0).out;
    assert!(!verbose.contains(COLOUR), "{verbose:?}");
    for part in ["output answer = 42", "  node ", "  uid "] {
        assert!(verbose.contains(part), "no `{part}` in {verbose:?}");
        assert!(!screen.contains(part), "`{part}` without --verbose: {screen:?}");
    }
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn a_second_interrupt_leaves_the_task_running() {
    let sandbox = Sandbox::new("twice");
    sandbox.write("flow.yaml", WAITING);
    let mut run = on_a_terminal(&sandbox, "run flow.yaml --execution-id x");
    run.await_text("ready");
    run.say("\u{3}");
    run.await_text("Stop the task (s)");
    run.say("\u{3}");
    let screen = run.end().expect(75).out;
    assert!(screen.contains("podrun attach x"), "{screen:?}");
    assert_eq!(sandbox.ps()["state"], "unfinished");
    assert_eq!(sandbox.pods().len(), 1);
    sandbox.run(&["kill", "x"]).expect(0);
    sandbox.nothing_is_left();
}
