//! Flows that run, and what is left of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::sandbox::{Sandbox, finished};

/// True if a file below `folder` holds `text`.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, text);
        }
        std::fs::read(path)
            .unwrap()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

#[test]
fn files_and_values_go_from_task_to_task() {
    let sandbox = Sandbox::new();
    sandbox.write("data", "content");
    sandbox.write(
        "flow.yaml",
        "
id: f
namespace: n
inputs: [{id: file, type: FILE}]
tasks:
  - id: one
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner: {config: {masterUrl: https://ok}}
    inputFiles: {a.txt: '{{ inputs.file }}'}
    commands: [publish count 2, copy a.txt b.txt, keep kept k.txt]
  - id: two
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner: {config: {masterUrl: https://ok}}
    inputFiles: {c.txt: \"{{ outputs.one.outputFiles['b.txt'] }}\"}
    commands: ['say {{ outputs.one.vars.count }}', copy c.txt d.txt]
",
    );
    let run = sandbox
        .podrun(&[
            "run",
            "flow.yaml",
            "-i",
            "file=@data",
            "--execution-id",
            "x",
            "--outputs",
            "out",
        ])
        .expect(0);
    assert!(
        run.out
            .starts_with("execution x of flow n.f; to take it up again: podrun attach x\n"),
        "{}",
        run.out
    );
    for (name, content) in [
        ("one/b.txt", "content"),
        ("one/k.txt", "kept"),
        ("two/d.txt", "content"),
    ] {
        let path = sandbox.path("out").join(name);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "{name}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640,
            "{name}"
        );
    }
    assert_eq!(
        sandbox.podrun(&["logs", "x"]).expect(0).out,
        "two | line 1\ntwo | line 2\n"
    );
    assert_eq!(sandbox.podrun(&["logs", "x", "--task", "one"]).expect(0).out, "");
    assert_eq!(sandbox.history("x", "one"), ["created", "deleted"]);
    assert_eq!(sandbox.state("x").as_deref(), Some("succeeded"));
}

#[test]
fn a_task_that_fails_ends_the_flow_and_keeps_its_files() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1\nkeep text k.txt\nexit 7", "say 1"]);
    let run = sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "x", "--outputs", "out"])
        .expect(1);
    assert!(
        run.out.contains("t1: failed") && run.out.contains("exit code 7"),
        "{}",
        run.out
    );
    assert!(sandbox.path("out/t1/k.txt").exists());
    assert!(sandbox.history("x", "t2").is_empty());
    assert_eq!(sandbox.state("x").as_deref(), Some("failed"));
    // The same command tells the same end, and runs nothing.
    sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(1);
    assert_eq!(sandbox.history("x", "t1"), ["created", "deleted"]);
}

#[test]
fn json_has_an_object_for_everything() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 2\npublish v {\"a\":1}"]);
    let reports = sandbox.podrun(&["run", "flow.yaml", "--json"]).expect(0).reports();
    let types: Vec<&str> = reports.iter().map(|report| report["type"].as_str().unwrap()).collect();
    let expected = [
        "execution",
        "task",
        "phase",
        "log",
        "log",
        "output",
        "phase",
        "task-ended",
        "execution-ended",
    ];
    assert_eq!(types, expected);
    assert_eq!(reports[5]["value"]["a"], 1);
}

#[test]
fn quiet_prints_only_what_the_script_wrote() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 2"]);
    let run = sandbox.podrun(&["run", "-q", "flow.yaml"]).expect(0);
    assert_eq!((run.out.as_str(), run.error.as_str()), ("line 1\nline 2\n", ""));
}

#[test]
fn verbose_prints_what_the_script_published() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["publish v 1"]);
    let line = "t1: output v = 1\n";
    let verbose = sandbox.podrun(&["run", "-v", "flow.yaml"]).expect(0).out;
    assert!(verbose.contains(line), "{verbose}");
    let usual = sandbox.podrun(&["run", "flow.yaml"]).expect(0).out;
    assert!(!usual.contains(line), "{usual}");
}

