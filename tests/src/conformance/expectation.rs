//! What a case expects, as its `expect.yaml` says it. What is left out is not looked at; a key that is unknown is an error.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is expected of a flow.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expectation {
    /// What the flow shows, in a sentence.
    pub about: String,
    /// The flow, from the root of the repository; default: `flow.yaml` in the case's folder.
    pub flow: Option<String>,
    /// The operator's defaults, from the root of the repository; default: `defaults.yaml` in the case's folder, if it is there.
    pub defaults: Option<String>,
    /// Values of inputs; `@name` is the content of a file.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Further arguments of `podrun run`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Variables of `podrun`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Objects of Kubernetes that are there meanwhile.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Who asks the cluster.
    #[serde(default)]
    pub account: Account,
    /// Google Cloud is stood in for, and leads to this cluster.
    #[serde(default)]
    pub google: bool,
    /// A signal that `podrun` gets on its way.
    pub interrupt: Option<Interrupt>,
    /// Values of inputs with which the flow is refused before anything is done.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// `podrun render --server` shows the expected pods, too.
    #[serde(default)]
    pub rendered: bool,
    /// Exit code of the last call.
    #[serde(default)]
    pub exit: i32,
    /// Texts in the warnings and errors of `podrun` itself.
    #[serde(default)]
    pub says: Vec<String>,
    /// State of the execution at its end.
    pub state: Option<String>,
    /// Text in its message.
    pub message: Option<String>,
    /// All values that the flow gives back.
    pub outputs: Option<Map<String, Value>>,
    /// Tasks that did something that is seen, in the order in which they began to. Tasks that only return a value are not seen.
    pub order: Option<Vec<String>>,
    /// Tasks whose `runIf` does not hold.
    #[serde(default)]
    pub skipped: Vec<String>,
    /// Pairs of tasks whose scripts ran at the same time.
    #[serde(default)]
    pub together: Vec<[String; 2]>,
    /// Pairs of tasks whose scripts did not.
    #[serde(default)]
    pub apart: Vec<[String; 2]>,
    /// What is expected of single tasks. In a round of a ForEach a task is named as `--json` names it: `task.0`.
    #[serde(default)]
    pub tasks: BTreeMap<String, TaskExpectation>,
    /// Number of pods that the execution had in all.
    pub pods: Option<usize>,
}

/// Who asks the cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Account {
    /// The account that has the runner's Role and nothing else.
    #[default]
    Runner,
    /// Another one with that Role, where the case is about what it may not do.
    Limited,
    /// One that may also create secrets.
    Secrets,
    /// Nobody: the flow or its defaults say how the cluster is reached.
    None,
}

/// A signal at a moment.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interrupt {
    /// The moment: a script wrote this line.
    pub line: String,
    /// `KILL`, `TERM` or `INT`. After the first two the execution is taken up with `podrun attach`.
    pub signal: String,
    /// Longest time between the signal and the end, in seconds.
    pub within: Option<u64>,
    /// Shortest one.
    pub not_before: Option<u64>,
}

/// A call that is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Values in place of those of the case.
    pub inputs: BTreeMap<String, String>,
    /// Texts in the error.
    pub says: Vec<String>,
}

/// What is expected of a task, in its last attempt.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskExpectation {
    /// How it ended; `succeeded` unless said otherwise, for a task of a pod.
    pub status: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Exit code of its script.
    pub exit_code: Option<i64>,
    /// Text in its message.
    pub message: Option<String>,
    /// Number of its attempts.
    pub attempts: Option<usize>,
    /// Longest wait before each further attempt, in milliseconds; the shortest is half a second less.
    pub waits: Option<Vec<u64>>,
    /// All lines of its log, in order.
    pub lines: Option<Vec<String>>,
    /// Texts, each in one line of its log.
    #[serde(default)]
    pub says: Vec<String>,
    /// All lines of these levels, in order.
    #[serde(default)]
    pub levels: BTreeMap<String, Vec<String>>,
    /// Texts, each in something that the runner had to say.
    #[serde(default)]
    pub diagnostics: Vec<String>,
    /// All values that it published.
    pub vars: Option<Map<String, Value>>,
    /// Its measurements in order, each with at least these fields.
    pub metrics: Option<Vec<Value>>,
    /// The names of all values that it published, where the values are not known before.
    pub var_names: Option<Vec<String>>,
    /// All files that came back, by name, with their content; null where that is not known before.
    pub files: Option<BTreeMap<String, Option<String>>>,
    /// What its last pod has at least, as the API server had it last: see `compare::partial`.
    pub pod: Option<Value>,
    /// Number of its pods.
    pub pods: Option<usize>,
    /// Its pod stays after the end, until `podrun kill`.
    #[serde(default)]
    pub kept: bool,
    /// A pull secret was there while its pod was, and went with it.
    #[serde(default)]
    pub pull_secret: bool,
}

impl Expectation {
    /// Reads the text of an `expect.yaml`.
    ///
    /// # Errors
    /// Names what is unknown or missing, and its place.
    pub fn parse(text: &str) -> Result<Self> {
        let read: Self = serde_saphyr::from_str(text)?;
        if let Some(interrupt) = &read.interrupt
            && !["KILL", "TERM", "INT"].contains(&interrupt.signal.as_str())
        {
            bail!("`interrupt.signal` is `{}`: say KILL, TERM or INT", interrupt.signal);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_an_error_at_every_depth() {
        for text in [
            "about: a\nexits: 1\n",
            "about: a\ntasks: {t: {line: [a]}}\n",
            "about: a\ninterrupt: {line: a, signal: INT, when: now}\n",
            "about: a\nrefused: [{inputs: {}, says: [], exit: 2}]\n",
            "about: a\naccount: admin\n",
            "about: a\ninterrupt: {line: a, signal: HUP}\n",
            "exit: 1\n",
        ] {
            assert!(Expectation::parse(text).is_err(), "{text}");
        }
        let read = Expectation::parse("about: a\ntasks: {t: {exitCode: 3, pod: {spec: {nodeName: null}}}}\n").unwrap();
        assert_eq!((read.exit, read.tasks["t"].exit_code), (0, Some(3)));
    }
}
