//! What a runner can reach: the endpoints that it named, two folders, and nothing else.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use crate::guest::{Pair, ask, follow, runner, target, task};

/// A server that greets each connection, and its port.
fn greeter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(b"welcome").unwrap();
        }
    });
    port
}

#[tokio::test]
async fn only_what_connect_named_can_be_connected_to() {
    let runner = runner().await;
    let (named, other) = (greeter(), greeter());
    let config = format!("endpoint=127.0.0.1:{named}");
    assert_eq!(
        ask(&runner, &config, &["connect", &format!("127.0.0.1:{named}")])
            .await
            .unwrap(),
        "ok: welcome"
    );
    let denied = "error: PermissionDenied";
    assert_eq!(
        ask(&runner, &config, &["connect", &format!("127.0.0.1:{other}")])
            .await
            .unwrap(),
        denied
    );
    assert_eq!(
        ask(&runner, &config, &["connect", &format!("127.0.0.2:{named}")])
            .await
            .unwrap(),
        denied
    );
    assert_eq!(
        ask(&runner, "", &["connect", &format!("127.0.0.1:{named}")])
            .await
            .unwrap(),
        denied
    );
}

#[tokio::test]
async fn only_names_that_connect_named_are_answered() {
    let runner = runner().await;
    let port = greeter();
    let config = format!("endpoint=localhost:{port}");
    let answer = ask(&runner, &config, &["resolve", "localhost"]).await.unwrap();
    assert!(answer.split(' ').any(|address| address == "127.0.0.1"), "{answer}");
    let welcome = ask(&runner, &config, &["connect", &format!("localhost:{port}")])
        .await
        .unwrap();
    assert_eq!(welcome, "ok: welcome");
    // This machine's own name resolves outside of the sandbox.
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for name in [own.trim(), "example.com", "localhost.localdomain"] {
        let answer = ask(&runner, &config, &["resolve", name]).await.unwrap();
        assert!(answer.starts_with("error"), "{name}: {answer}");
    }
    let answer = ask(
        &runner,
        &format!("endpoint=127.0.0.1:{port}"),
        &["resolve", "localhost"],
    )
    .await
    .unwrap();
    assert!(answer.starts_with("error"), "{answer}");
}

#[tokio::test]
async fn datagrams_and_listening_are_closed_even_to_what_connect_named() {
    let runner = runner().await;
    let port = greeter();
    let config = format!("endpoint=127.0.0.1:{port}");
    for command in [
        ["udp", &format!("127.0.0.1:{port}")],
        ["bind", "127.0.0.1:0"],
        ["bind", "0.0.0.0:0"],
    ] {
        let answer = ask(&runner, &config, &command).await.unwrap();
        assert_eq!(answer, "error: PermissionDenied", "{command:?}");
    }
}

#[tokio::test]
async fn calls_that_need_nothing_get_nothing() {
    let runner = runner().await;
    assert_eq!(runner.describe().await.unwrap().task_schema, "");
    assert_eq!(runner.connect("probe").await.unwrap_err().to_string(), "");
    assert_eq!(runner.layout("", "1").await.unwrap().output_dir, "");
    assert_eq!(runner.check(&target("")).await.unwrap()[0].message, "");
}

#[tokio::test]
async fn inputs_can_be_read_and_not_written_and_outputs_written() {
    let (runner, pair) = (runner().await, Pair::new());
    std::fs::write(pair.inputs.path().join("a.txt"), "content").unwrap();
    let ask = async |command: &[&str]| {
        let run = runner.start(&target(""), task(command), pair.folders(), None);
        follow(run).await.1.unwrap().message
    };
    assert_eq!(ask(&["read", "/inputs/a.txt"]).await, "ok: content");
    assert!(ask(&["write", "/inputs/a.txt", "other"]).await.starts_with("error"));
    assert!(ask(&["write", "/inputs/b.txt", "new"]).await.starts_with("error"));
    assert_eq!(
        std::fs::read_to_string(pair.inputs.path().join("a.txt")).unwrap(),
        "content"
    );
    assert_eq!(ask(&["write", "/outputs/c.txt", "result"]).await, "ok: written");
    assert_eq!(pair.left("c.txt").as_deref(), Some("result"));
}

#[tokio::test]
async fn no_path_leads_out_of_the_folders() {
    let (runner, pair) = (runner().await, Pair::new());
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), pair.inputs.path().join("link")).unwrap();
    symlink(outside.path(), pair.outputs.path().join("link")).unwrap();
    let climbing = format!("/inputs/../{}", outside.path().file_name().unwrap().to_str().unwrap());
    let absolute = outside.path().to_str().unwrap();
    for command in [
        &["read", "/inputs/link"][..],
        &["read", &climbing],
        &["read", absolute],
        &["read", "/etc/passwd"],
        &["write", "/outputs/link", "broken out"],
        &["write", absolute, "broken out"],
    ] {
        let run = runner.start(&target(""), task(command), pair.folders(), None);
        let answer = follow(run).await.1.unwrap().message;
        assert!(answer.starts_with("error"), "{command:?}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(outside.path()).unwrap(), "");
}

#[tokio::test]
async fn folders_that_were_not_given_are_empty_and_gone_afterwards() {
    let runner = runner().await;
    assert_eq!(
        ask(&runner, "", &["write", "/outputs/c.txt", "result"]).await.unwrap(),
        "ok: written"
    );
    assert_eq!(
        ask(&runner, "", &["read", "/outputs/c.txt"]).await.unwrap(),
        "error: NotFound"
    );
}

#[tokio::test]
async fn missing_folder_is_named() {
    let (runner, pair) = (runner().await, Pair::new());
    let folders = podrun_host::Folders {
        inputs: Some(pair.inputs.path().join("nowhere")),
        ..pair.folders()
    };
    let error = follow(runner.start(&target(""), task(&["doors"]), folders, None))
        .await
        .1
        .unwrap_err();
    assert!(
        matches!(&error, podrun_host::Error::Folder { path, .. } if path.ends_with("nowhere")),
        "{error:?}"
    );
}

#[tokio::test]
async fn neither_arguments_nor_environment_nor_input_reach_a_runner() {
    assert!(std::env::var_os("PATH").is_some());
    assert_eq!(
        ask(&runner().await, "", &["surroundings"]).await.unwrap(),
        "[] [] ok: 0"
    );
}

#[tokio::test]
async fn talkative_runner_comes_to_its_end() {
    assert_eq!(ask(&runner().await, "", &["chat"]).await.unwrap(), "done");
}
