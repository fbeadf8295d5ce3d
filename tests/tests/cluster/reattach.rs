//! A host that leaves or is lost loses nothing: the same task, taken up in any phase by a host that shares nothing with the
//! first, goes on in the same pod, and every line is told once.

use podrun_host::{Error, Event, Phase, Status};
use podrun_tests::{Expected, Following, Group, Ran, Seen, Trial, check};
use serde_json::json;

/// Twenty lines, five a second, and a file.
const COUNT: &str = "i=1; while [ $i -le 20 ]; do echo line $i; sleep 0.2; i=$((i + 1)); done; echo done >result.txt";

fn counted() -> Vec<String> {
    (1..=20).map(|n| format!("line {n}")).collect()
}

/// How the task is taken up again.
#[derive(Clone, Copy, PartialEq)]
enum Again {
    Run,
    Attach,
}

/// Takes the task up in a host that shares nothing with the first one.
async fn again(group: &Group, trial: &mut Trial, seen: &Seen, how: Again) -> Ran {
    trial.runner = group.cluster.another_host().await;
    let following = match how {
        Again::Run => trial.start(seen.cursor.clone()).await,
        Again::Attach => trial.attach(seen.handle(), seen.cursor.clone()).await,
    };
    following.end().await
}

/// Both calls together saw each line once, one pod ever existed, and the file came back.
async fn once(group: &Group, trial: &Trial, seen: &Seen, ran: &Ran) {
    ran.succeeded();
    assert_eq!(ran.handle(), seen.handle());
    assert_eq!([seen.lines(), ran.lines()].concat(), counted());
    assert_eq!(trial.files()["work/result.txt"], b"done\n");
    if let Some(audit) = group.cluster.audit() {
        assert_eq!(audit.whole().created(&trial.task.id).await, 1, "pods were created");
    }
}

/// A trial that was left behind when it was `until`.
async fn left(trial: &Trial, until: impl AsyncFnOnce(&mut Following)) -> Seen {
    let mut following = trial.start(None).await;
    until(&mut following).await;
    following.detach().await
}

