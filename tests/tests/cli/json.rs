//! What `--json` prints: one object a line, of documented shapes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sandbox::{Sandbox, WAITING};

const FLOW: &str = r#"
id: shapes
namespace: podrun.tests
tasks:
  - id: say
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    inputFiles:
      in.txt: some content
    outputFiles: ["*.txt"]
    commands:
      - 'echo ''::{"outputs": {"answer": 42}}::'''
      - 'echo ''::{"metrics": [{"name": "seen", "type": "counter", "value": 3}]}::'''
      - cp in.txt out.txt; echo done
"#;

/// A task that does not run, and one that takes two attempts.
const MORE: &str = r#"
  - {id: never, type: io.kestra.plugin.core.log.Log, message: "no", runIf: "{{ false }}"}
  - id: again
    type: io.kestra.plugin.scripts.shell.Commands
    containerImage: busybox
    commands: ["exit {{ 2 - taskrun.attempt }}"]
    retry: {type: constant, interval: PT0.1S, maxAttempts: 2}
"#;

/// The fields of each kind of line.
const SHAPES: [(&str, &str); 16] = [
    ("execution", "flow id namespace resume resumed type"),
    ("task", "attempt image resumed task taskrun type"),
    ("skipped", "task type"),
    ("retry", "attempt milliseconds task type"),
    ("phase", "phase task type"),
    ("log", "attempt level lossy message partial source task time type"),
    ("progress", "done task total type what"),
    ("output", "name task type value"),
    ("metric", "name task type value"),
    ("diagnostic", "level message task type"),
    (
        "task-ended",
        "attempt details earlier exitCode files finished message phases reason retryable started status task type",
    ),
    ("execution-ended", "id message outputs state type"),
    ("warning", "message type"),
    ("detached", "id resume type"),
    ("error", "exitCode message type"),
    ("finding", "level message type"),
];

/// The types that cli/README.md documents, all in the table below `--json`.
fn documented() -> BTreeSet<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/README.md")).unwrap();
    let (_, table) = readme.split_once("\n## `--json`\n").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.flat_map(|row| row.split(" |").next().unwrap().split(", "));
    names
        .map(|name| name.trim_matches('`').split('`').next().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn check_shape(report: &Value) {
    let kind = report["type"].as_str().unwrap();
    let shape = SHAPES
        .iter()
        .find(|(name, _)| *name == kind)
        .unwrap_or_else(|| panic!("undocumented: {report}"));
    assert_eq!(fields(report), shape.1, "{report}");
}

fn fields(report: &Value) -> String {
    let fields: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    fields.into_iter().collect::<Vec<_>>().join(" ")
}

fn of_type<'a>(reports: &'a [Value], kind: &str) -> Vec<&'a Value> {
    reports.iter().filter(|report| report["type"] == kind).collect()
}

#[test]
#[ignore = "needs cluster"]
fn every_line_of_a_run_has_its_shape() {
    let sandbox = Sandbox::new("json");
    sandbox.write("flow.yaml", FLOW);
    let reports = sandbox
        .run(&["run", "flow.yaml", "--execution-id", "x", "--json"])
        .expect(0)
        .reports();
    reports.iter().for_each(check_shape);
    assert_eq!(reports.first().unwrap()["type"], "execution");
    assert_eq!(reports.last().unwrap()["type"], "execution-ended");
    assert_eq!(of_type(&reports, "output")[0]["value"], 42);
    assert_eq!(of_type(&reports, "metric")[0]["name"], "seen");
    let messages: Vec<&str> = of_type(&reports, "log")
        .iter()
        .filter_map(|log| log["message"].as_str())
        .collect();
    assert!(messages.contains(&"done"), "{messages:?}");
    let ended = of_type(&reports, "task-ended")[0];
    assert_eq!((&ended["status"], &ended["exitCode"]), (&"succeeded".into(), &0.into()));
    let names: Vec<&str> = ended["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["name"].as_str())
        .collect();
    assert_eq!(names, ["in.txt", "out.txt"]);
    assert!(
        ended["phases"]
            .as_array()
            .unwrap()
            .iter()
            .any(|phase| phase["phase"] == "pending"),
        "{ended}"
    );

    let logged = sandbox.run(&["logs", "x", "--json"]).expect(0).reports();
    assert_eq!(logged.iter().collect::<Vec<_>>(), of_type(&reports, "log"));
    assert_eq!(
        fields(&sandbox.ps()),
        "finished flow handle id message namespace phase process source started state task"
    );
    for finding in sandbox.run(&["doctor", "--json"]).expect(0).reports() {
        assert_eq!(fields(&finding), "level message type", "{finding}");
    }
}

#[test]
#[ignore = "needs cluster"]
fn every_documented_type_occurs_and_has_its_shape() {
    let sandbox = Sandbox::new("types");
    let mut all = sandbox.run(&["run", "nosuch.yaml", "--json"]).expect(2).reports();
    assert_eq!((all.len(), &all[0]["exitCode"]), (1, &2.into()), "{all:?}");

    let big = FLOW.replace("tasks:", "inputs: [{id: big, type: FILE}]\ntasks:");
    sandbox.write(
        "flow.yaml",
        &format!("{}{MORE}", big.replace("some content", "'{{ inputs.big }}'").trim_end()),
    );
    sandbox.write_noise("data", 3 << 20);
    all.extend(
        sandbox
            .run(&["run", "flow.yaml", "-i", "big=@data", "--json"])
            .expect(0)
            .reports(),
    );

    sandbox.write("waiting.yaml", WAITING);
    let run = sandbox.start(&["run", "waiting.yaml", "--execution-id", "x", "--json"]);
    run.await_text("ready");
    run.signal("TERM");
    let detached = run.end().expect(75).reports();
    let last = detached.last().unwrap();
    assert_eq!(
        (&last["type"], &last["resume"]),
        (&"detached".into(), &"podrun attach x".into())
    );
    all.extend(detached);

    let attached = sandbox.start(&["attach", "x", "--json"]);
    attached.await_text(r#""phase":"running""#);
    attached.signal("INT");
    let stopped = attached.end().expect(130).reports();
    assert_eq!(stopped.last().unwrap()["state"], "cancelled");
    all.extend(stopped);
    all.extend(sandbox.run(&["doctor", "--json"]).expect(0).reports());

    all.iter().for_each(check_shape);
    let seen: BTreeSet<String> = all
        .iter()
        .map(|report| report["type"].as_str().unwrap().into())
        .collect();
    // What `validate`, `explain` and `render` print needs no cluster, and is tested in `cli/tests`.
    let elsewhere = ["problem", "valid", "value", "pod"].map(str::to_owned).into();
    assert_eq!(seen, &documented() - &elsewhere);
    sandbox.nothing_is_left();
}