#[test]
fn no_credential_reaches_the_state_folder_or_the_output() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1", "exit 1"]);
    let run = sandbox.podrun(&["run", "-v", "flow.yaml"]).expect(1);
    assert!(!run.out.contains("s3cret") && !run.error.contains("s3cret"));
    assert!(
        holds(&sandbox.path("state"), "busybox"),
        "the search finds what is there"
    );
    assert!(!holds(&sandbox.path("state"), "s3cret"));
}

#[test]
fn the_password_of_a_registry_reaches_the_runner_and_nothing_that_stays() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "flow.yaml",
        "
id: f
namespace: n
tasks:
  - id: t1
    type: io.kestra.plugin.scripts.shell.Script
    containerImage: busybox
    taskRunner: {config: {masterUrl: https://ok}, credentials: {username: u, password: s3cret}}
    script: |
      say 1
      wait
",
    );
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
    run.await_line("line 1");
    // The test's cluster shows what its runner got.
    let pod = sandbox.path("state/executions/x/tasks/t1.1/outputs/pod");
    assert!(std::fs::read_to_string(&pod).unwrap().contains("s3cret"));
    run.signal("KILL");
    run.wait();
    for file in ["journal.db", "journal.db-wal"] {
        let content = std::fs::read(sandbox.path("state").join(file)).unwrap_or_default();
        assert!(!content.windows(6).any(|window| window == b"s3cret"), "{file}");
    }
    sandbox.let_go("x", "t1");
    // The runner gets the same task again, or it would call it another one.
    sandbox.podrun(&["attach", "x"]).expect(0);
    assert!(!holds(&sandbox.path("state"), "s3cret"));
}

#[test]
fn secrets_in_what_is_logged_are_hidden_where_it_is_shown_and_where_it_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "flow.yaml",
        "
id: f
namespace: n
tasks:
  - {id: log, type: io.kestra.plugin.core.log.Log, message: \"the token is {{ secret('TOKEN') }}.\"}
",
    );
    let mut command = sandbox.command(&["run", "flow.yaml", "--execution-id", "x"]);
    let run = finished(command.env("SECRET_TOKEN", "czNjcmV0LW90aGVy")).expect(0);
    assert!(run.out.contains("log | the token is ***."), "{}", run.out);
    assert_eq!(
        sandbox.podrun(&["logs", "x"]).expect(0).out,
        "log | the token is ***.\n"
    );
    assert!(!holds(&sandbox.path("state"), "s3cret-other"));
}

#[test]
fn refusals_of_the_cluster_have_their_codes_and_leave_the_execution_unfinished() {
    let sandbox = Sandbox::new();
    for (kind, code, state) in [
        ("unavailable", 3, "unfinished"),
        ("denied", 3, "unfinished"),
        ("conflict", 4, "unfinished"),
        ("invalid", 2, "failed"),
    ] {
        sandbox.flow(&[&format!("fail before {kind}")]);
        sandbox
            .podrun(&["run", "flow.yaml", "--execution-id", kind])
            .expect(code);
        assert_eq!(sandbox.state(kind).as_deref(), Some(state), "{kind}");
    }
}

#[test]
fn a_task_that_the_cluster_does_not_admit_fails_the_execution_if_nothing_exists() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["fail unborn invalid"]);
    sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "refused"])
        .expect(2);
    assert_eq!(sandbox.state("refused").as_deref(), Some("failed"));
    sandbox.flow_at("https://unkillable", &["fail unborn invalid"]);
    let unsure = sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "unsure"])
        .expect(2);
    assert!(
        unsure.error.contains("podrun attach unsure") && unsure.error.contains("podrun kill unsure"),
        "{}",
        unsure.error
    );
    assert_eq!(sandbox.state("unsure").as_deref(), Some("unfinished"));
}

#[test]
fn a_umask_that_lets_the_group_write_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1"]);
    // Made by something else that keeps its files in the same place.
    let cache = sandbox.path("cache/podrun");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o775)).unwrap();
    let program = sandbox.command(&["run", "flow.yaml"]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "umask 002; exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("XDG_CACHE_HOME", sandbox.path("cache"))
        .current_dir(sandbox.path(""));
    finished(&mut shell).expect(0);
    let mode = std::fs::metadata(cache.join("components"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn another_unfinished_execution_is_pointed_out() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["fail unavailable"]);
    sandbox
        .podrun(&["run", "flow.yaml", "--execution-id", "first"])
        .expect(3);
    sandbox.flow(&["say 1"]);
    let run = sandbox.podrun(&["run", "flow.yaml"]).expect(0);
    assert!(
        run.error.contains("execution first of this flow is unfinished"),
        "{}",
        run.error
    );
}

#[test]
fn a_runner_cannot_leave_its_folder() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["climb"]);
    let run = sandbox.podrun(&["run", "flow.yaml", "--execution-id", "x"]).expect(70);
    assert!(
        run.error
            .contains("`../../escaped` cannot be made durable: its path leaves the folder of outputs"),
        "{}",
        run.error
    );
}

