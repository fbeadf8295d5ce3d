//! An operator's credentials: forced over what flows say, and never seen again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::sandbox::{Sandbox, WAITING, finished, holds};

/// A flow that would end up elsewhere, with a credential of its own.
fn flow() -> String {
    let config = "\n      config:\n        masterUrl: https://placeholder.example\n        oauthToken: placeholder\n";
    WAITING.replace("\n      pullPolicy: IF_NOT_PRESENT\n", config)
}

#[test]
#[ignore = "needs cluster"]
fn forced_credentials_reach_the_cluster_and_nothing_else() {
    let sandbox = Sandbox::new("forced");
    let place = &sandbox.place;
    let mut config = json!({
        "masterUrl": place.server().unwrap(),
        "caCertData": STANDARD.encode(place.authority().unwrap()),
        "namespace": place.namespace,
    });
    // Parts of them, too, must not be seen: a token is three parts, and one of them is the proof.
    let mut secrets = Vec::new();
    if let Some(token) = place.token() {
        config["oauthToken"] = token.into();
        secrets.push(token.rsplit('.').next().unwrap().to_owned());
    }
    if let Some((certificate, key)) = place.certificate().unwrap() {
        config["clientCertData"] = STANDARD.encode(certificate).into();
        config["clientKeyData"] = STANDARD.encode(&key).into();
        secrets.push(STANDARD.encode(&key)[100..140].to_owned());
    }
    assert!(!secrets.is_empty());
    let runner = json!({"type": "io.kestra.plugin.ee.kubernetes.runner.Kubernetes", "pullPolicy": "IF_NOT_PRESENT", "config": config});
    let defaults = json!({"pluginDefaults": [
        {"type": "io.kestra.plugin.scripts", "forced": true, "values": {"taskRunner": runner}},
    ]});
    sandbox.write("flow.yaml", &flow());
    sandbox.write("defaults.yaml", &defaults.to_string());
    let arguments = [
        "run",
        "flow.yaml",
        "--defaults",
        "defaults.yaml",
        "--execution-id",
        "x",
        "--verbose",
    ];
    let mut command = sandbox.podrun.command(&arguments);
    // No kubeconfig is found, so only the defaults lead to the cluster.
    command.env_remove("KUBECONFIG").env("HOME", sandbox.path("home"));
    let run = crate::sandbox::Running::new(&mut command);
    run.await_text("ready");
    let pods = serde_json::to_vec(&sandbox.pods()).unwrap();
    let state = sandbox.state();
    sandbox.go();
    let ended = run.end().expect(0);
    let logs = sandbox.run(&["logs", "x", "--json"]).expect(0);
    let ps = sandbox.run(&["ps", "--json"]).expect(0);
    for secret in &secrets {
        assert!(!holds(&pods, secret), "a credential is in the pod");
        assert!(
            !holds(&state, secret),
            "a credential is in the state folder of a running task"
        );
        assert!(!holds(&sandbox.state(), secret), "a credential is in the state folder");
        for printed in [&ended, &logs, &ps] {
            assert!(!format!("{printed:?}").contains(secret), "a credential was printed");
        }
    }
    assert!(
        !holds(&sandbox.state(), "placeholder.example"),
        "the flow's own config is kept"
    );
    sandbox.nothing_is_left();
}

#[test]
#[ignore = "needs cluster"]
fn a_refused_credential_is_not_repeated() {
    let sandbox = Sandbox::new("refused");
    let secret = "tell-nobody-7f3a";
    let config = json!({
        "masterUrl": sandbox.place.server().unwrap(),
        "caCertData": STANDARD.encode(sandbox.place.authority().unwrap()),
        "oauthToken": secret,
    });
    let flow = WAITING.replace("pullPolicy: IF_NOT_PRESENT", &format!("config: {config}"));
    sandbox.write("flow.yaml", &flow);
    let mut command = sandbox.podrun.command(&["run", "flow.yaml", "--verbose"]);
    let refused = finished(&mut command).expect(3);
    assert!(refused.error.contains("refused the credential"), "{}", refused.error);
    assert!(!format!("{refused:?}").contains(secret), "{refused:?}");
    assert!(
        !holds(&sandbox.state(), secret),
        "the credential is in the state folder"
    );
}
