//! The main job on an API server of the next version, which checks WebSockets as `create` on pods/exec too.

use crate::bad_input::{account, plain_role};
use podrun_host::{Error, Level};
use podrun_tests::{Cluster, Group, Trial, next_cluster};
use serde_json::Value;

/// A task whose files travel both ways by exec.
fn round_trip(group: &Group, name: &str) -> Trial {
    group
        .trial(name)
        .sh("echo up; mv in.txt out.txt")
        .option("inlineLimit", 0)
        .input("in.txt", 0o644, "content\n")
        .output("out.txt")
}

/// These tests say nothing about a server that does not ask for the right yet.
async fn assert_it_is_the_next_version(cluster: &Cluster) {
    let version: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw", "/version"]).await).unwrap();
    let minor: u32 = version["minor"].as_str().unwrap().parse().unwrap();
    assert!(minor >= 35, "{version}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn files_travel_with_the_role_of_the_next_version() {
    let Some(cluster) = next_cluster().await else { return };
    assert_it_is_the_next_version(cluster).await;
    let group = Group::on(cluster, "next");
    let findings = cluster.runner.check(&cluster.target).await.unwrap();
    assert!(findings.iter().all(|f| f.level == Level::Info), "{findings:#?}");
    assert!(
        findings.iter().any(|f| f.message.contains("may create pods/exec")),
        "{findings:#?}"
    );
    let trial = round_trip(&group, "whole");
    let ran = trial.run().await;
    ran.succeeded();
    assert_eq!(ran.lines(), ["up"]);
    assert_eq!(trial.files()["work/out.txt"], b"content\n");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_role_of_former_versions_lacks_a_right_that_is_named() {
    let Some(cluster) = next_cluster().await else { return };
    assert_it_is_the_next_version(cluster).await;
    let group = Group::on(cluster, "next-rights");
    let namespace = format!("former-{}", cluster.suite);
    cluster.kubectl(&["create", "namespace", &namespace]).await;
    let target = account(cluster, &namespace, "former", &plain_role()).await;
    let rule = "{apiGroups: [\"\"], resources: [\"pods/exec\"], verbs: [\"create\"]}";
    let names_it = |message: &str| message.contains("create pods/exec") && message.contains(rule);
    let findings = cluster.runner.check(&target).await.unwrap();
    let errors: Vec<_> = findings.iter().filter(|f| f.level == Level::Error).collect();
    assert!(errors.len() == 1 && names_it(&errors[0].message), "{findings:#?}");
    let ran = round_trip(&group, "former").on(target).run().await;
    match ran.error() {
        Error::AccessDenied(message) => {
            assert!(
                names_it(message) && message.contains(&format!("`{namespace}`")),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}
