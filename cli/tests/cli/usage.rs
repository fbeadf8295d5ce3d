//! What is refused, and what the help says.

use crate::sandbox::{Sandbox, finished};

/// The error of a call that is refused before anything begins.
#[track_caller]
fn refusal(sandbox: &Sandbox, arguments: &[&str], code: i32) -> String {
    let error = sandbox.podrun(arguments).expect(code).error;
    assert_eq!(
        sandbox.podrun(&["ps", "--json"]).expect(0).out,
        "",
        "an execution began"
    );
    error
        .trim_end()
        .replace(&sandbox.path("").display().to_string(), "DIR/")
}

#[test]
fn help_documents_the_exit_codes_and_the_environment() {
    let sandbox = Sandbox::new();
    let help = sandbox.podrun(&["--help"]).expect(0).out;
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "70 ", "75 ", "130 "] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(code)),
            "{code} is missing in\n{help}"
        );
    }
    let help = sandbox.podrun(&["run", "--help"]).expect(0).out;
    for word in [
        "PODRUN_STATE_DIR",
        "PODRUN_RUNNER",
        "KUBECONFIG",
        "NO_COLOR",
        "Ctrl-C",
        "SIGTERM",
    ] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
}

#[test]
fn completion_knows_the_options() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            sandbox
                .podrun(&["completion", shell])
                .expect(0)
                .out
                .contains("execution-id"),
            "{shell}"
        );
    }
}

#[test]
fn the_command_line() {
    let sandbox = Sandbox::new();
    sandbox.podrun(&["run"]).expect(2);
    sandbox.podrun(&["runn"]).expect(2);
    sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "../x"])
        .expect(2);
    insta::assert_snapshot!(refusal(&sandbox, &["run", "nosuch.yaml"], 2), @"error: failed to read `nosuch.yaml`: No such file or directory (os error 2)");
    insta::assert_snapshot!(refusal(&sandbox, &["logs", "nosuch"], 2), @"error: there is no execution `nosuch`: `podrun ps --all` lists them");
    insta::assert_snapshot!(refusal(&sandbox, &["attach", "nosuch"], 2), @"error: there is no execution `nosuch`: `podrun ps --all` lists them");
    sandbox.flow(&["say 1"]);
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "-i", "fil=x"], 2), @"error: the flow has no input `fil`: did you mean `file`?");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "-i", "file=@gone"], 2), @"error: input `file`: failed to read `gone`: No such file or directory (os error 2)");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "--outputs", "/proc/out"], 2), @"error: failed to create `/proc/out`: No such file or directory (os error 2)");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "--runner", "gone.wasm"], 2), @"error: no runner component `DIR/gone.wasm`: name one with `--runner FILE` or PODRUN_RUNNER");
}

#[test]
fn properties_of_the_runner_are_checked_before_anything_begins() {
    let sandbox = Sandbox::new();
    let task = |runner: &str| {
        format!(
            "id: f\ntasks:\n  - id: t\n    type: io.kestra.plugin.scripts.shell.Commands\n    containerImage: busybox\n    \
             commands: [say 1]\n    taskRunner: {{{runner}}}\n"
        )
    };
    sandbox.write("flow.yaml", &task("pulPolicy: ALWAYS, config: {masterUrl: x}"));
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml"], 2), @"error: flow.yaml:7:18: unknown property of `taskRunner` of task `t`: `pulPolicy`: did you mean `pullPolicy`?");
    sandbox.write("flow.yaml", &task("config: {masterurl: x}"));
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml"], 2), @"error: flow.yaml:7:27: unknown property of `taskRunner.config` of task `t`: `masterurl`: did you mean `masterUrl`?");
    sandbox.write("flow.yaml", &task("namespace: Bad, config: {masterUrl: x}"));
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml"], 2), @"error: task `t`: invalid argument: options.namespace: Bad is no name");
    sandbox.write(
        "flow.yaml",
        &task("config: {masterUrl: 'https://bad', oauthToken: s3cret}"),
    );
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml"], 2), @"error: task `t`: invalid argument: config.masterUrl: bad");
    sandbox.write("flow.yaml", &task(""));
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml"], 2), @"error: no cluster to run in: add `--kubeconfig FILE`, set KUBECONFIG, or give the task a `taskRunner.config`");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "--kubeconfig", "gone"], 2), @"error: failed to read `DIR/gone`: No such file or directory (os error 2)");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "--kubeconfig", "/dev/null"], 2), @"error: kubeconfig `/dev/null` is not a regular file: it is read again whenever it is needed, so save it to one");
    sandbox.write("empty", "{}");
    insta::assert_snapshot!(refusal(&sandbox, &["run", "flow.yaml", "--kubeconfig", "empty"], 2), @"error: kubeconfig DIR/empty has no contexts");
}

