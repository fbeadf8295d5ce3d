//! The calls beside `run` and `attach`: describe, status, list, check, render.

use podrun_host::{Error, Level, Phase, Status};
use podrun_tests::{Expected, Group, Trial, check, cluster};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_schemas_name_every_property_of_the_reference() {
    let descriptor = cluster().await.runner.describe().await.unwrap();
    let properties = |schema: &str| -> Vec<String> {
        let schema: Value = serde_json::from_str(schema).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let mut config = properties(&descriptor.config_schema);
    config.sort();
    assert_eq!(
        config,
        [
            "caCertData",
            "clientCertData",
            "clientKeyData",
            "context",
            "kubeconfig",
            "masterUrl",
            "namespace",
            "oauthToken",
            "proxyUrl",
            "tlsServerName",
            "trustCerts",
            "username",
        ]
    );
    let mut options = properties(&descriptor.task_schema);
    options.sort();
    assert_eq!(
        options,
        [
            "affinity",
            "annotations",
            "containerDefaultSpec",
            "containerSpec",
            "credentials",
            "delete",
            "fileSidecar",
            "initLogs",
            "inlineLimit",
            "keepOutputs",
            "killGracePeriod",
            "labels",
            "namespace",
            "nodeSelector",
            "outputDir",
            "podSpec",
            "priorityClassName",
            "pullPolicy",
            "requiredOutputs",
            "resources",
            "resume",
            "runtimeClassName",
            "serviceAccountName",
            "syncWorkingDirectory",
            "tolerations",
            "volume",
            "waitForLogs",
            "waitUntilCompletion",
            "waitUntilRunning",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_task_is_looked_at_and_found_by_its_labels() {
    let group = Group::new("look").await;
    let cluster = group.cluster;
    // A label's value may hold 63 characters of few kinds; the whole one is still found.
    let long = format!("namespace/flow with spaces and ünï, {}", "x".repeat(80));
    let trial = |name: &str| group.trial(name).label("flow", &long).label("attempt", name);
    let running = trial("running").sh("echo up; sleep 600");
    let ended = trial("ended").sh("echo up; exit 3").option("delete", false);
    let mut following = running.start(None).await;
    following.until_line("up").await;
    let [ran] = check([(ended, Expected::failed("exit-code", Some(3)))]).await;

    let snapshot = cluster
        .runner
        .status(&cluster.target, following.seen().handle())
        .await
        .unwrap();
    assert_eq!((snapshot.phase, snapshot.outcome), (Some(Phase::Running), None));
    assert_eq!(snapshot.labels, running.task.labels);
    let snapshot = cluster.runner.status(&cluster.target, ran.handle()).await.unwrap();
    let outcome = snapshot.outcome.unwrap();
    assert_eq!(
        (snapshot.phase, outcome.exit_code, outcome.status),
        (None, Some(3), Status::Failed)
    );
    assert!(outcome.files.is_empty());

    let find = async |labels: &[(&str, &str)]| {
        let labels: Vec<_> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let mut found: Vec<String> = cluster
            .runner
            .list(&cluster.target, &labels)
            .await
            .unwrap()
            .into_iter()
            .map(|s| s.handle)
            .collect();
        found.sort();
        found
    };
    let group_label = running.task.labels[0].1.as_str();
    let mut both = vec![following.seen().handle().to_owned(), ran.handle().to_owned()];
    both.sort();
    assert_eq!(find(&[("group", group_label)]).await, both);
    assert_eq!(find(&[("group", group_label), ("flow", &long)]).await, both);
    assert_eq!(
        find(&[("group", group_label), ("attempt", "ended")]).await,
        [ran.handle()]
    );
    assert!(find(&[("group", group_label), ("flow", &long[..90])]).await.is_empty());
    assert!(find(&[]).await.len() >= 2);

    let seen = following.detach().await;
    for handle in [seen.handle(), ran.handle()] {
        cluster.runner.kill(&cluster.target, handle, Some(1)).await.unwrap();
        match cluster.runner.status(&cluster.target, handle).await {
            Err(Error::NotFound(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_check_that_finds_nothing_says_what_it_looked_at() {
    let cluster = cluster().await;
    let audit = cluster.audit();
    let findings = cluster.runner.check(&cluster.target).await.unwrap();
    assert!(findings.iter().all(|f| f.level == Level::Info), "{findings:#?}");
    for says in ["Kubernetes v1.", "may create pods", "may get pods/exec", "would admit"] {
        assert!(
            findings.iter().any(|f| f.message.contains(says)),
            "{says}: {findings:#?}"
        );
    }
    if let Some(audit) = audit {
        assert_eq!(audit.created("podrun-check").await, 0, "a check creates nothing");
    }
}

fn described(group: &Group) -> Trial {
    let mut trial = group
        .trial("described")
        .image("example.com/tool:1")
        .command(&["bash", "-c", "echo $HOME", "$$"])
        .env("PRICE", "$5 $(WORKING_DIR)")
        .output("*.txt")
        .timeout(60)
        .option("namespace", "team")
        .option("labels", json!({"example.com/cost": "7"}))
        .option("serviceAccountName", "worker")
        .option(
            "resources",
            json!({"request": {"cpu": "500m"}, "limit": {"memory": "2Gi"}}),
        )
        .option("pullPolicy", "ALWAYS")
        .option("volume", json!({"medium": "DISK", "sizeLimit": "5Gi"}))
        .option("inlineLimit", 0)
        .option("waitUntilRunning", "PT1H")
        .option("keepOutputs", "PT2H")
        .option("fileSidecar", json!({"image": "example.com/tools:2"}));
    trial.task.id = "company.team/flow Task:1".to_owned();
    trial.task.labels = vec![
        ("flow".to_owned(), "my_flow".to_owned()),
        ("execution".to_owned(), "a value that no label holds".to_owned()),
    ];
    trial
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_pod_that_would_be_created_is_shown() {
    let group = Group::new("render").await;
    let cluster = group.cluster;
    let audit = cluster.audit();
    let mut defaults = group.trial("defaults").sh("true");
    defaults.task.id = "defaults".to_owned();
    defaults.task.labels.clear();
    for (name, trial) in [("defaults", defaults), ("everything", described(&group))] {
        insta::assert_snapshot!(name, pretty(render(&trial, false).await));
    }
    // As the server would accept it, with what admission adds; nothing is created.
    let trial = group.trial("server").sh("true");
    let pod = render(&trial, true).await;
    assert_eq!(pod["metadata"]["namespace"], "default");
    assert!(
        pod["metadata"]["uid"].is_string() && pod["spec"]["schedulerName"].is_string(),
        "{pod:#}"
    );
    if let Some(audit) = audit {
        assert_eq!(audit.created(&trial.task.id).await, 0);
    }
    group.close().await;
}

async fn render(trial: &Trial, server: bool) -> Value {
    serde_json::from_str(&trial.render(server).await).unwrap()
}

/// The pod without what changes with every edit of a script: scripts and digests.
fn pretty(mut pod: Value) -> String {
    redact(&mut pod);
    serde_json::to_string_pretty(&pod).unwrap()
}

fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            "[digest]".clone_into(text);
        }
        Value::String(text) if text.lines().count() > 3 => "[script]".clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => fields.values_mut().for_each(redact),
        _ => {}
    }
}
