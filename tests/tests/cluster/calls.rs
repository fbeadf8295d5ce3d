//! What a task costs the API server.

use podrun_tests::{Group, skip};
use std::collections::BTreeMap;

/// Requests of one small task with an output: create, watch, two reads of the log (followed, and the rest), exec, delete.
/// A second watch or log request is allowed for, since an empty log is asked for again.
const REQUESTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_small_task_costs_a_handful_of_requests() {
    let group = Group::new("calls").await;
    let Some(audit) = group.cluster.audit() else { return };
    if !group.cluster.limited {
        skip("an account that only this run uses is needed to tell its requests from others'");
        return;
    }
    let trial = group
        .trial("hello")
        .sh("echo hello; cp in.txt out.txt")
        .input("in.txt", 0o644, "x")
        .output("out.txt");
    let ran = trial.run().await;
    ran.succeeded();
    let mut requests: BTreeMap<String, usize> = BTreeMap::new();
    for entry in audit.entries().await {
        let ours = entry.name() == ran.pod() || entry.creates(&trial.task.id) || entry.uri().contains(ran.pod());
        if ours && entry.user().ends_with(":task-runner") && entry.stage() != "ResponseStarted" {
            *requests
                .entry(format!("{} {}", entry.verb(), entry.resource()))
                .or_default() += 1;
        }
    }
    eprintln!("requests of a small task: {requests:?}");
    let total: usize = requests.values().sum();
    assert!((5..=REQUESTS).contains(&total), "{requests:#?}");
    assert_eq!(requests["create pods"], 1, "{requests:#?}");
    assert_eq!(requests["delete pods"], 1, "{requests:#?}");
    group.close().await;
}
