//! The agent that runs tasks as containers of its own pod.

use jiff::Timestamp;
use podrun_tests::faults::variable;
use serde_json::{Value, json};

use super::pod::{Agent, PATIENCE, Pod};
use super::runtime::{self, Container};

/// Creates a task that is a container of busybox running a script.
#[track_caller]
fn create(agent: &Agent, name: &str, script: &str, more: &Value) {
    let mut container = json!({"image": "busybox", "command": ["sh", "-c"], "args": [script]});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    let task = json!({"name": name, "spec": {"container": container}});
    let answer = agent.ask("POST", "/tasks", &task);
    assert_eq!(answer.status, 201, "{answer:?}");
}

fn stderr(agent: &Agent, name: &str) -> String {
    agent.get(&format!("/tasks/{name}/logs?stream=stderr")).text()
}

#[test]
#[ignore = "needs a cluster"]
fn a_task_is_a_container_of_the_pod() {
    let (mode, mount, volume) = (
        "- --enable-container-mode=true",
        "- {name: shared, mountPath: /shared}",
        "- {name: shared, emptyDir: {}}",
    );
    let pod = runtime::deploy(&[
        (mode, &format!("{mode}\n    - --volume=node=/mnt/node")),
        (
            mount,
            &format!("{mount}\n    - {{name: node, mountPath: /mnt/node, readOnly: true}}"),
        ),
        (
            volume,
            &format!("{volume}\n  - {{name: node, hostPath: {{path: /usr}}}}"),
        ),
    ]);
    let agent = pod.by_address();
    let shared = json!([{"name": "shared", "mountPath": "/in"}]);
    let script = "echo out; echo err >&2; hostname; hostname -i; pwd; echo \"$A\"; id -u; echo from one > file; \
                  cat /proc/1/cgroup | grep -c $POD; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2; \
                  printf end; exit 7";
    let uid = pod.get()["metadata"]["uid"].as_str().unwrap().to_owned();
    create(
        &agent,
        "one",
        script,
        &json!({
            "volumeMounts": shared,
            "workingDir": "/in",
            "env": [{"name": "A", "value": "first"}, {"name": "A", "value": "x  $y"}, {"name": "POD", "value": &uid}],
        }),
    );
    let ended = agent.await_state("one", "terminated");
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(7), &json!("Failed")));
    assert!(ended["startedAt"].as_str() <= ended["finishedAt"].as_str(), "{ended}");
    let address = pod.get()["status"]["podIP"].as_str().unwrap().to_owned();
    let log = agent.log("one");
    let (log, cgroups) = log.split_once("\n0\n").expect("a line with the user's id");
    assert_eq!(log, format!("out\n{}\n{address}\n/in\nx  $y", pod.name));
    let (groups, rest) = cgroups.split_once('\n').unwrap();
    assert!(groups.parse::<u32>().unwrap() > 0, "below the pod's cgroup");
    assert_eq!(rest, "1\n2\nend");
    assert_eq!(stderr(&agent, "one"), "err\n");

    // What one leaves in a volume another one has, and may not change if it says so.
    let read_only = json!({"volumeMounts": [{"name": "shared", "mountPath": "/out", "readOnly": true}]});
    create(&agent, "two", "cat /out/file; touch /out/other || exit 9", &read_only);
    assert_eq!(agent.await_state("two", "terminated")["exitCode"], 9);
    assert_eq!(agent.log("two"), "from one\n");

    // A folder of the node has no name that the runtime knows, and is read-only as the agent's container has it.
    let named = json!({"volumeMounts": [{"name": "node", "mountPath": "/node"}]});
    create(
        &agent,
        "node",
        "grep -c ' /node ' /proc/mounts; touch /node/x || exit 9",
        &named,
    );
    assert_eq!(agent.await_state("node", "terminated")["exitCode"], 9);
    assert_eq!(agent.log("node"), "1\n");

    // The image's own user, entrypoint and variables.
    let hello = json!({"name": "three", "spec": {"container": {"image": podrun_tests::HELLO, "args": ["a b"]}}});
    assert_eq!(agent.ask("POST", "/tasks", &hello).status, 201);
    assert_eq!(agent.await_state("three", "terminated")["reason"], "Succeeded");
    assert!(
        agent.log("three").starts_with("arguments: [\"a b\"]\n"),
        "{}",
        agent.log("three")
    );
    create(&agent, "four", "id -u", &json!({"image": podrun_tests::BUSYBOX_USER}));
    agent.await_state("four", "terminated");
    assert_eq!(agent.log("four"), "1000\n");

    // More than the kernel's pipes hold, to the last byte.
    create(&agent, "five", "seq 1 300000", &Value::Null);
    agent.await_state("five", "terminated");
    let lines: String = (1..=300_000).map(|line| format!("{line}\n")).collect();
    assert!(
        agent.log("five") == lines,
        "{} bytes of {}",
        agent.log("five").len(),
        lines.len()
    );

    let statuses = pod.get()["status"]["containerStatuses"].clone();
    assert_eq!(
        statuses.as_array().unwrap().len(),
        1,
        "the pod's own container alone: {statuses}"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_task_is_never_among_the_agents_processes() {
    let spec = "  automountServiceAccountToken: false";
    let pod = runtime::deploy(&[(spec, &format!("{spec}\n  shareProcessNamespace: true"))]);
    let agent = pod.by_address();
    create(&agent, "look", "echo $$; ls -d /proc/[0-9]*", &Value::Null);
    agent.await_state("look", "terminated");
    let log = agent.log("look");
    assert!(log.starts_with("1\n/proc/1\n") && log.lines().count() <= 3, "{log}");
}

#[test]
#[ignore = "needs a cluster"]
fn what_cannot_be_run_says_why() {
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let volume = |name: &str| json!({"volumeMounts": [{"name": name, "mountPath": "/x"}]});
    for (name, more, expected) in [
        (
            "volume",
            volume("nope"),
            "volume `nope` is not known: a container of the pod must mount it",
        ),
        ("state", volume("data"), "volume `data` holds the agent's own state"),
        ("host", volume("runtime"), "volume `runtime` is not known"),
        (
            "folder",
            json!({"workingDir": "x"}),
            "`workingDir` is `x`: in a container it must be absolute",
        ),
        (
            "image",
            json!({"image": "podrun.dev/test/none:1"}),
            "image `podrun.dev/test/none:1` cannot be pulled",
        ),
        ("program", json!({"command": ["/none"]}), "/none"),
    ] {
        create(&agent, name, "true", &more);
        let ended = agent.await_state(name, "terminated");
        assert_eq!(
            (&ended["reason"], &ended["exitCode"]),
            (&json!("StartFailed"), &json!(126)),
            "{ended}"
        );
        let message = ended["message"].as_str().unwrap();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn it_goes_on_without_the_agent_and_leaves_nothing_when_deleted() {
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let ticking = "trap 'echo stopped; exit 3' TERM; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done";
    create(&agent, "long", ticking, &Value::Null);
    create(
        &agent,
        "short",
        "echo begun; until [ -e /in/go ]; do sleep 0.1; done; echo done; exit 5",
        &shared(),
    );
    let running = agent.await_state("long", "running");
    agent.await_log("short", "begun\n");
    agent.await_log("long", "tick 5\n");
    let containers = Container::of_tasks(&pod);
    if !pod.kill_container("agent") {
        return;
    }
    assert_eq!(agent.await_state("long", "running"), running, "it is the same run");
    create(&agent, "go", "touch /in/go", &shared());
    assert_eq!(agent.await_state("short", "terminated")["exitCode"], 5);
    assert_eq!(agent.log("short"), "begun\ndone\n");
    assert_eq!(containers.len(), 2, "{containers:?}");

    let seen = agent.log("long").lines().count();
    agent.await_log("long", &format!("tick {}\n", seen + 5));
    let log = agent.log("long");
    let expected: String = (0..log.lines().count()).map(|tick| format!("tick {tick}\n")).collect();
    assert_eq!(log, expected, "every line once");
    agent.delete("long");
    agent.await_gone("long");
    for container in containers {
        container.await_gone();
    }
}

#[test]
#[ignore = "needs a cluster"]
fn an_agent_that_is_ended_politely_stops_it_first() {
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let polite = "trap 'echo stopped; exit 3' TERM; echo begun; while :; do sleep 0.1; done";
    create(&agent, "polite", polite, &Value::Null);
    agent.await_log("polite", "begun\n");
    let containers = Container::of_tasks(&pod);
    if !pod.end_container("agent", "TERM") {
        return;
    }
    let ended = agent.await_state("polite", "terminated");
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(3), &json!("Killed")),
        "{ended}"
    );
    assert_eq!(agent.log("polite"), "begun\nstopped\n", "it is not run again");
    for container in containers {
        container.await_gone();
    }
}

#[test]
#[ignore = "needs a cluster"]
fn output_is_whole_although_the_kubelet_rotates_the_runtimes_log() {
    if !podrun_tests::full("output of which the kubelet compresses the beginning") {
        return;
    }
    let mode = "- --enable-container-mode=true";
    let pod = runtime::deploy(&[(mode, &format!("{mode}\n    - --log-max-size=200Mi"))]);
    let agent = pod.by_address();
    // Beyond 10 MiB the log is rotated, within ten seconds.
    let script = "for i in $(seq 1000000 200000 7800000); do seq $i $((i+199999)); sleep 1; done";
    create(&agent, "much", script, &Value::Null);
    let begun = std::time::Instant::now();
    while agent.get("/tasks/much/logs?offset=30000000&limit=1").body.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "so much is not there yet");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    pod.kill_container("agent");
    assert_eq!(agent.await_state("much", "terminated")["reason"], "Succeeded");
    let lines: String = (1_000_000..8_000_000).map(|line| format!("{line}\n")).collect();
    let log = agent.log("much");
    assert!(log == lines, "{} bytes of {}", log.len(), lines.len());
}

