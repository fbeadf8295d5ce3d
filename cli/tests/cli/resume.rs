//! Executions that are interrupted, taken up, and stopped from another terminal.

use crate::sandbox::Sandbox;

/// A run of a task that waits, and the sandbox that it runs in.
fn waiting(script: &str) -> (Sandbox, crate::sandbox::Running) {
    let sandbox = Sandbox::new();
    sandbox.write("data", "before");
    sandbox.flow(&[script, "say 1"]);
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x", "-i", "file=@data"]);
    run.await_line("line 2");
    (sandbox, run)
}

const SCRIPT: &str = "say 2\nwait\ncopy data.txt out.txt\nsay 2";

/// Every line of the first task was seen once: its own numbers go on from 1 for each `say`.
const LOG: &str = "t1 | line 1\nt1 | line 2\nt1 | line 1\nt1 | line 2\nt2 | line 1\n";

#[test]
fn after_kill_9_the_same_command_goes_on_with_the_same_inputs() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("KILL");
    assert_eq!(run.wait().code, None);
    assert_eq!(sandbox.state("x").as_deref(), Some("unfinished"));
    // The file is gone; the execution has its own copy.
    std::fs::remove_file(sandbox.path("data")).unwrap();
    sandbox.let_go("x", "t1");
    let again = sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "x", "--outputs", "out"])
        .expect(0);
    assert!(again.out.contains("t1: taken up again"), "{}", again.out);
    assert_eq!(
        std::fs::read_to_string(sandbox.path("out/t1/out.txt")).unwrap(),
        "before"
    );
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
    assert_eq!(sandbox.podrun(&["logs", "x"]).expect(0).out, LOG);
}

#[test]
fn a_wrong_config_leaves_what_runs_to_the_right_one() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("KILL");
    run.wait();
    sandbox.flow_at("https://distrusted", &[SCRIPT, "say 1"]);
    let refused = sandbox.podrun(&["attach", "x"]).expect(2);
    assert!(refused.error.contains("podrun attach x"), "{}", refused.error);
    assert_eq!(sandbox.state("x").as_deref(), Some("unfinished"));
    sandbox.flow(&[SCRIPT, "say 1"]);
    sandbox.let_go("x", "t1");
    sandbox.podrun(&["attach", "x"]).expect(0);
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
    assert_eq!(sandbox.podrun(&["logs", "x"]).expect(0).out, LOG);
}

#[test]
fn a_terminated_program_detaches_and_another_terminal_attaches() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("TERM");
    let detached = run.wait().expect(75);
    assert!(detached.out.contains("podrun attach x"), "{}", detached.out);
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
    sandbox.let_go("x", "t1");
    sandbox.podrun(&["attach", "x"]).expect(0);
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
    assert_eq!(sandbox.podrun(&["logs", "x"]).expect(0).out, LOG);
}

#[test]
fn an_interrupt_stops_the_task_where_nobody_can_be_asked() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("INT");
    let stopped = run.wait().expect(130);
    assert!(stopped.error.contains("stopping the task"), "{}", stopped.error);
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
    assert!(sandbox.history("x", "t2").is_empty());
    assert_eq!(sandbox.state("x").as_deref(), Some("cancelled"));
    sandbox.podrun(&["attach", "x"]).expect(130);
}

#[test]
fn kill_goes_through_the_process_that_drives_the_execution() {
    let (sandbox, run) = waiting(SCRIPT);
    let kill = sandbox.podrun(&["kill", "x"]).expect(0);
    assert!(kill.out.contains("execution x cancelled"), "{}", kill.out);
    run.wait().expect(130);
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
}

#[test]
fn kill_says_whom_it_waits_for() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("STOP");
    let mut kill = sandbox.start(&["kill", "x", "--grace", "1", "--json"]);
    kill.await_line("not with `--grace`");
    kill.await_line(&format!("waiting until process {}", run.id()));
    run.signal("CONT");
    kill.wait().expect(0);
    run.wait().expect(130);
}

#[test]
fn kill_works_when_nobody_drives_the_execution() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("KILL");
    run.wait();
    sandbox.podrun(&["kill", "x"]).expect(0);
    assert_eq!(sandbox.state("x").as_deref(), Some("cancelled"));
    sandbox.podrun(&["attach", "x"]).expect(130);
    assert!(sandbox.history("x", "t2").is_empty());
}

#[test]
fn kill_says_when_it_could_not() {
    let sandbox = Sandbox::new();
    sandbox.flow_at("https://unkillable", &["say 1\nwait"]);
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
    run.await_line("line 1");
    run.signal("KILL");
    run.wait();
    let kill = sandbox.podrun(&["kill", "x"]).expect(3);
    assert!(kill.error.contains("the cluster does not answer"), "{}", kill.error);
    assert_eq!(sandbox.state("x").as_deref(), Some("unfinished"));
}

/// Whether `kill` asks the cluster to remove something: one that does not answer makes it fail.
fn kill_removes(sandbox: &Sandbox, script: &str) -> bool {
    sandbox.flow_at("https://unkillable", &[script]);
    let code = sandbox.podrun(&["kill", "x"]).code;
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    code == Some(3)
}

