//! A runner that starts nothing, and does instead what its task's command asks for: it waits, spins, eats memory, knocks
//! on closed doors. What it found is the outcome's message.
//!
//! Its config is a list of words: `endpoint=HOST:PORT` and `command=PROGRAM,ARGUMENT...` are what `connect` returns,
//! `probe` makes `connect` fail with what it found open, `spin` makes it spin.

// A component and nothing else: a native linker takes offence at the names of its exports.
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../../wit", world: "task-runner" });
}
mod probes;

use bindings::exports::podrun::task_runner::runner::{Descriptor, Directories, Guest};
use bindings::podrun::task_runner::host::{self, Directive};
use bindings::podrun::task_runner::types::{
    Connection, Credential, Diagnostic, Endpoint, Error, Event, Level, LogLine, LogSource, Outcome, Phase, Snapshot,
    Status, Task,
};

struct TestGuest;

bindings::export!(TestGuest with_types_in bindings);

impl Guest for TestGuest {
    fn describe() -> Descriptor {
        Descriptor {
            name: "test".to_owned(),
            version: "1".to_owned(),
            config_schema: "{}".to_owned(),
            task_schema: probes::open_doors(),
        }
    }

    fn connect(config: String) -> Result<Connection, Error> {
        let mut connection = Connection {
            endpoints: Vec::new(),
            credential_command: None,
        };
        for word in config.split_whitespace() {
            match word.split_once('=') {
                Some(("endpoint", place)) => {
                    let (host, port) = place.rsplit_once(':').expect("HOST:PORT");
                    let endpoint = Endpoint {
                        host: host.to_owned(),
                        port: port.parse().expect("a port"),
                    };
                    connection.endpoints.push(endpoint);
                }
                Some(("command", words)) => {
                    let command = words.split(',').map(str::to_owned).collect();
                    connection.credential_command = Some((command, vec![("ADDED".to_owned(), "yes".to_owned())]));
                }
                _ if word == "probe" => return Err(Error::Other(probes::open_doors())),
                _ if word == "spin" => probes::spin(),
                _ => return Err(Error::InvalidArgument(format!("config has the unknown word `{word}`"))),
            }
        }
        Ok(connection)
    }

    fn layout(_: String, id: String) -> Result<Directories, Error> {
        Ok(Directories {
            working_dir: format!("/work/{id}"),
            output_dir: probes::open_doors(),
        })
    }

    fn run(_: String, task: Task, after: Option<String>) -> Result<Outcome, Error> {
        act(&task, after)
    }

    fn attach(_: String, handle: String, after: Option<String>) -> Result<Outcome, Error> {
        tell(&handle, &[Event::Started(handle.clone())], after.as_deref())?;
        ended(&handle, outcome(Status::Succeeded, after.unwrap_or_default()))
    }

    fn kill(_: String, handle: String, grace: Option<u32>) -> Result<(), Error> {
        Err(Error::NotFound(format!("{handle} {grace:?}")))
    }

    fn status(_: String, handle: String) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            handle,
            phase: Some(Phase::Running),
            outcome: None,
            labels: Vec::new(),
        })
    }

    fn list(_: String, labels: Vec<(String, String)>) -> Result<Vec<Snapshot>, Error> {
        Ok(vec![Snapshot {
            handle: "one".to_owned(),
            phase: None,
            outcome: None,
            labels,
        }])
    }

    fn check(_: String) -> Result<Vec<Diagnostic>, Error> {
        host::emit(&[log("nobody listens")], None);
        Ok(vec![Diagnostic {
            level: Level::Info,
            message: probes::open_doors(),
        }])
    }

    fn render(_: String, task: Task, server: bool) -> Result<String, Error> {
        Ok(format!("{} {server}", task.id))
    }
}