#[test]
#[ignore = "needs a cluster"]
fn an_end_is_known_at_once() {
    if variable("PODRUN_TEST_CLUSTER_DIR").is_err() {
        podrun_tests::skip("the node's clock must be this machine's");
        return;
    }
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let late = |task: u32| {
        let name = format!("task{task}");
        create(&agent, &name, "sleep 0.3; echo over", &Value::Null);
        let ended = agent.await_state(&name, "terminated");
        let known = Timestamp::now();
        assert_eq!(agent.log(&name), "over\n");
        let ended: Timestamp = ended["finishedAt"].as_str().unwrap().parse().unwrap();
        known.duration_since(ended).as_millis()
    };
    // A busy machine is late at times; an agent that asks every 50 ms, and is told nothing, is so nearly each time.
    let mut late: Vec<_> = (0..12).map(late).collect();
    late.sort_unstable();
    println!("known after {late:?} ms");
    assert!(late[3] < 50, "ends are known late, by {late:?} ms");
}

#[test]
#[ignore = "needs a cluster"]
fn it_is_stopped_in_its_time() {
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.1; done";
    let limits = json!({"timeoutSeconds": 1, "terminationGracePeriodSeconds": 1});
    create(&agent, "stubborn", stubborn, &limits);
    let ended = agent.await_state("stubborn", "terminated");
    assert_eq!(
        (&ended["reason"], &ended["signal"]),
        (&json!("TaskTimeout"), &json!(9)),
        "{ended}"
    );
    let polite = "trap 'echo heard; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    create(&agent, "polite", polite, &Value::Null);
    agent.await_log("polite", "up\n");
    let begun = std::time::Instant::now();
    agent.delete("polite");
    agent.await_gone("polite");
    assert!(
        begun.elapsed().as_secs() < 8,
        "before its grace of 10 s was over: {:?}",
        begun.elapsed()
    );
}

