//! Contract cases as data: a task, and how it must end.

use crate::{Ran, Trial, sha256};
use podrun_host::{Origin, Outcome, Status};
use std::{collections::BTreeMap, fmt::Write as _};

/// How a task must end. What is not named is not looked at.
#[derive(Clone, Debug)]
pub struct Expected {
    status: Status,
    reason: Option<&'static str>,
    code: Option<i32>,
    retryable: bool,
    message: Vec<&'static str>,
    lines: Option<Vec<String>>,
    files: Option<BTreeMap<String, Vec<u8>>>,
}

impl Expected {
    /// Exit code 0.
    pub fn succeeded() -> Self {
        Self {
            status: Status::Succeeded,
            reason: None,
            code: Some(0),
            retryable: false,
            message: Vec::new(),
            lines: None,
            files: None,
        }
    }

    /// Failed for this reason, with the program's exit code if it has one.
    pub fn failed(reason: &'static str, code: Option<i32>) -> Self {
        Self {
            status: Status::Failed,
            reason: Some(reason),
            code,
            ..Self::succeeded()
        }
    }

    /// Another status.
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// Another attempt may succeed.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The message says this.
    pub fn says(mut self, text: &'static str) -> Self {
        self.message.push(text);
        self
    }

    /// The log is exactly this.
    pub fn lines<S: ToString>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.lines = Some(lines.into_iter().map(|l| l.to_string()).collect());
        self
    }

    /// The files that come back are exactly these: path (`work/...`, `out/...`) and content.
    pub fn files<C: AsRef<[u8]>>(mut self, files: impl IntoIterator<Item = (&'static str, C)>) -> Self {
        let files = files.into_iter().map(|(p, c)| (p.to_owned(), c.as_ref().to_vec()));
        self.files = Some(files.collect());
        self
    }

    fn problems(&self, trial: &Trial, ran: &Ran) -> String {
        let mut problems = String::new();
        let outcome = match &ran.result {
            Ok(outcome) => outcome,
            Err(error) => return format!("ended with an error: {error}\n"),
        };
        let is = (outcome.status, outcome.reason.as_deref(), outcome.exit_code);
        if is != (self.status, self.reason, self.code) {
            let _ = writeln!(
                problems,
                "ended as {is:?}, not as {:?}",
                (self.status, self.reason, self.code)
            );
        }
        if outcome.retryable != self.retryable {
            let _ = writeln!(problems, "retryable is {}", outcome.retryable);
        }
        for text in self.message.iter().filter(|t| !outcome.message.contains(**t)) {
            let _ = writeln!(problems, "the message does not say `{text}`");
        }
        if let Some(lines) = &self.lines {
            let logged = ran.lines();
            if logged != *lines {
                let _ = writeln!(problems, "the log is {logged:#?}, not {lines:#?}");
            }
        }
        if let Some(files) = &self.files {
            let left = trial.files();
            if left != *files {
                let names = |files: &BTreeMap<String, Vec<u8>>| {
                    let named = files.iter().map(|(p, c)| (p.clone(), c.len(), sha256(c)));
                    named.collect::<Vec<_>>()
                };
                let _ = writeln!(problems, "the files are {:#?}, not {:#?}", names(&left), names(files));
            }
        }
        problems.push_str(&undeclared(trial, outcome));
        if !problems.is_empty() {
            let _ = writeln!(problems, "message: {}", outcome.message);
        }
        problems
    }
}

/// What the outcome says of files must be what lies in the folder.
fn undeclared(trial: &Trial, outcome: &Outcome) -> String {
    let folder = |origin| match origin {
        Origin::WorkingDir => "work",
        Origin::OutputDir => "out",
    };
    let declared: BTreeMap<_, _> = outcome
        .files
        .iter()
        .map(|f| (format!("{}/{}", folder(f.origin), f.path), (f.size, f.sha256.clone())))
        .collect();
    let left: BTreeMap<_, _> = trial
        .files()
        .into_iter()
        .map(|(path, content)| (path, (content.len() as u64, sha256(content))))
        .collect();
    if declared == left {
        String::new()
    } else {
        format!("the outcome names {declared:#?}, in the folder are {left:#?}\n")
    }
}

/// Runs cases at the same time; fails with all that is wrong with all of them. Returns the runs, in order.
pub async fn check<const N: usize>(cases: [(Trial, Expected); N]) -> [Ran; N] {
    let running = cases.map(|(trial, expected)| {
        tokio::spawn(async move {
            let ran = trial.run().await;
            let problems = expected.problems(&trial, &ran);
            (trial.task.id.clone(), problems, ran)
        })
    });
    let mut report = String::new();
    let mut all = Vec::with_capacity(N);
    for case in running {
        let (id, problems, ran) = case.await.unwrap();
        if !problems.is_empty() {
            let _ = writeln!(report, "--- {id}\n{problems}");
        }
        all.push(ran);
    }
    assert!(report.is_empty(), "{report}");
    all.try_into().unwrap()
}
