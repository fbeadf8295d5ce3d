//! One execution, several terminals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::sandbox::{Sandbox, WAITING};

const RUN: [&str; 4] = ["run", "flow.yaml", "--execution-id", "x"];

fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    sandbox.write("flow.yaml", WAITING);
    sandbox
}

#[test]
#[ignore = "needs cluster"]
fn another_terminal_sees_follows_and_kills() {
    let sandbox = sandbox("other");
    let run = sandbox.start(&RUN);
    run.await_text("ready");
    let row = sandbox.ps();
    assert_eq!(
        (&row["state"], &row["task"], &row["phase"]),
        (&"running".into(), &"wait".into(), &"running".into())
    );
    assert!(
        row["process"].as_str().unwrap().contains(&run.id().to_string()),
        "{row}"
    );

    let logs = sandbox.start(&["logs", "x", "-f"]);
    logs.await_text("wait | ready\n");
    let second = sandbox.run(&RUN).expect(4);
    assert!(
        second.error.contains(&format!("driven by process {}", run.id())),
        "{}",
        second.error
    );

    sandbox.run(&["kill", "x"]).expect(0);
    run.end().expect(130);
    assert_eq!(logs.end().expect(0).out, "wait | ready\n");
    assert_eq!(sandbox.ps()["state"], "cancelled");
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn what_was_left_running_is_taken_up_where_it_is() {
    let sandbox = sandbox("detach");
    let run = sandbox.start(&RUN);
    run.await_text("ready");
    let pod = sandbox.pods()[0]["metadata"]["uid"].clone();
    run.signal("TERM");
    let left = run.end().expect(75);
    assert!(left.out.contains("podrun attach x"), "{}", left.out);
    assert_eq!(sandbox.ps()["state"], "unfinished");

    // Another flow under the same id is refused, and what runs is left alone.
    sandbox.write("flow.yaml", &WAITING.replace("gone on", "gone astray"));
    let changed = sandbox.run(&RUN).expect(4);
    assert!(changed.error.contains("commands[2]"), "{}", changed.error);
    sandbox.write("flow.yaml", WAITING);
    assert_eq!(sandbox.pods()[0]["metadata"]["uid"], pod);

    let attached = sandbox.start(&["attach", "x"]);
    attached.await_text("wait: taken up");
    attached.await_text("wait: running");
    attached.signal("TERM");
    attached.end().expect(75);

    let again = sandbox.start(&RUN);
    again.await_text("wait: running");
    assert_eq!(sandbox.pods()[0]["metadata"]["uid"], pod);
    sandbox.go();
    again.end().expect(0);
    assert_eq!(
        sandbox.run(&["logs", "x"]).expect(0).out,
        "wait | ready\nwait | gone on\n"
    );
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn an_execution_that_nobody_drives_can_be_killed() {
    let sandbox = sandbox("orphan");
    let run = sandbox.start(&RUN);
    run.await_text("ready");
    run.signal("KILL");
    assert_eq!(run.end().code, None);
    sandbox.run(&["kill", "x", "--grace", "1"]).expect(0);
    // `kill` says so only when the pod is gone.
    assert!(sandbox.pods().is_empty());
    assert_eq!(sandbox.ps()["state"], "cancelled");
}

#[test]
#[ignore = "needs cluster"]
fn a_wrong_authority_leaves_the_pod_to_whoever_comes_with_the_right_one() {
    let sandbox = sandbox("authority");
    let run = sandbox.start(&RUN);
    run.await_text("ready");
    run.signal("KILL");
    run.end();
    let pod = sandbox.pods()[0]["metadata"]["uid"].clone();

    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
    let config = json!({
        "masterUrl": sandbox.place.server().unwrap(),
        "caCertData": STANDARD.encode(stranger.cert.pem()),
        "oauthToken": "nobody",
        "namespace": sandbox.place.namespace,
    });
    let forced = json!({"pluginDefaults": [
        {"type": "io.kestra.plugin.scripts", "forced": true, "values": {"taskRunner": {"config": config}}},
    ]});
    sandbox.write("defaults.yaml", &forced.to_string());
    let refused = sandbox.run(&["attach", "x", "--defaults", "defaults.yaml"]).expect(2);
    assert!(
        refused.error.contains("caCertData") && refused.error.contains("podrun attach x"),
        "{}",
        refused.error
    );
    assert_eq!(sandbox.ps()["state"], "unfinished");

    sandbox.write("defaults.yaml", "pluginDefaults: []");
    let again = sandbox.start(&["attach", "x"]);
    again.await_text("wait: running");
    assert_eq!(sandbox.pods()[0]["metadata"]["uid"], pod);
    sandbox.go();
    again.end().expect(0);
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn a_pod_that_was_to_stay_stays_until_it_is_killed() {
    let sandbox = Sandbox::new("stay");
    let flow = WAITING.replace("until [ -e go ]; do sleep 0.1; done", "true");
    let kept = "pullPolicy: IF_NOT_PRESENT\n      delete: false";
    sandbox.write("flow.yaml", &flow.replace("pullPolicy: IF_NOT_PRESENT", kept));
    sandbox.run(&RUN).expect(0);
    sandbox.run(&["attach", "x"]).expect(0);
    assert_eq!(sandbox.pods().len(), 1);
    sandbox.run(&["kill", "x"]).expect(0);
    assert!(sandbox.pods().is_empty());
    assert_eq!(sandbox.ps()["state"], "succeeded");
}
