//! The same task through three hosts: the contract is not shaped by one of them.

use podrun_tests::{Group, Trial, skip};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::Command;

fn hello(group: &Group, name: &str) -> Trial {
    group
        .trial(name)
        .sh("echo hello; cp in.txt out.txt; exit 3")
        .input("in.txt", 0o644, "content\n")
        .output("*.txt")
        .option("inlineLimit", 0)
}

/// What another host must report, without what differs from run to run.
fn comparable(outcome: &Value) -> Value {
    json!({
        "status": outcome["status"].as_str().map(str::to_lowercase),
        "reason": outcome["reason"],
        "exit-code": outcome.get("exit-code").or_else(|| outcome.get("exit_code")),
        "retryable": outcome["retryable"],
        "message": outcome["message"],
        "files": outcome["files"].as_array().map(|files| {
            let of = |f: &Value| json!([f["path"], f["size"], f["sha256"]]);
            files.iter().map(of).collect::<Vec<_>>()
        }),
    })
}

async fn expected(group: &Group) -> Value {
    let ran = hello(group, "rust").run().await;
    assert_eq!(ran.lines(), ["hello"]);
    comparable(&serde_json::to_value(ran.outcome()).unwrap())
}

/// Runs the task through another host's program; what it reports as the outcome.
async fn outcome(trial: &Trial, program: &Path, script: &Path) -> Value {
    let folder = trial.folder.path();
    let task = json!({
        "id": trial.task.id, "image": trial.task.image, "command": trial.task.command,
        "inputs": [{"path": "in.txt", "mode": 0o644}], "outputs": trial.task.outputs,
        "labels": trial.task.labels, "options": serde_json::from_str::<Value>(&trial.task.options).unwrap(),
    });
    std::fs::write(folder.join("task.json"), task.to_string()).unwrap();
    std::fs::write(folder.join("config.json"), &trial.target.config).unwrap();
    let output = Command::new(program)
        .arg(script)
        .arg(std::env::var_os("PODRUN_RUNNER").unwrap())
        .args(["config.json", "task.json", "inputs", "outputs"].map(|name| folder.join(name)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(240), output)
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let logged: Vec<&Value> = lines
        .iter()
        .filter(|l| l["tag"] == "log")
        .map(|l| &l["val"]["message"])
        .collect();
    assert_eq!(logged, ["hello"], "{said}{complaint}");
    assert_eq!(trial.files()["work/out.txt"], b"content\n");
    lines.last().unwrap()["outcome"].clone()
}

fn host(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../hosts").join(path)
}

/// What a variable names, if it is there.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.exists())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn python_reports_the_same_outcome() {
    let group = Group::new("python").await;
    let Some(python) = named("PODRUN_TEST_PYTHON") else {
        skip("PODRUN_TEST_PYTHON names no Python");
        return;
    };
    let imports = Command::new(&python)
        .args(["-c", "import wasmtime"])
        .output()
        .await
        .unwrap();
    if !imports.status.success() {
        skip(format_args!("{} has no package wasmtime", python.display()));
        return;
    }
    let trial = hello(&group, "other");
    let outcome = outcome(&trial, &python, &host("python/smoke.py")).await;
    assert_eq!(comparable(&outcome), expected(&group).await);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn node_reports_the_same_outcome() {
    let group = Group::new("node").await;
    let Some(packages) = named("PODRUN_TEST_NODE_MODULES") else {
        skip("PODRUN_TEST_NODE_MODULES names no folder with the packages of hosts/node");
        return;
    };
    if Command::new("node").arg("--version").output().await.is_err() {
        skip("there is no `node`");
        return;
    }
    // Node looks for packages beside the script, and the checkout has none.
    let trial = hello(&group, "other");
    let script = trial.folder.path().join("smoke.mjs");
    std::fs::copy(host("node/smoke.mjs"), &script).unwrap();
    std::os::unix::fs::symlink(packages, trial.folder.path().join("node_modules")).unwrap();
    let outcome = outcome(&trial, Path::new("node"), &script).await;
    assert_eq!(comparable(&outcome), expected(&group).await);
    group.close().await;
}
