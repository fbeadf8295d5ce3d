//! What `podrun` says about flows: its schema in the eyes of another validator, and the pages of the reference.
//!
//! Needs the program and the real component, no cluster.

#![expect(clippy::unwrap_used, reason = "what fails in a helper fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use podrun_tests::skip;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The program, which finds the component in its environment; none if there is none.
fn podrun() -> Option<Command> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (Some(program), Some(_)) = (set("PODRUN_BIN"), set("PODRUN_RUNNER")) else {
        skip("PODRUN_BIN and PODRUN_RUNNER are not set: `cargo xtask test` sets them");
        return None;
    };
    Some(Command::new(program))
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{}{error}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn another_validator_accepts_the_examples_and_refuses_mistakes() {
    if podrun().is_none() {
        return;
    }
    let Some(python) = std::env::var_os("PODRUN_TEST_PYTHON").filter(|value| !value.is_empty()) else {
        return skip("PODRUN_TEST_PYTHON is not set");
    };
    let imports = Command::new(&python)
        .args(["-c", "import jsonschema, yaml"])
        .output()
        .unwrap();
    if !imports.status.success() {
        return skip("Python has no packages jsonschema and PyYAML");
    }
    let mistakes = workspace().join("cli/tests/mistakes");
    let mistakes = [
        "flow-property",
        "flow-id",
        "task-property",
        "task-type",
        "task-retry-interval",
        "script-commands-text",
        "script-output-item",
        "runner-option",
        "runner-option-value",
        "runner-config",
        "log-level",
        "input-property",
        "switch-cases",
        "many-at-once",
    ]
    .map(|name| mistakes.join(format!("{name}.yaml")));
    let (flows, defaults) = examples();
    assert!(flows.len() >= 7 && defaults.len() >= 2, "{flows:?} {defaults:?}");
    let folder = tempfile::tempdir().unwrap();
    let check = |option: &[&str], valid: &[PathBuf], invalid: &[PathBuf]| {
        let schema = folder.path().join("schema.json");
        let mut podrun = podrun().unwrap();
        std::fs::write(&schema, output(podrun.arg("schema").args(option))).unwrap();
        let mut command = Command::new(&python);
        command
            .arg(workspace().join("tests/tests/schema/validate.py"))
            .arg(&schema)
            .args(valid)
            .arg("--invalid")
            .args(invalid);
        output(&mut command);
    };
    check(&[], &flows, &mistakes);
    check(&["--defaults"], &defaults, &flows);
}

/// The flows and the defaults files below `examples`, which also has things of Kubernetes' own.
fn examples() -> (Vec<PathBuf>, Vec<PathBuf>) {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    let mut all = Vec::new();
    below(&workspace().join("examples"), &mut all);
    all.sort();
    let has = |path: &PathBuf, key: &str| std::fs::read_to_string(path).unwrap().lines().any(|line| line == key);
    let (flows, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| has(path, "tasks:"));
    let defaults = others.into_iter().filter(|path| has(path, "pluginDefaults:")).collect();
    (flows, defaults)
}

#[test]
fn the_pages_of_the_reference_are_current() {
    let Some(mut podrun) = podrun() else { return };
    let folder = tempfile::tempdir().unwrap();
    output(podrun.args(["schema", "--reference"]).arg(folder.path()));
    let written = pages(folder.path());
    let committed = pages(&workspace().join("docs/reference"));
    let differ: Vec<&String> = written
        .keys()
        .chain(committed.keys())
        .filter(|name| written.get(*name) != committed.get(*name))
        .collect();
    assert!(
        differ.is_empty(),
        "{differ:?} differ: run `podrun schema --reference docs/reference`"
    );
}

/// The pages of a folder, by name.
fn pages(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}
