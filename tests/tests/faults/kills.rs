//! The host is killed, at chosen points and at random ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use podrun_tests::faults::{Kill, Moment, Scenario, Target, Trap, Way, variable};

use crate::trials::{Trials, wanted};

/// Around each commit of the journal; commits that come often at several passes.
const BARRIERS: [&str; 24] = [
    "before-execution",
    "after-execution",
    "before-prepared",
    "after-prepared",
    "before-started",
    "after-started",
    "before-batch",
    "after-batch",
    "before-batch:3",
    "after-batch:3",
    "before-batch:7",
    "after-batch:7",
    "before-batch:12",
    "after-batch:12",
    "before-ended",
    "after-ended",
    "after-ended-committed",
    "before-published",
    "amid-published",
    "after-published",
    "before-cleaned",
    "after-cleaned",
    "before-finished",
    "after-finished",
];

/// Around each write to the API server: the pod, the input file through exec, the output file through exec, the end.
const REQUESTS: [(&str, Way, Target, Moment); 14] = [
    ("create-before", Way::Exec, Target::Create, Moment::Before),
    ("create-after", Way::Exec, Target::Create, Moment::After),
    ("create-before-inline", Way::Inline, Target::Create, Moment::Before),
    ("create-after-inline", Way::Inline, Target::Create, Moment::After),
    ("stage-before", Way::Exec, Target::Exec("init-files"), Moment::Before),
    ("stage-after", Way::Exec, Target::Exec("init-files"), Moment::After),
    ("stage-begun", Way::Exec, Target::Exec("init-files"), Moment::Sent(1)),
    (
        "stage-amid",
        Way::Exec,
        Target::Exec("init-files"),
        Moment::Sent(1_500_000),
    ),
    (
        "stage-sent",
        Way::Exec,
        Target::Exec("init-files"),
        Moment::Sent(3_000_000),
    ),
    ("collect-before", Way::Inline, Target::Exec("out-files"), Moment::Before),
    ("collect-after", Way::Inline, Target::Exec("out-files"), Moment::After),
    (
        "collect-amid",
        Way::Exec,
        Target::Exec("out-files"),
        Moment::Received(1_500_000),
    ),
    ("delete-before", Way::Inline, Target::Delete, Moment::Before),
    ("delete-after", Way::Inline, Target::Delete, Moment::After),
];

/// Phases in which the host dies at random moments, and how long each lasts, in milliseconds.
const PHASES: [(&str, u64); 5] = [
    ("pending", 800),
    ("staging", 200),
    ("running", 2000),
    ("collecting", 100),
    ("ended", 30),
];

/// Deaths at random moments until `count` of them fell into the phase.
async fn moments(trials: &Trials, phase: &'static str, longest: u64, count: usize, seed: u64) -> Result<Vec<Scenario>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut scenarios, mut hits, mut longest) = (Vec::new(), 0, longest * 1000);
    while hits < count {
        let id = format!("{phase}-{}", scenarios.len() + 1);
        let way = if phase == "staging" || random.bool() {
            Way::Exec
        } else {
            Way::Inline
        };
        let delay = Duration::from_micros(random.u64(..=longest));
        let (scenario, found) = trials.trial(&id, way, Kill::Phase(phase, delay)).await?;
        scenarios.push(scenario);
        if found.as_deref() == Some(phase) {
            hits += 1;
        } else {
            // The phase was over: this machine is quicker than thought.
            longest -= longest / 3;
        }
        ensure!(
            scenarios.len() < 4 * count + 4,
            "the phase {phase} is too short to be hit"
        );
    }
    Ok(scenarios)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn killed_around_each_commit_of_the_journal() {
    let trials = Trials::new("commits");
    let each = BARRIERS
        .iter()
        .enumerate()
        .filter(|(_, point)| wanted(point))
        .map(|(index, point)| {
            let way = if index % 2 == 0 { Way::Inline } else { Way::Exec };
            let id = point.replace(':', "-");
            let trials = &trials;
            async move { Ok(trials.trial(&id, way, Kill::Barrier(point)).await?.0) }
        });
    let results = join_all(each).await;
    trials.close(results);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn killed_around_each_write_to_the_api_server() {
    let trials = Trials::new("writes");
    let each = REQUESTS
        .iter()
        .filter(|(id, ..)| wanted(id))
        .map(|&(id, way, target, moment)| {
            let trap = Trap {
                target,
                number: 1,
                moment,
            };
            let trials = &trials;
            async move { Ok(trials.trial(id, way, Kill::Request(trap)).await?.0) }
        });
    let results = join_all(each).await;
    trials.close(results);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn killed_around_the_signal_that_stops_a_script() {
    let trials = Trials::new("signals");
    let results = tokio::join!(
        trials.trial("signal-before", Way::Inline, Kill::Stop(Moment::Before)),
        trials.trial("signal-done", Way::Inline, Kill::Stop(Moment::Done)),
    );
    let scenario = |result: Result<(Scenario, _)>| result.map(|(scenario, _)| scenario);
    trials.close(vec![scenario(results.0), scenario(results.1)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cluster"]
async fn killed_at_random_moments_of_each_phase() {
    let count = if variable("PODRUN_TEST_FULL").is_ok() { 10 } else { 4 };
    let seed = std::env::var("PODRUN_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("PODRUN_TEST_SEED={seed}, {count} moments in each phase");
    let trials = Trials::new("moments");
    let each = PHASES
        .iter()
        .enumerate()
        .map(|(index, &(phase, longest))| moments(&trials, phase, longest, count, seed.wrapping_add(index as u64)));
    let results = join_all(each).await.into_iter().flat_map(|result| match result {
        Ok(scenarios) => scenarios.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    let results = results.collect();
    trials.close(results);
}
