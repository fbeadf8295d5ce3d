//! Kill and cancel: verified gone, from any instance, in every phase, and never the wrong pod.

use podrun_host::{Error, Event, Phase, Status};
use podrun_tests::{Expected, Group, check};
use serde_json::json;
use std::time::{Duration, Instant};

/// Ends two seconds after TERM, with a word and a file.
const SLOW_TO_GO: &str = "exec 2>/dev/null
    trap 'echo caught; sleep 2; echo gone >gone.txt; echo bye; exit 0' TERM
    echo up; while :; do sleep 0.1; done";

async fn exists(group: &Group, pod: &str) -> bool {
    let found = ["get", "pod", pod, "--ignore-not-found", "-o", "name"];
    !group.cluster.kubectl(&found).await.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_running_task_is_killed_from_another_host_within_its_grace() {
    let group = Group::new("kill-running").await;
    let trial = group.trial("slow").sh(SLOW_TO_GO);
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let handle = following.seen().handle().to_owned();
    let pod = following.seen().pod().to_owned();
    let elsewhere = group.cluster.another_host().await;
    let ending = tokio::spawn(following.end());
    let started = Instant::now();
    elsewhere.kill(&trial.target, &handle, Some(20)).await.unwrap();
    let took = started.elapsed();
    assert!(!exists(&group, &pod).await, "the pod is still there");
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_secs(15),
        "{took:?}"
    );
    // Again, and for whoever follows it: gone is gone.
    elsewhere.kill(&trial.target, &handle, Some(20)).await.unwrap();
    let ran = ending.await.unwrap();
    assert_eq!(ran.lines(), ["up", "caught", "bye"], "the script had its grace");
    assert_ne!(ran.outcome().status, Status::Succeeded, "{:#?}", ran.outcome());
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_script_that_ignores_term_is_ended_when_its_grace_is_over() {
    let group = Group::new("kill-stubborn").await;
    let trial = group
        .trial("deaf")
        .sh("trap '' TERM; echo up; while :; do sleep 1; done");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    let seen = following.detach().await;
    let started = Instant::now();
    trial.runner.kill(&trial.target, seen.handle(), Some(3)).await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(15),
        "{took:?}"
    );
    assert!(!exists(&group, seen.pod()).await);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_pending_a_created_and_a_finished_task_are_killed() {
    let group = Group::new("kill-phases").await;
    // Pending.
    let pending = group
        .trial("pending")
        .sh("true")
        .option("resources", json!({"request": {"cpu": "1000"}}));
    let mut following = pending.start(None).await;
    let waits = |event: &Event| matches!(event, Event::Diagnostic(d) if d.message.contains("Insufficient cpu"));
    following.until("the scheduler's words", waits).await;
    let seen = following.detach().await;
    pending.runner.kill(&pending.target, seen.handle(), None).await.unwrap();
    assert!(!exists(&group, seen.pod()).await);
    // Just created: its containers are being made.
    let created = group.trial("created").sh("sleep 600");
    let mut following = created.start(None).await;
    following.until_phase(Phase::Pending).await;
    let pod = following.seen().pod().to_owned();
    let handle = following.seen().handle().to_owned();
    let ending = tokio::spawn(following.end());
    while !exists(&group, &pod).await {}
    created.runner.kill(&created.target, &handle, Some(1)).await.unwrap();
    assert!(!exists(&group, &pod).await);
    assert_ne!(ending.await.unwrap().outcome().status, Status::Succeeded);
    // Finished, and kept.
    let finished = group.trial("finished").sh("exit 3").option("delete", false);
    let [ran] = check([(finished, Expected::failed("exit-code", Some(3)))]).await;
    assert!(exists(&group, ran.pod()).await, "`delete: false` leaves the pod");
    let cluster = group.cluster;
    cluster.runner.kill(&cluster.target, ran.handle(), None).await.unwrap();
    assert!(!exists(&group, ran.pod()).await);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn another_task_under_the_same_name_is_left_alone() {
    let group = Group::new("kill-other").await;
    let cluster = group.cluster;
    let trial = group.trial("mine").sh("echo up; sleep 2");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    // The handle of an earlier task that had the same id, and so the same pod name.
    let (rest, digest) = following.seen().handle().rsplit_once('/').unwrap();
    let other = format!("{rest}/{}", digest.chars().rev().collect::<String>());
    cluster.runner.kill(&cluster.target, &other, Some(1)).await.unwrap();
    match cluster.runner.status(&cluster.target, &other).await {
        Err(Error::NotFound(_)) => {}
        found => panic!("{found:?}"),
    }
    following.end().await.succeeded();
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn every_deletion_names_the_pod_by_its_uid() {
    let group = Group::new("kill-uid").await;
    let Some(audit) = group.cluster.audit() else { return };
    let ran = group.trial("ended").sh("true").run().await;
    let outcome = ran.succeeded();
    let (_, uid) = outcome.details.iter().find(|(name, _)| name == "uid").unwrap();
    let entries = audit.entries().await;
    let deletions: Vec<_> = entries
        .iter()
        .filter(|e| e.verb() == "delete" && e.name() == ran.pod() && e.user().contains("task-runner"))
        .collect();
    assert!(!deletions.is_empty(), "nobody deleted the pod");
    for deletion in deletions {
        assert!(
            deletion
                .json()
                .contains(&format!("\"preconditions\":{{\"uid\":\"{uid}\"")),
            "{}",
            deletion.json()
        );
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn cancelling_stops_the_script_and_collects_what_it_left() {
    let group = Group::new("cancel").await;
    let trial = group.trial("running").sh(SLOW_TO_GO).output("*.txt");
    let mut following = trial.start(None).await;
    following.until_line("up").await;
    following.cancel();
    let ran = following.end().await;
    assert_eq!(ran.outcome().status, Status::Cancelled, "{:#?}", ran.outcome());
    assert_eq!(ran.lines(), ["up", "caught", "bye"]);
    assert_eq!(trial.files()["work/gone.txt"], b"gone\n");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn cancelling_before_the_script_runs_leaves_nothing() {
    let group = Group::new("cancel-early").await;
    // Before anything exists.
    let early = group.trial("early").sh("true");
    let following = early.start(None).await;
    following.cancel();
    let ran = following.end().await;
    assert_eq!(ran.outcome().status, Status::Cancelled);
    if let Some(audit) = group.cluster.audit() {
        assert_eq!(audit.whole().created(&early.task.id).await, 0);
    }
    // While inputs are on their way.
    let mut staging = group.trial("staging").option("inlineLimit", 0).sh("echo ran");
    for index in 0..12 {
        staging = staging.input(&format!("{index}.bin"), 0o644, crate::inputs::noise((1 << 20) + index));
    }
    let mut following = staging.start(None).await;
    let some = |event: &Event| matches!(event, Event::Progress(p) if p.what == "inputs");
    following.until("some of the inputs", some).await;
    following.cancel();
    let ran = following.end().await;
    assert_eq!(ran.outcome().status, Status::Cancelled);
    assert!(ran.lines().is_empty());
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn cancelling_a_script_that_is_over_changes_nothing() {
    let group = Group::new("cancel-late").await;
    let trial = group.trial("over").sh("echo x >x.txt").output("*.txt");
    let mut following = trial.start(None).await;
    following.until_phase(Phase::Collecting).await;
    following.cancel();
    let ran = following.end().await;
    ran.succeeded();
    assert_eq!(trial.files()["work/x.txt"], b"x\n");
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn cancelling_a_program_without_a_shell_ends_it() {
    let group = Group::new("cancel-bare").await;
    let trial = group
        .trial("hello")
        .image(podrun_tests::HELLO)
        .command(&["/hello", "sleep", "600"]);
    let mut following = trial.start(None).await;
    following.until_phase(Phase::Running).await;
    following.cancel();
    let ran = following.end().await;
    assert_eq!(ran.outcome().status, Status::Cancelled, "{:#?}", ran.outcome());
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    group.close().await;
}
