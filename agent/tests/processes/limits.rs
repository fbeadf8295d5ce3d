//! What many clients at once cannot do to the agent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::agent::{Agent, Place, await_line, await_some, await_true};

/// A request for a task that takes many bytes to send, all but the last one of which are sent.
fn almost_send(agent: &Agent, name: &str, length: usize) -> TcpStream {
    let mut task = json!({"name": name, "process": {"command": ["true"]}}).to_string();
    task.insert_str(1, &" ".repeat(length - task.len()));
    let (most, _) = task.split_at(length - 1);
    let mut stream = TcpStream::connect(&agent.address).unwrap();
    let head = format!("POST /tasks HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    // One that is refused meanwhile is not read to its end.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(most.as_bytes()));
    stream
}

/// What is answered on a connection, if that is known.
fn answer(stream: &mut TcpStream) -> Option<String> {
    stream.set_nonblocking(true).unwrap();
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock && answer.is_empty() => None,
        _ => Some(answer),
    }
}

#[test]
fn sets_do_not_pile_up_tasks_that_are_being_stopped() {
    let place = Place::new();
    let agent = Agent::start_with(&place, &["--max-tasks=2"]);
    let set = |names: &[&str]| {
        let task = |name: &&str| {
            let up = place.path().join(name);
            let stubborn = format!("trap '' TERM; echo up > {}; while :; do sleep 0.1; done", up.display());
            json!({"name": name, "process": {"command": ["sh", "-c", stubborn], "terminationGracePeriodSeconds": 3600}})
        };
        let tasks: Vec<_> = names.iter().map(task).collect();
        agent.ask("POST", "/setTasks", &json!(tasks).to_string())
    };
    assert_eq!(set(&["a", "b"]).status, 200);
    for name in ["a", "b"] {
        await_line(&place.path().join(name));
    }
    assert_eq!(set(&["c", "d"]).status, 200, "two may go for two");
    let refused = set(&["e", "d"]);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.text().contains("on their way out"), "{refused:?}");
    let kept = |name: &str| agent.get(&format!("/tasks/{name}")).json()["deletionTimestamp"].is_null();
    assert!(kept("c") && kept("d"), "nothing has changed");
    assert_eq!(set(&[]).status, 200, "who asks for less is never refused");
}

#[test]
fn bodies_of_all_requests_together_have_their_limit() {
    let place = Place::new();
    let agent = Agent::start(&place);
    // More than 64 MiB in all, and less without one of them.
    let mut streams: Vec<_> = (0..5)
        .map(|one| almost_send(&agent, &format!("t{one}"), 15 << 20))
        .collect();
    let (refused, text) = await_some("a refusal", || {
        let answers = streams.iter_mut().map(answer).enumerate();
        answers.filter_map(|(one, answer)| Some((one, answer?))).next()
    });
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nretry-after: 1\r\n"),
        "{text}"
    );
    streams.remove(refused);
    assert_eq!(agent.get("/health").status, 200);
    // The others are not harmed, and what they took is given back.
    for mut stream in streams {
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"}").unwrap();
        await_true("the task to be accepted", || {
            answer(&mut stream).is_some_and(|text| text.starts_with("HTTP/1.1 201 "))
        });
    }
    let name = format!("t{refused}");
    agent.script(&name, "exit 0");
    agent.await_end(&name);
    for _ in 0..5 {
        assert_eq!(agent.ask("POST", "/tasks", &" ".repeat(15 << 20)).status, 400);
    }
}

#[test]
fn probes_are_answered_though_all_connections_are_in_use() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let place = Place::new();
    let agent = Agent::start(&place);
    let taken: Vec<_> = (0..1024).map(|_| TcpStream::connect(&agent.address).unwrap()).collect();
    for _ in 0..100 {
        assert_eq!((agent.get("/health").status, agent.get("/ready").status), (200, 200));
    }
    let refused = agent.get("/getTasks");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1")),
        "{refused:?}"
    );
    // Who takes the rest too and says nothing does not keep it.
    let rest: Vec<_> = (0..64).map(|_| TcpStream::connect(&agent.address).unwrap()).collect();
    assert_eq!(agent.get("/health").status, 200);
    drop((taken, rest));
    await_true("room", || agent.get("/getTasks").status == 200);
}
