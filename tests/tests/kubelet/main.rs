//! What a restart of the kubelet does to containers that it did not make. A program of its own: while the kubelet is
//! away, no other test has anything of the node.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "../../../agent/tests/processes/http.rs"]
#[expect(dead_code, reason = "the harness is that of the agent's other tests")]
mod http;
#[path = "../agent/pod.rs"]
#[expect(dead_code, reason = "as above")]
mod pod;
#[path = "../agent/runtime.rs"]
mod runtime;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use podrun_tests::faults::variable;
use podrun_tests::{full, skip};
use serde_json::{Value, json};

/// Kills the kubelet, and starts it as it was started.
fn restart_kubelet(cluster: &Path) {
    let file = cluster.join("run/kubelet.pid");
    let mut daemon: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let pid = daemon["process"]["pid"].as_u64().unwrap();
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    let log = fs::File::options()
        .append(true)
        .open(cluster.join("logs/kubelet.log"))
        .unwrap();
    let command = daemon["command"].as_array().unwrap().clone();
    let mut child = Command::new("setsid")
        .args(command.iter().map(|argument| argument.as_str().unwrap()))
        .current_dir(cluster)
        .env_clear()
        .envs(environment.split('\0').filter_map(|variable| variable.split_once('=')))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    daemon["process"] = json!({"pid": child.id(), "started": started.parse::<u64>().unwrap()});
    fs::write(&file, daemon.to_string()).unwrap();
    // It outlives this program; if it does not, it is reaped.
    std::thread::spawn(move || child.wait());
}

#[test]
#[ignore = "needs a cluster"]
fn a_tasks_container_outlives_a_restart_of_the_kubelet() {
    let Ok(cluster) = variable("PODRUN_TEST_CLUSTER_DIR") else {
        return skip("the node is not this machine, so that its kubelet cannot be killed");
    };
    // The kubelet looks for what is not its own every two seconds, and for ended containers once a minute.
    let seconds = if full("a container runs for three minutes") {
        180
    } else {
        15
    };
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let script = format!("for i in $(seq {seconds}); do echo second $i; sleep 1; done; exit 7");
    let container = json!({"image": "busybox", "command": ["sh", "-c", script]});
    let task = json!({"name": "long", "spec": {"container": container}});
    assert_eq!(agent.ask("POST", "/tasks", &task).status, 201);
    agent.await_log("long", "second 3\n");
    let containers = runtime::Container::of_tasks(&pod);
    assert_eq!(containers.len(), 1, "{containers:?}");
    restart_kubelet(&cluster);
    for second in (5..=seconds).step_by(5) {
        agent.await_log("long", &format!("second {second}\n"));
    }
    let ended = agent.await_state("long", "terminated");
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(7), &json!("Failed")),
        "{ended}"
    );
    let expected: String = (1..=seconds).map(|second| format!("second {second}\n")).collect();
    assert_eq!(agent.log("long"), expected);
    agent.delete("long");
    agent.await_gone("long");
    for container in containers {
        container.await_gone();
    }
}
