//! Runs: events, commits, directives, and what becomes of a run that its holder leaves.

use std::time::Duration;

use podrun_host::{Error, Event, Folders, Phase, Status};

use crate::guest::{Alarm, Pair, follow, impatient, runner, target, task};

fn messages(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| {
            if let Event::Log(line) = event {
                Some(line.message.as_str())
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test]
async fn events_arrive_in_order_each_after_the_commit_of_the_one_before() {
    let mut run = runner()
        .await
        .start(&target(""), task(&["tell", "3"]), Folders::default(), None);
    let first = run.next().await.unwrap();
    assert_eq!(
        first.events,
        [Event::Started("task-1".to_owned()), Event::Phase(Phase::Running)]
    );
    assert_eq!(first.cursor, None);
    assert!(futures::poll!(Box::pin(run.next())).is_pending());
    first.commit();
    for number in 1..=3 {
        let batch = run.next().await.unwrap();
        assert_eq!(messages(&batch.events), [format!("line {number}")]);
        assert_eq!(batch.cursor, Some(number.to_string()));
        batch.commit();
    }
    let last = run.next().await.unwrap();
    let Some(Event::Ended(ended)) = last.events.last().cloned() else {
        panic!("{:?}", last.events)
    };
    last.commit();
    assert!(run.next().await.is_none());
    assert_eq!(run.outcome().await.unwrap(), ended);
}

#[tokio::test]
async fn run_is_taken_up_after_a_cursor() {
    let runner = runner().await;
    let run = runner.start(
        &target(""),
        task(&["tell", "3"]),
        Folders::default(),
        Some("2".to_owned()),
    );
    assert_eq!(messages(&follow(run).await.0), ["line 3"]);
    let run = runner.attach(
        &target(""),
        "task-9".to_owned(),
        Folders::default(),
        Some("7".to_owned()),
    );
    let (events, outcome) = follow(run).await;
    assert_eq!(events.first(), Some(&Event::Started("task-9".to_owned())));
    assert_eq!(outcome.unwrap().message, "7");
}

#[tokio::test]
async fn cancel_and_detach_are_told_at_the_next_heartbeat() {
    let (runner, pair) = (runner().await, Pair::new());
    let mut run = runner.start(&target(""), task(&["wait"]), pair.folders(), None);
    run.next().await.unwrap().commit();
    run.control().cancel();
    assert_eq!(follow(run).await.1.unwrap().status, Status::Cancelled);
    assert_eq!(pair.left("told").as_deref(), Some("Directive::Cancel"));

    let mut run = runner.start(&target(""), task(&["wait"]), pair.folders(), None);
    run.next().await.unwrap().commit();
    run.detach();
    // Whoever asked to leave is not made to stay by an older wish to cancel.
    run.cancel();
    let error = follow(run).await.1.unwrap_err();
    assert!(
        matches!(&error, Error::Detached(handle) if handle == "task-1"),
        "{error:?}"
    );
    assert_eq!(pair.left("told").as_deref(), Some("Directive::Detach"));
}

#[tokio::test]
async fn cancel_is_told_while_there_is_news() {
    let mut run = runner()
        .await
        .start(&target(""), task(&["tell", "1000000"]), Folders::default(), None);
    run.next().await.unwrap().commit();
    run.cancel();
    let (_, outcome) = follow(run).await;
    assert_eq!(outcome.unwrap().status, Status::Cancelled);
}

#[tokio::test]
async fn dropped_run_detaches() {
    let (runner, pair) = (runner().await, Pair::new());
    let (target, over) = Alarm::target();
    let mut run = runner.start(&target, task(&["wait"]), pair.folders(), None);
    drop(target);
    run.next().await.unwrap().commit();
    drop(run);
    over.await.unwrap();
    assert_eq!(pair.left("told").as_deref(), Some("Directive::Detach"));
}

#[tokio::test]
async fn outcome_asked_for_too_early_detaches() {
    let run = runner()
        .await
        .start(&target(""), task(&["wait"]), Folders::default(), None);
    let error = run.outcome().await.unwrap_err();
    assert!(matches!(error, Error::Detached(_)), "{error:?}");
}

#[tokio::test]
async fn runner_that_ignores_the_loss_of_its_run_is_ended() {
    let runner = impatient(Duration::from_millis(100)).await;
    for command in ["ignore", "spin"] {
        let (target, over) = Alarm::target();
        let run = runner.start(&target, task(&[command]), Folders::default(), None);
        drop((target, run));
        over.await.unwrap();
    }
}

#[tokio::test]
async fn runner_that_deletes_what_it_started_is_left_to_it() {
    let (runner, pair) = (impatient(Duration::from_millis(100)).await, Pair::new());
    let (target, over) = Alarm::target();
    // 200 pauses of 20 ms are longer than a runner is otherwise given once its run is dropped.
    let mut run = runner.start(&target, task(&["linger", "200"]), pair.folders(), None);
    drop(target);
    run.next().await.unwrap().commit();
    drop(run);
    over.await.unwrap();
    assert_eq!(pair.left("deleted").as_deref(), Some("task-1"));
}

#[tokio::test]
async fn uncommitted_batch_detaches() {
    let (runner, pair) = (runner().await, Pair::new());
    let mut run = runner.start(&target(""), task(&["tell", "5"]), pair.folders(), None);
    run.next().await.unwrap().commit();
    drop(run.next().await.unwrap());
    let (events, outcome) = follow(run).await;
    assert_eq!(messages(&events), Vec::<&str>::new());
    assert!(matches!(outcome, Err(Error::Detached(_))), "{outcome:?}");
}

/// A runner deletes what it started once `emit` of the outcome returned, so it must not return.
#[tokio::test]
async fn uncommitted_outcome_is_never_taken_for_a_committed_one() {
    let (runner, pair) = (runner().await, Pair::new());
    let mut run = runner.start(&target(""), task(&["tell", "0"]), pair.folders(), None);
    run.next().await.unwrap().commit();
    drop(run.next().await.unwrap());
    let error = follow(run).await.1.unwrap_err();
    assert!(
        matches!(&error, Error::Detached(handle) if handle == "task-1"),
        "{error:?}"
    );
    assert_eq!(pair.left("deleted"), None);

    let (target, over) = Alarm::target();
    let mut run = runner.start(&target, task(&["tell", "0"]), pair.folders(), None);
    drop(target);
    run.next().await.unwrap().commit();
    let outcome = run.next().await.unwrap();
    drop(run);
    drop(outcome);
    over.await.unwrap();
    assert_eq!(pair.left("deleted"), None);

    let run = runner.start(&crate::guest::target(""), task(&["tell", "0"]), pair.folders(), None);
    follow(run).await.1.unwrap();
    assert_eq!(pair.left("deleted").as_deref(), Some("task-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_runs_wait_side_by_side() {
    let runner = runner().await;
    let mut waiting = Vec::new();
    for _ in 0..200 {
        let mut run = runner.start(&target(""), task(&["wait"]), Folders::default(), None);
        run.next().await.unwrap().commit();
        waiting.push(run);
    }
    for run in &waiting {
        run.cancel();
    }
    for run in waiting {
        assert_eq!(follow(run).await.1.unwrap().status, Status::Cancelled);
    }
}
