//! The agent as the one container of a pod: its first process, with the API behind a token.

use std::process::Command;

use podrun_tests::faults::variable;
use podrun_tests::skip;
use serde_json::{Value, json};

use super::pod::{Agent, PORT, Pod, TOKEN};

#[test]
#[ignore = "needs a cluster"]
fn what_ended_is_kept_and_what_ran_is_lost_when_the_container_dies() {
    let pod = Pod::deploy("alone");
    let agent = pod.by_address();
    for path in ["/health", "/ready"] {
        assert_eq!(agent.ask_as_stranger(path).status, 200);
    }
    let refused = agent.ask_as_stranger("/getTasks");
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer"))
    );

    agent.create(
        "done",
        &["sh", "-c", "id -u; echo kept > /tmp/file; cat /tmp/file; exit 7"],
    );
    let done = agent.await_state("done", "terminated");
    assert_eq!((&done["exitCode"], &done["reason"]), (&json!(7), &json!("Failed")));
    agent.create("long", &["sh", "-c", "echo begun; exec sleep 100000"]);
    agent.await_log("long", "begun\n");

    // The same through the API server.
    let (forwarded, _forward) = pod.by_port_forward();
    forwarded.create("forwarded", &["sh", "-c", "echo through the API server"]);
    assert_eq!(forwarded.await_state("forwarded", "terminated")["reason"], "Succeeded");
    assert_eq!(forwarded.log("forwarded"), "through the API server\n");

    if pod.kill_container("agent") {
        assert_eq!(agent.await_state("done", "terminated"), done);
        assert_eq!(agent.log("done"), "1000\nkept\n");
        assert_eq!(agent.await_state("long", "terminated")["reason"], "Lost");
        assert_eq!(agent.log("long"), "begun\n", "it was not run again");
        agent.create("next", &["true"]);
        assert_eq!(agent.await_state("next", "terminated")["reason"], "Succeeded");
    }
    agent.delete("long");
    agent.await_gone("long");
    let tasks = agent.get("/getTasks").json();
    assert!(tasks.as_array().unwrap().iter().all(|task| task["name"] != "long"));
}

