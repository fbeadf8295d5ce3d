//! A runner whose cluster is the folder `/outputs`: `pod` lies there while a task exists, and `history` tells what was
//! created and deleted. Its scripts are lists of words, so that a test can say what a task does:
//!
//! - `set -e`: nothing
//! - `echo TEXT`: that line
//! - `say N`: N log lines, each with a cursor
//! - `copy INPUT OUTPUT`: an input file comes back as an output file of the working directory
//! - `keep TEXT OUTPUT`: a file of the output directory
//! - `publish NAME JSON`: an output
//! - `login`: asks the host for a credential, or takes the token of the config, and notes it in `/outputs/logins`;
//!   `login again` says that the last one was refused
//! - `wait`: until the host cancels or detaches, or `/outputs/go` is there
//! - `part TEXT`: a part of a line, which the next line goes on with
//! - `stage`: as `wait`, but on the server `https://staging` its inputs are incomplete until then: `attach` refuses it, and
//!   after `kill` it can be started anew
//! - `fail KIND`: an error of that kind; `fail before KIND`: before the handle is known; `fail unborn KIND`: after that,
//!   before anything is created
//! - `climb`: an outcome with a file outside of its folder
//! - `exit CODE`; code 0 goes on
//! - `evict N`: the cluster takes the pod away in the first N attempts
//!
//! It checks what the contract promises it: that the same id always brings the same task.

// A component and nothing else: a native linker takes offence at the names of its exports.
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "task-runner" });
}

use std::fs;
use std::io::Write;
use std::time::Duration;

use bindings::exports::podrun::task_runner::runner::{Descriptor, Directories, Guest};
use bindings::podrun::task_runner::host::{self, Directive};
use bindings::podrun::task_runner::types::{
    Connection, Credential, Diagnostic, Error, Event, Level, LogLine, LogSource, Origin, Outcome, Output, OutputFile,
    Phase, Snapshot, Status, Task,
};
use serde_json::Value;

struct FolderRunner;

bindings::export!(FolderRunner with_types_in bindings);

impl Guest for FolderRunner {
    fn describe() -> Descriptor {
        Descriptor {
            name: "folder".to_owned(),
            version: "1".to_owned(),
            config_schema: include_str!("config.schema.json").to_owned(),
            task_schema: include_str!("task.schema.json").to_owned(),
        }
    }

    fn connect(config: String) -> Result<Connection, Error> {
        match server(&config).as_str() {
            "https://bad" => Err(Error::InvalidArgument("config.masterUrl: bad".to_owned())),
            _ => Ok(Connection {
                endpoints: Vec::new(),
                credential_command: None,
            }),
        }
    }

    fn layout(_: String, id: String) -> Result<Directories, Error> {
        Ok(Directories {
            working_dir: format!("/work/{id}"),
            output_dir: format!("/out/{id}"),
        })
    }

    fn run(config: String, task: Task, after: Option<String>) -> Result<Outcome, Error> {
        Execution {
            token: field(&config, "oauthToken"),
            server: server(&config),
            task,
            told: 0,
            after: after.map_or(0, |cursor| cursor.parse().expect("a number")),
        }
        .run()
    }

    fn attach(config: String, handle: String, after: Option<String>) -> Result<Outcome, Error> {
        let Ok(script) = fs::read_to_string("/outputs/script") else {
            return Err(Error::NotFound(handle));
        };
        if server(&config) == STAGING && script.lines().any(|line| line == "stage") {
            history("refused");
            return Err(Error::Other("the input files are incomplete: call `run`".to_owned()));
        }
        history("attached");
        let task = Task {
            id: handle,
            image: String::new(),
            command: vec![script],
            env: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            timeout: None,
            labels: Vec::new(),
            options: String::new(),
        };
        let execution = Execution {
            token: field(&config, "oauthToken"),
            server: server(&config),
            task,
            told: 0,
            after: after.map_or(0, |cursor| cursor.parse().expect("a number")),
        };
        execution.steps()
    }

    fn kill(config: String, _: String, _: Option<u32>) -> Result<(), Error> {
        match server(&config).as_str() {
            "https://unkillable" => Err(Error::Unavailable("the cluster does not answer".to_owned())),
            _ => Ok(()),
        }
    }

    fn status(config: String, handle: String) -> Result<Snapshot, Error> {
        match server(&config).as_str() {
            "https://unkillable" => Err(Error::Unavailable("the cluster does not answer".to_owned())),
            STAGING => Ok(Snapshot {
                handle,
                phase: Some(Phase::Staging),
                outcome: None,
                labels: Vec::new(),
            }),
            _ => Err(Error::NotFound(handle)),
        }
    }

