//! What a flow may say, and what the error is when it says something else.

use std::path::Path;

use serde_json::json;

use super::model::{Body, Delay, Kind, Step, Values};
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

fn read_both(text: &str, operator: &str) -> Result<Flow, String> {
    let operator = read_defaults(Path::new("defaults.yaml"), operator).map_err(|problem| problem.to_string())?;
    read(Path::new("flow.yaml"), text, &operator, &Renderer::new().unwrap()).map_err(|problem| problem.to_string())
}

fn read_one(text: &str) -> Result<Flow, String> {
    read_both(text, "pluginDefaults: []")
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
    let task = flow.scripts()[0].script;
    assert_eq!(
        (flow.id.as_str(), flow.namespace.as_str()),
        ("kubernetes_task_runner", "company.team")
    );
    assert_eq!(flow.inputs[0].kind, InputKind::File);
    assert_eq!(task.image.text, "centos");
    let InputFiles::Map(inputs) = &task.inputs else {
        panic!("a mapping")
    };
    assert_eq!(inputs[0].0.text, "data.txt");
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
    let flow = read_both(SEED, operator).unwrap();
    let task = flow.scripts()[0].script;
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
    insta::assert_snapshot!(read_one("tasks: []").unwrap_err(), @"
    flow.yaml:1:1: the flow needs `id`: names the flow
    flow.yaml:1:8: `tasks` has too few items: list at least 1
    ");
    insta::assert_snapshot!(read_one("id: f\ntasks: []").unwrap_err(), @"flow.yaml:2:8: `tasks` has too few items: list at least 1");
    insta::assert_snapshot!(read_one("id: a/b\ntasks: []").unwrap_err(), @"
    flow.yaml:1:5: `id` is not valid: use up to 100 letters, digits, `.`, `-` and `_`, a letter or digit first
    flow.yaml:2:8: `tasks` has too few items: list at least 1
    ");
    insta::assert_snapshot!(read_one("id: f\ninputs: [{id: a, type: FIEL}]\ntasks: []").unwrap_err(), @"
    flow.yaml:2:24: unknown type of input `a`: `FIEL`: did you mean `FILE`?
    flow.yaml:3:8: `tasks` has too few items: list at least 1
    ");
    insta::assert_snapshot!(read_one("id: f\ninputs: [{id: a, type: INT}, {id: a, type: INT}]\ntasks: []").unwrap_err(), @"
    flow.yaml:2:35: two inputs have the id `a`, the other one at flow.yaml:2:15: give each its own
    flow.yaml:3:8: `tasks` has too few items: list at least 1
    ");
    insta::assert_snapshot!(read_one("id: f\ntasks: [{id: t, type: io.kestra.plugin.scripts.shell.Command}]").unwrap_err(), @"flow.yaml:2:23: unknown type of task `t`: `io.kestra.plugin.scripts.shell.Command`: did you mean `io.kestra.plugin.scripts.shell.Commands`?");
}

#[test]
fn mistakes_in_a_task() {
    insta::assert_snapshot!(refusal("commands: [a]"), @"flow.yaml:3:5: task `t` needs `containerImage`, for example `containerImage: debian:stable-slim`");
    insta::assert_snapshot!(refusal("containerimage: busybox\ncommands: [a]"), @"flow.yaml:5:5: unknown property of task `t`: `containerimage`: did you mean `containerImage`?");
    insta::assert_snapshot!(refusal("containerImage: busybox\nscript: a"), @"
    flow.yaml:3:5: task `t` needs `commands`: commands, run one after the other in one shell
    flow.yaml:6:5: unknown property of task `t`: `script`: only types that end in `.Script` have it
    ");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: []"), @"flow.yaml:6:15: `commands` of task `t` has too few items: list at least 1");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: echo"), @"flow.yaml:6:15: `commands` of task `t` must be a list, not text");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a, {b: c}]"), @"flow.yaml:6:19: `commands[1]` of task `t` must be text, not a mapping");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\nfailFast: yep"), @"flow.yaml:7:15: `failFast` of task `t` must be true or false, not text");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\nenv: [A]"), @"flow.yaml:7:10: `env` of task `t` must be a mapping, not a list");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: [a]\ntaskRunner: {type: a.Docker}"), @"flow.yaml:7:24: `taskRunner.type` of task `t` is none of its possible values: write one of `io.kestra.plugin.ee.kubernetes.runner.Kubernetes`, `io.kestra.plugin.kubernetes.runner.Kubernetes`");
    insta::assert_snapshot!(refusal("containerImage: busybox\ncommands: ['{{ inputs.x }}']"), @"flow.yaml:6:17: cannot render `{{ inputs.x }}` in `commands[0]` of task `t`: `inputs` has no `x`: there is none to refer to");
}

