//! What a flow may say, and what the error is when it says something else.

use super::*;

const SEED: &str = r#"
id: kubernetes_task_runner
namespace: company.team
description: |
  To get the kubeconfig file, run a command.
inputs:
  - id: file
    type: FILE
tasks:
  - id: shell
    type: io.kestra.plugin.scripts.shell.Commands
    inputFiles:
      data.txt: "{{ inputs.file }}"
    outputFiles:
      - "*.txt"
    containerImage: centos
    taskRunner:
      type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes
      config:
        clientKeyData: client-key-data
        masterUrl: https://docker-for-desktop:6443
    commands:
      - echo "Hello from a Kubernetes task runner!"
      - cp data.txt out.txt
"#;

fn read_with(text: &str, operator: &str) -> Result<Flow, String> {
    let operator = read_defaults(Path::new("defaults.yaml"), operator).map_err(|problem| problem.to_string())?;
    read(Path::new("flow.yaml"), text, &operator, &Renderer::new().unwrap()).map_err(|problem| problem.to_string())
}

fn read_one(text: &str) -> Result<Flow, String> {
    read_with(text, "pluginDefaults: []")
}

/// The error of a flow with one shell task that has these lines instead of a correct one.
fn refusal(task: &str) -> String {
    let task = task.replace('\n', "\n    ");
    let text = format!("id: f\ntasks:\n  - id: t\n    type: io.kestra.plugin.scripts.shell.Commands\n    {task}\n");
    read_one(&text).unwrap_err()
}

#[test]
fn the_seeds_first_flow() {
    let flow = read_one(SEED).unwrap();
    let task = &flow.tasks[0];
    assert_eq!(
        (flow.id.as_str(), flow.namespace.as_str()),
        ("kubernetes_task_runner", "company.team")
    );
    assert_eq!(flow.inputs[0].kind, InputKind::File);
    assert_eq!(task.image.text, "centos");
    assert_eq!(task.inputs[0].0.text, "data.txt");
    assert_eq!(task.options.to_json(), json!({}));
    assert_eq!(
        task.config.as_ref().unwrap().get("masterUrl").unwrap().text().unwrap(),
        "https://docker-for-desktop:6443"
    );
}

#[test]
fn credentials_are_no_part_of_a_flows_identity() {
    let flow = read_one(SEED).unwrap();
    assert!(
        !flow.identity.to_string().contains("client-key-data"),
        "{}",
        flow.identity
    );
    let rotated = read_one(&SEED.replace("client-key-data", "another-key")).unwrap();
    assert_eq!(flow.identity, rotated.identity);
    let other = read_one(&SEED.replace("cp data.txt", "mv data.txt")).unwrap();
    assert_ne!(flow.identity, other.identity);
    let defaults =
        "id: f\ntasks: [{id: t, type: io.kestra.plugin.scripts.shell.Commands, containerImage: b, commands: [a]}]
pluginDefaults:
  - {type: io.kestra.plugin.scripts, values: {taskRunner: {config: {oauthToken: s3cret}}}}
  - {type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes, values: {config: {oauthToken: s3cret}}}";
    assert!(!read_one(defaults).unwrap().identity.to_string().contains("s3cret"));
}

#[test]
fn the_operators_config_replaces_placeholders_whole() {
    let operator = "
pluginDefaults:
  - type: io.kestra.plugin.scripts
    forced: true
    values: {taskRunner: {namespace: jobs, config: {masterUrl: 'https://real', oauthToken: real}}}
";
    let flow = read_with(SEED, operator).unwrap();
    let task = &flow.tasks[0];
    assert_eq!(
        task.config.as_ref().unwrap().to_json(),
        json!({"masterUrl": "https://real", "oauthToken": "real"})
    );
    assert_eq!(task.options.to_json(), json!({"namespace": "jobs"}));
}

