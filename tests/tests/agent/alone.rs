//! The agent as the one container of a pod: its first process, with the API behind a token.

use serde_json::json;

use super::pod::Pod;

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
