//! `podrun validate`, by data: each flow in `tests/mistakes` has the messages that it must get beside it.
//!
//! `PODRUN_BLESS=1` writes the messages that it got, to be looked at before they are committed.

use std::path::{Path, PathBuf};

use crate::sandbox::{Sandbox, finished};

/// The flows with mistakes.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| !path.to_string_lossy().ends_with(".defaults.yaml"))
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_mistake_is_found_with_its_place_and_cure() {
    let sandbox = Sandbox::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        let mut arguments = vec!["validate", name.as_str()];
        let defaults = name.replace(".yaml", ".defaults.yaml");
        if case.with_file_name(&defaults).exists() {
            arguments.extend(["--defaults", defaults.as_str()]);
        }
        let mut command = sandbox.command(&arguments);
        let call = finished(command.current_dir(case.parent().unwrap()));
        let expected = case.with_extension("expected");
        if std::env::var_os("PODRUN_BLESS").is_some() {
            std::fs::write(&expected, &call.out).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if call.code != Some(2) || call.out != wanted || wanted.is_empty() {
            wrong.push(format!(
                "{name}: exit code {:?}\n{}{}instead of\n{wanted}",
                call.code, call.out, call.error
            ));
        }
    }
    assert!(cases().len() >= 40);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_are_json_too() {
    let sandbox = Sandbox::new();
    sandbox.write("flow.yaml", "id: f\ntask: []\n");
    sandbox.flow(&["say 1"]);
    std::fs::rename(sandbox.path("flow.yaml"), sandbox.path("good.yaml")).unwrap();
    sandbox.write("bad.yaml", "id: f\ntask: []\n");
    let call = sandbox
        .podrun(&["validate", "good.yaml", "bad.yaml", "--json"])
        .expect(2);
    let mut reports = call.reports();
    assert_eq!(
        reports[0],
        serde_json::json!({"type": "valid", "file": "good.yaml", "flow": "f"})
    );
    let error = reports.pop().unwrap();
    assert_eq!(
        (error["type"].as_str(), error["exitCode"].as_i64()),
        (Some("error"), Some(2))
    );
    assert_eq!(
        reports[1],
        serde_json::json!({
            "type": "problem", "file": "bad.yaml", "line": 2, "column": 1, "message": "unknown property `task`: did you mean `tasks`?"
        })
    );
    let good = sandbox.podrun(&["validate", "good.yaml"]).expect(0);
    assert_eq!(good.out, "good.yaml: flow `f` is valid\n");
}