#[test]
fn mistakes_in_a_flow() {
    insta::assert_snapshot!(read_one("- a").unwrap_err(), @"flow.yaml:1:1: a flow is a mapping with `id` and `tasks`, not a list");
    insta::assert_snapshot!(read_one("id: f\ntask: []").unwrap_err(), @"flow.yaml:2:1: unknown property `task`: did you mean `tasks`?");
    insta::assert_snapshot!(read_one("tasks: []").unwrap_err(), @"flow.yaml:1:1: a flow needs an `id`");
    insta::assert_snapshot!(read_one("id: f\ntasks: []").unwrap_err(), @"flow.yaml:1:1: flow `f` has no `tasks`: list at least one");
    insta::assert_snapshot!(read_one("id: a/b\ntasks: []").unwrap_err(), @"flow.yaml:1:5: `a/b` cannot be the id of a flow: use up to 100 letters, digits, `-` and `_`");
    insta::assert_snapshot!(read_one("id: f\ninputs: [{id: a, type: FIEL}]\ntasks: []").unwrap_err(), @"flow.yaml:2:24: unknown type of input `a`: `FIEL`: did you mean `FILE`?");
    insta::assert_snapshot!(read_one("id: f\ninputs: [{id: a, type: INT}, {id: a, type: INT}]\ntasks: []").unwrap_err(), @"flow.yaml:2:30: two inputs have the id `a`: give each its own");
    insta::assert_snapshot!(read_one("id: f\ntasks: [{id: t, type: io.kestra.plugin.scripts.shell.Command}]").unwrap_err(), @"flow.yaml:2:23: unknown type of task `t`: `io.kestra.plugin.scripts.shell.Command`: did you mean `io.kestra.plugin.scripts.shell.Commands`?");
}

#[test]
fn mistakes_in_a_task() {
    insta::assert_snapshot!(refusal("commands: [a]"), @"flow.yaml:3:5: task `t` needs a `containerImage`, for example `containerImage: debian:stable-slim`");
    insta::assert_snapshot!(refusal("containerimage: busybox\ncommands: [a]"), @"flow.yaml:5:5: unknown property of task `t`: `containerimage`: did you mean `containerImage`?");
    insta::assert_snapshot!(refusal("containerImage: busybox\nscript: a"), @"flow.yaml:6:5: unknown property of task `t`: `script`: known are `id`, `type`, `description`, `containerImage`, `taskRunner`, `inputFiles`, `outputFiles`, `env`, `beforeCommands`, `interpreter`, `failFast`, `timeout`, `commands`");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: []"), @"flow.yaml:3:5: task `t` needs `commands`: a list of shell commands");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: echo"), @"flow.yaml:6:15: `commands` of task `t` must be a list, not text");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a, {b: c}]"), @"flow.yaml:6:19: `commands[1]` of task `t` must be text, not a mapping");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\nfailFast: yep"), @"flow.yaml:7:15: `failFast` of task `t` must be true or false, not text");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\nenv: [A]"), @"flow.yaml:7:10: `env` of task `t` must be a mapping of names to values, not a list");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\ntaskRunner: {type: a.Docker}"), @"flow.yaml:7:24: unknown task runner of task `t`: `a.Docker`: known are `io.kestra.plugin.ee.kubernetes.runner.Kubernetes`");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: ['{{ inputs.x }}']"), @"flow.yaml:6:17: cannot render `{{ inputs.x }}` in `commands[0]` of task `t`: `inputs` has no `x`: there is none to refer to");
}

#[test]
fn mistakes_in_the_operators_defaults_point_into_that_file() {
    let operator = "pluginDefaults:\n  - type: io.kestra.plugin.scripts\n    values: {containerImge: busybox}";
    let flow = "id: f\ntasks: [{id: t, type: io.kestra.plugin.scripts.shell.Commands, commands: [a]}]";
    insta::assert_snapshot!(read_with(flow, operator).unwrap_err(), @"defaults.yaml:3:14: unknown property of task `t`: `containerImge`: did you mean `containerImage`?");
    insta::assert_snapshot!(read_with(flow, "plugindefaults: []").unwrap_err(), @"defaults.yaml:1:1: unknown property `plugindefaults`: did you mean `pluginDefaults`?");
    insta::assert_snapshot!(read_with(flow, "pluginDefaults: [{type: a, value: {}}]").unwrap_err(), @"defaults.yaml:1:28: unknown property of `pluginDefaults` `value`: did you mean `values`?");
    insta::assert_snapshot!(read_with(flow, "pluginDefaults: [{type: a, values: {type: b}}]").unwrap_err(), @"defaults.yaml:1:43: a default cannot change the `type` that it applies to; remove it");
}
