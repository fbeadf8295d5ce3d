//! Rendered tasks, and what is refused.

use super::*;
use crate::at::At;
use crate::flow;
use crate::inputs::{StoredInput, StoredValue};
use crate::scope::Finished;
use crate::state::StateDir;
use podrun_host::{Origin, Outcome, OutputFile, Status};
use std::path::Path;

const SHELL: &str = "io.kestra.plugin.scripts.shell";
const PYTHON: &str = "io.kestra.plugin.scripts.python";

/// Plan the last task of a flow whose inputs are a file `file` and a text `text`.
fn planned(kind: &str, task: &str) -> Result<Planned, String> {
    let text = format!(
        "id: f\nnamespace: n\ninputs:\n  - {{id: file, type: FILE}}\n  - {{id: text, type: STRING}}\ntasks:\n  \
         - {{id: first, type: {SHELL}.Commands, containerImage: b, commands: [a]}}\n  \
         - id: t\n    type: {kind}\n    containerImage: busybox\n    {}\n",
        task.replace('\n', "\n    ")
    );
    let renderer = Renderer::new().unwrap();
    let flow = flow::read(Path::new("flow.yaml"), &text, &[], &renderer).map_err(|problem| problem.to_string())?;
    let inputs = [
        StoredInput {
            id: "file".into(),
            value: StoredValue::File {
                size: 1,
                sha256: String::new(),
                executable: true,
            },
        },
        StoredInput {
            id: "text".into(),
            value: StoredValue::Plain("some text".into()),
        },
    ];
    let dir = tempfile::tempdir().unwrap();
    let folder = StateDir::at(dir.path().join("state")).unwrap().execution("x");
    let mut scope = Scope::new(&flow, "x", 0, &inputs, &folder);
    scope.add(&finished(), &At::default(), &folder);
    let names = Names {
        execution: "x",
        task: "t",
        attempt: 1,
    };
    let mut scope = scope.for_task("t", &names.task_run(), 1, &At::default());
    scope.directories("/podrun/work", "/podrun/out");
    let mut planned = plan(
        &flow,
        *flow.scripts().last().unwrap(),
        &names,
        &scope,
        &namespace(),
        &renderer,
        &serde_json::Value::Null,
    )
    .map_err(|problem| problem.to_string())?;
    for file in &mut planned.files {
        if let Content::File(path) = &mut file.content {
            *path = path.strip_prefix(dir.path()).unwrap().to_owned();
        }
    }
    Ok(planned)
}

/// The files of the flow's namespace.
fn namespace() -> Folder {
    let file = |path: &str| crate::namespace::File {
        path: path.to_owned(),
        source: format!("/namespace/{path}").into(),
        executable: path == "run.sh",
    };
    Folder {
        files: ["a.py", "d/b.py", "d/c.txt", "run.sh"].map(file).to_vec(),
    }
}