/// Does what the task's command asks for.
fn act(task: &Task, after: Option<String>) -> Result<Outcome, Error> {
    let words: Vec<&str> = task.command.iter().map(String::as_str).collect();
    let handle = &task.id;
    let found = match words.as_slice() {
        ["tell", count] => return tell_lines(handle, count.parse().expect("a count"), after),
        ["wait"] => return wait(handle),
        ["linger", pauses] => {
            host::emit(&[Event::Ended(outcome(Status::Succeeded, String::new()))], None);
            for _ in 0..pauses.parse().expect("a count") {
                host::emit(&[], None);
                probes::pause();
            }
            probes::write("/outputs/deleted", handle)
        }
        ["ignore"] => loop {
            host::emit(&[], None);
            probes::pause();
        },
        ["spin"] => probes::spin(),
        ["churn"] => probes::churn(),
        ["compute", milliseconds] => probes::compute(milliseconds.parse().expect("a count")),
        ["allocate"] => probes::allocate(),
        ["panic"] => panic!("the token is hunter2"),
        ["exit"] => std::process::exit(3),
        ["chat"] => probes::chat(),
        ["authenticate"] => authenticate(false)?,
        ["authenticate", "twice"] => format!("{} then {}", authenticate(false)?, authenticate(true)?),
        ["fail", kind] => return Err(error(kind)),
        ["doors"] => probes::open_doors(),
        ["connect", address] => probes::connect(address),
        ["bind", address] => probes::bind(address),
        ["udp", address] => probes::udp(address),
        ["resolve", name] => probes::resolve(name),
        ["read", path] => probes::read(path),
        ["write", path, text] => probes::write(path, text),
        ["surroundings"] => probes::surroundings(),
        _ => return Err(Error::InvalidArgument(format!("no such command: {words:?}"))),
    };
    ended(handle, outcome(Status::Succeeded, found))
}

/// `count` lines, one to a batch, and the outcome. The cursor is the number of the line; `after` skips what it covers.
fn tell_lines(handle: &str, count: u32, after: Option<String>) -> Result<Outcome, Error> {
    let first = after.map_or(0, |cursor| cursor.parse().expect("a number"));
    tell(
        handle,
        &[Event::Started(handle.to_owned()), Event::Phase(Phase::Running)],
        None,
    )?;
    for number in first + 1..=count {
        if tell(handle, &[log(&format!("line {number}"))], Some(&number.to_string()))? == Directive::Cancel {
            return ended(
                handle,
                outcome(Status::Cancelled, format!("cancelled after line {number}")),
            );
        }
    }
    ended(handle, outcome(Status::Succeeded, String::new()))
}

/// Heartbeats until told otherwise. What it was told stays behind in `/outputs/told`.
fn wait(handle: &str) -> Result<Outcome, Error> {
    let mut told = host::emit(&[Event::Started(handle.to_owned())], None);
    while told == Directive::Proceed {
        probes::pause();
        told = host::emit(&[], None);
    }
    probes::write("/outputs/told", &format!("{told:?}"));
    match told {
        Directive::Detach => Err(Error::Detached(handle.to_owned())),
        _ => ended(handle, outcome(Status::Cancelled, String::new())),
    }
}

fn tell(handle: &str, events: &[Event], cursor: Option<&str>) -> Result<Directive, Error> {
    match host::emit(events, cursor) {
        Directive::Detach => Err(Error::Detached(handle.to_owned())),
        other => Ok(other),
    }
}

/// As a real runner does, it deletes what it started once the outcome was emitted, whatever the answer. The deletion
/// shows in `/outputs/deleted`.
fn ended(handle: &str, outcome: Outcome) -> Result<Outcome, Error> {
    host::emit(
        &[Event::Started(handle.to_owned()), Event::Ended(outcome.clone())],
        None,
    );
    probes::write("/outputs/deleted", handle);
    Ok(outcome)
}

fn authenticate(refused: bool) -> Result<String, Error> {
    match host::authenticate(refused) {
        Some(Credential::BearerToken(token)) => Ok(format!("token {token}")),
        Some(Credential::ExecCredential(text)) => Ok(format!("exec {text}")),
        Some(Credential::ClientCertificate((chain, key))) => Ok(format!("certificate {chain} {key}")),
        None => Err(Error::AccessDenied("no credential".to_owned())),
    }
}

fn error(kind: &str) -> Error {
    let text = "said so".to_owned();
    match kind {
        "invalid-argument" => Error::InvalidArgument(text),
        "conflict" => Error::Conflict(text),
        "not-found" => Error::NotFound(text),
        "access-denied" => Error::AccessDenied(text),
        "unavailable" => Error::Unavailable(text),
        "detached" => Error::Detached(text),
        _ => Error::Other(text),
    }
}

fn log(message: &str) -> Event {
    Event::Log(LogLine {
        source: Some(LogSource::Stdout),
        level: Level::Info,
        time: 0,
        message: message.to_owned(),
        partial: false,
        lossy: false,
    })
}

fn outcome(status: Status, message: String) -> Outcome {
    Outcome {
        status,
        reason: None,
        retryable: false,
        exit_code: Some(0),
        message,
        files: Vec::new(),
        started: None,
        finished: None,
        details: Vec::new(),
    }
}