#[test]
fn kill_removes_what_a_task_that_ended_left() {
    let sandbox = Sandbox::new();
    sandbox.flow_at("https://undeletable", &["say 1"]);
    let run = sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(0);
    assert!(
        run.error
            .contains("the pod could not be deleted; to try again: podrun kill x"),
        "{}",
        run.error
    );
    assert!(kill_removes(&sandbox, "say 1"));
    sandbox.flow(&["say 1"]);
    sandbox.podrun(&["kill", "x"]).expect(0);
    assert!(!kill_removes(&sandbox, "say 1"), "it was removed before");
    assert_eq!(sandbox.state("x").as_deref(), Some("succeeded"));
}

#[test]
fn what_is_to_stay_stays_until_it_is_killed() {
    let sandbox = Sandbox::new();
    let keep = |sandbox: &Sandbox, server: &str| {
        sandbox.flow_at(server, &["say 1"]);
        let flow = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
        sandbox.write(
            "flow.yaml",
            &flow.replace("taskRunner: {", "taskRunner: {delete: false, "),
        );
    };
    keep(&sandbox, "https://unkillable");
    let run = sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(0);
    assert_eq!(run.error, "");
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
    // Taking up an execution that ended does not remove it either.
    assert_eq!(sandbox.podrun(&["attach", "x"]).expect(0).error, "");
    sandbox.podrun(&["kill", "x"]).expect(3);
    keep(&sandbox, "https://ok");
    sandbox.podrun(&["kill", "x"]).expect(0);
    keep(&sandbox, "https://unkillable");
    sandbox.podrun(&["kill", "x"]).expect(0);
}

#[test]
fn kill_removes_what_is_to_stay_also_where_another_process_stops_the_execution() {
    let sandbox = Sandbox::new();
    let keep = |server: &str| {
        sandbox.flow_at(server, &["say 1", "say 2\nwait"]);
        let flow = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
        sandbox.write(
            "flow.yaml",
            &flow.replacen("taskRunner: {", "taskRunner: {delete: false, ", 1),
        );
    };
    keep("https://unkillable");
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
    run.await_line("line 2");
    // It asks the cluster to remove the first task, which this one cannot.
    let kill = sandbox.podrun(&["kill", "x"]).expect(3);
    assert!(kill.error.contains("task `t1`"), "{}", kill.error);
    run.wait().expect(130);
    assert_eq!(sandbox.state("x").as_deref(), Some("cancelled"));
    keep("https://ok");
    sandbox.podrun(&["kill", "x"]).expect(0);
    keep("https://unkillable");
    sandbox.podrun(&["kill", "x"]).expect(0);
}

#[test]
fn one_process_at_a_time_and_it_is_named() {
    let (sandbox, run) = waiting(SCRIPT);
    let second = sandbox.podrun(&["attach", "x"]).expect(4);
    assert!(
        second.error.contains(&format!("driven by process {}", run.id())),
        "{}",
        second.error
    );
    assert_eq!(sandbox.state("x").as_deref(), Some("running"));
    run.signal("KILL");
    run.wait();
}

#[test]
fn another_flow_or_another_input_is_a_conflict() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("KILL");
    run.wait();
    sandbox.write("data", "after");
    let other = sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "x", "-i", "file=@data"])
        .expect(4);
    assert!(other.error.contains("another value of input `file`"), "{}", other.error);
    sandbox.flow(&["say 3", "say 1"]);
    let other = sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(4);
    assert!(other.error.contains("another flow (`tasks[0]."), "{}", other.error);
    let other = sandbox.podrun(&["attach", "x"]).expect(4);
    assert!(other.error.contains("another flow"), "{}", other.error);
    assert_eq!(sandbox.history("x", "t1"), ["created"]);
}

#[test]
fn logs_of_a_task_are_those_of_its_rounds_too_and_a_typo_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "flow.yaml",
        "id: f\ntasks:\n  - id: each\n    type: io.kestra.plugin.core.flow.ForEach\n    values: [1, 2]\n    tasks:\n      \
         - {id: t, type: io.kestra.plugin.core.log.Log, message: 'round {{ taskrun.value }}'}\n  \
         - {id: t2, type: io.kestra.plugin.core.log.Log, message: other}\n",
    );
    sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(0);
    let logs = |task: &str| sandbox.podrun(&["logs", "x", "--task", task]);
    assert_eq!(logs("t").expect(0).out.lines().count(), 2);
    assert_eq!(logs("t.1").expect(0).out.lines().count(), 1);
    let typo = logs("tt").expect(2).error;
    assert!(typo.contains("no task `tt`") && typo.contains("`t.0`, `t.1`"), "{typo}");
}

#[test]
fn logs_follow_until_the_end() {
    let (sandbox, run) = waiting(SCRIPT);
    let mut logs = sandbox.start(&["logs", "-f", "x"]);
    logs.await_line("line 2");
    sandbox.let_go("x", "t1");
    run.wait().expect(0);
    assert_eq!(logs.wait().expect(0).out, LOG);
}

#[test]
fn logs_do_not_wait_for_an_execution_that_nobody_drives() {
    let (sandbox, run) = waiting(SCRIPT);
    run.signal("KILL");
    run.wait();
    let logs = sandbox.podrun(&["logs", "-f", "x"]).expect(0);
    assert!(logs.error.contains("nobody drives this execution"), "{}", logs.error);
}
