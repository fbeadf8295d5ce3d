//! How tasks end: each cause with a reason of its own, and the pod gone afterwards.

use podrun_host::{Event, Status};
use podrun_tests::{Expected, Group, HELLO, check};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn scripts_and_programs_end_with_their_own_exit_code() {
    let group = Group::new("ends").await;
    let forging = r#"
        echo 7 >/podrun/status/ended
        echo podrun:timed-out >/dev/termination-log
        sleep 2
        rm -rf /podrun/status/* /podrun/status/.ended
        echo still here
        echo late >late.txt
        exit 4"#;
    let without_memory = end_without_memory(&group).await;
    let cases = [
        (
            group.trial("zero").sh("echo hi"),
            Expected::succeeded().lines(["hi"]).files::<&str>([]),
        ),
        (
            group.trial("three").sh("echo hi; exit 3"),
            Expected::failed("exit-code", Some(3)).says("exit code 3").lines(["hi"]),
        ),
        (
            group.trial("killed").sh("kill -9 $$"),
            Expected::failed("signal", Some(137)).says("signal 9"),
        ),
        (
            group.trial("segv").sh("sh -c 'kill -11 $$'; exit $?"),
            Expected::failed("signal", Some(139)).says("signal 11"),
        ),
        (
            group
                .trial("memory")
                .sh("awk 'BEGIN { s = \"x\"; while (1) s = s s }'; exit 1")
                .option("resources", json!({"limit": {"memory": "48Mi"}})),
            Expected::failed("out-of-memory", Some(without_memory)).says("resources.limit.memory"),
        ),
        (
            group.trial("forged").sh(forging).timeout(300).output("*.txt"),
            Expected::failed("exit-code", Some(4))
                .lines(["still here"])
                .files([("work/late.txt", "late\n")]),
        ),
        (
            group.trial("unknown-command").sh("nosuchcommand"),
            Expected::failed("exit-code", Some(127)).says("not found"),
        ),
        (
            group.trial("unknown-program").command(&["/no/such/program"]),
            Expected::failed("configuration", None).says("/no/such/program"),
        ),
        (
            group.trial("no-shell").image(HELLO).command(&["/hello", "exit", "5"]),
            Expected::failed("exit-code", Some(5)),
        ),
        (
            group.trial("no-shell-zero").image(HELLO).command(&["/hello"]),
            Expected::succeeded(),
        ),
    ];
    let ran = check(cases).await;
    let outcome = ran[0].outcome();
    assert!(
        outcome.started.is_some() && outcome.finished >= outcome.started,
        "{outcome:#?}"
    );
    for name in ["namespace", "pod", "uid", "node"] {
        assert!(
            outcome.details.iter().any(|(n, v)| n == name && !v.is_empty()),
            "{name}: {outcome:#?}"
        );
    }
    group.close().await;
}

/// The exit code of a script that goes on with `exit 1` when the kernel kills its child for memory. With cgroup v2 the
/// kubelet has the kernel kill the whole container instead (`memory.oom.group`), the script included.
async fn end_without_memory(group: &Group) -> i32 {
    // The node need not be this machine.
    let trial = group.trial("groups").sh("test -e /sys/fs/cgroup/cgroup.controllers");
    match trial.run().await.outcome().exit_code {
        Some(0) => 137,
        _ => 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn what_cannot_start_ends_with_a_reason_and_advice() {
    let group = Group::new("unstarted").await;
    check([
        (
            group.trial("absent-image").image("podrun.dev/test/absent:1").sh("true"),
            Expected::failed("image", None).says("podrun.dev/test/absent:1"),
        ),
        (
            group.trial("bad-image-name").image("Not An Image").sh("true"),
            Expected::failed("image", None).says("containerImage"),
        ),
        (
            group
                .trial("absent-sidecar-image")
                .sh("true")
                .option("fileSidecar", json!({"image": "podrun.dev/test/absent:2"})),
            Expected::failed("outputs-refused", Some(0)).says("podrun.dev/test/absent:2"),
        ),
        (
            group
                .trial("never-pulled")
                .image("podrun.dev/test/absent:3")
                .sh("true")
                .option("pullPolicy", "NEVER"),
            Expected::failed("image", None).says("pullPolicy"),
        ),
        (
            group
                .trial("unschedulable")
                .sh("true")
                .option("resources", json!({"request": {"cpu": "1000"}}))
                .option("waitUntilRunning", "PT3S"),
            Expected::failed("unschedulable", None)
                .retryable()
                .says("waitUntilRunning")
                .says("cpu"),
        ),
    ])
    .await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_timeout_stops_the_script_collects_its_files_and_is_told_from_a_failure() {
    let group = Group::new("timeout").await;
    // The shell says that its child was ended: that is not of interest.
    let obedient = "exec 2>/dev/null
        trap 'echo caught; echo late >out.txt; exit 0' TERM
        echo started
        while :; do sleep 0.1; done";
    let [caught, plain, ..] = check([
        (
            group.trial("caught").sh(obedient).timeout(2).output("out.txt"),
            Expected::failed("deadline", Some(0))
                .status(Status::TimedOut)
                .says("2 s")
                .lines(["started", "caught"])
                .files([("work/out.txt", "late\n")]),
        ),
        (
            group
                .trial("plain")
                .sh("echo early >early.txt; sleep 600")
                .timeout(2)
                .output("*.txt"),
            Expected::failed("deadline", Some(143))
                .status(Status::TimedOut)
                .files([("work/early.txt", "early\n")]),
        ),
        (
            group.trial("in-time").sh("sleep 1; exit 9").timeout(60),
            Expected::failed("exit-code", Some(9)),
        ),
    ])
    .await;
    for ran in [caught, plain] {
        let outcome = ran.outcome();
        let took = outcome.finished.unwrap() - outcome.started.unwrap();
        // The cluster's times are whole seconds.
        assert!((1_000..=5_000).contains(&took), "{took} ms: {outcome:#?}");
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_bare_program_is_stopped_by_its_timeout_as_well() {
    let group = Group::new("timeout-bare").await;
    let [ran] = check([(
        group
            .trial("sleeper")
            .image(HELLO)
            .command(&["/hello", "sleep", "600"])
            .timeout(3),
        Expected::failed("deadline", Some(2)).status(Status::TimedOut),
    )])
    .await;
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_pod_that_somebody_else_deletes_is_a_reason_of_its_own() {
    let group = Group::new("deleted").await;
    let trial = group.trial("running").sh("echo up; exec sleep 600");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let pod = following.seen().pod().to_owned();
    let delete = ["delete", "pod", &pod, "--grace-period=1", "--wait=false"];
    group.cluster.kubectl(&delete).await;
    let ran = following.end().await;
    let outcome = ran.outcome();
    assert_eq!(outcome.reason.as_deref(), Some("deleted"), "{outcome:#?}");
    assert!(outcome.retryable && outcome.status != Status::Succeeded, "{outcome:#?}");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_eviction_is_a_reason_of_its_own() {
    let group = Group::new("evicted").await;
    let trial = group.trial("running").sh("echo up; exec sleep 600");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let pod = following.seen().pod().to_owned();
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": "default"},
        "deleteOptions": {"gracePeriodSeconds": 1},
    });
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    group.cluster.post(&path, &eviction).await;
    let ran = following.end().await;
    let outcome = ran.outcome();
    assert_eq!(
        (outcome.status, outcome.reason.as_deref(), outcome.retryable),
        (Status::Failed, Some("evicted"), true),
        "{outcome:#?}"
    );
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn why_a_task_waits_is_told_while_it_waits() {
    let group = Group::new("waiting").await;
    let trial = group
        .trial("unschedulable")
        .sh("true")
        .option("resources", json!({"request": {"cpu": "1000"}}));
    let mut following = trial.start(None).await;
    let tells = |event: &Event| matches!(event, Event::Diagnostic(d) if d.message.contains("Insufficient cpu"));
    following.until("the scheduler's words", tells).await;
    following.cancel();
    assert_eq!(following.end().await.outcome().status, Status::Cancelled);
    group.close().await;
}
