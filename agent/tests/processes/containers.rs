//! What container mode says where there is no runtime that it could use.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use super::agent::{Place, program};

fn start(place: &Place, socket: &Path) -> Output {
    Command::new(program())
        .args(["--enable-container-mode", "--listen-addr=127.0.0.1:0"])
        .arg(format!("--cri-socket={}", socket.display()))
        .arg(format!("--data-dir={}", place.data().display()))
        .output()
        .unwrap()
}

#[track_caller]
fn check(output: &Output, expected: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{text}");
    for part in expected.iter().chain(&["--enable-container-mode", "--cri-socket"]) {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_socket_that_is_not_there_says_what_to_mount() {
    let place = Place::new();
    let socket = place.path().join("containerd.sock");
    check(&start(&place, &socket), &["it is not there", "mount", "hostPath"]);
    drop(UnixListener::bind(&socket).unwrap());
    check(&start(&place, &socket), &["Connection refused", "mount", "hostPath"]);
}

#[test]
fn something_else_behind_the_socket_is_no_runtime() {
    let place = Place::new();
    let socket = place.path().join("other.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    check(&start(&place, &socket), &["container runtime, Version: "]);
}