#[test]
fn files_of_the_namespace_lie_behind_the_tasks_own() {
    let paths = |wanted: &str, inputs: &str| {
        let task = format!("commands: [a]\nnamespaceFiles: {wanted}\ninputFiles: {inputs}");
        let planned = planned(&format!("{SHELL}.Commands"), &task).unwrap();
        let files = planned.files.into_iter();
        files
            .map(|file| match file.content {
                Content::Foreign(_) => format!("{} {:o}", file.path, file.mode),
                _ => format!("own {}", file.path),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        paths("{}", "{}"),
        ["a.py 644", "d/b.py 644", "d/c.txt 644", "run.sh 755"]
    );
    assert!(paths("{enabled: false}", "{}").is_empty());
    assert_eq!(paths("{include: '*.py', exclude: [a.py]}", "{}"), ["d/b.py 644"]);
    assert_eq!(paths("{include: ['regex:d/.*']}", "{}"), ["d/b.py 644", "d/c.txt 644"]);
    // One of the task's own wins, and so does a file of its own where the namespace has a folder.
    assert_eq!(paths("{include: 'a.py'}", "{a.py: x}"), ["own a.py"]);
    assert_eq!(paths("{include: 'd/**'}", "{d: x}"), ["own d"]);
}

/// What the first task gave back: a value, and files of the same name from both directories.
fn finished() -> Finished {
    let file = |origin, path: &str, mode| OutputFile {
        origin,
        path: path.into(),
        size: 1,
        mode,
        sha256: String::new(),
    };
    let outcome = Outcome {
        status: Status::Succeeded,
        reason: None,
        retryable: false,
        exit_code: Some(0),
        message: String::new(),
        files: vec![
            file(Origin::OutputDir, "sub/out.sh", 0o755),
            file(Origin::WorkingDir, "both.txt", 0o644),
            file(Origin::OutputDir, "both.txt", 0o644),
        ],
        started: None,
        finished: None,
        details: Vec::new(),
    };
    let vars = serde_json::json!({"x": "published"}).as_object().unwrap().clone();
    Finished {
        name: "first".into(),
        attempt: 1,
        outcome,
        vars,
    }
}

#[test]
fn patterns_reach_the_runner_relative_and_without_a_word_for_globs() {
    let task = "commands: [a]\noutputFiles: ['glob:*.txt', /out/*.csv, 'regex:/x', \"{{ inputs.text | replace({' ': '/'}) }}\"]";
    let task = planned(&format!("{SHELL}.Commands"), task).unwrap().task;
    assert_eq!(task.outputs, ["*.txt", "out/*.csv", "regex:/x", "some/text"]);
}

#[test]
fn a_block_of_text_that_is_one_file_is_that_file() {
    let task =
        "commands: [a]\ninputFiles:\n  a.csv: |\n    {{ inputs.file }}\n  b.csv: |\n    {{ inputs.file }} and more\n";
    let files = planned(&format!("{SHELL}.Commands"), task).unwrap().files;
    assert!(matches!(&files[0].content, Content::File(_)), "{:?}", files[0]);
    assert!(matches!(&files[1].content, Content::Text(_)), "{:?}", files[1]);
}

fn refusal(task: &str) -> String {
    planned(&format!("{SHELL}.Commands"), task).unwrap_err()
}

#[test]
fn commands_become_one_shell_script() {
    let task = planned(
        &format!("{SHELL}.Commands"),
        "beforeCommands: [pwd]\ncommands:\n  - echo \"$$ {{ inputs.text }}\"\n  - cd {{ workingDir }}; ls {{ outputDir }}\nenv: {A: '{{ outputs.first.vars.x }}', N: 1.10}\ntimeout: PT1M30S",
    )
    .unwrap()
    .task;
    let script = "set -e\npwd\necho '##kestra:log:info##'\necho \"$$ some text\"\ncd /podrun/work; ls /podrun/out";
    assert_eq!(task.command, ["/bin/sh", "-c", script]);
    assert_eq!(
        task.env,
        [
            ("A".to_owned(), "published".to_owned()),
            ("N".to_owned(), "1.10".to_owned())
        ]
    );
    assert_eq!(task.timeout, Some(90));
    assert_eq!(task.id, "x.t.1");
    let labels: Vec<(&str, &str)> = task
        .labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let expected = [
        ("namespace", "n"),
        ("flow", "f"),
        ("execution", "x"),
        ("task", "t"),
        ("taskrun", "x.t"),
        ("attempt", "1"),
    ];
    assert_eq!(labels, expected);
}

#[test]
fn fail_fast_is_for_shells_and_can_be_turned_off() {
    let command = |task: &str| planned(&format!("{SHELL}.Script"), task).unwrap().task.command;
    assert_eq!(command("script: a"), ["/bin/sh", "-c", "set -e\na"]);
    assert_eq!(command("script: a\nfailFast: false"), ["/bin/sh", "-c", "a"]);
    assert_eq!(
        command("script: a\ninterpreter: [bash, -c]"),
        ["bash", "-c", "set -e\na"]
    );
    assert_eq!(command("script: a\ninterpreter: [perl, -e]"), ["perl", "-e", "a"]);
}

#[test]
fn a_python_script_is_a_file_beside_its_inputs() {
    let planned = planned(
        &format!("{PYTHON}.Script"),
        "script: |\n  print(\"{{ inputs.text }}\")\ninputFiles: {helper.py: 'x = 1'}",
    )
    .unwrap();
    insta::assert_snapshot!(planned.task.command[2], @r#"
    set -e
    exec "$(command -v python3 || command -v python || echo python3)" "$WORKING_DIR/podrun-script.py"
    "#);
    let text = |text: &str| Content::Text(text.to_owned());
    let expected = [
        ("helper.py", text("x = 1")),
        ("podrun-script.py", text("print(\"some text\")\n")),
    ];
    let files: Vec<(&str, Content)> = planned
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.content.clone()))
        .collect();
    assert_eq!(files, expected);
    assert!(
        planned
            .task
            .env
            .contains(&("PYTHONUNBUFFERED".to_owned(), "true".to_owned()))
    );
}

#[test]
fn another_interpreter_runs_the_python_file() {
    let planned = planned(
        &format!("{PYTHON}.Script"),
        "script: pass\ninterpreter: [/venv/bin/python]",
    )
    .unwrap();
    assert_eq!(planned.task.command, ["/venv/bin/python", "podrun-script.py"]);
}

#[test]
fn a_files_uri_stands_for_the_file_and_anything_else_is_content() {
    let planned = planned(
        &format!("{SHELL}.Commands"),
        "commands: [a]\ninputFiles:\n  in/data.bin: '{{ inputs.file }}'\n  out.sh: \"{{ outputs.first.outputFiles['sub/out.sh'] }}\"\n  both: \"{{ outputs.first.outputFiles['both.txt'] }}\"\n  note.txt: 'see {{ inputs.file }}'\n  empty.txt: ''",
    )
    .unwrap();
    let file = |path: &str| Content::File(Path::new("state/executions/x").join(path));
    let expected = [
        ("in/data.bin", file("inputs/file"), 0o755),
        ("out.sh", file("tasks/first.1/outputs/out/sub/out.sh"), 0o755),
        ("both", file("tasks/first.1/outputs/work/both.txt"), 0o644),
        ("note.txt", Content::Text("see podrun:///inputs/file".into()), 0o644),
        ("empty.txt", Content::Text(String::new()), 0o644),
    ];
    let staged: Vec<_> = planned
        .files
        .iter()
        .zip(&planned.task.inputs)
        .map(|(file, input)| (file.path.as_str(), file.content.clone(), input.mode))
        .collect();
    assert_eq!(staged, expected);
}

#[test]
fn options_are_rendered_and_keep_their_types() {
    let task = planned(
        &format!("{SHELL}.Commands"),
        "commands: [a]\ntaskRunner:\n  type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes\n  namespace: '{{ flow.namespace }}'\n  inlineLimit: 0\n  delete: false\n  resources: {request: {cpu: 500m}}",
    )
    .unwrap()
    .task;
    let options: serde_json::Value = serde_json::from_str(&task.options).unwrap();
    let expected = serde_json::json!({"namespace": "n", "inlineLimit": 0, "delete": false, "resources": {"request": {"cpu": "500m"}}});
    assert_eq!(options, expected);
}

#[test]
fn refused_input_names() {
    let name = |name: &str| refusal(&format!("commands: [a]\ninputFiles: {{\"{name}\": x}}"));
    insta::assert_snapshot!(name("/etc/x"), @"flow.yaml:12:18: `inputFiles./etc/x` of task `t`: file name `/etc/x` is absolute: write it relative to the working directory");
    insta::assert_snapshot!(name("a/../x"), @"flow.yaml:12:18: `inputFiles.a/../x` of task `t`: file name `a/../x` has an empty, `.` or `..` part: write it without");
    insta::assert_snapshot!(name("a//x"), @"flow.yaml:12:18: `inputFiles.a//x` of task `t`: file name `a//x` has an empty, `.` or `..` part: write it without");
    insta::assert_snapshot!(name(""), @"flow.yaml:12:18: `inputFiles.` of task `t`: file name `` is empty: name a file in the working directory");
    insta::assert_snapshot!(name("a\\nb"), @r"flow.yaml:12:18: `inputFiles.a\nb` of task `t`: file name `a\nb` holds a line end or NUL: remove it");
    insta::assert_snapshot!(refusal("commands: [a]\ninputFiles: {a: x, a/b: y}"), @"flow.yaml:12:24: `inputFiles.a/b` of task `t`: file `a/b` is in the way of `a`: rename one of the two");
}

#[test]
fn refused_values() {
    insta::assert_snapshot!(refusal("commands: [a]\ninputFiles: {a: 'podrun:///inputs/other'}"), @"flow.yaml:12:21: `inputFiles.a` of task `t` names `podrun:///inputs/other`, which is no file of this execution");
    insta::assert_snapshot!(refusal("commands: [a, 'cat {{ inputs.file }}']"), @"flow.yaml:11:19: `commands[1]` of task `t` uses the file `podrun:///inputs/file` as text: list it in `inputFiles`, and use its name there");
    insta::assert_snapshot!(refusal("commands: [a]\noutputFiles: ['{{ workingDir }}/*.txt']"), @"flow.yaml:12:19: `outputFiles[0]` of task `t` names the workingDir itself: write it relative to the working directory");
    insta::assert_snapshot!(refusal("commands: [a]\noutputFiles: ['a/../*']"), @"flow.yaml:12:19: `outputFiles[0]` of task `t`: pattern `a/../*` climbs out of the folder: remove `..`");
    insta::assert_snapshot!(refusal("commands: [a]\ntimeout: 5 min"), @"flow.yaml:12:14: `timeout` of task `t` is no duration of fixed length: write an ISO 8601 duration such as `PT5M` or `PT1H30M`");
    insta::assert_snapshot!(refusal("commands: [a]\ntimeout: PT0S"), @"flow.yaml:12:14: `timeout` of task `t` is `PT0S`, which is not between one second and 136 years: write for example `PT5M` or `PT1H30M`");
    insta::assert_snapshot!(refusal("commands: [a]\nenv: {A=B: x}"), @"flow.yaml:12:16: `env.A=B` of task `t`: `A=B` cannot name an environment variable");
    let long = "x".repeat(LONGEST_ARGUMENT);
    insta::assert_snapshot!(refusal(&format!("commands: [{long}]")), @"flow.yaml:11:16: the `commands` of task `t` are 131078 bytes, and Linux allows 131071: put the script in a file with `inputFiles`");
}
