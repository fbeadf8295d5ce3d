//! Ways to reach a cluster: every field that a config knows, in the forms in which people have them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use podrun_host::{BoxFuture, Credential, Credentials, Error, Target};
use podrun_tests::{Cluster, Group, cluster, skip};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What a config's fields are made of.
pub(crate) struct Parts {
    pub(crate) server: String,
    /// Base64, as kubeconfigs have it.
    pub(crate) ca: String,
    pub(crate) token: String,
}

/// The runner's own account.
pub(crate) async fn parts(cluster: &Cluster) -> Parts {
    let config: Value = serde_json::from_str(&cluster.target.config).unwrap();
    let kubeconfig: Value = serde_json::from_str(config["kubeconfig"].as_str().unwrap()).unwrap();
    let text = |pointer: &str| {
        kubeconfig
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Parts {
        server: text("/clusters/0/cluster/server"),
        ca: text("/clusters/0/cluster/certificate-authority-data"),
        token: text("/users/0/user/token"),
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// The same base64 as an editor or `base64` without `-w0` leaves it.
fn broken_into_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|c| std::str::from_utf8(c).unwrap())
        .collect();
    format!("  {}\r\n\n", lines.join("\n\t "))
}

/// The cluster accepts this config: it answers a call that needs a right.
async fn accepted(what: &str, config: &Value) {
    let cluster = cluster().await;
    let found = cluster
        .runner
        .list(&cluster.target(config), &[("nobody".into(), "has".into())])
        .await;
    assert!(found.as_ref().is_ok_and(Vec::is_empty), "{what}: {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_token_is_accepted_with_the_authority_in_any_form_and_with_none() {
    let Parts { server, ca, token } = parts(cluster().await).await;
    let base = json!({"masterUrl": server, "oauthToken": token, "username": "whoever", "namespace": "default"});
    let with = |name: &str, value: Value| {
        let mut config = base.clone();
        config[name] = value;
        config
    };
    accepted("base64", &with("caCertData", json!(ca))).await;
    accepted("PEM", &with("caCertData", json!(decoded(&ca)))).await;
    accepted("base64 in lines", &with("caCertData", json!(broken_into_lines(&ca)))).await;
    accepted("trustCerts", &with("trustCerts", json!(true))).await;
    let mut slash = with("caCertData", json!(ca));
    slash["masterUrl"] = json!(format!("{server}/"));
    accepted("trailing slash", &slash).await;
    slash["oauthToken"] = json!(format!("  {token}\n"));
    accepted("token with a line break", &slash).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_server_is_reached_by_name_and_by_address() {
    let Parts { server, ca, token } = parts(cluster().await).await;
    if !server.contains("//127.0.0.1:") {
        skip("the cluster is not on this machine, so it may have no second name");
        return;
    }
    for host in ["localhost", "127.0.0.1"] {
        let url = server.replace("127.0.0.1", host);
        let config = json!({"masterUrl": url, "oauthToken": token, "caCertData": ca});
        accepted(host, &config).await;
        let connection = cluster().await.runner.connect(&config.to_string()).await.unwrap();
        assert_eq!(connection.endpoints.len(), 1);
        assert_eq!(connection.endpoints[0].host, host);
        assert_eq!(connection.credential_command, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn client_certificates_with_ec_and_rsa_keys_are_accepted_in_any_form() {
    let cluster = cluster().await;
    for file in ["kubeconfig", "admin-rsa.kubeconfig"] {
        let Some(file) = cluster.file(file) else { return };
        let kubeconfig = cluster.kubeconfig(&file).await;
        let text = |pointer: &str| kubeconfig.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        let server = text("/clusters/0/cluster/server");
        let ca = text("/clusters/0/cluster/certificate-authority-data");
        let cert = text("/users/0/user/client-certificate-data");
        let key = text("/users/0/user/client-key-data");
        for (form, shape) in [
            ("base64", (|text| text.to_owned()) as fn(&str) -> String),
            ("PEM", |text| decoded(text)),
            ("base64 in lines", broken_into_lines),
        ] {
            let config = json!({
                "masterUrl": server, "caCertData": shape(&ca), "clientCertData": shape(&cert), "clientKeyData": shape(&key),
            });
            accepted(&format!("{} {form}", file.display()), &config).await;
        }
        accepted("kubeconfig", &json!({"kubeconfig": kubeconfig.to_string()})).await;
    }
}

/// A kubeconfig with two contexts, of which the current one is of no use.
fn two_contexts(parts: &Parts, user: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "useless", "preferences": {},
        "clusters": [
            {"name": "nowhere", "cluster": {"server": "https://nowhere.invalid:1", "insecure-skip-tls-verify": true}},
            {"name": "here", "cluster": {"server": parts.server, "certificate-authority-data": parts.ca}},
        ],
        "users": [{"name": "nobody", "user": {}}, {"name": "somebody", "user": user}],
        "contexts": [
            {"name": "useless", "context": {"cluster": "nowhere", "user": "nobody"}},
            {"name": "useful", "context": {"cluster": "here", "user": "somebody", "namespace": "default"}},
        ],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_kubeconfig_is_read_with_the_context_that_is_named() {
    let parts = parts(cluster().await).await;
    let text = two_contexts(&parts, &json!({"token": parts.token}));
    accepted("context", &json!({"kubeconfig": text, "context": "useful"})).await;
    let connection = cluster()
        .await
        .runner
        .connect(&json!({ "kubeconfig": text }).to_string())
        .await
        .unwrap();
    assert_eq!(connection.endpoints[0].host, "nowhere.invalid");
    let wrong = json!({"kubeconfig": text, "context": "absent"}).to_string();
    match cluster().await.runner.connect(&wrong).await {
        Err(Error::InvalidArgument(message)) => assert!(message.contains("`absent`"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_exec_plugin_of_a_kubeconfig_runs_on_the_host() {
    let group = Group::new("exec-plugin").await;
    let parts = parts(group.cluster).await;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": parts.token},
    });
    let user = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "printf %s \"$ANSWER\""],
        "env": [{"name": "ANSWER", "value": credential.to_string()}], "interactiveMode": "Never",
    }});
    let config = json!({"kubeconfig": two_contexts(&parts, &user), "context": "useful"});
    let connection = group.cluster.runner.connect(&config.to_string()).await.unwrap();
    let (command, environment) = connection.credential_command.unwrap();
    assert_eq!(command, ["sh", "-c", "printf %s \"$ANSWER\""]);
    assert!(environment.iter().any(|(name, _)| name == "ANSWER"));
    // The credential serves requests and WebSocket upgrades alike.
    let trial = group
        .trial("whole")
        .on(group.cluster.target(&config))
        .option("inlineLimit", 0)
        .input("in.txt", 0o644, "x")
        .sh("mv in.txt out.txt")
        .output("out.txt");
    trial.run().await.succeeded();
    group.close().await;
}

/// Answers with a bad token first, and with a good one when that is refused.
struct Renewing {
    asked: AtomicUsize,
    token: String,
}

impl Credentials for Renewing {
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, podrun_host::Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let token = if refused { &self.token } else { "expired" };
        Box::pin(std::future::ready(Ok(Some(Credential::BearerToken(token.to_owned())))))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_host_is_asked_for_a_credential_and_again_when_it_is_refused() {
    let group = Group::new("renewing").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let credentials = Arc::new(Renewing {
        asked: AtomicUsize::new(0),
        token,
    });
    let target = Target {
        config: json!({"masterUrl": server, "caCertData": ca}).to_string(),
        credentials: Some(credentials.clone()),
    };
    let trial = group.trial("whole").on(target).sh("echo x >x.txt").output("x.txt");
    trial.run().await.succeeded();
    assert_eq!(
        credentials.asked.load(Ordering::Relaxed),
        2,
        "once, and once more when refused"
    );
    group.close().await;
}

/// Answers with a token that is said to expire soon, each time another one.
struct Expiring {
    asked: AtomicUsize,
    token: String,
}

impl Credentials for Expiring {
    fn credential(&self, refused: bool) -> BoxFuture<'_, Result<Option<Credential>, podrun_host::Error>> {
        assert!(!refused, "it waited for a refusal");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let soon = k8s_openapi::jiff::Timestamp::now() + std::time::Duration::from_secs(2);
        let status = json!({"token": self.token, "expirationTimestamp": soon.to_string()});
        let credential = json!({"kind": "ExecCredential", "status": status}).to_string();
        Box::pin(std::future::ready(Ok(Some(Credential::ExecCredential(credential)))))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_credential_that_expires_while_a_script_runs_is_replaced_before() {
    let group = Group::new("expiring").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let credentials = Arc::new(Expiring {
        asked: AtomicUsize::new(0),
        token,
    });
    let target = Target {
        config: json!({"masterUrl": server, "caCertData": ca}).to_string(),
        credentials: Some(credentials.clone()),
    };
    let trial = group
        .trial("whole")
        .on(target)
        .sh("sleep 4; echo x >x.txt")
        .output("x.txt");
    trial.run().await.succeeded();
    let asked = credentials.asked.load(Ordering::Relaxed);
    assert!(asked >= 2, "asked {asked} times");
    group.close().await;
}
