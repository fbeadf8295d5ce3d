//! The agent beside the application, whose container the tasks run in.

use serde_json::{Value, json};

use super::pod::Pod;

fn exec(pod: &Pod, script: &str) -> String {
    let arguments = ["exec", &pod.name, "-c", "main", "--", "sh", "-c", script];
    pod.place.kubectl(&arguments).unwrap()
}

#[test]
#[ignore = "needs a cluster"]
fn tasks_are_the_main_containers_and_outlive_the_agents() {
    let pod = Pod::deploy("sidecar");
    let agent = pod.by_address();
    exec(&pod, "echo of main > /tmp/file");
    // In the container: its file system, user, folder, variables, and no privilege.
    let script = "cat file; id -u; id -g; pwd; echo $SANDBOX_MAIN_CONTAINER; grep -E 'CapEff|CapBnd' /proc/self/status | cut -f 2; ls /var/lib/sandbox /etc/podrun-agent";
    agent.create("look", &["sh", "-c", script]);
    agent.await_state("look", "terminated");
    let none = "0000000000000000";
    assert_eq!(
        agent.log("look"),
        format!("of main\n1000\n1000\n/tmp\nmain\n{none}\n{none}\n")
    );
    // The document's example.
    let (forwarded, forward) = pod.by_port_forward();
    forwarded.create("sidecar-namespace-check", &["ls", "/proc/self/ns"]);
    forwarded.await_state("sidecar-namespace-check", "terminated");
    assert!(forwarded.log("sidecar-namespace-check").contains("mnt\n"));
    drop(forward);

    agent.create(
        "long",
        &[
            "sh",
            "-c",
            "echo begun; until [ -e go ]; do sleep 0.1; done; echo gone on; exit 5",
        ],
    );
    let running = agent.await_state("long", "running");
    agent.await_log("long", "begun\n");
    agent.create(
        "family",
        &[
            "sh",
            "-c",
            "setsid sleep 100000 & echo up; trap '' TERM; wait; sleep 100000",
        ],
    );
    agent.await_log("family", "up\n");
    if !pod.kill_container("agent") {
        return;
    }
    assert_eq!(agent.await_state("long", "running"), running, "it is the same run");
    exec(&pod, "touch go");
    let ended = agent.await_state("long", "terminated");
    assert_eq!(
        (&ended["exitCode"], &ended["startedAt"]),
        (&json!(5), &running["startedAt"])
    );
    assert_eq!(agent.log("long"), "begun\ngone on\n");
    assert_eq!(agent.log("look").lines().count(), 7);

    let grace = json!({"name": "stubborn", "process": {
        "command": ["sh", "-c", "trap '' TERM; sleep 100000 & echo up; while :; do sleep 0.1; done"],
        "terminationGracePeriodSeconds": 1,
    }});
    assert_eq!(agent.ask("POST", "/tasks", &grace).status, 201);
    agent.await_log("stubborn", "up\n");
    // All of them, with every process: also those that another agent started.
    let none: Value = agent.ask("POST", "/setTasks", &json!([])).json();
    assert!(
        none.as_array()
            .unwrap()
            .iter()
            .all(|task| task["deletionTimestamp"].is_string())
    );
    agent.await_some(|tasks| tasks.is_empty().then_some(()));
    let left = exec(&pod, "ps -o user,args");
    let sleeping = left.lines().filter(|line| line.contains("sleep 100000")).count();
    assert_eq!(sleeping, 0, "{left}");
}

#[test]
#[ignore = "needs a cluster"]
fn tasks_end_with_the_main_container_and_find_the_next_one() {
    let pod = Pod::deploy_changed(
        "sidecar",
        &[(
            "    - {name: SANDBOX_MAIN_CONTAINER, value: main}\n",
            "    - {name: OTHER, value: x}\n",
        )],
    );
    let agent = pod.by_address();
    agent.create("long", &["sleep", "100000"]);
    agent.await_state("long", "running");
    if !pod.kill_container("main") {
        return;
    }
    assert_eq!(agent.await_state("long", "terminated")["reason"], "Lost");
    // The next container is found too, by its name alone.
    agent.create("next", &["sh", "-c", "echo $OTHER"]);
    let ended = agent.await_state("next", "terminated");
    assert_eq!(ended["reason"], "Succeeded", "{ended}");
    assert_eq!(agent.log("next"), "x\n");
}

#[test]
#[ignore = "needs a cluster"]
fn without_its_privileges_the_agent_says_which_it_lacks() {
    let lacking = [("        - SYS_PTRACE # to look at the main container's processes\n", "")];
    let says = |changes: &[(&str, &str)]| Pod::refused("sidecar", changes, "agent");
    let text = says(&lacking);
    assert!(text.contains("sidecar mode lacks SYS_PTRACE:"), "{text}");
    let text = says(&[("shareProcessNamespace: true", "shareProcessNamespace: false")]);
    assert!(
        text.contains("needs a pod with `shareProcessNamespace: true`"),
        "{text}"
    );
}
