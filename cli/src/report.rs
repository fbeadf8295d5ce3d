//! What a command has to tell, before anybody decides how it looks. With `--json` each report is one line.

use std::path::PathBuf;

use podrun_host::{Event, Outcome, OutputFile, Status, origin_folder};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::journal::StoredLine;
use crate::names;
use crate::plan::PREPARED;

/// One thing to tell. The names of variants and fields are what `--json` prints, and stay.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum Report {
    /// Always the first report.
    Execution {
        id: String,
        flow: String,
        namespace: String,
        resumed: bool,
        resume: String,
    },
    /// Something that whoever runs the flow should know.
    Warning { message: String },
    /// A task begins, or is taken up.
    Task {
        task: String,
        taskrun: String,
        attempt: u32,
        image: String,
        resumed: bool,
    },
    /// A task whose `runIf` does not hold.
    Skipped { task: String },
    /// Another attempt of a task begins after a while.
    Retry {
        task: String,
        attempt: u32,
        milliseconds: u64,
    },
    /// What a task is doing.
    Phase { task: String, phase: &'static str },
    /// A line that a script wrote.
    Log(Line),
    /// Bytes moved so far.
    Progress {
        task: String,
        what: String,
        done: u64,
        total: Option<u64>,
    },
    /// A value that a script published.
    Output { task: String, name: String, value: Value },
    /// A measurement that a script published.
    Metric { task: String, name: String, value: Value },
    /// Something the runner has to say.
    Diagnostic {
        task: String,
        level: &'static str,
        message: String,
    },
    /// A task ended.
    TaskEnded(Box<TaskEnded>),
    /// Always the last report of an execution that ended.
    ExecutionEnded {
        id: String,
        state: &'static str,
        message: Option<String>,
        /// What the flow gives back.
        outputs: Map<String, Value>,
    },
    /// Always the last report of a command that leaves the task running.
    Detached { id: String, resume: String },
    /// Always the last report of a command that could not do its part.
    Error { message: String, exit_code: u8 },
}

/// A line that a script wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) task: String,
    pub(crate) attempt: u32,
    /// RFC 3339.
    pub(crate) time: String,
    pub(crate) level: String,
    pub(crate) source: Option<String>,
    pub(crate) message: String,
    /// More of the same line follows.
    pub(crate) partial: bool,
    /// Bytes that were not UTF-8 were replaced.
    pub(crate) lossy: bool,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskEnded {
    pub(crate) task: String,
    pub(crate) attempt: u32,
    /// It ended in an earlier call of this execution.
    pub(crate) earlier: bool,
    pub(crate) status: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) retryable: bool,
    pub(crate) exit_code: Option<i32>,
    pub(crate) message: String,
    pub(crate) files: Vec<File>,
    /// RFC 3339.
    pub(crate) started: Option<String>,
    pub(crate) finished: Option<String>,
    /// Milliseconds in each phase.
    pub(crate) phases: Vec<PhaseTime>,
    pub(crate) details: Map<String, Value>,
}

/// A file that came back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    pub(crate) name: String,
    /// `work` or `out`: the directory in the task that it comes from.
    pub(crate) origin: &'static str,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// Where it lies on this machine.
    pub(crate) path: String,
}

/// How long a task was in a phase.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PhaseTime {
    pub(crate) phase: String,
    pub(crate) milliseconds: i64,
}

/// The report of an event, if it is one to tell. Ends are told when everything about them is known.
pub(crate) fn of_event(task: &str, attempt: u32, event: &Event) -> Option<Report> {
    let task = task.to_owned();
    Some(match event {
        Event::Started(_) | Event::Ended(_) => return None,
        Event::Phase(phase) => Report::Phase {
            task,
            phase: names::phase(*phase),
        },
        Event::Log(line) => Report::Log(Line {
            message: shown(&line.message)?.to_owned(),
            task,
            attempt,
            time: time(i64::try_from(line.time).unwrap_or(i64::MAX)),
            level: names::level(line.level).to_owned(),
            source: line.source.map(|source| names::source(source).to_owned()),
            partial: line.partial,
            lossy: line.lossy,
        }),
        Event::Progress(progress) => Report::Progress {
            task,
            what: progress.what.clone(),
            done: progress.done,
            total: progress.total,
        },
        Event::Output(output) => Report::Output {
            task,
            name: output.name.clone(),
            value: value(&output.value),
        },
        Event::Metric(metric) => Report::Metric {
            task,
            name: metric.name.clone(),
            value: value(&metric.value),
        },
        Event::Diagnostic(diagnostic) => Report::Diagnostic {
            task,
            level: names::level(diagnostic.level),
            message: diagnostic.message.clone(),
        },
    })
}

/// What a line tells people; nothing if it only says where `beforeCommands` end.
fn shown(message: &str) -> Option<&str> {
    match message.strip_suffix(PREPARED) {
        Some("") => None,
        Some(rest) => Some(rest),
        None => Some(message),
    }
}

/// The report of a line in the journal, if it is one to tell.
pub(crate) fn of_line(line: StoredLine) -> Option<Line> {
    Some(Line {
        message: shown(&line.message)?.to_owned(),
        task: line.task,
        attempt: line.attempt,
        time: time(line.time),
        level: line.level,
        source: line.source,
        partial: line.partial,
        lossy: line.lossy,
    })
}

/// The report of an outcome. `phases` are names and times of their start, in milliseconds since the Unix epoch; `place`
/// says where a file lies on this machine.
pub(crate) fn of_outcome(
    task: &str,
    attempt: u32,
    earlier: bool,
    outcome: &Outcome,
    phases: &[(String, i64)],
    place: &dyn Fn(&OutputFile) -> PathBuf,
) -> Report {
    let files = outcome.files.iter().map(|file| {
        let origin = origin_folder(file.origin);
        let path = place(file).display().to_string();
        File {
            name: file.path.clone(),
            origin,
            size: file.size,
            sha256: file.sha256.clone(),
            path,
        }
    });
    let stamp = |time: Option<u64>| time.map(|time| self::time(i64::try_from(time).unwrap_or(i64::MAX)));
    let mut times: Vec<PhaseTime> = Vec::new();
    for ((phase, start), (_, end)) in phases.iter().zip(phases.iter().skip(1)) {
        let milliseconds = (end - start).max(0);
        match times.iter_mut().find(|time| time.phase == *phase) {
            Some(time) => time.milliseconds += milliseconds,
            None => times.push(PhaseTime {
                phase: phase.clone(),
                milliseconds,
            }),
        }
    }
    Report::TaskEnded(Box::new(TaskEnded {
        task: task.to_owned(),
        attempt,
        earlier,
        status: names::status(outcome.status),
        reason: outcome.reason.clone(),
        retryable: outcome.retryable,
        exit_code: outcome.exit_code,
        message: outcome.message.clone(),
        files: files.collect(),
        started: stamp(outcome.started),
        finished: stamp(outcome.finished),
        phases: times,
        details: outcome
            .details
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect(),
    }))
}

/// True if the tasks after this one may run.
pub(crate) fn is_success(outcome: &Outcome) -> bool {
    outcome.status == Status::Succeeded
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

/// RFC 3339 with milliseconds.
pub(crate) fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| format!("{time:.3}"))
}
