//! `podrun schema`, `podrun explain` and `podrun render`.

use serde_json::Value;

use crate::sandbox::Sandbox;

#[test]
fn the_schema_knows_every_type_and_the_runner() {
    let sandbox = Sandbox::new();
    let schema: Value = serde_json::from_str(&sandbox.podrun(&["schema"]).expect(0).out).unwrap();
    let definitions = schema["$defs"].as_object().unwrap();
    let types = schema["$defs"]["Task"]["allOf"].as_array().unwrap().len();
    assert_eq!(types, 28);
    let runner = &definitions["TaskRunner"]["properties"];
    assert_eq!(runner["namespace"]["description"], "Where the task runs.");
    assert_eq!(runner["config"]["$ref"], "#/$defs/RunnerConfig");
    // Whatever is referred to is there.
    let text = schema.to_string();
    for part in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(definitions.contains_key(name), "{name}");
    }
    let defaults: Value = serde_json::from_str(&sandbox.podrun(&["schema", "--defaults"]).expect(0).out).unwrap();
    assert!(defaults["properties"]["pluginDefaults"].is_object());
    assert!(
        sandbox
            .podrun(&["schema", "--help"])
            .expect(0)
            .out
            .contains("# yaml-language-server: $schema=")
    );
}

#[test]
fn explain_is_a_table_for_people() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1"]);
    let out = sandbox.podrun(&["explain", "flow.yaml", "t1"]).expect(0).out;
    assert!(!out.contains("s3cret"), "{out}");
    insta::assert_snapshot!(out, @r#"
    task `t1`, io.kestra.plugin.scripts.shell.Script
      allowFailure                  false                                  built-in
      containerImage                busybox                                task flow.yaml:7:21
      disabled                      false                                  built-in
      failFast                      true                                   built-in
      id                            t1                                     task flow.yaml:5:9
      inputFiles                    {}                                     task flow.yaml:8:17
      interpreter                   ["/bin/sh","-c"]                       built-in
      script                        say 1                                  task flow.yaml:11:7
      targetOS                      AUTO                                   built-in
      taskRunner.config.masterUrl   (not shown)                            task flow.yaml:9:38
      taskRunner.config.oauthToken  (not shown)                            task flow.yaml:9:64
      taskRunner.delete             true                                   built-in
      taskRunner.waitUntilRunning   PT10M                                  built-in
      type                          io.kestra.plugin.scripts.shell.Script  task flow.yaml:6:11
    "#);
    let error = sandbox.podrun(&["explain", "flow.yaml", "t2"]).expect(2).error;
    insta::assert_snapshot!(error, @"error: the flow has no task `t2`: did you mean `t1`?");
}

#[test]
fn a_word_is_no_reason_not_to_render_a_task() {
    let sandbox = Sandbox::new();
    let script = |id: &str, text: &str| {
        format!(
            "  - {{id: {id}, type: io.kestra.plugin.scripts.shell.Script, containerImage: busybox, script: \"{text}\"}}\n"
        )
    };
    let flow = [
        "id: f\nvariables: {greeting: 'hello {{ flow.id }}', n: '{{ outputs.a.exitCode }}'}\ntasks:\n".to_owned(),
        script(
            "a",
            "{{ flow.id }} outputs of parents, error in {{ render(vars.greeting) }}",
        ),
        script("b", "{{ tasks.a.state }}"),
        script("c", "{{ render(vars.n) }}"),
    ];
    sandbox.write("flow.yaml", &flow.concat());
    let out = sandbox.podrun(&["render", "flow.yaml"]).expect(0).out;
    let tasks: Vec<&str> = out.lines().filter(|line| line.starts_with("# task")).collect();
    let later = "uses what there is only while the flow runs: what another task left, or the value of a round";
    let expected = ["# task a", &format!("# task b {later}"), &format!("# task c {later}")];
    assert_eq!(tasks, expected);
    sandbox.podrun(&["render", "flow.yaml", "a"]).expect(0);
}

#[test]
fn render_prints_the_pods_and_creates_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("data", "x");
    sandbox.write(
        "flow.yaml",
        "id: f\ninputs: [{id: file, type: FILE}]\ntasks:\n  - {id: a, type: io.kestra.plugin.scripts.shell.Commands, \
         containerImage: busybox, commands: [say 1], inputFiles: {data: '{{ inputs.file }}'}}\n  - {id: b, type: \
         io.kestra.plugin.scripts.shell.Commands, containerImage: busybox, commands: ['say {{ outputs.a.exitCode }}']}\n",
    );
    let out = sandbox
        .podrun(&["render", "flow.yaml", "-i", "file=@data"])
        .expect(0)
        .out;
    insta::assert_snapshot!(out, @"
    ---
    # task a
    inputs: 1
    kind: Pod
    metadata:
      name: render.a.1
    ---
    # task b uses what there is only while the flow runs: what another task left, or the value of a round
    ");
    let out = sandbox
        .podrun(&["render", "flow.yaml", "a", "-i", "file=@data", "--json"])
        .expect(0)
        .out;
    insta::assert_snapshot!(out, @r#"{"pod":{"inputs":1,"kind":"Pod","metadata":{"name":"render.a.1"}},"task":"a","type":"pod"}"#);
    let error = sandbox
        .podrun(&["render", "flow.yaml", "b", "-i", "file=@data"])
        .expect(2)
        .error;
    insta::assert_snapshot!(error, @"error: task `b` uses what there is only while the flow runs: what another task left, or the value of a round");
    let error = sandbox
        .podrun(&["render", "flow.yaml", "-i", "file=@data", "--server"])
        .expect(2)
        .error;
    insta::assert_snapshot!(error, @"error: no cluster to run in: add `--kubeconfig FILE`, set KUBECONFIG, or give the task a `taskRunner.config`");
    sandbox.podrun(&["render", "flow.yaml"]).expect(2);
    assert_eq!(std::fs::read_dir(sandbox.path("state/executions")).unwrap().count(), 0);
    assert_eq!(sandbox.podrun(&["ps", "--all", "--json"]).expect(0).out, "");
}
