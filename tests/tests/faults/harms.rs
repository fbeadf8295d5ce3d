//! Answers of the API server go wrong on their way, and the host lives on.

use anyhow::Result;
use podrun_tests::faults::{Ending, Harm, Scenario, Target, Way};

use crate::trials::Trials;

/// One run through a proxy that does harm to `times` answers.
async fn harmed(trials: &Trials, id: &str, way: Way, harm: (Target, usize, Harm)) -> Result<Scenario> {
    let (scenario, _slot) = trials.scenario(id, way, Ending::Itself).await?;
    let (target, times, harm) = harm;
    scenario.harm(target, times, harm);
    scenario.go_on().await?;
    Ok(scenario)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn an_empty_log_is_not_the_end_of_the_task() {
    let trials = Trials::new("empty");
    let result = harmed(&trials, "empty", Way::Inline, (Target::Log, 2, Harm::Empty)).await;
    trials.close(vec![result]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn a_log_that_breaks_off_is_taken_up_at_its_line() {
    let trials = Trials::new("cut");
    let result = harmed(&trials, "cut", Way::Inline, (Target::Log, 5, Harm::Cut(4000))).await;
    trials.close(vec![result]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn a_log_that_stalls_is_waited_for_as_long_as_wait_for_logs_says_and_loses_no_line() {
    let trials = Trials::new("stalled");
    let given_up = async {
        let (scenario, _slot) = trials.scenario("given-up", Way::Inline, Ending::Itself).await?;
        scenario.harm(Target::Log, usize::MAX, Harm::Stalled(4000));
        scenario.miss_log().await?;
        scenario.harm(Target::Log, 0, Harm::Stalled(4000));
        scenario.go_on().await?;
        Ok(scenario)
    };
    // The log that is followed stalls, and the first that is read after the end: amid its lines, or before any answer.
    let results = tokio::join!(
        harmed(&trials, "stalled", Way::Inline, (Target::Log, 2, Harm::Stalled(4000))),
        harmed(&trials, "unanswered", Way::Inline, (Target::Log, 2, Harm::Stalled(0))),
        given_up,
    );
    trials.close(vec![results.0, results.1, results.2]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn a_stop_that_meets_the_pods_creation_leaves_no_pod() {
    let trials = Trials::new("creation");
    let stopped = async {
        let (scenario, _slot) = trials.scenario("creation", Way::Inline, Ending::Stopped).await?;
        scenario.stop_while_created().await?;
        Ok(scenario)
    };
    trials.close(vec![stopped.await]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn a_damaged_or_cut_transfer_is_repeated() {
    let trials = Trials::new("damage");
    let (sidecar, init) = (Target::Exec("out-files"), Target::Exec("init-files"));
    let results = tokio::join!(
        harmed(&trials, "damaged", Way::Exec, (sidecar, 1, Harm::Damaged(1_500_000))),
        harmed(&trials, "cut-off", Way::Exec, (sidecar, 1, Harm::Cut(1_500_000))),
        harmed(&trials, "unacknowledged", Way::Exec, (init, 1, Harm::Cut(300))),
        harmed(&trials, "spoiled", Way::Exec, (init, 1, Harm::Spoiled(1_500_000))),
    );
    trials.close(vec![results.0, results.1, results.2, results.3]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn an_upload_that_breaks_is_resumed_and_not_restarted() {
    let trials = Trials::new("resumed");
    let severed = (Target::Exec("init-files"), 1, Harm::Severed(2_000_000));
    let result = harmed(&trials, "resumed", Way::Exec, severed).await;
    let result = result.and_then(|scenario| scenario.check_resumed().map(|()| scenario));
    trials.close(vec![result]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn a_file_that_does_not_arrive_whole_is_no_output_and_stays_in_its_pod() {
    let trials = Trials::new("missed");
    let missed = async {
        let (scenario, _slot) = trials.scenario("missed", Way::Exec, Ending::Itself).await?;
        // As often as a call tries; the next call finds a network without harm.
        scenario.harm(Target::Exec("out-files"), 4, Harm::Damaged(1_500_000));
        scenario.miss_outputs().await?;
        scenario.go_on().await?;
        Ok(scenario)
    };
    trials.close(vec![missed.await]);
}
