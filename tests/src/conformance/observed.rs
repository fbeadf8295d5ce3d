//! What a case did, as far as it is looked at from outside.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

/// All that was seen of an execution.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Exit code of the last call; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard error of all calls.
    pub error: String,
    /// What `--json` printed, call after call.
    pub reports: Vec<Value>,
    /// The log of all tasks, every line once.
    pub lines: Vec<Line>,
    /// The pods of the execution, the oldest first, each with the name of its task: see [`super::Seen`].
    pub pods: Vec<(String, super::Seen)>,
    /// Pull secrets in the execution's namespace.
    pub secrets: Vec<super::Seen>,
    /// Seconds between the signal and the end of the call that got it.
    pub after_signal: Option<f64>,
}

/// A line of the log.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Whose script wrote it.
    pub task: String,
    /// In which attempt.
    pub attempt: u32,
    /// `info` and so on.
    pub level: String,
    /// The line.
    pub message: String,
}

/// How an attempt of a task ended.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The task.
    pub task: String,
    /// Which attempt.
    pub attempt: u32,
    /// How it ended.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// Exit code of the script.
    pub exit_code: Option<i64>,
    /// In words.
    pub message: String,
    /// What came back.
    pub files: Vec<File>,
    /// When the script started, RFC 3339.
    pub started: Option<String>,
    /// When it ended.
    pub finished: Option<String>,
}

/// A file that came back.
#[derive(Clone, Debug, Deserialize)]
pub struct File {
    /// Its name in the task.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl Observed {
    /// The reports of one type.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.reports.iter().filter(move |report| report["type"] == kind)
    }

    /// The attempts of a task that ended, in order. What an earlier call told already is not told twice.
    pub fn ended(&self, task: &str) -> Vec<Ended> {
        let mut all: Vec<Ended> = Vec::new();
        for report in self.of("task-ended").filter(|report| report["task"] == task) {
            if let Ok(ended) = serde_json::from_value::<Ended>(report.clone()) {
                all.retain(|known| known.attempt != ended.attempt);
                all.push(ended);
            }
        }
        all
    }

    /// What a task of the last attempt wrote.
    pub fn lines(&self, task: &str) -> Vec<&Line> {
        let last = self
            .lines
            .iter()
            .filter(|line| line.task == task)
            .map(|line| line.attempt)
            .max();
        let of_last = |line: &&Line| line.task == task && Some(line.attempt) == last;
        self.lines.iter().filter(of_last).collect()
    }

    /// The values that a task published.
    pub fn vars(&self, task: &str) -> Map<String, Value> {
        let outputs = self.of("output").filter(|report| report["task"] == task);
        outputs
            .filter_map(|report| Some((report["name"].as_str()?.to_owned(), report["value"].clone())))
            .collect()
    }

    /// Tasks in the order in which they were first seen.
    pub fn order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let seen = ["task", "log", "task-ended"];
        for report in &self.reports {
            if let (Some(kind), Some(task)) = (report["type"].as_str(), report["task"].as_str())
                && seen.contains(&kind)
                && !order.iter().any(|known| known == task)
            {
                order.push(task.to_owned());
            }
        }
        order
    }
}