#[test]
fn a_broken_kubeconfig_is_no_concern_of_a_flow_with_configs() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["say 1"]);
    let mut command = sandbox.command(&["run", "flow.yaml"]);
    finished(command.env("KUBECONFIG", "/nosuch/config")).expect(0);
}

#[test]
fn secrets_and_values_reach_the_task_and_nothing_that_is_kept() {
    let sandbox = Sandbox::new();
    let secrets = sandbox.write("secrets.yaml", "TOKEN: 's3cret-value'\n");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.write("values.yaml", "count: 2\n");
    sandbox.write("data", "a text");
    sandbox.write(
        "flow.yaml",
        "
id: f
namespace: n
inputs: [{id: file, type: FILE}]
tasks:
  - id: one
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    taskRunner: {config: {masterUrl: https://ok, oauthToken: \"{{ secret('OTHER') }}\"}}
    env: {T: \"{{ secret('TOKEN') }} {{ secret('TOKEN') | base64encode }}\"}
    commands: [\"say {{ kv('count') }}\", \"publish text {{ read(inputs.file) | length }}\", wait]
",
    );
    let arguments = ["run", "flow.yaml", "-i", "file=@data", "--execution-id", "x"];
    let missing = sandbox.podrun(&arguments).expect(2);
    assert!(
        missing.error.contains("there is no secret `OTHER`"),
        "{}",
        missing.error
    );
    let given = ["--secrets", "secrets.yaml", "--kv", "values.yaml"];
    let mut command = sandbox.command(&[&arguments[..], &given[..]].concat());
    let mut running = Sandbox::start_command(command.env("SECRET_OTHER", "czNjcmV0LW90aGVy"));
    running.await_line("line 1");
    running.signal("KILL");
    running.wait();
    for secret in ["s3cret-value", "czNjcmV0LXZhbHVl", "s3cret-other"] {
        // The folder of the execution is where this runner's cluster lies.
        for entry in std::fs::read_dir(sandbox.path("state")).unwrap() {
            let path = entry.unwrap().path();
            let content = if path.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} in {}", path.display());
        }
    }
    sandbox.let_go("x", "one");
    // The files are where they were; a task that is taken up must be the same one.
    let resumed = finished(
        sandbox
            .command(&["attach", "x"])
            .env("SECRET_OTHER", "czNjcmV0LW90aGVy"),
    );
    assert_eq!(resumed.code, Some(0), "{}", resumed.error);
}

#[test]
fn files_of_the_namespace_come_from_its_folder_and_are_copies() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "flow.yaml",
        "id: f\nnamespace: company.team\ntasks:\n  - id: t1\n    type: io.kestra.plugin.scripts.shell.Script\n    \
         containerImage: busybox\n    taskRunner: {config: {masterUrl: 'https://ok'}}\n    namespaceFiles: {include: '*.txt'}\n    \
         script: |\n      copy d/a.txt out.txt\n      say 1\n      wait\n",
    );
    let write = |root: &str, text: &str| {
        let folder = sandbox.path(root).join("company.team/d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.txt"), text).unwrap();
        std::fs::write(folder.join("b.py"), text).unwrap();
        folder.join("a.txt")
    };
    let named = write("files", "one");
    write("state/namespaces", "two");
    let typo = sandbox
        .podrun(&["run", "flow.yaml", "--namespace-files", "flies"])
        .expect(2);
    assert!(
        typo.error.contains("there is no folder `") && typo.error.contains("/flies`"),
        "{}",
        typo.error
    );
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x", "--namespace-files", "files"]);
    run.await_line("line 1");
    std::fs::write(named, "changed").unwrap();
    sandbox.let_go("x", "t1");
    run.wait().expect(0);
    let folder = sandbox.path("state/executions/x/tasks/t1.1");
    assert_eq!(
        std::fs::read_to_string(folder.join("outputs/work/out.txt")).unwrap(),
        "one"
    );
    assert_eq!(std::fs::read_to_string(folder.join("inputs/d/a.txt")).unwrap(), "one");
    assert!(!folder.join("inputs/d/b.py").exists(), "nobody asked for it");
    // Without an option those in the state folder are meant.
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "y"]);
    run.await_line("line 1");
    sandbox.let_go("y", "t1");
    run.wait().expect(0);
    let copied = sandbox.path("state/executions/y/tasks/t1.1/outputs/work/out.txt");
    assert_eq!(std::fs::read_to_string(copied).unwrap(), "two");
}