#[test]
#[ignore = "needs a cluster"]
fn the_pods_memory_is_its_limit() {
    let limited = "requests: {cpu: 10m, memory: 32Mi}";
    let pod = runtime::deploy(&[(limited, "limits: {memory: 64Mi}")]);
    let agent = pod.by_address();
    create(&agent, "hungry", "tail /dev/zero", &Value::Null);
    let ended = agent.await_state("hungry", "terminated");
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("Failed"), &json!(137)),
        "{ended}"
    );
    assert!(ended["message"].as_str().unwrap().starts_with("OOMKilled"), "{ended}");
    create(&agent, "modest", "true", &Value::Null);
    assert_eq!(
        agent.await_state("modest", "terminated")["reason"],
        "Succeeded",
        "the agent lives"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn the_end_of_the_pod_is_the_end_of_its_containers() {
    let pod = runtime::deploy(&[]);
    let agent = pod.by_address();
    // It would take longer than the pod has, so that it is the kubelet who ends it.
    let grace = json!({"terminationGracePeriodSeconds": 600});
    create(
        &agent,
        "stubborn",
        "trap '' TERM; echo up; while :; do sleep 0.1; done",
        &grace,
    );
    agent.await_log("stubborn", "up\n");
    let containers = Container::of_tasks(&pod);
    let grace = ["delete", "pod", &pod.name, "--grace-period=2"];
    pod.place.kubectl(&grace).unwrap();
    for container in containers {
        container.await_gone();
    }
}

#[test]
#[ignore = "needs a cluster"]
fn without_the_socket_it_says_what_to_mount() {
    let socket = "--cri-socket=/run/containerd/containerd.sock";
    let changes = [
        runtime::socket(),
        (socket.to_owned(), "--cri-socket=/none.sock".to_owned()),
    ];
    let changes: Vec<_> = changes.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let said = Pod::refused("container", &changes, "agent");
    for part in ["--enable-container-mode", "--cri-socket `/none.sock`", "hostPath"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn all_of_it_works_through_a_port_forward() {
    let pod = runtime::deploy(&[]);
    let (agent, _forward) = pod.by_port_forward();
    let ticking = "trap 'echo stopped; exit 3' TERM; echo begun; while :; do sleep 0.1; done";
    create(&agent, "long", ticking, &Value::Null);
    create(&agent, "short", "echo out; echo err >&2; exit 5", &shared());
    let running = agent.await_state("long", "running");
    agent.await_log("long", "begun\n");
    let ended = agent.await_state("short", "terminated");
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&json!(5), &json!("Failed")));
    let followed = agent.get("/tasks/short/logs?follow=true&offset=1");
    assert_eq!(
        (followed.text().as_str(), followed.header("podrun-log-offset")),
        ("ut\n", Some("1"))
    );
    assert_eq!(stderr(&agent, "short"), "err\n");
    let again = json!({"name": "long", "spec": {"container": {"image": "busybox"}}});
    assert_eq!(agent.ask("POST", "/tasks", &again).status, 409);
    assert_eq!(agent.get("/ready").status, 200);

    // The desired set: one is left alone, one is replaced, one is new.
    let containers = Container::of_tasks(&pod);
    let task = |name: &str, script: &str| json!({"name": name, "spec": {"container": {"image": "busybox", "command": ["sh", "-c"], "args": [script]}}});
    let set = json!([task("long", ticking), task("short", "exit 6"), task("new", "exit 0")]);
    assert_eq!(agent.ask("POST", "/setTasks", &set).status, 200);
    assert_eq!(agent.await_state("new", "terminated")["reason"], "Succeeded");
    agent.await_some(|tasks| {
        let is_new = |task: &&Value| task["name"] == "short" && task["processStatus"]["terminated"]["exitCode"] == 6;
        tasks.iter().find(is_new).map(|_| ())
    });
    assert_eq!(agent.await_state("long", "running"), running);
    assert_eq!(Container::of_tasks(&pod), containers, "it is the same container");
    let invalid = json!([task("long", "exit 0"), json!({"name": "x", "spec": {"container": {}}})]);
    assert_eq!(agent.ask("POST", "/setTasks", &invalid).status, 400);
    assert_eq!(agent.await_state("long", "running"), running);
    agent.delete("long");
    agent.await_gone("long");
    assert_eq!(agent.ask("POST", "/setTasks", &json!([])).status, 200);
    agent.await_some(|tasks| tasks.is_empty().then_some(()));
    for container in containers {
        container.await_gone();
    }
}

fn shared() -> Value {
    json!({"volumeMounts": [{"name": "shared", "mountPath": "/in"}]})
}