async fn kubectl_wait(group: &Group, seen: &Seen, condition: &str) {
    let pod = format!("pod/{}", seen.pod());
    let condition = format!("--for=jsonpath={condition}");
    group
        .cluster
        .kubectl(&["wait", &pod, &condition, "--timeout=60s"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_running_task_is_taken_up_by_run_and_by_attach() {
    let group = Group::new("again-running").await;
    let both = [("run", Again::Run), ("attach", Again::Attach)].map(async |(name, how)| {
        let mut trial = group.trial(name).sh(COUNT).output("*.txt");
        let seen = left(&trial, async |following| following.until_line("line 5").await).await;
        let ran = again(&group, &mut trial, &seen, how).await;
        assert!(ran.phases().contains(&Phase::Running), "{:?}", ran.phases());
        once(&group, &trial, &seen, &ran).await;
    });
    futures::future::join_all(both).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_task_that_waits_with_its_outputs_is_taken_up_by_run_and_by_attach() {
    let group = Group::new("again-ended").await;
    let both = [("run", Again::Run), ("attach", Again::Attach)].map(async |(name, how)| {
        let mut trial = group.trial(name).sh(COUNT).output("*.txt");
        let seen = left(&trial, async |following| following.until_line("line 5").await).await;
        kubectl_wait(
            &group,
            &seen,
            "{.status.containerStatuses[?(@.name==\"main\")].state.terminated.exitCode}=0",
        )
        .await;
        let ran = again(&group, &mut trial, &seen, how).await;
        assert!(!ran.phases().contains(&Phase::Running), "{:?}", ran.phases());
        once(&group, &trial, &seen, &ran).await;
    });
    futures::future::join_all(both).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_finished_pod_still_gives_its_log_and_its_end() {
    let group = Group::new("again-finished").await;
    let mut trial = group
        .trial("run")
        .option("outputDir", false)
        .sh("echo one; sleep 1; echo two; exit 5");
    let seen = left(&trial, async |following| following.until_line("one").await).await;
    kubectl_wait(&group, &seen, "{.status.phase}=Failed").await;
    let ran = again(&group, &mut trial, &seen, Again::Run).await;
    assert_eq!(
        (ran.outcome().status, ran.outcome().exit_code),
        (Status::Failed, Some(5))
    );
    assert_eq!([seen.lines(), ran.lines()].concat(), ["one", "two"]);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_outcome_that_was_not_stored_is_told_again() {
    let group = Group::new("again-untold").await;
    let mut trial = group.trial("run").sh(COUNT).output("*.txt");
    let mut following = trial.start(None).await;
    // The host dies with the batch that holds the outcome in its hand: the pod must still be there.
    loop {
        let batch = following.batch().await.unwrap();
        if batch.events.iter().any(|e| matches!(e, Event::Ended(_))) {
            break;
        }
        following.store(batch);
    }
    let seen = Seen {
        events: following.seen().events.clone(),
        cursor: following.seen().cursor.clone(),
    };
    drop(following);
    let ran = again(&group, &mut trial, &seen, Again::Run).await;
    once(&group, &trial, &seen, &ran).await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_task_left_before_its_pod_exists_is_begun_by_the_next_host() {
    let group = Group::new("again-before").await;
    let mut trial = group.trial("run").sh(COUNT).output("*.txt");
    let seen = trial.start(None).await.detach().await;
    if let Some(audit) = group.cluster.audit() {
        assert_eq!(
            audit.whole().created(&trial.task.id).await,
            0,
            "detached before anything was created"
        );
    }
    let ran = again(&group, &mut trial, &seen, Again::Run).await;
    once(&group, &trial, &seen, &ran).await;
    group.close().await;
}

/// A resource that no node has until the test says so: pods that ask for it stay pending.
struct Hold<'g> {
    group: &'g Group,
    resource: String,
}

impl<'g> Hold<'g> {
    fn new(group: &'g Group) -> Self {
        let resource = format!("podrun.dev/{}", group.selector().rsplit('=').next().unwrap());
        Self { group, resource }
    }

    fn on(&self, trial: Trial) -> Trial {
        let one = json!({ &self.resource: "1" });
        trial.option("resources", json!({"request": one, "limit": one}))
    }

    async fn patch(&self, change: serde_json::Value) {
        let cluster = self.group.cluster;
        let nodes = cluster.get(&["nodes"]).await;
        let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap();
        let patch = change.to_string();
        let arguments = [
            "patch",
            "node",
            node,
            "--subresource=status",
            "--type=json",
            "-p",
            &patch,
        ];
        cluster.kubectl(&arguments).await;
    }

    fn path(&self) -> String {
        format!("/status/capacity/{}", self.resource.replace('/', "~1"))
    }

    async fn release(&self) {
        self.patch(json!([{"op": "add", "path": self.path(), "value": "100"}]))
            .await;
    }

    async fn end(self) {
        self.patch(json!([{"op": "remove", "path": self.path()}])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_pending_task_is_taken_up() {
    let group = Group::new("again-pending").await;
    let hold = Hold::new(&group);
    let waiting = |event: &Event| matches!(event, Event::Diagnostic(d) if d.message.contains("Insufficient"));
    let mut run = hold.on(group.trial("run").sh(COUNT).output("*.txt"));
    let mut attach = hold.on(group.trial("attach").sh(COUNT).output("*.txt"));
    let seen_run = left(&run, async |following| following.until("waiting", waiting).await).await;
    let seen_attach = left(&attach, async |following| following.until("waiting", waiting).await).await;
    hold.release().await;
    let (ran, attached) = tokio::join!(
        again(&group, &mut run, &seen_run, Again::Run),
        again(&group, &mut attach, &seen_attach, Again::Attach)
    );
    once(&group, &run, &seen_run, &ran).await;
    once(&group, &attach, &seen_attach, &attached).await;
    hold.end().await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn inputs_that_are_incomplete_are_completed_by_run_and_refused_by_attach() {
    let group = Group::new("again-staging").await;
    let mut trial = group.trial("run").option("inlineLimit", 0).output("*.txt");
    for index in 0..12 {
        trial = trial.input(
            &format!("in/{index}.bin"),
            0o644,
            crate::inputs::noise((1 << 20) + index),
        );
    }
    let sum = "cat $(ls in/*.bin | sort) | sha256sum | head -c 64 >sum.txt";
    let mut trial = trial.sh(&format!("{sum}; {COUNT}"));
    // Each large file is sent by itself: after the first progress eleven are missing.
    let some = |event: &Event| matches!(event, Event::Progress(p) if p.what == "inputs" && p.done > 0);
    let seen = left(&trial, async |following| {
        following.until("some of the inputs", some).await
    })
    .await;
    let attached = again(&group, &mut trial, &seen, Again::Attach).await;
    match attached.error() {
        Error::Other(message) => assert!(message.contains("`run`"), "{message}"),
        other => panic!("{other}"),
    }
    let ran = again(&group, &mut trial, &seen, Again::Run).await;
    once(&group, &trial, &seen, &ran).await;
    let mut names: Vec<String> = (0..12).map(|n| format!("in/{n}.bin")).collect();
    names.sort();
    let all: Vec<u8> = names
        .iter()
        .flat_map(|n| std::fs::read(trial.inputs().join(n)).unwrap())
        .collect();
    assert_eq!(trial.files()["work/sum.txt"], podrun_tests::sha256(all).into_bytes());
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_id_that_another_task_has_is_a_conflict_and_that_task_goes_on() {
    let group = Group::new("conflict").await;
    let first = group.trial("same").sh(COUNT).output("*.txt");
    let mut following = first.start(None).await;
    following.until_line("line 1").await;
    let others = [
        group.trial("same").sh("echo another"),
        group.trial("same").sh(COUNT).output("*.txt").env("A", "b"),
        group.trial("same").sh(COUNT).output("*.txt").timeout(60),
        group.trial("same").sh(COUNT).output("*.dat"),
        group.trial("same").sh(COUNT).output("*.txt").input("x", 0o644, "x"),
        group.trial("same").sh(COUNT).output("*.txt").image("busybox:1.36"),
    ];
    for other in others {
        match other.run().await.error() {
            Error::Conflict(handle) => assert_eq!(handle, following.seen().handle()),
            error => panic!("{error}"),
        }
    }
    let ran = following.end().await;
    ran.succeeded();
    assert_eq!(ran.lines(), counted());
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn without_resume_a_new_pod_is_made_and_the_old_cursor_is_ignored() {
    let group = Group::new("anew").await;
    let trial = group.trial("same").sh(COUNT).output("*.txt");
    let seen = left(&trial, async |following| following.until_line("line 5").await).await;
    let fresh = group.trial("same").sh(COUNT).output("*.txt").option("resume", false);
    let ran = fresh.start(seen.cursor.clone()).await.end().await;
    ran.succeeded();
    assert_eq!(ran.lines(), counted(), "the log starts anew");
    let said = ran.diagnostics();
    assert!(
        said.iter().any(|d| d.contains("cursor") && d.contains("ignored")),
        "{said:#?}"
    );
    if let Some(audit) = group.cluster.audit() {
        assert_eq!(audit.whole().created(&trial.task.id).await, 2);
    }
    group.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn handles_and_cursors_that_are_none_are_refused() {
    let group = Group::new("nonsense").await;
    let trial = group.trial("plain").sh("true");
    for after in ["", "nonsense", "1.x.y.z"] {
        match trial.start(Some(after.to_owned())).await.end().await.error() {
            Error::InvalidArgument(message) => assert!(message.contains("`after`"), "{message}"),
            other => panic!("{other}"),
        }
    }
    for handle in ["", "nonsense", "1/default/../x"] {
        match trial.attach(handle, None).await.end().await.error() {
            Error::InvalidArgument(message) => assert!(message.contains("`handle`"), "{message}"),
            other => panic!("{other}"),
        }
    }
    let [ran] = check([(group.trial("real").sh("true"), Expected::succeeded())]).await;
    group.gone().await;
    match trial.attach(ran.handle(), None).await.end().await.error() {
        Error::NotFound(message) => assert!(message.contains(ran.pod()), "{message}"),
        other => panic!("{other}"),
    }
    group.close().await;
}
