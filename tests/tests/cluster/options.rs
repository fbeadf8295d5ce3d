//! Options of a task: on the pod that results, and in what they do.

use podrun_host::Status;
use podrun_tests::{Cluster, Expected, FEW_TOOLS, Group, HELLO, Trial, check};
use serde_json::{Value, json};

/// The pod of a running task, as the cluster has it; the task goes on to its end.
pub(crate) async fn pod(group: &Group, trial: &Trial, namespace: &str) -> Value {
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let pod = group
        .cluster
        .get(&["pod", "-n", namespace, following.seen().pod()])
        .await;
    following.end().await.succeeded();
    pod
}

pub(crate) fn container<'p>(pod: &'p Value, name: &str) -> &'p Value {
    let spec = &pod["spec"];
    let all = [&spec["initContainers"], &spec["containers"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten();
    all.into_iter().find(|c| c["name"] == name).unwrap_or(&Value::Null)
}

/// A namespace with these labels, in which the tests' account may do what it may in `default`.
pub(crate) async fn bound_namespace(cluster: &Cluster, namespace: &str, labels: &Value) {
    let metadata = json!({"name": namespace, "labels": labels});
    cluster
        .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})])
        .await;
    if cluster.limited {
        // The Role of the runner's account in `default`, bound in this namespace as well.
        let names = json!({"name": "task-runner", "namespace": namespace});
        let role = cluster.get(&["role", "task-runner"]).await;
        let binding = cluster.get(&["rolebinding", "task-runner"]).await;
        let role = json!({"apiVersion": role["apiVersion"], "kind": "Role", "metadata": names, "rules": role["rules"]});
        let binding = json!({
            "apiVersion": binding["apiVersion"], "kind": "RoleBinding", "metadata": names,
            "roleRef": binding["roleRef"], "subjects": binding["subjects"],
        });
        cluster.apply(&[role, binding]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn options_shape_the_pod() {
    let group = Group::new("options").await;
    let cluster = group.cluster;
    let namespace = format!("options-{}", cluster.suite);
    bound_namespace(cluster, &namespace, &json!({})).await;
    let worker = json!({"name": "worker", "namespace": namespace});
    cluster
        .apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": worker})])
        .await;
    let trial = group
        .trial("all")
        .sh("echo up; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; cp in.txt out.txt; sleep 2")
        .input("in.txt", 0o644, "in")
        .output("out.txt")
        .option("namespace", namespace.as_str())
        .option("labels", json!({"example.com/team": "blue"}))
        .option("serviceAccountName", "worker")
        .option(
            "resources",
            json!({"request": {"cpu": "20m", "memory": "32Mi"}, "limit": {"memory": "128Mi"}}),
        )
        .option("pullPolicy", "ALWAYS")
        .option("volume", json!({"medium": "DISK", "sizeLimit": "50Mi"}))
        .option("fileSidecar", json!({"image": "debian"}));
    let pod = pod(&group, &trial, &namespace).await;
    assert_eq!(trial.files()["work/out.txt"], b"in");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["example.com/team"], "blue");
    assert!(
        labels["podrun.dev/task"].is_string() && labels["podrun.dev/group"].is_string(),
        "{labels:#}"
    );
    assert_eq!(pod["spec"]["serviceAccountName"], "worker");
    let main = container(&pod, "main");
    assert_eq!(main["resources"]["requests"], json!({"cpu": "20m", "memory": "32Mi"}));
    assert_eq!(main["resources"]["limits"], json!({"memory": "128Mi"}));
    assert_eq!(main["imagePullPolicy"], "Always");
    for helper in ["init-files", "out-files"] {
        assert_eq!(container(&pod, helper)["image"], "debian");
    }
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let files = volumes.iter().find(|v| v["name"] == "files").unwrap();
    assert_eq!(files["emptyDir"], json!({"sizeLimit": "50Mi"}));
    // The handle names the namespace, whatever the config says.
    match cluster.runner.list(&cluster.target, &trial.task.labels).await {
        Ok(found) => assert!(found.is_empty(), "{found:#?}"),
        Err(error) => panic!("{error}"),
    }
    cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn small_inputs_travel_in_the_pod_unless_the_limit_says_no() {
    let group = Group::new("inline").await;
    let trial = |name: &str| {
        group
            .trial(name)
            .sh("echo up; sleep 1; cat in.txt")
            .input("in.txt", 0o644, "in")
    };
    let inline = pod(&group, &trial("inline"), "default").await;
    let exec = pod(&group, &trial("exec").option("inlineLimit", 0), "default").await;
    let script = |pod: &Value| container(pod, "init-files")["command"].as_array().unwrap().len();
    assert!(
        script(&inline) > script(&exec),
        "the archive is an argument of the init container"
    );
    let phases = trial("told").option("inlineLimit", 0).run().await;
    assert!(
        phases.phases().contains(&podrun_host::Phase::Staging),
        "{:?}",
        phases.phases()
    );
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_volume_is_in_memory_and_no_larger_than_it_may_be() {
    let group = Group::new("volume").await;
    let medium = "grep ' /podrun/work ' /proc/mounts | cut -d' ' -f1";
    let fill = "dd if=/dev/zero of=fill bs=64k count=256 2>&1 | grep -o 'No space left'";
    check([
        (group.trial("memory").sh(medium), Expected::succeeded().lines(["tmpfs"])),
        (
            group
                .trial("limit")
                .sh(fill)
                .option("volume", json!({"sizeLimit": "8Mi"})),
            Expected::succeeded().lines(["No space left"]),
        ),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_memory_limit_below_the_volumes_is_warned_of() {
    let group = Group::new("warned").await;
    let trial = group
        .trial("small")
        .sh("true")
        .option("resources", json!({"limit": {"memory": "64Mi"}}));
    let ran = trial.run().await;
    ran.succeeded();
    let said = ran.diagnostics();
    assert!(
        said.iter()
            .any(|d| d.contains("volume.sizeLimit") && d.contains("64Mi")),
        "{said:#?}"
    );
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_image_of_the_sidecar_that_lacks_a_tool_is_named() {
    let group = Group::new("tools").await;
    let trial = |name: &str, image: &str| {
        let trial = group.trial(name).sh("echo x >x");
        trial.option("fileSidecar", json!({ "image": image }))
    };
    let no_shell = |name: &str| trial(name, HELLO);
    let few_tools = |name: &str| trial(name, FEW_TOOLS);
    for (trial, reason, says) in [
        (no_shell("to-bring").input("x", 0o644, "x"), "configuration", ""),
        (no_shell("to-collect").output("x"), "outputs-refused", ""),
        (
            few_tools("to-unpack").input("y", 0o644, "y"),
            "configuration",
            "tar base64",
        ),
        (
            few_tools("to-receive").input("y", 0o644, "y").option("inlineLimit", 0),
            "configuration",
            "tar base64",
        ),
        (few_tools("to-send").output("x"), "outputs-refused", "tar base64"),
    ] {
        let ran = trial.run().await;
        let outcome = ran.outcome();
        assert_eq!(
            (outcome.status, outcome.reason.as_deref()),
            (Status::Failed, Some(reason)),
            "{outcome:#?}"
        );
        assert!(
            outcome.message.contains("fileSidecar.image") && outcome.message.contains(says),
            "{outcome:#?}"
        );
    }
    group.close().await;
}