#[test]
#[ignore = "needs a cluster"]
fn the_end_of_the_pod_stops_the_tasks() {
    let pod = Pod::deploy("alone");
    let agent = pod.by_address();
    agent.create(
        "polite",
        &[
            "sh",
            "-c",
            "trap 'echo heard; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ],
    );
    agent.await_log("polite", "up\n");
    let begun = std::time::Instant::now();
    pod.place.kubectl(&["delete", "pod", &pod.name]).unwrap();
    let took = begun.elapsed();
    assert!(
        took.as_secs() < 15,
        "the pod went only when its grace of 30 s was over: {took:?}"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn the_desired_set_is_what_there_is() {
    let pod = Pod::deploy("alone");
    let agent = pod.by_address();
    // What it prints tells one run from another.
    let script = |name: &str| format!("echo $$ of {name}; exec sleep 100000");
    let (a, b, c) = (script("a"), script("b"), script("c"));
    let first = agent.set(&[("a", &a), ("b", &b), ("done", "exit 3")]);
    assert_eq!(
        (first.status, first.json().as_array().unwrap().len()),
        (200, 3),
        "{first:?}"
    );
    let running = agent.await_state("a", "running");
    agent.await_log("a", " of a\n");
    agent.await_log("b", " of b\n");
    let done = agent.await_state("done", "terminated");
    let run = agent.log("a");

    // Equal ones stay as they are, a changed one is another one, a missing one goes.
    assert_eq!(agent.set(&[("a", &a), ("b", &c), ("c", &c)]).status, 200);
    agent.await_log("b", " of c\n");
    agent.await_log("c", " of c\n");
    assert!(!agent.log("b").contains(" of b"), "it is another task");
    agent.await_gone("done");
    assert_eq!(done["exitCode"], 3);
    assert_eq!((agent.await_state("a", "running"), agent.log("a")), (running, run));

    // What is refused changes nothing, and neither does what is there already.
    let before = agent.get("/tasks").json();
    let entry = |name: &str, script: &str| json!({"name": name, "process": {"command": ["sh", "-c", script]}});
    for invalid in [
        entry("../d", "exit 0"),
        entry("a", "exit 0"),
        json!({"name": "d", "process": {"command": []}}),
        json!({"name": "d", "spec": {"container": {"image": "busybox"}}}),
    ] {
        let refused = agent.ask("POST", "/setTasks", &json!([entry("a", "exit 1"), invalid]));
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (400, &json!("Bad Request")),
            "{refused:?}"
        );
    }
    assert_eq!(agent.get("/tasks").json(), before);
    let logs = || ["a", "b", "c"].map(|name| agent.log(name));
    let runs = logs();
    for _ in 0..100 {
        assert_eq!(agent.set(&[("a", &a), ("b", &c), ("c", &c)]).status, 200);
    }
    assert_eq!((agent.get("/tasks").json(), logs()), (before, runs));
    assert_eq!(agent.set(&[]).status, 200);
    agent.await_some(|tasks| tasks.is_empty().then_some(()));
}

#[test]
#[ignore = "needs a cluster"]
fn tasks_do_not_notice_that_the_server_alone_is_killed() {
    let pod = Pod::deploy("alone");
    let agent = pod.by_address();
    agent.create("done", &["sh", "-c", "exit 7"]);
    let done = agent.await_state("done", "terminated");
    let script = "echo $$; until [ -e /tmp/go ]; do sleep 0.1; done; echo $$; exit 5";
    agent.create("long", &["sh", "-c", script]);
    let running = agent.await_state("long", "running");
    agent.await_log("long", "\n");
    let run = agent.log("long");
    let restarts = pod.restarts("agent");
    for _ in 0..3 {
        if !pod.kill_server("agent", &agent) {
            return;
        }
        assert_eq!(agent.await_state("long", "running"), running);
        assert_eq!(agent.await_state("done", "terminated"), done);
    }
    agent.create("go", &["touch", "/tmp/go"]);
    let ended = agent.await_state("long", "terminated");
    assert_eq!(
        (&ended["exitCode"], &ended["reason"], &ended["startedAt"]),
        (&json!(5), &json!("Failed"), &running["startedAt"])
    );
    assert_eq!(agent.log("long"), run.repeat(2), "the same process to its end");
    assert_eq!(pod.restarts("agent"), restarts, "the container went on");
}

#[test]
#[ignore = "needs a cluster"]
fn refusals_have_their_status() {
    let listen = "- --listen-addr=0.0.0.0:5758";
    let pod = Pod::deploy_changed("alone", &[(listen, &format!("{listen}\n    - --max-tasks=1"))]);
    let refused = |agent: &Agent, body: &Value, status: u16, code: &str| {
        let answer = agent.ask("POST", "/tasks", body);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{answer:?}"
        );
        assert!(answer.json()["message"].is_string());
    };
    let task = |name: &str| json!({"name": name, "process": {"command": ["true"]}});
    let agent = pod.by_address();
    agent.create("there", &["true"]);
    for agent in [&agent, &pod.by_port_forward().0] {
        refused(agent, &json!({}), 400, "Bad Request");
        refused(agent, &task("there"), 409, "Conflict");
        refused(agent, &task("other"), 429, "Too Many Requests");
        assert_eq!(agent.get("/tasks/other").status, 404);
    }
    // A connection that ends before its request does is not always forwarded to its end.
    refused(&agent, &json!("x".repeat(16 << 20)), 413, "Payload Too Large");
    assert_eq!(agent.get("/getTasks").json().as_array().unwrap().len(), 1);
}

#[test]
#[ignore = "needs a cluster"]
fn tls_and_a_unix_socket_are_served_behind_the_token() {
    const HOST: &str = "agent.example";
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "agent-tls"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
    });
    let (first, token, mount, volume, health, ready) = (
        "apiVersion: v1\nkind: Pod\n",
        "- --token-file=/etc/podrun-agent/token\n",
        "- {name: token, mountPath: /etc/podrun-agent, readOnly: true}\n",
        "- {name: scratch, emptyDir: {}}\n",
        "{path: /health, port: api}",
        "{path: /ready, port: api}",
    );
    let pod = Pod::deploy_changed(
        "alone",
        &[
            (first, &format!("{secret}\n---\n{first}")),
            (
                token,
                &format!(
                    "{token}    - --tls-cert-file=/etc/tls/tls.crt\n    - --tls-key-file=/etc/tls/tls.key\n    \
                     - --unix-socket=/tmp/agent.sock\n"
                ),
            ),
            (
                mount,
                &format!("{mount}    - {{name: tls, mountPath: /etc/tls, readOnly: true}}\n"),
            ),
            (
                volume,
                &format!("{volume}  - {{name: tls, secret: {{secretName: agent-tls, defaultMode: 0440}}}}\n"),
            ),
            (health, "{path: /health, port: api, scheme: HTTPS}"),
            (ready, "{path: /ready, port: api, scheme: HTTPS}"),
        ],
    );
    let authority = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(authority.path(), made.cert.pem()).unwrap();
    let curl = |arguments: &[&str], url: &str| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "30",
            "--write-out",
            "%{http_code}",
        ]);
        command.args(arguments).arg(url);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let address = pod.get()["status"]["podIP"].as_str().unwrap().to_owned();
    let connect = format!("{HOST}:{PORT}:{address}:{PORT}");
    let tls = ["--cacert", authority.path().to_str().unwrap(), "--connect-to", &connect];
    let url = |path: &str| format!("https://{HOST}:{PORT}{path}");
    assert_eq!(curl(&tls, &url("/health")), "{\"status\":\"healthy\"}\n200");
    assert!(curl(&tls, &url("/getTasks")).ends_with("401"));
    assert!(
        curl(
            &[&tls[..], &["-H", "Authorization: Bearer wrong"]].concat(),
            &url("/getTasks")
        )
        .ends_with("401")
    );
    let allowed = [&tls[..], &["-H", &bearer]].concat();
    assert_eq!(curl(&allowed, &url("/getTasks")), "[]\n200");
    let task = json!({"name": "t", "process": {"command": ["true"]}}).to_string();
    assert!(curl(&[&allowed[..], &["-d", &task]].concat(), &url("/tasks")).ends_with("201"));
    let plain = curl(&["-H", &bearer], &format!("http://{address}:{PORT}/getTasks"));
    assert!(!plain.ends_with("200"), "{plain}");

    if variable("PODRUN_TEST_CLUSTER_DIR").is_err() {
        skip("the node is not this machine, so that nobody here is on the pod's file system");
        return;
    }
    let socket = format!("/proc/{}/root/tmp/agent.sock", pod.processes("agent")[0]);
    let unix = ["--unix-socket", &socket];
    assert!(curl(&unix, "http://agent/getTasks").ends_with("401"));
    let listed = curl(&[&unix[..], &["-H", &bearer]].concat(), "http://agent/getTasks");
    assert!(listed.contains("\"name\":\"t\"") && listed.ends_with("200"), "{listed}");
}