#[test]
fn mistakes_in_the_operators_defaults_point_into_that_file() {
    let operator = "pluginDefaults:\n  - type: io.kestra.plugin.scripts\n    values: {containerImge: busybox}";
    let flow = "id: f\ntasks: [{id: t, type: io.kestra.plugin.scripts.shell.Commands, commands: [a]}]";
    insta::assert_snapshot!(read_both(flow, operator).unwrap_err(), @"defaults.yaml:3:14: unknown property of the tasks that the default for `io.kestra.plugin.scripts` covers: `containerImge`: did you mean `containerImage`?");
    insta::assert_snapshot!(read_both(flow, "plugindefaults: []").unwrap_err(), @"defaults.yaml:1:1: unknown property of the defaults file: `plugindefaults`: did you mean `pluginDefaults`?");
    insta::assert_snapshot!(read_both(flow, "pluginDefaults: [{type: a, value: {}}]").unwrap_err(), @"defaults.yaml:1:28: unknown property of `pluginDefaults[0]` of the defaults file: `value`: did you mean `values`?");
    insta::assert_snapshot!(read_both(flow, "pluginDefaults: [{type: io.kestra.plugin.scripts, values: {type: b}}]").unwrap_err(), @"defaults.yaml:1:60: a default cannot change the `type` of what it applies to: remove it");
}

/// Every type of task, and most properties.
const EVERYTHING: &str = r#"
id: everything
labels: {team: data}
inputs:
  - {id: size, type: INT, min: 1, max: 9, defaults: 3}
  - {id: color, type: SELECT, values: [red, blue]}
  - {id: list, type: ARRAY, itemType: INT, required: false}
  - {id: name, type: STRING, validator: "[a-z]+"}
variables:
  greeting: "hello {{ inputs.name }}"
tasks:
  - id: both
    type: io.kestra.plugin.core.flow.Parallel
    concurrent: 2
    tasks:
      - id: one
        type: io.kestra.plugin.scripts.ruby.Script
        containerImage: ruby
        script: puts 1
        retry: {type: exponential, interval: PT1S, maxInterval: PT1M, maxAttempts: 3}
        outputFiles:
          - "*.txt"
          - {pattern: must.csv, required: true}
        namespaceFiles: {include: "*.sql"}
        inputFiles: "{{ inputs.list }}"
      - id: two
        type: io.kestra.core.tasks.flows.Sequential
        tasks:
          - {id: log, type: io.kestra.core.tasks.log.Log, message: [a, b], level: WARN}
        errors:
          - {id: failed, type: io.kestra.plugin.core.log.Log, message: failed}
  - id: each
    type: io.kestra.plugin.core.flow.ForEach
    values: [1, "{{ inputs.size }}"]
    concurrencyLimit: 0
    tasks:
      - {id: value, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.one.exitCode }}"}
  - id: choose
    type: io.kestra.plugin.core.flow.If
    condition: "{{ inputs.size > 2 }}"
    then:
      - {id: big, type: io.kestra.plugin.core.debug.Return, format: big}
    else:
      - {id: small, type: io.kestra.plugin.core.debug.Return, format: small, disabled: true}
  - id: switch
    type: io.kestra.plugin.core.flow.Switch
    value: "{{ inputs.color }}"
    cases:
      red:
        - {id: red, type: io.kestra.plugin.core.execution.Fail, errorMessage: no red}
    defaults:
      - {id: other, type: io.kestra.plugin.core.log.Log, message: other}
  - {id: metadata, type: io.kestra.plugin.gcp.gke.ClusterMetadata, clusterId: c, clusterZone: z, projectId: p}
  - {id: auth, type: io.kestra.plugin.gcp.auth.OauthAccessToken, allowFailure: true, runIf: "{{ inputs.size == 3 }}"}
