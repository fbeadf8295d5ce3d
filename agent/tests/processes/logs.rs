//! A task's output: complete, by offset, as it comes, and never more than allowed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::agent::{Agent, PATIENCE, Place, await_true};

#[test]
fn output_is_there_by_offset() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("t", "printf 0123456789; printf abc >&2");
    agent.await_end("t");
    for (query, expected) in [
        ("", "0123456789"),
        ("?stream=stderr", "abc"),
        ("?stream=stdout&offset=4", "456789"),
        ("?offset=4&limit=2", "45"),
        ("?offset=99", ""),
        ("?offset=10&follow=true", ""),
    ] {
        assert_eq!(agent.get(&format!("/tasks/t/logs{query}")).text(), expected, "{query}");
    }
    assert_eq!(
        agent.get("/tasks/t/logs?offset=4").header("podrun-log-offset"),
        Some("4")
    );
    assert_eq!(agent.get("/tasks/t/logs?offset=-1").status, 400);
}

#[test]
fn followers_get_every_byte_until_the_end() {
    let place = Place::new();
    let agent = Agent::start(&place);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script(
        "t",
        &format!("echo one; read line < {}; seq 1 20000; echo last", gate.display()),
    );
    let mut stream = TcpStream::connect(&agent.address).unwrap();
    stream
        .write_all(b"GET /tasks/t/logs?follow=true HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("one\n") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0);
        answer.extend_from_slice(&buffer[..read]);
    }
    fs::write(&gate, "go\n").unwrap();
    stream.read_to_end(&mut answer).unwrap();
    agent.await_end("t");
    let whole = agent.get("/tasks/t/logs").text();
    assert!(whole.ends_with("20000\nlast\n"));
    assert_eq!(whole.lines().count(), 20_002);
    assert_eq!(agent.get("/tasks/t/logs?follow").text(), whole);
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.contains("last\n") && text.ends_with("\r\n0\r\n\r\n"),
        "the stream was complete"
    );
}

#[test]
fn no_more_is_kept_than_allowed_even_while_the_agent_is_dead() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--log-max-size=64Ki"]);
    let gate = place.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    agent.script(
        "t",
        &format!("read line < {}; seq -w 1 200000; echo the end; exit 3", gate.display()),
    );
    agent.await_running("t");
    agent.kill();
    fs::write(&gate, "go\n").unwrap();
    let folder = place.tasks().remove(0);
    await_true("the end", || folder.join("ended").exists());
    let kept: u64 = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("stdout."))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!((32 << 10..=64 << 10).contains(&kept), "{kept}");
    let agent = Agent::start(&place);
    assert_eq!(agent.await_end("t")["exitCode"], 3, "the task was not held up");
    let answer = agent.get("/tasks/t/logs");
    let start: usize = answer.header("podrun-log-offset").unwrap().parse().unwrap();
    let whole = 200_000 * 7 + "the end\n".len();
    assert_eq!(start + answer.body.len(), whole, "positions count what is gone");
    assert!(answer.text().ends_with("200000\nthe end\n"));
}

#[test]
fn a_large_output_is_complete() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.create("t", json!({"command": ["sh", "-c", "seq 1 500000; seq 1 500000 >&2"]}));
    agent.await_end("t");
    let expected: String = (1..=500_000).map(|number| format!("{number}\n")).collect();
    assert!(agent.get("/tasks/t/logs").text() == expected);
    assert!(agent.get("/tasks/t/logs?stream=stderr").text() == expected);
}

#[test]
fn a_follower_of_a_deleted_task_is_let_go() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("t", "echo x; exec sleep 1000");
    agent.await_running("t");
    let address = agent.address.clone();
    let follower = std::thread::spawn(move || super::http::ask(&address, "GET", "/tasks/t/logs?follow=1", b""));
    agent.delete("t");
    agent.await_gone("t");
    assert!(follower.join().unwrap().is_ok());
}

#[test]
fn output_that_the_disk_does_not_give_holds_up_nobody_else() {
    let place = Place::new();
    let agent = Agent::start(&place);
    agent.script("t", "echo");
    agent.await_end("t");
    // Whoever opens a pipe waits until somebody writes, as for a disk that hangs.
    let output = place.tasks()[0].join("stdout.00000000000000000000");
    fs::remove_file(&output).unwrap();
    nix::unistd::mkfifo(&output, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut stream = TcpStream::connect(&agent.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /tasks/t/logs HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    // The answer has begun: its body is being read.
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    assert_eq!(agent.get("/health").status, 200);
}
