//! Flows whose tasks hold tasks: what runs, in which order, and what is made of it.

use crate::sandbox::{Finished, Sandbox, finished};

/// A flow of these tasks, and perhaps more. `SCRIPT` stands for the type of a script and what each of them needs.
fn flow(text: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let script = "type: io.kestra.plugin.scripts.shell.Script, containerImage: busybox, taskRunner: {config: {masterUrl: 'https://ok'}}";
    let text = text
        .replace("SCRIPT", script)
        .replace("TYPE ", "type: io.kestra.plugin.core.");
    sandbox.write("flow.yaml", &format!("id: f\nnamespace: n\n{text}"));
    sandbox
}

const RUN: [&str; 4] = ["run", "flow.yaml", "--execution-id", "x"];

fn logs(sandbox: &Sandbox) -> String {
    sandbox.podrun(&["logs", "x"]).expect(0).out
}

fn created(sandbox: &Sandbox, task: &str) -> bool {
    sandbox.history("x", task).contains(&"created".to_owned())
}

#[test]
fn parallel_tasks_run_at_the_same_time() {
    let sandbox = flow(
        "
tasks:
  - id: both
    TYPE flow.Parallel
    tasks:
      - {id: one, SCRIPT, script: \"say 1\\nwait\\nsay 1\"}
      - {id: two, SCRIPT, script: \"say 1\\nwait\\nsay 1\"}
",
    );
    let mut run = sandbox.start(&RUN);
    // Neither ends before both have begun.
    run.await_line("line 1");
    run.await_line("line 1");
    sandbox.let_go("x", "one");
    sandbox.let_go("x", "two");
    run.wait().expect(0);
    assert_eq!(logs(&sandbox).lines().count(), 4);
}

#[test]
fn concurrent_bounds_how_many_run_at_once() {
    let sandbox = flow(
        "
tasks:
  - id: both
    TYPE flow.Parallel
    concurrent: 1
    tasks:
      - {id: one, SCRIPT, script: \"say 1\\nwait\"}
      - {id: two, SCRIPT, script: say 1}
",
    );
    let mut run = sandbox.start(&RUN);
    run.await_line("line 1");
    assert!(!created(&sandbox, "two"));
    sandbox.let_go("x", "one");
    run.wait().expect(0);
    assert!(created(&sandbox, "two"));
}

#[test]
fn a_sibling_that_fails_ends_nobody_else_and_is_named() {
    let sandbox = flow(
        "
tasks:
  - id: both
    TYPE flow.Parallel
    tasks:
      - {id: bad, SCRIPT, script: exit 3}
      - {id: good, SCRIPT, script: \"say 1\\nwait\\nsay 1\"}
  - {id: never, SCRIPT, script: say 1}
errors:
  - {id: sorry, TYPE log.Log, message: 'because {{ error.message }}'}
finally:
  - {id: last, TYPE log.Log, message: at last}
",
    );
    let mut run = sandbox.start(&RUN);
    run.await_line("bad: failed");
    sandbox.let_go("x", "good");
    let run = run.wait().expect(1);
    assert!(run.out.contains("good: succeeded"), "{}", run.out);
    let end = "execution x failed: 1 of 4 tasks failed: bad (exit-code)";
    assert!(run.out.contains(end), "{}", run.out);
    assert!(!created(&sandbox, "never"));
    let logs = logs(&sandbox);
    assert!(
        logs.ends_with("sorry | because bad (exit-code)\nlast | at last\n"),
        "{logs}"
    );
}

#[test]
fn a_failure_that_is_allowed_is_a_warning() {
    let sandbox = flow(
        "
tasks:
  - {id: bad, SCRIPT, allowFailure: true, script: \"publish n 1\\nexit 3\"}
  - {id: next, SCRIPT, script: 'say {{ outputs.bad.vars.n }}'}
",
    );
    let run = sandbox.podrun(&RUN).expect(0);
    assert!(
        run.out.contains("execution x warned: 1 of 2 tasks failed"),
        "{}",
        run.out
    );
    assert!(created(&sandbox, "next"));
    assert_eq!(sandbox.state("x").as_deref(), Some("warned"));
}

#[test]
fn rounds_see_their_value_and_their_outputs_lie_side_by_side() {
    let sandbox = flow(
        "
tasks:
  - id: each
    TYPE flow.ForEach
    values: '[\"a\", \"b\"]'
    tasks:
      - id: inner
        TYPE flow.ForEach
        values: [1, 2]
        tasks:
          - {id: t, SCRIPT, script: 'publish v \"{{ parent.taskrun.value }}{{ taskrun.value }}\"'}
          - {id: r, TYPE debug.Return, format: '{{ outputs.t[parent.taskrun.value][taskrun.value].vars.v }}'}
outputs:
  - {id: all, type: STRING, value: '{{ outputs.r.a[1].value }} {{ outputs.r.b[2].value }}'}
",
    );
    let run = sandbox.podrun(&RUN).expect(0);
    assert!(run.out.contains("output all = a1 b2"), "{}", run.out);
    assert!(created(&sandbox, "t.1-1"));
}

#[test]
fn rounds_end_with_the_first_that_fails() {
    let sandbox = flow(
        "
tasks:
  - id: each
    TYPE flow.ForEach
    values: [0, 7, 0]
    concurrencyLimit: 1
    tasks:
      - {id: t, SCRIPT, script: 'exit {{ taskrun.value }}'}
",
    );
    sandbox.podrun(&RUN).expect(1);
    assert!(created(&sandbox, "t.1") && !created(&sandbox, "t.2"));
}

#[test]
fn branches_are_taken_by_their_conditions() {
    let sandbox = flow(
        "
inputs: [{id: name, type: STRING, defaults: b}]
tasks:
  - id: if
    TYPE flow.If
    condition: \"{{ inputs.name == 'a' }}\"
    then: [{id: then, TYPE log.Log, message: then}]
    else: [{id: else, TYPE log.Log, message: else}]
  - id: switch
    TYPE flow.Switch
    value: '{{ inputs.name }}'
    cases:
      a: [{id: a, TYPE log.Log, message: a}]
      b: [{id: b, TYPE log.Log, message: b}]
    defaults: [{id: default, TYPE log.Log, message: default}]
  - {id: skipped, TYPE log.Log, message: no, runIf: \"{{ inputs.name == 'a' }}\"}
  - {id: off, TYPE log.Log, message: no, disabled: true}
",
    );
    sandbox.podrun(&RUN).expect(0);
    assert_eq!(logs(&sandbox), "else | else\nb | b\n");
}

#[test]
fn a_flow_can_fail_itself() {
    let sandbox = flow(
        "
tasks:
  - {id: not, TYPE execution.Fail, condition: '{{ 1 == 2 }}'}
  - {id: fail, TYPE execution.Fail, errorMessage: on purpose}
",
    );
    let run = sandbox.podrun(&RUN).expect(1);
    assert!(run.out.contains("on purpose"), "{}", run.out);
}

#[test]
fn a_retry_is_a_new_attempt_and_never_the_old_pod() {
    let sandbox = flow("
tasks:
  - id: t
    SCRIPT
    script: 'exit {{ 3 - taskrun.attempt }}'
    retry: {type: constant, interval: PT0.01S, maxAttempts: 3}
  - {id: next, SCRIPT, script: say 1}
".replace("    SCRIPT\n", "    type: io.kestra.plugin.scripts.shell.Script\n    containerImage: busybox\n    taskRunner: {config: {masterUrl: 'https://ok'}}\n").as_str());
    let run = sandbox.podrun(&RUN).expect(0);
    for attempt in 1..=3 {
        let history = sandbox.path(&format!("state/executions/x/tasks/t.{attempt}/outputs/history"));
        assert_eq!(
            std::fs::read_to_string(history).unwrap(),
            "created\ndeleted\n",
            "{}",
            run.out
        );
    }
    // Settled attempts are not repeated.
    let again = sandbox.podrun(&RUN).expect(0);
    assert!(!again.out.contains("starting"), "{}", again.out);
}

#[test]
fn attempts_that_the_cluster_took_do_not_use_up_those_of_the_script() {
    let retried = |script: &str| {
        let text = format!(
            "tasks:\n  - {{id: t, SCRIPT, script: '{script}', retry: {{type: constant, interval: PT0.01S, maxAttempts: 1}}}}\n"
        );
        flow(&text).podrun(&RUN)
    };
    retried("evict 4").expect(0);
    retried("evict 9").expect(1);
    retried("exit 1").expect(1);
}

#[test]
fn a_required_file_that_is_missing_is_a_failure_also_when_the_execution_is_taken_up() {
    let wants = |pattern: &str| {
        let text =
            format!("tasks:\n  - {{id: t, SCRIPT, script: 'keep text b.txt', outputFiles: [c.txt, {pattern}]}}\n");
        flow(&text)
    };
    wants("'*.txt'").podrun(&RUN).expect(0);
    let sandbox = wants("{pattern: '*.txt', required: true}");
    for _ in 0..2 {
        let run = sandbox.podrun(&RUN).expect(1);
        assert!(
            run.out.contains("no file in the working directory matches `*.txt`"),
            "{}",
            run.out
        );
    }
}

#[test]
fn a_stop_reaches_every_task_and_nothing_begins_after_it() {
    let sandbox = waiting();
    let mut run = sandbox.start(&RUN);
    run.await_line("line 1");
    run.await_line("line 1");
    sandbox.podrun(&["kill", "x"]).expect(0);
    run.wait().expect(130);
    for task in ["one", "two"] {
        assert_eq!(sandbox.history("x", task), ["created", "deleted"]);
    }
    assert!(!created(&sandbox, "next"));
    assert_eq!(logs(&sandbox).lines().count(), 2);
}

#[test]
fn tasks_that_were_left_are_taken_up_together() {
    let sandbox = waiting();
    let mut run = sandbox.start(&RUN);
    run.await_line("line 1");
    run.await_line("line 1");
    run.signal("TERM");
    run.wait().expect(75);
    sandbox.let_go("x", "one");
    sandbox.let_go("x", "two");
    sandbox.podrun(&["attach", "x"]).expect(0);
    for task in ["one", "two", "next"] {
        assert_eq!(sandbox.history("x", task), ["created", "deleted"]);
    }
    assert_eq!(logs(&sandbox).lines().count(), 4);
}

/// Two tasks at once that wait, one after them, and what always runs.
fn waiting() -> Sandbox {
    flow(
        "
tasks:
  - id: both
    TYPE flow.Parallel
    tasks:
      - {id: one, SCRIPT, script: \"say 1\\nwait\"}
      - {id: two, SCRIPT, script: \"say 1\\nwait\"}
  - {id: next, SCRIPT, script: say 1}
finally:
  - {id: last, TYPE log.Log, message: at last}
",
    )
}

#[test]
fn a_crash_between_any_two_tasks_repeats_none() {
    let points = [
        "before-decided",
        "after-decided",
        "before-settled",
        "after-settled",
        "before-decided:2",
        "after-decided:2",
        "before-settled:2",
        "after-settled:2",
        "after-ended",
    ];
    for point in points {
        let sandbox = flow(
            "
tasks:
  - id: each
    TYPE flow.ForEach
    values: [1, 2]
    tasks:
      - {id: log, TYPE log.Log, message: 'round {{ taskrun.value }}', runIf: '{{ taskrun.value < 3 }}'}
      - {id: t, SCRIPT, script: say 1}
",
        );
        let crashed: Finished = finished(sandbox.command(&RUN).env("PODRUN_CRASH_AT", point));
        assert_eq!(crashed.code, None, "it did not die at {point}");
        sandbox.podrun(&RUN).expect(0);
        let expected = "log.0 | round 1\nt.0 | line 1\nlog.1 | round 2\nt.1 | line 1\n";
        assert_eq!(logs(&sandbox), expected, "{point}");
        for task in ["t.0", "t.1"] {
            let history = sandbox.history("x", task);
            let created = history.iter().filter(|line| *line == "created");
            assert_eq!(created.count(), 1, "{point}: a task ran twice");
        }
    }
}

#[test]
fn tasks_of_errors_see_what_failed_and_how_the_others_ended() {
    let sandbox = flow(
        "
tasks:
  - {id: fine, TYPE log.Log, message: fine}
  - {id: loud, TYPE log.Log, message: careful, level: ERROR}
  - {id: skipped, TYPE log.Log, message: no, runIf: '{{ false }}'}
  - id: each
    TYPE flow.ForEach
    values: [0, 3]
    tasks:
      - {id: t, SCRIPT, script: 'exit {{ taskrun.value }}', allowFailure: true}
  - {id: bad, SCRIPT, script: exit 4}
errors:
  - {id: of, TYPE log.Log, message: 'of {{ error.taskId }}: {{ error.message }}'}
  - {id: states, TYPE log.Log, message: \"{{ tasks.fine.state }} {{ tasks.skipped.state }} {{ tasks.t[0].state }} {{ tasks.t[3].state }} \
     {{ tasks.each.state }} {{ tasks.bad.state }} {{ tasks.never.state ?? 'none' }}\"}
  - {id: logs, TYPE log.Log, message: \"{{ errorLogs() | jq('.[] | .taskId + \\\":\\\" + .message') | join(', ') }} of {{ errorLogs | length }}\"}
finally:
  - {id: last, TYPE log.Log, message: 'in the end {{ tasks.bad.state }}'}
",
    );
    let run = sandbox.podrun(&RUN).expect(1);
    let logs = logs(&sandbox);
    let expected = [
        "of | of bad: bad (exit-code)",
        "states | SUCCESS SKIPPED SUCCESS WARNING WARNING FAILED none",
        "t:the script ended with exit code 3",
        "loud:careful of 3",
        "bad:the script ended with exit code 4",
        "last | in the end FAILED",
    ];
    for text in expected {
        assert!(logs.contains(text), "no `{text}` in\n{logs}\n{}", run.error);
    }
    assert_eq!(logs.matches("of | ").count(), 1, "{logs}");
}

#[test]
fn secrets_are_hidden_in_the_lines_of_scripts() {
    let sandbox = flow("tasks:\n  - {id: t, SCRIPT, script: \"echo '{{ secret('TOKEN') }}'\\nsay 1\"}\n");
    // `s3cret`
    let run = finished(sandbox.command(&RUN).env("SECRET_TOKEN", "czNjcmV0")).expect(0);
    assert!(run.out.contains("t | ***"), "{}", run.out);
    assert!(!run.out.contains("s3cret"));
    assert_eq!(logs(&sandbox), "t | ***\nt | line 1\n");
}

#[test]
fn what_ends_well_has_no_errors() {
    let sandbox = flow(
        "
tasks:
  - {id: fine, TYPE log.Log, message: fine}
errors:
  - {id: sorry, TYPE log.Log, message: sorry}
finally:
  - {id: last, TYPE log.Log, message: at last}
",
    );
    sandbox.podrun(&RUN).expect(0);
    assert_eq!(logs(&sandbox), "fine | fine\nlast | at last\n");
}
