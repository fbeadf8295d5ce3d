//! The calls that answer at once, and how a runner's errors arrive.

use podrun_host::{Endpoint, Error, Phase};

use crate::guest::{ask, component, options, runner, target, task};

#[tokio::test]
async fn each_call_reaches_the_runner_with_its_arguments() {
    let runner = runner().await;
    let target = target("endpoint=192.0.2.1:6443 command=login,--now");
    assert_eq!(runner.describe().await.unwrap().name, "test");
    let connection = runner.connect(&target.config).await.unwrap();
    assert_eq!(
        connection.endpoints,
        [Endpoint {
            host: "192.0.2.1".to_owned(),
            port: 6443
        }]
    );
    assert_eq!(connection.credential_command.unwrap().0, ["login", "--now"]);
    assert_eq!(runner.layout("", "seven").await.unwrap().working_dir, "/work/seven");
    let snapshot = runner.status(&target, "pod-1").await.unwrap();
    assert_eq!(
        (snapshot.handle.as_str(), snapshot.phase),
        ("pod-1", Some(Phase::Running))
    );
    let labels = [("flow".to_owned(), "hello".to_owned())];
    assert_eq!(runner.list(&target, &labels).await.unwrap()[0].labels, labels);
    assert_eq!(runner.check(&target).await.unwrap().len(), 1);
    assert_eq!(
        runner.render(&target, &task(&["tell"]), None, true).await.unwrap(),
        "task-1 true"
    );
    let error = runner.kill(&target, "pod-1", Some(5)).await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound(text) if text == "pod-1 Some(5)"),
        "{error}"
    );
}

/// Embedders run calls on workers of their own, so the futures must be able to move between threads.
#[tokio::test]
async fn calls_can_be_spawned() {
    let runner = runner().await;
    let status = tokio::spawn(async move { runner.status(&target(""), "pod-1").await });
    assert_eq!(status.await.unwrap().unwrap().handle, "pod-1");
}

#[tokio::test]
async fn each_error_of_the_contract_arrives_as_itself() {
    type Check = fn(&Error) -> bool;
    let runner = runner().await;
    let kinds: [(&str, Check); 7] = [
        (
            "invalid-argument",
            |error| matches!(error, Error::InvalidArgument(text) if text == "said so"),
        ),
        (
            "conflict",
            |error| matches!(error, Error::Conflict(text) if text == "said so"),
        ),
        (
            "not-found",
            |error| matches!(error, Error::NotFound(text) if text == "said so"),
        ),
        (
            "access-denied",
            |error| matches!(error, Error::AccessDenied(text) if text == "said so"),
        ),
        (
            "unavailable",
            |error| matches!(error, Error::Unavailable(text) if text == "said so"),
        ),
        (
            "detached",
            |error| matches!(error, Error::Detached(text) if text == "said so"),
        ),
        (
            "other",
            |error| matches!(error, Error::Other(text) if text == "said so"),
        ),
    ];
    for (kind, is_itself) in kinds {
        let error = ask(&runner, "", &["fail", kind]).await.unwrap_err();
        assert!(is_itself(&error), "{kind}: {error:?}");
    }
}

#[tokio::test]
async fn bad_config_ends_a_run_before_it_starts() {
    let error = ask(&runner().await, "nonsense", &["tell", "1"]).await.unwrap_err();
    assert!(
        matches!(&error, Error::InvalidArgument(text) if text.contains("`nonsense`")),
        "{error}"
    );
}

#[tokio::test]
async fn unresolvable_endpoint_is_unavailable_and_named() {
    let error = ask(&runner().await, "endpoint=api.invalid:6443", &["tell", "1"])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(text) if text.contains("`api.invalid`")),
        "{error}"
    );
}

#[tokio::test]
async fn file_that_is_no_runner_is_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let host = podrun_host::Host::new(options()).unwrap();
    let cases: [(&str, &[u8], &str); 3] = [
        ("text.wasm", b"not wasm", "text.wasm"),
        ("empty.wasm", b"\0asm\x0d\0\x01\0", "podrun:task-runner/runner"),
        ("cut.wasm", &std::fs::read(component()).unwrap()[..1000], "cut.wasm"),
    ];
    for (name, content, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = host.load(&path).await.unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        assert!(
            matches!(error, Error::Load { .. }) && text.contains(expected),
            "{name}: {text}"
        );
    }
    let error = host.load(&folder.path().join("missing.wasm")).await.unwrap_err();
    assert!(error.to_string().contains("missing.wasm"), "{error}");
}