#[test]
fn what_cannot_be_written_to_standard_output_is_no_success() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1"]);
    sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(0);
    for arguments in [
        &["logs", "x"][..],
        &["ps", "--all", "--json"],
        &["completion", "bash"],
        &["validate", "flow.yaml"],
        &["run", "flow.yaml", "--json"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = sandbox.command(arguments).stdout(full).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{arguments:?}: {error}");
        assert!(
            error.contains("standard output cannot be written: No space"),
            "{arguments:?}: {error}"
        );
    }
    // Who does not want to read more is no fault.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = sandbox
        .command(&["completion", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn errors_are_json_too() {
    let sandbox = Sandbox::new();
    let reports = sandbox.podrun(&["run", "nosuch.yaml", "--json"]).expect(2).reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(
        (reports[0]["type"].as_str(), reports[0]["exitCode"].as_i64()),
        (Some("error"), Some(2))
    );
}

#[test]
fn the_doctor_says_whether_tasks_can_run() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1"]);
    let fit = sandbox.podrun(&["doctor", "flow.yaml"]).expect(0);
    insta::assert_snapshot!(fit.out, @"
    ok    runner folder 1
    ok    cluster: `taskRunner.config` of task `t1`
    ok    reachable
    ");
    sandbox.flow_at("https://unfit", &["say 1"]);
    let unfit = sandbox.podrun(&["doctor", "flow.yaml"]).expect(3);
    assert!(unfit.out.contains("error may not create pods"), "{}", unfit.out);
    insta::assert_snapshot!(unfit.error, @"error: tasks cannot run: one finding above says why");
    sandbox.flow_at("https://gone", &["say 1"]);
    insta::assert_snapshot!(sandbox.podrun(&["doctor", "flow.yaml"]).expect(3).error, @"error: unavailable: no answer from https://gone");
}

#[test]
fn the_doctor_looks_at_every_namespace_of_a_flow_once() {
    let sandbox = Sandbox::new();
    let task = |id: &str, runner: &str| {
        format!(
            "  - {{id: {id}, type: io.kestra.plugin.scripts.shell.Commands, containerImage: busybox, commands: [say 1], \
             taskRunner: {{{runner} config: {{masterUrl: 'https://ok', namespace: team}}}}}}\n"
        )
    };
    let flow = format!(
        "id: f\nnamespace: jobs\ninputs: [{{id: where, type: STRING}}]\ntasks:\n{}{}{}{}{}",
        task("a", ""),
        task("b", "namespace: '{{ flow.namespace }}',"),
        task("c", "namespace: jobs,"),
        task("d", "namespace: team,"),
        task("e", "namespace: '{{ inputs.where }}',"),
    );
    sandbox.write("flow.yaml", &flow);
    let fit = sandbox.podrun(&["doctor", "flow.yaml"]).expect(0);
    insta::assert_snapshot!(fit.out, @"
    ok    runner folder 1
    ok    cluster: `taskRunner.config` of task `a`
    ok    reachable team
    ok    cluster: `taskRunner.config` of task `b`, namespace `jobs`
    ok    reachable jobs
    warn  flow.yaml:9:129: cannot render `{{ inputs.where }}` in `taskRunner.namespace` of task `e`: `inputs` has no `where`: there is none to refer to; the namespace of its config is looked at instead
    ");
    let help = sandbox.podrun(&["doctor", "--help"]).expect(0).out;
    assert!(help.contains("Images are not looked at"), "{help}");
}

#[test]
fn without_a_place_for_the_journal_the_cure_is_named() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["ps"]);
    let error = finished(command.env("PODRUN_STATE_DIR", "/proc/podrun")).error;
    assert!(error.contains("/proc/podrun"), "{error}");
}