errors:
  - {id: sorry, type: io.kestra.plugin.core.log.Log, message: sorry}
finally:
  - {id: done, type: io.kestra.plugin.core.log.Log, message: "{{ outputs.choose }}"}
outputs:
  - {id: result, type: STRING, value: "{{ outputs.big.value }}"}
"#;

#[test]
fn every_type_of_task_is_read() {
    let flow = read_one(EVERYTHING).unwrap();
    let ids = |steps: &[Step]| steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>();
    assert_eq!(
        ids(&flow.tasks),
        ["both", "each", "choose", "switch", "metadata", "auth"]
    );
    let Kind::Parallel { concurrent: 2, body } = &flow.tasks[0].kind else {
        panic!("{:?}", flow.tasks[0].kind)
    };
    let one = &body.tasks[0];
    assert_eq!(
        one.retry.as_ref().unwrap().delay,
        Delay::Exponential {
            interval: 1000,
            max_interval: 60_000,
            factor: 2.0
        }
    );
    let Kind::Script(script) = &one.kind else {
        panic!("{:?}", one.kind)
    };
    assert_eq!(script.language, Language::Ruby);
    assert!(script.outputs[1].required && !script.outputs[0].required);
    assert_eq!(script.outputs[1].pattern.what, "`outputFiles[1]` of task `one`");
    assert_eq!(script.namespace_files.as_ref().unwrap().include[0].text, "*.sql");
    assert!(matches!(script.inputs, InputFiles::Expression(_)));
    let Kind::Sequential {
        body: Body { tasks, errors, .. },
    } = &body.tasks[1].kind
    else {
        panic!("{:?}", body.tasks[1].kind)
    };
    assert!(matches!(&tasks[0].kind, Kind::Log { messages, level: podrun_host::Level::Warn } if messages.len() == 2));
    assert_eq!(ids(errors), ["failed"]);
    assert!(
        matches!(&flow.tasks[1].kind, Kind::ForEach { values: Values::List(items), concurrency: 0, .. } if items.len() == 2)
    );
    let Kind::If { body, otherwise, .. } = &flow.tasks[2].kind else {
        panic!("{:?}", flow.tasks[2].kind)
    };
    assert_eq!(
        (ids(&body.tasks), ids(otherwise)),
        (vec!["big".into()], vec!["small".into()])
    );
    assert!(otherwise[0].disabled);
    assert!(
        matches!(&flow.tasks[3].kind, Kind::Switch { cases, body, .. } if cases[0].0 == "red" && body.tasks.len() == 1)
    );
    assert!(flow.tasks[5].allow_failure && flow.tasks[5].run_if.is_some());
    assert_eq!(
        (flow.labels[0].0.as_str(), flow.namespace.as_str()),
        ("team", "default")
    );
    assert_eq!(flow.inputs[1].rules.values, ["red", "blue"]);
    assert_eq!(flow.inputs[2].rules.items, Some(InputKind::Int));
    assert_eq!(flow.inputs[0].rules.max.as_ref().unwrap().text, "9");
    assert_eq!(flow.outputs[0].id, "result");
}

#[test]
fn all_mistakes_are_found_at_once_and_in_their_order() {
    let text = EVERYTHING
        .replace("concurrent: 2", "concurrent: two")
        .replace("level: WARN", "level: WARM")
        .replace("inputs.color", "inputs.colour")
        .replace("clusterId: c", "clusterID: c")
        .replace("outputs.choose", "outputs.chose");
    insta::assert_snapshot!(read_one(&text).unwrap_err(), @"
    flow.yaml:14:17: `concurrent` of task `both` must be a whole number, not text
    flow.yaml:29:83: `level` of task `log` is none of its possible values: did you mean `WARN`?
    flow.yaml:47:13: cannot render `{{ inputs.colour }}` in `value` of task `switch`: `inputs` has no `colour`: did you mean `color`?
    flow.yaml:53:68: unknown property of task `metadata`: `clusterID`: did you mean `clusterId`?
    flow.yaml:58:63: cannot render `{{ outputs.chose }}` in `message` of task `done`: `outputs` (tasks before this one) has no `chose`: did you mean `choose`?
    ");
}
