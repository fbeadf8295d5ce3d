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
fn what_may_never_run_is_no_reason_to_refuse_a_flow() {
    let script =
        |id: &str, more: &str| format!("{{id: {id}, SCRIPT, script: \"say {{{{ secret('NOSUCH') }}}}\"{more}}}");
    let text = format!(
        "
inputs: [{{id: yes, type: BOOL, defaults: true}}, {{id: list, type: JSON, defaults: '[]'}}]
variables: {{n: '{{{{ outputs.first.vars.n }}}}'}}
tasks:
  - {{id: first, SCRIPT, script: publish n 2}}
  - {off}
  - {not}
  - {{id: if, TYPE flow.If, condition: '{{{{ inputs.yes }}}}', then: [{{id: say, SCRIPT, script: 'say {{{{ render(vars.n) }}}}'}}], else: [{other}]}}
  - {{id: later, TYPE flow.If, condition: '{{{{ outputs.first.vars.n == 3 }}}}', then: [{branch}]}}
  - {{id: switch, TYPE flow.Switch, value: '{{{{ inputs.yes }}}}', cases: {{'false': [{case}]}}}}
  - {{id: each, TYPE flow.ForEach, values: '{{{{ inputs.list }}}}', tasks: [{round}]}}
errors: [{error}]
finally: [{{id: last, SCRIPT, script: \"echo '{{{{ tasks.first.state }}}}'\"}}]
",
        off = script("off", ", disabled: true"),
        not = script("not", ", runIf: '{{ not inputs.yes }}'"),
        other = script("other", ""),
        branch = script("branch", ""),
        case = script("case", ""),
        round = script("round", ""),
        error = script("error", ""),
    );
    let sandbox = flow(&text);
    sandbox.podrun(&RUN).expect(0);
    assert_eq!(logs(&sandbox), "say | line 1\nsay | line 2\nlast | SUCCESS\n");
    // What is sure to be reached is looked at before anything is created.
    let sandbox = flow(&text.replace("runIf: '{{ not inputs.yes }}'", "runIf: '{{ inputs.yes }}'"));
    let run = sandbox.podrun(&RUN).expect(2);
    assert!(run.error.contains("there is no secret `NOSUCH`"), "{}", run.error);
    assert!(!created(&sandbox, "first"));
}

#[test]
fn what_comes_after_a_flow_that_may_fail_itself_is_looked_at_when_it_begins() {
    let sandbox = flow(
        "
inputs: [{id: ok, type: BOOL, defaults: false}]
tasks:
  - {id: guard, TYPE execution.Fail, condition: '{{ not inputs.ok }}', errorMessage: not today}
  - {id: t, SCRIPT, script: \"say {{ secret('NOSUCH') }}\"}
",
    );
    let run = sandbox.podrun(&RUN).expect(1);
    assert!(run.out.contains("not today"), "{}", run.out);
}

#[test]
fn groups_in_rounds_see_the_rounds_value_as_their_parents() {
    let sandbox = flow(
        "
tasks:
  - id: each
    TYPE flow.ForEach
    values: [{name: one, n: 1}, '{\"name\": \"two\", \"n\": 2}']
    tasks:
      - id: if
        TYPE flow.If
        condition: '{{ fromJson(taskrun.value).n == 1 }}'
        then: [{id: then, TYPE log.Log, message: '{{ json(parent.taskrun.value).name }} {{ parents | length }}'}]
        else:
          - id: switch
            TYPE flow.Switch
            value: '{{ fromJson(parent.taskrun.value).name }}'
            cases:
              two:
                - {id: r, TYPE debug.Return, format: \"{{ fromJson(parents[1].taskrun.value).name }}\"}
                - {id: case, TYPE log.Log, message: '{{ currentEachOutput(outputs.r).value }} {{ task.type }}'}
  - id: numbers
    TYPE flow.ForEach
    values: [1, 2]
    tasks:
      - {id: second, TYPE log.Log, message: 'second {{ taskrun.value }}', runIf: \"{{ taskrun.value == '2' }}\"}
",
    );
    sandbox.podrun(&["validate", "flow.yaml"]).expect(0);
    sandbox.podrun(&RUN).expect(0);
    let expected = "then.0 | one 1\ncase.1 | two io.kestra.plugin.core.log.Log\nsecond.1 | second 2\n";
    assert_eq!(logs(&sandbox), expected);
}

#[test]
fn groups_have_errors_and_finally_of_their_own() {
    let ends = |id: &str| {
        format!(
            "errors: [{{id: {id}-sorry, TYPE log.Log, message: '{{{{ error.taskId }}}}'}}], \
             finally: [{{id: {id}-last, TYPE log.Log, message: at last}}]"
        )
    };
    let bad = |id: &str| format!("{{id: {id}, SCRIPT, script: exit 3}}");
    let groups = [
        ("parallel", format!("TYPE flow.Parallel, tasks: [{}]", bad("p"))),
        ("each", format!("TYPE flow.ForEach, values: [1], tasks: [{}]", bad("e"))),
        (
            "if",
            format!(
                "TYPE flow.If, condition: '{{{{ false }}}}', then: [{}], else: [{}]",
                bad("no"),
                bad("i")
            ),
        ),
        (
            "switch",
            format!("TYPE flow.Switch, value: a, cases: {{a: [{}]}}", bad("s")),
        ),
    ];
    for (id, group) in groups {
        let sandbox = flow(&format!("tasks: [{{id: {id}, {group}, {}}}]\n", ends(id)));
        let run = sandbox.podrun(&RUN).expect(1);
        let task = if id == "parallel" { "p" } else { &id[..1] };
        let expected = format!("{id}-sorry | {task}\n{id}-last | at last\n");
        assert_eq!(logs(&sandbox), expected, "{}", run.out);
    }
}

#[test]
fn errors_name_the_task_of_their_own_branch_that_may_not_fail() {
    let sandbox = flow(
        "
tasks:
  - id: both
    TYPE flow.Parallel
    tasks:
      - id: left
        TYPE flow.Sequential
        tasks:
          - {id: allowed, SCRIPT, script: exit 1, allowFailure: true}
          - {id: bad, SCRIPT, script: \"say 1\\nwait\\nexit 2\"}
        errors:
          - {id: left-error, TYPE log.Log, message: 'of {{ error.taskId }}'}
      - {id: other, SCRIPT, script: \"say 1\\nwait\\nexit 3\"}
errors:
  - {id: error, TYPE log.Log, message: 'of {{ error.taskId }}'}
",
    );
    let mut run = sandbox.start(&RUN);
    run.await_line("line 1");
    run.await_line("line 1");
    sandbox.let_go("x", "other");
    run.await_line("other: failed");
    sandbox.let_go("x", "bad");
    let run = run.wait().expect(1);
    let logs = logs(&sandbox);
    assert!(
        logs.ends_with("left-error | of bad\nerror | of other\n"),
        "{logs}{}",
        run.out
    );
}

#[test]
fn a_task_that_may_fail_may_also_fail_before_it_begins() {
    let sandbox = flow(
        "
tasks:
  - {id: first, SCRIPT, script: publish n 1}
  - {id: image, SCRIPT, script: 'say {{ outputs.first.vars.nosuch }}', allowFailure: true}
  - {id: group, TYPE flow.Sequential, allowFailure: true, tasks: [{id: r, TYPE debug.Return, format: '{{ outputs.first.vars.m }}'}]}
  - {id: next, TYPE log.Log, message: '{{ tasks.image.state }} {{ tasks.group.state }} {{ tasks.r.state }}'}
",
    );
    let run = sandbox.podrun(&RUN).expect(0);
    assert_eq!(logs(&sandbox), "next | WARNING WARNING FAILED\n", "{}", run.out);
    assert!(run.out.contains("execution x warned"), "{}", run.out);
    // Without leave to fail it is the flow's end, and its errors know of which task.
    let text = std::fs::read_to_string(sandbox.path("flow.yaml")).unwrap();
    let errors = "errors: [{id: sorry, type: io.kestra.plugin.core.log.Log, message: 'of {{ error.taskId }}'}]\n";
    sandbox.write("flow.yaml", &(text.replace(", allowFailure: true", "") + errors));
    sandbox.podrun(&["run", "flow.yaml", "--execution-id", "y"]).expect(1);
    assert_eq!(sandbox.podrun(&["logs", "y"]).expect(0).out, "sorry | of image\n");
}

/// The reports of an execution with a task `bad` that cannot be begun after another one has run: it ends as one that failed,
/// and taking it up tells the same reason.
fn fails_with_a_reason(sandbox: &Sandbox, reason: &str) {
    let run: Vec<&str> = RUN.into_iter().chain(["--json"]).collect();
    let reports = sandbox.podrun(&run).expect(1).reports();
    let of = |kind: &str, task: &str| {
        reports
            .iter()
            .find(|report| report["type"] == kind && report["task"] == task)
    };
    let bad = of("task-ended", "bad").unwrap();
    assert_eq!(
        (bad["status"].as_str(), bad["attempt"].as_u64()),
        (Some("failed"), Some(1))
    );
    assert!(bad["message"].as_str().unwrap().contains(reason), "{bad}");
    assert_eq!(of("task-ended", "good").unwrap()["status"], "succeeded");
    let again = sandbox.podrun(&["attach", "x", "--json"]).expect(1).reports();
    for end in [reports.last().unwrap(), again.last().unwrap()] {
        assert_eq!(
            (end["type"].as_str(), end["state"].as_str()),
            (Some("execution-ended"), Some("failed"))
        );
        assert!(end["message"].as_str().unwrap().contains(reason), "{end}");
    }
}

#[test]
fn what_cannot_be_rendered_after_a_task_has_run_fails_the_execution_with_its_reason() {
    for bad in [
        "{id: bad, SCRIPT, script: 'say {{ outputs.good.vars.nosuch }}'}",
        "{id: bad, TYPE log.Log, message: '{{ outputs.good.vars.nosuch }}'}",
        "{id: bad, TYPE log.Log, message: m, runIf: '{{ outputs.good.vars.nosuch }}'}",
        "{id: bad, TYPE flow.If, condition: '{{ outputs.good.vars.nosuch }}', then: [{id: m, TYPE log.Log, message: m}]}",
    ] {
        let good = "{id: good, SCRIPT, script: publish n 1}";
        fails_with_a_reason(&flow(&format!("tasks:\n  - {good}\n  - {bad}\n")), "nosuch");
    }
}

#[test]
fn what_the_cluster_does_not_admit_beside_a_task_that_runs_fails_the_execution_with_its_reason() {
    let good = "{id: good, SCRIPT, script: say 1}";
    let bad = "{id: bad, SCRIPT, script: fail unborn invalid}";
    let sandbox = flow(&format!(
        "tasks: [{{id: both, TYPE flow.Parallel, tasks: [{good}, {bad}]}}]\n"
    ));
    fails_with_a_reason(&sandbox, "invalid argument");
}

#[test]
fn outputs_of_a_flow_have_their_types() {
    let outputs = |kind: &str| {
        let text = format!(
            "tasks:\n  - {{id: t, SCRIPT, script: publish n \\\"abc\\\"}}\noutputs:\n  - {{id: result, type: {kind}, value: '{{{{ outputs.t.vars.n }}}}'}}\n"
        );
        flow(&text.replace("script: publish n \\\"abc\\\"", "script: 'publish n \"abc\"'")).podrun(&RUN)
    };
    outputs("STRING").expect(0);
    // A task has run: this is the end of an execution, not the refusal of a flow.
    let run = outputs("INT").expect(1);
    assert!(run.out.contains("execution x failed: "), "{}", run.out);
    assert!(
        run.out.contains("output `result` must be a whole number"),
        "{}",
        run.out
    );
}

#[test]
fn secrets_are_in_no_value_that_the_journal_keeps() {
    let sandbox = flow(
        "
tasks:
  - {id: r, TYPE debug.Return, format: \"{{ {'key': secret('TOKEN')} }}\"}
  - id: switch
    TYPE flow.Switch
    value: \"{{ secret('TOKEN') }}\"
    defaults: [{id: yes, TYPE log.Log, message: yes}]
  - id: each
    TYPE flow.ForEach
    values: \"{{ ['plain', secret('TOKEN')] }}\"
    tasks: [{id: t, SCRIPT, script: \"echo '{{ taskrun.value }}'\\nsay {{ outputs.r.value.key == secret('TOKEN') ? 1 : 2 }}\\nfail unavailable\"}]
  - {id: fail, TYPE execution.Fail, errorMessage: \"no {{ secret('TOKEN') }}\"}
",
    );
    // `s3cret-t0ken`
    let run = |arguments: &[&str]| finished(sandbox.command(arguments).env("SECRET_TOKEN", "czNjcmV0LXQwa2Vu"));
    let first = run(&RUN).expect(3);
    let journal = || {
        let files = ["state/journal.db", "state/journal.db-wal"].map(|name| sandbox.path(name));
        let bytes: Vec<u8> = files
            .iter()
            .flat_map(|file| std::fs::read(file).unwrap_or_default())
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // Taken up, it knows the values again.
    let second = run(&["attach", "x"]).expect(3);
    assert!(
        logs(&sandbox).starts_with("yes | yes\nt.0 | plain\nt.0 | line 1\n"),
        "{}",
        logs(&sandbox)
    );
    assert!(!journal().contains("s3cret-t0ken"), "the journal has a secret");
    assert!(!format!("{first:?}{second:?}").contains("s3cret-t0ken"));
    let gone = sandbox.podrun(&["attach", "x"]).expect(2);
    assert!(gone.error.contains("there is no secret `TOKEN`"), "{}", gone.error);
}

#[test]
fn outputs_of_an_earlier_attempt_do_not_stay() {
    let sandbox = flow(
        "
tasks:
  - id: t
    SCRIPT
    script: |
      {% if taskrun.attempt == 1 %}keep x partial.txt
      keep x both.txt
      exit 1{% else %}keep y both.txt{% endif %}
    retry: {type: constant, interval: PT0.01S, maxAttempt: 2}
".replace("    SCRIPT\n", "    type: io.kestra.plugin.scripts.shell.Script\n    containerImage: busybox\n    taskRunner: {config: {masterUrl: 'https://ok'}}\n").as_str());
    std::fs::create_dir_all(sandbox.path("out/t")).unwrap();
    sandbox.write("out/t/mine.txt", "not ours");
    for _ in 0..2 {
        sandbox.podrun(&[&RUN[..], &["--outputs", "out"]].concat()).expect(0);
        let files = std::fs::read_dir(sandbox.path("out/t")).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["both.txt", "mine.txt"]);
    }
}

#[test]
fn secrets_are_hidden_where_a_long_line_is_cut() {
    let part = |from: usize, to: usize| format!("{{{{ secret('TOKEN') | slice({from}, {to}) }}}}");
    let script = format!("part a-{}\\necho '{}-b'", part(0, 7), part(7, 12));
    let sandbox = flow(&format!("tasks:\n  - {{id: t, SCRIPT, script: \"{script}\"}}\n"));
    // `s3cret-t0ken`
    let run = finished(sandbox.command(&RUN).env("SECRET_TOKEN", "czNjcmV0LXQwa2Vu")).expect(0);
    let shown = logs(&sandbox) + &run.out;
    assert!(shown.contains("a-***") && shown.contains("***-b"), "{shown}");
    assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
}

#[test]
fn a_default_that_is_a_secret_is_in_the_journal_by_its_name() {
    let sandbox = flow(
        "
inputs: [{id: key, type: STRING, defaults: \"{{ secret('TOKEN') }}\"}]
tasks:
  - {id: t, SCRIPT, script: \"say {{ inputs.key | length }}\\nwait\"}
",
    );
    // `a-b`
    let command = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        command.env("SECRET_TOKEN", "YS1i");
        command
    };
    let mut run = Sandbox::start_command(&mut command(&RUN));
    run.await_line("line 3");
    run.signal("TERM");
    run.wait().expect(75);
    let stored = std::fs::read(sandbox.path("state/journal.db")).unwrap();
    let waiting = std::fs::read(sandbox.path("state/journal.db-wal")).unwrap_or_default();
    let journal = String::from_utf8_lossy(&[stored, waiting].concat()).into_owned();
    assert!(!journal.contains("a-b"), "the journal has a secret");
    sandbox.let_go("x", "t");
    finished(&mut command(&RUN)).expect(0);
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
