//! Time and memory: what ends a runner, what does not, and what the error says.

use std::time::Duration;

use podrun_host::{Error, Folders, Options, Runner};

use crate::guest::{ask, impatient, load, options, runner, target, task};

/// The reason for which the runner was ended.
async fn trapped(runner: &Runner, command: &[&str]) -> String {
    match ask(runner, "", command).await.unwrap_err() {
        error @ Error::Trap { call: "run", .. } => {
            assert!(std::error::Error::source(&error).is_some());
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn spinning_runner_ends_at_the_deadline_even_on_the_only_worker() {
    let runner = impatient(Duration::from_millis(200)).await;
    for command in ["spin", "churn"] {
        let text = trapped(&runner, &[command]).await;
        assert!(
            text.contains("200ms") && text.contains("guest_deadline"),
            "{command}: {text}"
        );
    }
    let error = runner.connect("spin").await.unwrap_err();
    assert!(matches!(error, Error::Trap { call: "connect", .. }), "{error:?}");
    assert_eq!(
        ask(&runner, "", &["doors"]).await.unwrap(),
        "folder /inputs, folder /outputs"
    );
}

#[tokio::test]
async fn spinning_runner_leaves_the_only_worker_to_others() {
    let runner = impatient(Duration::from_secs(600)).await;
    let spinning = runner.start(&target(""), task(&["spin"]), Folders::default(), None);
    assert!(ask(&runner, "", &["surroundings"]).await.is_ok());
    drop(spinning);
}

#[tokio::test]
async fn calls_to_the_host_refill_the_deadline() {
    let runner = impatient(Duration::from_millis(300)).await;
    assert_eq!(ask(&runner, "", &["compute", "1500"]).await.unwrap(), "done");
}

#[tokio::test]
async fn slow_commit_does_not_pass_the_deadline() {
    let runner = impatient(Duration::from_millis(100)).await;
    let mut run = runner.start(&target(""), task(&["tell", "2"]), Folders::default(), None);
    let held = run.next().await.unwrap();
    // Two others come to their deadline meanwhile, so this one had time to.
    for _ in 0..2 {
        trapped(&runner, &["spin"]).await;
    }
    held.commit();
    crate::guest::follow(run).await.1.unwrap();
}

#[tokio::test]
async fn memory_is_bounded_and_the_error_names_the_limit() {
    let runner = load(Options {
        memory_limit: 32 << 20,
        ..options()
    })
    .await;
    let text = trapped(&runner, &["allocate"]).await;
    assert!(text.contains("32 MiB") && text.contains("memory_limit"), "{text}");
    assert!(ask(&runner, "", &["surroundings"]).await.is_ok());
}

#[tokio::test]
async fn memory_limit_below_what_the_component_starts_with_is_named_too() {
    let runner = load(Options {
        memory_limit: 1 << 10,
        ..options()
    })
    .await;
    let error = runner.describe().await.unwrap_err();
    assert!(error.to_string().contains("memory_limit"), "{error}");
}

#[tokio::test]
async fn crash_names_its_place_and_not_its_words_and_poisons_nothing() {
    let runner = runner().await;
    let text = trapped(&runner, &["panic"]).await;
    assert!(
        text.contains("panicked at") && text.contains("lib.rs") && !text.contains("hunter2"),
        "{text}"
    );
    let text = trapped(&runner, &["exit"]).await;
    assert!(text.contains("exited"), "{text}");
    assert!(ask(&runner, "", &["surroundings"]).await.is_ok());
}