    fn list(_: String, _: Vec<(String, String)>) -> Result<Vec<Snapshot>, Error> {
        Ok(Vec::new())
    }

    fn check(config: String) -> Result<Vec<Diagnostic>, Error> {
        let namespace = field(&config, "namespace");
        let mut findings = vec![Diagnostic {
            level: Level::Info,
            message: format!("reachable {namespace}").trim_end().to_owned(),
        }];
        match server(&config).as_str() {
            "https://unfit" => findings.push(Diagnostic {
                level: Level::Error,
                message: "may not create pods".to_owned(),
            }),
            "https://gone" => return Err(Error::Unavailable("no answer from https://gone".to_owned())),
            _ => {}
        }
        Ok(findings)
    }

    fn render(_: String, task: Task, _: bool) -> Result<String, Error> {
        if task.options.contains("Bad") {
            return Err(Error::InvalidArgument("options.namespace: Bad is no name".to_owned()));
        }
        Ok(serde_json::json!({"kind": "Pod", "metadata": {"name": task.id}, "inputs": task.inputs.len()}).to_string())
    }
}

/// The server on which input files take their time.
const STAGING: &str = "https://staging";

fn server(config: &str) -> String {
    field(config, "masterUrl")
}

fn field(config: &str, name: &str) -> String {
    let config: Value = serde_json::from_str(config).expect("config is JSON");
    config.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// One call of `run`.
struct Execution {
    server: String,
    token: String,
    task: Task,
    /// Lines and outputs told so far: the cursor.
    told: u32,
    /// Those that the host has already.
    after: u32,
}

impl Execution {
    fn run(self) -> Result<Outcome, Error> {
        let script = self.task.command.last().expect("a command").clone();
        if let Some(kind) = script.lines().find_map(|line| line.strip_prefix("fail before ")) {
            return Err(error(kind));
        }
        self.emit(&[Event::Started(self.task.id.clone())])?;
        if self.server == "https://distrusted" {
            return Err(Error::InvalidArgument("the certificate is not accepted".to_owned()));
        }
        if let Some(kind) = script.lines().find_map(|line| line.strip_prefix("fail unborn ")) {
            return Err(error(kind));
        }
        let description = format!("{:?}", self.task);
        match fs::read_to_string("/outputs/pod") {
            Ok(before) if before != description && self.server != STAGING => {
                return Err(Error::Conflict(self.task.id.clone()));
            }
            Ok(before) if before == description => {}
            _ => {
                history("created");
                fs::write("/outputs/pod", &description).expect("the folder is writable");
                fs::write("/outputs/script", &script).expect("the folder is writable");
            }
        }
        self.steps()
    }

    /// Follow what exists to its end.
    fn steps(mut self) -> Result<Outcome, Error> {
        let script = self.task.command.last().expect("a command").clone();
        self.emit(&[Event::Phase(Phase::Running)])?;
        let mut outcome = Outcome {
            status: Status::Succeeded,
            reason: None,
            retryable: false,
            exit_code: Some(0),
            message: String::new(),
            files: Vec::new(),
            started: Some(1_000),
            finished: Some(2_000),
            details: vec![("pod".to_owned(), self.task.id.clone())],
        };
        for line in script.lines() {
            self.step(line, &mut outcome)?;
            if outcome.status != Status::Succeeded {
                break;
            }
        }
        self.emit(&[Event::Phase(Phase::Collecting)])?;
        host::emit(&[Event::Ended(outcome.clone())], None);
        if self.server == "https://undeletable" {
            let message = "the pod could not be deleted".to_owned();
            let level = Level::Warn;
            host::emit(&[Event::Diagnostic(Diagnostic { level, message })], None);
        } else if !self.task.options.contains(r#""delete":false"#) && fs::remove_file("/outputs/pod").is_ok() {
            history("deleted");
        }
        Ok(outcome)
    }

    fn step(&mut self, line: &str, outcome: &mut Outcome) -> Result<(), Error> {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["set", "-e"] => {}
            ["echo", text] => self.tell(log(text.trim_matches('\'')), outcome)?,
            ["say", count] => {
                for number in 1..=count.parse().expect("a count") {
                    self.tell(log(&format!("line {number}")), outcome)?;
                }
            }
            ["publish", name, value] => {
                let output = Output {
                    name: (*name).to_owned(),
                    value: (*value).to_owned(),
                };
                self.tell(Event::Output(output), outcome)?;
            }
            ["copy", from, to] => {
                let content = fs::read(format!("/inputs/{from}")).expect("the input is staged");
                outcome.files.push(leave(Origin::WorkingDir, to, &content));
            }
            ["keep", text, name] => outcome.files.push(leave(Origin::OutputDir, name, text.as_bytes())),
            ["login", again @ ..] => {
                let token = match host::authenticate(!again.is_empty()) {
                    Some(Credential::BearerToken(token) | Credential::ExecCredential(token)) => token,
                    Some(Credential::ClientCertificate(_)) => "a certificate".to_owned(),
                    None => self.token.clone(),
                };
                note("logins", &token);
            }
            ["part", text] => {
                let mut part = log(text);
                if let Event::Log(line) = &mut part {
                    line.partial = true;
                }
                self.tell(part, outcome)?;
            }
            [word @ ("wait" | "stage")] => {
                if *word == "stage" {
                    self.emit(&[Event::Phase(Phase::Staging)])?;
                }
                while !fs::exists("/outputs/go").expect("the folder is readable") {
                    self.obey(host::emit(&[], None), outcome)?;
                    if outcome.status != Status::Succeeded {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            ["fail", kind] => return Err(error(kind)),
            ["climb"] => outcome.files.push(OutputFile {
                origin: Origin::WorkingDir,
                path: "../../escaped".to_owned(),
                size: 0,
                mode: 0o644,
                sha256: String::new(),
            }),
            ["exit", "0"] => {}
            ["evict", count] => {
                let attempt: u32 = self
                    .task
                    .id
                    .rsplit('.')
                    .next()
                    .and_then(|n| n.parse().ok())
                    .expect("an attempt");
                if attempt <= count.parse().expect("a count") {
                    outcome.status = Status::Lost;
                    outcome.reason = Some("evicted".to_owned());
                    outcome.retryable = true;
                    outcome.exit_code = None;
                }
            }
            ["exit", code] => {
                outcome.status = Status::Failed;
                outcome.reason = Some("exit-code".to_owned());
                outcome.exit_code = Some(code.parse().expect("a code"));
                outcome.message = format!("the script ended with exit code {code}");
            }
            _ => return Err(Error::InvalidArgument(format!("no such word: {line}"))),
        }
        Ok(())
    }

    /// Tell what the cursor counts, unless the host has it already.
    fn tell(&mut self, event: Event, outcome: &mut Outcome) -> Result<(), Error> {
        self.told += 1;
        if self.told > self.after {
            let directive = host::emit(&[event], Some(&self.told.to_string()));
            self.obey(directive, outcome)?;
        }
        Ok(())
    }

    fn emit(&self, events: &[Event]) -> Result<(), Error> {
        match host::emit(events, None) {
            Directive::Detach => Err(Error::Detached(self.task.id.clone())),
            _ => Ok(()),
        }
    }

    fn obey(&self, directive: Directive, outcome: &mut Outcome) -> Result<(), Error> {
        match directive {
            Directive::Proceed => {}
            Directive::Detach => return Err(Error::Detached(self.task.id.clone())),
            Directive::Cancel => {
                outcome.status = Status::Cancelled;
                outcome.message = "cancelled".to_owned();
            }
        }
        Ok(())
    }
}

fn history(what: &str) {
    note("history", what);
}

fn note(file: &str, what: &str) {
    let file = fs::File::options()
        .append(true)
        .create(true)
        .open(format!("/outputs/{file}"));
    writeln!(file.expect("the folder is writable"), "{what}").expect("the folder is writable");
}

fn leave(origin: Origin, name: &str, content: &[u8]) -> OutputFile {
    let folder = match origin {
        Origin::WorkingDir => "work",
        Origin::OutputDir => "out",
    };
    fs::create_dir_all(format!("/outputs/{folder}")).expect("the folder is writable");
    fs::write(format!("/outputs/{folder}/{name}"), content).expect("the folder is writable");
    OutputFile {
        origin,
        path: name.to_owned(),
        size: content.len() as u64,
        mode: 0o640,
        sha256: "0".repeat(64),
    }
}

fn error(kind: &str) -> Error {
    let text = "as the script asked".to_owned();
    match kind {
        "invalid" => Error::InvalidArgument(text),
        "conflict" => Error::Conflict(text),
        "denied" => Error::AccessDenied(text),
        "unavailable" => Error::Unavailable(text),
        _ => Error::Other(text),
    }
}

fn log(message: &str) -> Event {
    Event::Log(LogLine {
        source: Some(LogSource::Stdout),
        level: Level::Info,
        time: 1_000,
        message: message.to_owned(),
        partial: false,
        lossy: false,
    })
}
