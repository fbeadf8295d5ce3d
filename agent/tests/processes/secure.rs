//! Who may reach the agent, and how.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::agent::{Agent, Place};

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_token_is_asked_for() {
    let place = Place::new();
    let token = place.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let agent = Agent::start_with(&place, &[&format!("--token-file={}", token.display())]);
    for path in [
        "/tasks",
        "/getTasks",
        "/metrics",
        "/openapi.yaml",
        "/tasks/x/logs",
        "/nowhere",
    ] {
        let answer = agent.get(path);
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer")),
            "{path}"
        );
        assert_eq!(answer.json()["code"], "Unauthorized");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(agent.get(path).status, 200, "probes have no token");
    }
    let url = format!("http://{}/getTasks", agent.address);
    assert_eq!(curl(&["-H", "Authorization: Bearer s3cret", &url]), "[]\n");
    assert!(curl(&["-H", "Authorization: Bearer s3cre", &url]).contains("the token is wrong"));
    fs::write(&token, "changed").unwrap();
    assert_eq!(curl(&["-H", "Authorization: Bearer changed", &url]), "[]\n");
    fs::write(&token, "\n").unwrap();
    let answer = agent.get("/getTasks");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1")),
        "no token is no way in"
    );
    assert!(answer.text().contains("token file"), "{answer:?}");
    assert_eq!(agent.get("/health").status, 200);
}

fn certificate(place: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    fs::write(place.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(place.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

#[test]
fn tls_is_spoken_and_certificates_may_change() {
    let place = Place::new();
    certificate(place.path(), "localhost");
    let file = |name: &str| place.path().join(name).display().to_string();
    let flags = [
        format!("--tls-cert-file={}", file("tls.crt")),
        format!("-tls-key-file={}", file("tls.key")),
    ];
    let agent = Agent::start_with(&place, &[&flags[0], &flags[1]]);
    let port = agent.address.rsplit(':').next().unwrap();
    let ask = |host: &str| {
        let to = format!("{host}:{port}:127.0.0.1:{port}");
        curl(&[
            "--cacert",
            &file("tls.crt"),
            "--connect-to",
            &to,
            &format!("https://{host}:{port}/health"),
        ])
    };
    assert_eq!(ask("localhost"), "{\"status\":\"healthy\"}\n");
    certificate(place.path(), "other.example");
    assert_eq!(ask("other.example"), "{\"status\":\"healthy\"}\n");
    fs::write(place.path().join("tls.key"), "torn").unwrap();
    assert_eq!(
        ask("other.example"),
        "{\"status\":\"healthy\"}\n",
        "a broken pair changes nothing"
    );
    assert!(!curl(&[&format!("http://127.0.0.1:{port}/health")]).contains("healthy"));
}

#[test]
fn a_unix_socket_serves_its_owner() {
    let place = Place::new();
    let socket = place.path().join("agent.sock");
    let flag = format!("--unix-socket={}", socket.display());
    let ask = || curl(&["--unix-socket", socket.to_str().unwrap(), "http://agent/health"]);
    let agent = Agent::start_with(&place, &[&flag]);
    assert_eq!(ask(), "{\"status\":\"healthy\"}\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    agent.kill();
    let _agent = Agent::start_with(&place, &[&flag]);
    assert_eq!(
        ask(),
        "{\"status\":\"healthy\"}\n",
        "a socket that nobody listens at is replaced"
    );
}

#[test]
fn listening_everywhere_without_a_token_is_warned_of() {
    let place = Place::new();
    let data = format!("--data-dir={}", place.data().display());
    let warned = |arguments: &[&str]| {
        let log = place.path().join("log");
        let mut child = Command::new(super::agent::program())
            .args(arguments)
            .arg(&data)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        super::agent::await_true("the start", || fs::read_to_string(&log).unwrap().contains("ready;"));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::read_to_string(&log).unwrap().contains("can run anything here")
    };
    let token = place.path().join("token");
    fs::write(&token, "x").unwrap();
    assert!(warned(&["--listen-addr=0.0.0.0:0"]));
    assert!(warned(&["--listen-addr=:0"]));
    assert!(!warned(&["--listen-addr=127.0.0.1:0"]));
    assert!(!warned(&[
        "--listen-addr=0.0.0.0:0",
        &format!("--token-file={}", token.display())
    ]));
}

#[test]
fn mistakes_at_the_start_end_with_64_and_a_cure() {
    let place = Place::new();
    let data = format!("--data-dir={}", place.data().display());
    let missing = place.path().join("missing").display().to_string();
    for (arguments, part) in [
        (vec!["--no-such-flag".to_owned()], "no-such-flag"),
        (vec!["--listen-addr=".to_owned()], "--unix-socket"),
        (
            vec![
                "--listen-addr=127.0.0.1:0".to_owned(),
                format!("--token-file={missing}"),
            ],
            "token file",
        ),
        (
            vec![
                format!("--tls-cert-file={missing}"),
                format!("--tls-key-file={missing}"),
            ],
            "TLS file",
        ),
        (
            vec!["--data-dir=/proc/x".to_owned(), "--listen-addr=127.0.0.1:0".to_owned()],
            "failed to create folder",
        ),
    ] {
        let output = Command::new(super::agent::program())
            .arg(&data)
            .args(&arguments[1..])
            .arg(&arguments[0])
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}