#[test]
fn what_runs_before_is_logged_as_debug_also_by_a_later_call() {
    let sandbox = Sandbox::new();
    let flow = |before: &str, script: &str| {
        let text = format!(
            "id: f\nnamespace: n\ntasks:\n  - id: t1\n    type: io.kestra.plugin.scripts.shell.Commands\n    containerImage: \
             busybox\n    taskRunner: {{config: {{masterUrl: 'https://ok'}}}}\n    warningOnStdErr: true\n    beforeCommands: \
             {before}\n    commands: {script}\n"
        );
        sandbox.write("flow.yaml", &text);
    };
    let levels = |id: &str| {
        let logs = sandbox.podrun(&["logs", id, "--json"]).expect(0).reports();
        let level = |line: &serde_json::Value| format!("{} {}", line["level"], line["message"]).replace('"', "");
        logs.iter().map(level).collect::<Vec<_>>()
    };
    flow("[say 1, wait, say 1]", "[say 2]");
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "x"]);
    run.await_line("line 1");
    run.signal("TERM");
    let run = run.wait().expect(75);
    assert_eq!(
        run.error.matches("`warningOnStdErr` has no effect, in `t1`").count(),
        1,
        "{}",
        run.error
    );
    sandbox.let_go("x", "t1");
    let run = sandbox.podrun(&["attach", "x"]).expect(0);
    assert!(!run.error.contains("warningOnStdErr"), "{}", run.error);
    assert_eq!(
        levels("x"),
        ["debug line 1", "debug line 1", "info line 1", "info line 2"]
    );
    flow("[say 1]", "[say 2, wait, say 1]");
    let mut run = sandbox.start(&["run", "flow.yaml", "--execution-id", "y"]);
    run.await_line("line 2");
    run.signal("TERM");
    run.wait().expect(75);
    sandbox.let_go("y", "t1");
    sandbox.podrun(&["attach", "y"]).expect(0);
    assert_eq!(
        levels("y"),
        ["debug line 1", "info line 1", "info line 2", "info line 1"]
    );
}

#[test]
fn two_files_of_one_name_are_both_there_and_told_apart() {
    let sandbox = Sandbox::new();
    sandbox.flow(&["copy data.txt same.txt\nkeep other same.txt"]);
    sandbox.write("data", "wanted");
    let arguments = ["run", "flow.yaml", "-i", "file=@data", "--outputs", "out", "--json"];
    let reports = sandbox.podrun(&arguments).expect(0).reports();
    let of_type = |wanted: &str| reports.iter().find(|report| report["type"] == wanted).unwrap();
    let files = of_type("task-ended")["files"].as_array().unwrap();
    let content = |origin: &str| {
        let file = files.iter().find(|file| file["origin"] == origin).unwrap();
        std::fs::read_to_string(sandbox.path(file["path"].as_str().unwrap())).unwrap()
    };
    assert_eq!(
        (content("work"), content("out")),
        ("wanted".to_owned(), "other".to_owned())
    );
    assert_eq!(
        std::fs::read_to_string(sandbox.path("out/t1/same.txt")).unwrap(),
        "wanted"
    );
    let warning = of_type("warning")["message"].as_str().unwrap();
    assert!(
        warning.contains(
            "`same.txt` in the working directory and in the output directory: --outputs gets the first; the second is `"
        ),
        "{warning}"
    );
}
