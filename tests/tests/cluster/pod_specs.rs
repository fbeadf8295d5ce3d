//! Options that shape the pod, on the pod that results and in what they do.

use crate::options::{bound_namespace, container, pod};
use podrun_host::Status;
use podrun_tests::{BUSYBOX, Expected, Group, check};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn where_a_pod_may_run_is_said_and_obeyed() {
    let group = Group::new("scheduling").await;
    let cluster = group.cluster;
    let class = format!("class-{}", cluster.suite);
    cluster
        .apply(&[
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 7}),
            json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": class}, "handler": "runc"}),
        ])
        .await;
    let os = |values: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": values}]},
        ]}}})
    };
    let toleration = json!({"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"});
    let trial = group
        .trial("all")
        .sh("echo up; sleep 2")
        .option("annotations", json!({"example.com/note": "for people"}))
        .option("nodeSelector", json!({"kubernetes.io/os": "linux"}))
        .option("tolerations", json!([toleration]))
        .option("affinity", os(json!(["linux"])))
        .option("priorityClassName", class.as_str())
        .option("runtimeClassName", class.as_str())
        .option("killGracePeriod", "PT7S")
        .option(
            "fileSidecar",
            json!({"resources": {"request": {"cpu": "15m"}, "limit": {"memory": "256Mi"}}}),
        );
    let created = pod(&group, &trial, "default").await;
    let spec = &created["spec"];
    assert_eq!(created["metadata"]["annotations"]["example.com/note"], "for people");
    assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    assert!(
        spec["tolerations"].as_array().unwrap().contains(&toleration),
        "{spec:#}"
    );
    assert_eq!(spec["affinity"], os(json!(["linux"])));
    assert_eq!(
        (&spec["priorityClassName"], &spec["priority"]),
        (&json!(class), &json!(7))
    );
    assert_eq!(spec["runtimeClassName"], class);
    assert_eq!(spec["terminationGracePeriodSeconds"], 7);
    let helper = container(&created, "out-files");
    assert_eq!(helper["resources"]["requests"], json!({"cpu": "15m", "memory": "16Mi"}));
    assert_eq!(helper["resources"]["limits"], json!({"memory": "256Mi"}));

    let nowhere = |name: &str| group.trial(name).sh("true").option("waitUntilRunning", "PT3S");
    let unschedulable = || Expected::failed("unschedulable", None).retryable();
    check([
        (
            nowhere("selector").option("nodeSelector", json!({"example.com/disk": "none"})),
            unschedulable().says("node(s) didn't match Pod's node affinity/selector"),
        ),
        (
            nowhere("affinity").option("affinity", os(json!(["plan9"]))),
            unschedulable().says("node(s) didn't match Pod's node affinity/selector"),
        ),
        (
            nowhere("gpu").option("resources", json!({"limit": {"example.com/gpu": 1}})),
            unschedulable().says("Insufficient example.com/gpu"),
        ),
        (
            nowhere("gated").option("podSpec", json!({"schedulingGates": [{"name": "example.com/gate"}]})),
            unschedulable().says("SchedulingGated"),
        ),
    ])
    .await;
    cluster.kubectl(&["delete", "priorityclass,runtimeclass", &class]).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn free_maps_reach_every_container_and_the_runners_own_wins() {
    let group = Group::new("maps").await;
    let trial = group
        .trial("all")
        .sh("echo up; echo $FROM_DEFAULT $FROM_POD $FROM_SPEC $OF_TASK $WORKING_DIR; cat /shared/note; id -u; sleep 2; cp in.txt out.txt")
        .env("OF_TASK", "task")
        .input("in.txt", 0o644, "in")
        .output("out.txt")
        .option(
            "containerDefaultSpec",
            json!({
                "env": [{"name": "FROM_DEFAULT", "value": "default"}, {"name": "FROM_POD", "value": "default"}],
                "securityContext": {"runAsUser": 1000},
            }),
        )
        .option(
            "podSpec",
            json!({
                "volumes": [{"name": "shared", "emptyDir": {}}],
                "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["db.example"]}],
                "containers": [{"name": "main", "env": [{"name": "FROM_POD", "value": "pod"}]}],
                "initContainers": [{
                    "name": "note", "image": BUSYBOX, "command": ["sh", "-c", "echo $FROM_DEFAULT >/shared/note"],
                    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
                }],
            }),
        )
        .option(
            "containerSpec",
            json!({
                "env": [
                    {"name": "FROM_SPEC", "value": "spec"}, {"name": "OF_TASK", "value": "spec"},
                    {"name": "WORKING_DIR", "value": "/elsewhere"},
                ],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared", "readOnly": true}],
            }),
        );
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let created = group.cluster.get(&["pod", following.seen().pod()]).await;
    let ran = following.end().await;
    ran.succeeded();
    assert_eq!(
        ran.lines(),
        ["up", "default pod spec task /podrun/work", "default", "1000"]
    );
    assert_eq!(trial.files()["work/out.txt"], b"in");
    assert_eq!(created["spec"]["hostAliases"][0]["ip"], "192.0.2.7");
    for name in ["init-files", "note", "main", "out-files"] {
        let of = container(&created, name);
        assert_eq!(of["securityContext"]["runAsUser"], 1000, "{name}: {of:#}");
        assert!(
            of["env"]
                .as_array()
                .unwrap()
                .iter()
                .any(|e| e["name"] == "FROM_DEFAULT"),
            "{name}"
        );
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn every_container_can_be_made_to_fit_a_restricted_namespace() {
    let group = Group::new("restricted").await;
    let cluster = group.cluster;
    let namespace = format!("restricted-{}", cluster.suite);
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    bound_namespace(cluster, &namespace, &labels).await;
    let confined = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    });
    let base = |name: &str| {
        group
            .trial(name)
            .sh("cat in.txt; umask 077; echo private >out.txt; mkdir -p d; echo deep >d/e; id -u")
            .option("namespace", namespace.as_str())
            .input("in.txt", 0o644, "in\n")
            .output("**")
    };
    let by_container = json!({ "securityContext": confined });
    let by_pod = json!({"securityContext": {
        "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    }});
    let rest = json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    let as_expected = || {
        Expected::succeeded().lines(["in", "1000"]).files([
            ("work/in.txt", "in\n"),
            ("work/out.txt", "private\n"),
            ("work/d/e", "deep\n"),
        ])
    };
    check([
        (
            base("inline").option("containerDefaultSpec", by_container.clone()),
            as_expected(),
        ),
        (
            base("exec")
                .option("containerDefaultSpec", by_container)
                .option("inlineLimit", 0),
            as_expected(),
        ),
        (
            base("by-pod")
                .option("podSpec", by_pod)
                .option("containerDefaultSpec", rest),
            as_expected(),
        ),
    ])
    .await;
    cluster
        .kubectl(&["delete", "namespace", &namespace, "--wait=false"])
        .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn containers_beside_the_script_see_its_folders_and_go_with_it() {
    let group = Group::new("beside").await;
    let mounts = json!([{"name": "files", "subPath": "work", "mountPath": "/script"}]);
    let endless = |word: &str| json!(["sh", "-c", format!("echo {word} >/script/{word}; sleep 100000")]);
    let trial = group
        .trial("all")
        .sh("until [ -e plain ] && [ -e native ]; do sleep 0.1; done; cat plain native")
        .option(
            "podSpec",
            json!({
                "containers": [
                    {"name": "web", "image": BUSYBOX, "command": endless("plain"), "volumeMounts": mounts},
                    {"name": "failing", "image": BUSYBOX, "command": ["false"]},
                ],
                "initContainers": [{
                    "name": "proxy", "image": BUSYBOX, "restartPolicy": "Always", "command": endless("native"),
                    "volumeMounts": mounts,
                }],
            }),
        );
    let ran = trial.run().await;
    // What a container beside the script does is no part of the outcome.
    ran.succeeded();
    assert_eq!(ran.lines(), ["plain", "native"]);
    let said = ran.diagnostics();
    assert!(said.iter().any(|d| d.contains("`web`, `failing`")), "{said:#?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn lines_of_init_containers_are_shown_once_and_before_those_of_the_script() {
    let group = Group::new("init-logs").await;
    let init = |name: &str, script: &str| json!({"name": name, "image": BUSYBOX, "command": ["sh", "-c", script]});
    let podspec = json!({"initContainers": [
        init("first", "echo one; echo '::{\"outputs\": {\"not\": 1}}::'"),
        init("second", "echo two; sleep 3; echo three"),
    ]});
    let trial = group
        .trial("shown")
        .sh("echo four")
        .option("podSpec", podspec.clone())
        .option("initLogs", true);
    let mut following = trial.start(None).await;
    // While the second one still runs.
    following.until_line("[second] two").await;
    let seen = following.detach().await;
    let ran = trial.start(seen.cursor.clone()).await.end().await;
    ran.succeeded();
    let all = [seen.lines(), ran.lines()].concat();
    let expected = [
        "[first] one",
        "[first] ::{\"outputs\": {\"not\": 1}}::",
        "[second] two",
        "[second] three",
        "four",
    ];
    assert_eq!(all, expected);
    let silent = group.trial("silent").sh("echo four").option("podSpec", podspec);
    check([(silent, Expected::succeeded().lines(["four"]))]).await;

    let failing = group
        .trial("failing")
        .sh("true")
        .option(
            "podSpec",
            json!({"initContainers": [init("setup", "echo no database; exit 3")]}),
        )
        .option("initLogs", true);
    check([(
        failing,
        Expected::failed("init-container", None)
            .says("`setup`")
            .says("exit code 3")
            .lines(["[setup] no database"]),
    )])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn pods_that_are_to_be_looked_at_after_a_failure_stay() {
    let group = Group::new("on-success").await;
    let trial = |name: &str, code: u8| {
        let trial = group.trial(name).sh(&format!("exit {code}"));
        trial.option("delete", "ON_SUCCESS")
    };
    let [good, bad] = check([
        (trial("good", 0), Expected::succeeded()),
        (trial("bad", 3), Expected::failed("exit-code", Some(3))),
    ])
    .await;
    let cluster = group.cluster;
    cluster
        .kubectl(&["wait", "pod", good.pod(), "--for=delete", "--timeout=60s"])
        .await;
    let kept = cluster.get(&["pod", bad.pod()]).await;
    assert_eq!(kept["metadata"].get("deletionTimestamp"), None);
    cluster.runner.kill(&cluster.target, bad.handle(), None).await.unwrap();
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_script_that_is_stopped_has_the_grace_that_it_was_given() {
    let group = Group::new("grace").await;
    let trial = group
        .trial("deaf")
        .sh("trap '' TERM; echo up; while :; do sleep 1; done")
        .option("killGracePeriod", "PT2S");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let asked = std::time::Instant::now();
    following.cancel();
    let ran = following.end().await;
    let took = asked.elapsed();
    assert_eq!(ran.outcome().status, Status::Cancelled);
    assert!(took.as_secs() >= 2 && took.as_secs() < 15, "{took:?}");
    let said = ran.diagnostics();
    assert!(said.iter().any(|d| d.contains("KILL after 2 s")), "{said:#?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_task_without_a_timeout_ends_when_the_options_say() {
    let group = Group::new("completion").await;
    let limited = group
        .trial("limited")
        .sh("echo up >up.txt; sleep 600")
        .output("*.txt")
        .option("waitUntilCompletion", "PT2S");
    let timed_out = Expected::failed("deadline", Some(143))
        .status(Status::TimedOut)
        .says("`waitUntilCompletion`")
        .files([("work/up.txt", "up\n")]);
    let ignored = group
        .trial("ignored")
        .sh("sleep 3")
        .timeout(60)
        .option("waitUntilCompletion", "PT1S");
    let [_, ran] = check([(limited, timed_out), (ignored, Expected::succeeded())]).await;
    let said = ran.diagnostics();
    assert!(
        said.iter().any(|d| d.contains("`waitUntilCompletion` is ignored")),
        "{said:#?}"
    );
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_whole_working_directory_comes_back_when_it_is_asked_for() {
    let group = Group::new("sync").await;
    let trial = group
        .trial("whole")
        .sh("mkdir -p .venv/bin d; echo x >d/x; echo y >.hidden; ln -s /bin/sh .venv/bin/python; ln -s d/x link; echo z >$OUTPUT_DIR/z")
        .input("in.txt", 0o644, "in")
        .option("syncWorkingDirectory", true);
    let expected = Expected::succeeded().files([
        ("work/in.txt", "in"),
        ("work/d/x", "x\n"),
        ("work/.hidden", "y\n"),
        ("work/link", "x\n"),
        ("out/z", "z\n"),
    ]);
    let [ran] = check([(trial, expected)]).await;
    let said = ran.diagnostics();
    assert!(
        said.iter()
            .any(|d| d.contains("left out") && d.contains("`.venv/bin/python`")),
        "{said:#?}"
    );
    group.close().await;
}
