//! Private registries: a pull secret of the pod's own, which needs one right and outlives nothing.

use crate::bad_input::{account, plain_role};
use podrun_host::{Error, Target};
use podrun_tests::{Door, Expected, Group, check};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::PathBuf};

const USER: &str = "robot:hunter2";

/// A registry of that name which shows the cluster's images to whoever knows the password.
async fn private(group: &Group, name: &str) -> Option<(Door, PathBuf)> {
    let hosts = group.cluster.file("config/hosts")?;
    let mirror = std::fs::read_to_string(hosts.join("_default/hosts.toml")).unwrap();
    let address = mirror.split('\'').nth(1).and_then(|url| url.strip_prefix("http://"));
    let upstream: SocketAddr = address.unwrap().parse().unwrap();
    let door = Door::registry(upstream, USER).await;
    let folder = hosts.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "server = 'http://{}'\ncapabilities = ['pull', 'resolve']\n",
        door.address
    );
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    Some((door, folder))
}

/// The README's rights and the one for secrets, in a namespace of its own.
async fn with_secrets(group: &Group, namespace: &str) -> Target {
    let mut rules = plain_role();
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]});
    rules.as_array_mut().unwrap().push(secrets);
    group.cluster.kubectl(&["create", "namespace", namespace]).await;
    account(group.cluster, namespace, "puller", &rules).await
}

async fn secrets(group: &Group, namespace: &str) -> Vec<Value> {
    let all = group.cluster.get(&["secrets", "-n", namespace]).await;
    all["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_image_of_a_private_registry_is_pulled_with_a_secret_that_goes_with_the_pod() {
    let group = Group::new("private").await;
    let registry = format!("private-{}.test", group.cluster.suite);
    let Some((door, folder)) = private(&group, &registry).await else {
        return;
    };
    let namespace = format!("private-{}", group.cluster.suite);
    let target = with_secrets(&group, &namespace).await;
    let trial = |name: &str| {
        let trial = group.trial(name).sh("echo up; sleep 2").on(target.clone());
        trial
            .image(&format!("{registry}/library/busybox"))
            .option("pullPolicy", "ALWAYS")
    };
    let credentials = json!({"username": "robot", "password": "hunter2"});
    let whole = trial("whole").option("credentials", credentials.clone());
    let mut following = whole.start(None).await;
    following.until_line("up").await;
    let found = secrets(&group, &namespace).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["type"], "kubernetes.io/dockerconfigjson");
    let owner = &found[0]["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("Pod"), &json!(following.seen().pod()))
    );
    let pod = group
        .cluster
        .get(&["pod", "-n", &namespace, following.seen().pod()])
        .await;
    assert_eq!(
        pod["spec"]["imagePullSecrets"],
        json!([{"name": found[0]["metadata"]["name"]}])
    );
    let ran = following.end().await;
    ran.succeeded();
    for text in [format!("{ran:?}"), pod.to_string(), whole.render(false).await] {
        assert!(!text.contains("hunter2"), "the password is shown");
    }
    let secret = found[0]["metadata"]["name"].as_str().unwrap();
    let gone = [
        "wait",
        "secret",
        "-n",
        &namespace,
        secret,
        "--for=delete",
        "--timeout=60s",
    ];
    group.cluster.kubectl(&gone).await;
    assert!(door.passed() > 0);
    // A wrong password is the end at once, as is none.
    let wrong = json!({"registry": registry, "auth": "cm9ib3Q6d3Jvbmc="});
    let refused = || Expected::failed("image", None).says("may not be pulled");
    check([
        (trial("wrong").option("credentials", wrong), refused()),
        (trial("none"), refused()),
    ])
    .await;
    std::fs::remove_dir_all(folder).unwrap();
    group
        .cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_pod_that_was_left_without_its_secret_gets_it_from_the_next_call() {
    let group = Group::new("healed").await;
    let registry = format!("healed-{}.test", group.cluster.suite);
    let Some((_door, folder)) = private(&group, &registry).await else {
        return;
    };
    let namespace = format!("healed-{}", group.cluster.suite);
    let target = with_secrets(&group, &namespace).await;
    let trial = group
        .trial("crashed")
        .sh("echo up")
        .on(target)
        .image(&format!("{registry}/library/busybox"))
        .option("pullPolicy", "ALWAYS")
        .option("credentials", json!({"username": "robot", "password": "hunter2"}));
    // What a host leaves that dies right after the pod's creation.
    let mut pod: Value = serde_json::from_str(&trial.render(false).await).unwrap();
    let name = format!("{}-left", pod["metadata"]["name"].as_str().unwrap());
    pod["metadata"]["annotations"]["podrun.dev/pull-secret"] = json!(name);
    pod["spec"]["imagePullSecrets"] = json!([{ "name": name }]);
    group
        .cluster
        .post(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)
        .await;
    let pod = pod["metadata"]["name"].as_str().unwrap();
    let refused = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff";
    group
        .cluster
        .kubectl(&["wait", "pod", "-n", &namespace, pod, refused, "--timeout=60s"])
        .await;
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(ran.lines(), ["up"]);
    std::fs::remove_dir_all(folder).unwrap();
    group
        .cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn without_the_right_on_secrets_nothing_is_created_and_the_right_is_named() {
    let group = Group::new("no-secrets").await;
    let cluster = group.cluster;
    let namespace = format!("no-secrets-{}", cluster.suite);
    cluster.kubectl(&["create", "namespace", &namespace]).await;
    let target = account(cluster, &namespace, "plain", &plain_role()).await;
    let audit = cluster.audit();
    let trial = group
        .trial("refused")
        .sh("true")
        .on(target)
        .option("credentials", json!({"username": "robot", "password": "hunter2"}));
    let ran = trial.run().await;
    match ran.error() {
        Error::AccessDenied(message) => {
            let rule = "{apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"create\"]}";
            assert!(message.contains(rule) && message.contains(&namespace), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!format!("{ran:?}").contains("hunter2"));
    if let Some(audit) = audit {
        assert_eq!(audit.created(&trial.task.id).await, 0);
    }
    cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}
