//! Where a task stands: waiting, running or terminated.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A point in time: microseconds since 1970, in answers RFC 3339 with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        let timestamp = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
        write!(formatter, "{timestamp:.3}")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a task waits, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Accepted, about to be started.
    Initialized,
    /// As many tasks as `--max-active-tasks` allows are active.
    Queued,
    /// Ended with exit code 0.
    Succeeded,
    /// Ended with another exit code, or by a signal that the agent did not send.
    Failed,
    /// Stopped because it ran longer than its `timeoutSeconds`.
    TaskTimeout,
    /// Stopped on request.
    Killed,
    /// Could not be started.
    StartFailed,
    /// Its container or its supervisor died before the end was known. It is never run again unasked.
    Lost,
}

/// Where a task stands, in the one form that both shapes show: an object of which one field is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Not started yet.
    Waiting(Waiting),
    /// Under way.
    Running(Running),
    /// Over.
    Terminated(Terminated),
}

/// Why a task has not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// `Initialized` or `Queued`.
    pub reason: Reason,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Since when a task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// When its program was started.
    pub started_at: Moment,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// The program's exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The end in a word.
    pub reason: Reason,
    /// The end in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the program was started, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// When it ended; for a lost task, when that was found.
    pub finished_at: Moment,
}

impl State {
    /// A task that waits, without more to say.
    #[must_use]
    pub fn waiting(reason: Reason) -> Self {
        Self::Waiting(Waiting { reason, message: None })
    }

    /// The state's name as metrics and messages use it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting(_) => "waiting",
            Self::Running(_) => "running",
            Self::Terminated(_) => "terminated",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_rfc_3339_in_utc() {
        assert_eq!(Moment(1_765_965_600_123_456).to_string(), "2025-12-17T10:00:00.123Z");
        assert_eq!(Moment(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Moment(u64::MAX).to_string().len(), "9999-12-30T22:00:00.000Z".len());
    }

    #[test]
    fn states_show_one_field() {
        let waiting = serde_json::to_value(State::waiting(Reason::Initialized)).unwrap();
        assert_eq!(waiting, serde_json::json!({"waiting": {"reason": "Initialized"}}));
        let running = serde_json::to_value(State::Running(Running { started_at: Moment(0) })).unwrap();
        assert_eq!(
            running,
            serde_json::json!({"running": {"startedAt": "1970-01-01T00:00:00.000Z"}})
        );
    }
}
