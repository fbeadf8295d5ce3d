//! Companies' networks: the API server behind a proxy, under another name than its certificate's, with several authorities.

use crate::config::{Parts, parts};
use podrun_host::Error;
use podrun_tests::{Door, Group, Trial, cluster, skip};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A name that only a proxy can know.
const ELSEWHERE: &str = "https://kubernetes.elsewhere.invalid:6443";

/// The API server's address on this machine, if it is on this machine.
fn local(server: &str) -> Option<SocketAddr> {
    let found = server.strip_prefix("https://").and_then(|address| address.parse().ok());
    if found.is_none() {
        skip("the cluster is not on this machine, so no proxy here can stand before it");
    }
    found
}

/// A task whose files travel both ways by exec.
fn round_trip(group: &Group, name: &str, config: &Value) -> Trial {
    group
        .trial(name)
        .sh("echo up; mv in.txt out.txt")
        .option("inlineLimit", 0)
        .input("in.txt", 0o644, "content\n")
        .output("out.txt")
        .on(group.cluster.target(config))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_proxy_leads_to_a_server_that_only_it_can_name() {
    let group = Group::new("proxy").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let Some(address) = local(&server) else { return };
    let door = Door::proxy(address, Some("me:hunter2")).await;
    let url = |user: &str| format!("http://{user}{}", door.address);
    let config = |proxy: &str| {
        json!({
            "masterUrl": ELSEWHERE, "tlsServerName": "127.0.0.1", "proxyUrl": proxy, "caCertData": ca,
            "oauthToken": token, "namespace": "default",
        })
    };
    let trial = round_trip(&group, "whole", &config(&url("me:hunter2@")));
    let connection = group.cluster.runner.connect(&trial.target.config).await.unwrap();
    let endpoint = &connection.endpoints[0];
    assert_eq!(connection.endpoints.len(), 1);
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port),
        ("127.0.0.1", door.address.port())
    );
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(trial.files()["work/out.txt"], b"content\n");
    assert!(door.passed() > 0 && door.refused() == 0, "{door:?}");

    // As kubectl has it, in a kubeconfig.
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {
            "server": ELSEWHERE, "tls-server-name": "127.0.0.1", "proxy-url": url("me:hunter2@"), "certificate-authority-data": ca,
        }}],
        "users": [{"name": "u", "user": {"token": token}}],
    });
    let config_of_kubectl = json!({"kubeconfig": kubeconfig.to_string()});
    round_trip(&group, "kubeconfig", &config_of_kubectl)
        .run()
        .await
        .succeeded();

    // Who may not pass learns it, without the password.
    let trial = round_trip(&group, "stranger", &config(&url("me:hunter3@")));
    let ran = trial.run().await;
    match ran.error() {
        Error::Unavailable(message) => {
            assert!(
                message.contains("config.proxyUrl") && message.contains(&door.address.to_string()),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(!format!("{ran:?}").contains("hunter3") && door.refused() > 0);
    // Without the name that the certificate carries, nothing is trusted.
    let mut nameless = config(&url("me:hunter2@"));
    nameless.as_object_mut().unwrap().remove("tlsServerName");
    let ran = round_trip(&group, "nameless", &nameless).run().await;
    match ran.error() {
        Error::InvalidArgument(message) => assert!(message.contains("another name"), "{message}"),
        other => panic!("{other:?}"),
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_proxy_of_the_environment_is_used_where_the_host_passes_it_on() {
    let group = Group::new("environment").await;
    let Parts { server, ca, token } = parts(group.cluster).await;
    let Some(address) = local(&server) else { return };
    let door = Door::proxy(address, None).await;
    let url = format!("http://{}", door.address);
    let config = json!({
        "masterUrl": ELSEWHERE, "tlsServerName": "127.0.0.1", "caCertData": ca, "oauthToken": token,
        "namespace": "default",
    });
    let mut trial = round_trip(&group, "whole", &config);
    trial.runner = group.cluster.host_with(&[("HTTPS_PROXY", &url)]).await;
    trial.run().await.succeeded();
    assert!(door.passed() > 0);
    // What is excepted, and this machine, is reached directly; nothing is passed on unless the host wants it.
    let endpoint = async |environment: &[(&str, &str)], config: &Value| {
        let runner = group.cluster.host_with(environment).await;
        let mut connection = runner.connect(&config.to_string()).await.unwrap();
        connection.endpoints.remove(0).host
    };
    let proxy = ("https_proxy", url.as_str());
    assert_eq!(endpoint(&[proxy], &config).await, "127.0.0.1");
    let excepted = [proxy, ("NO_PROXY", "10.0.0.0/8,.elsewhere.invalid")];
    assert_eq!(endpoint(&excepted, &config).await, "kubernetes.elsewhere.invalid");
    assert_eq!(endpoint(&[], &config).await, "kubernetes.elsewhere.invalid");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn several_authorities_are_trusted_side_by_side() {
    let cluster = cluster().await;
    let Parts { server, ca, token } = parts(cluster).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let company = rcgen::CertificateParams::new(vec!["company".to_owned()]).unwrap();
    let company = company.self_signed(&key).unwrap().pem();
    let own =
        String::from_utf8(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca).unwrap()).unwrap();
    let config = json!({"masterUrl": server, "oauthToken": token, "caCertData": format!("{company}{own}"), "namespace": "default"});
    let found = cluster
        .runner
        .list(&cluster.target(&config), &[("nobody".into(), "has".into())])
        .await;
    assert!(found.as_ref().is_ok_and(Vec::is_empty), "{found:?}");
}
