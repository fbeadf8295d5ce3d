//! What the agent answers: every task in both shapes, and errors.

use serde::Serialize;

use super::{Container, Moment, Name, Process, Spec, State};

/// A task with its status, in both shapes at once.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task<'a> {
    name: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<Moment>,
    created_at: Moment,
    spec: &'a Spec,
    status: Status<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<&'a Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a Container>,
    process_status: &'a State,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    state: &'a State,
}

impl<'a> Task<'a> {
    /// Both views of a task.
    #[must_use]
    pub fn new(name: &'a Name, spec: &'a Spec, state: &'a State, created_at: Moment, deleting: Option<Moment>) -> Self {
        let (process, container) = match spec {
            Spec::Process(process) => (Some(process), None),
            Spec::Container(container) => (None, Some(container)),
        };
        Self {
            name,
            deletion_timestamp: deleting,
            created_at,
            spec,
            status: Status { state },
            process,
            container,
            process_status: state,
        }
    }
}

/// The answer of `GET /tasks`: what a long poll waits for.
#[derive(Debug, Serialize)]
pub struct Listing<'a> {
    /// Give it as `since` to hear of what changes after this answer.
    pub version: u64,
    /// All tasks, the oldest first.
    pub tasks: Vec<Task<'a>>,
}

/// Why a request was refused.
#[derive(Debug, Serialize)]
pub struct Refusal<'a> {
    /// The text of the HTTP status.
    pub code: &'a str,
    /// What is wrong, and the cure.
    pub message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::super::{Reason, Terminated};
    use super::*;

    #[test]
    fn answers_hold_both_views() {
        let name = Name::try_from("t".to_owned()).unwrap();
        let spec = Spec::Process(Process {
            command: vec!["true".to_owned()],
            ..Process::default()
        });
        let state = State::Terminated(Terminated {
            exit_code: 143,
            signal: Some(15),
            reason: Reason::Killed,
            message: None,
            started_at: Some(Moment(1_000_000)),
            finished_at: Moment(2_000_000),
        });
        let answer = Task::new(&name, &spec, &state, Moment(0), Some(Moment(1_500_000)));
        let terminated = serde_json::json!({"terminated": {
            "exitCode": 143, "signal": 15, "reason": "Killed",
            "startedAt": "1970-01-01T00:00:01.000Z", "finishedAt": "1970-01-01T00:00:02.000Z",
        }});
        assert_eq!(
            serde_json::to_value(answer).unwrap(),
            serde_json::json!({
                "name": "t",
                "deletionTimestamp": "1970-01-01T00:00:01.500Z",
                "createdAt": "1970-01-01T00:00:00.000Z",
                "spec": {"process": {"command": ["true"]}},
                "status": {"state": terminated},
                "process": {"command": ["true"]},
                "processStatus": terminated,
            })
        );
    }
}
