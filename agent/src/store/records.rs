//! What the files in a task's folder hold. Unknown fields are ignored, so that old programs read what new ones wrote.

use serde::{Deserialize, Serialize};

use crate::protocol::{Moment, Name, Reason, Spec, Terminated};

/// The version that this program writes.
pub const FORMAT: u32 = 1;

/// What was asked for. Written once by the agent; the folder does not exist without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Version of the record.
    pub format: u32,
    /// The task's name.
    pub name: Name,
    /// What it runs.
    pub spec: Spec,
    /// When it was accepted.
    #[serde(with = "micros")]
    pub created_at: Moment,
    /// In which run of the machine it was to be started at once. In another one it is never started, so that its claim
    /// need not survive the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// The right to start the task, taken once and for ever by whoever creates this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Who took it.
    pub supervisor: Identity,
    /// When.
    #[serde(with = "micros")]
    pub claimed_at: Moment,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number in its PID namespace.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
    /// Which run of the machine that was.
    pub boot_id: String,
    /// Which PID namespace the number is from.
    pub pid_namespace: u64,
}

/// A container is about to be started, for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Starting {
    /// When.
    #[serde(with = "micros")]
    pub starting_at: Moment,
}

/// The task's program was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// When.
    #[serde(with = "micros")]
    pub started_at: Moment,
    /// The program's process; a container has none that the agent knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Identity>,
    /// Its cgroup, where it has one of its own: a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// How the task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The program's exit code; 128 + n after signal n.
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The end in a word.
    pub reason: Reason,
    /// The end in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the program was started, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_micros")]
    pub started_at: Option<Moment>,
    /// When it ended.
    #[serde(with = "micros")]
    pub finished_at: Moment,
}

impl From<Ended> for Terminated {
    fn from(ended: Ended) -> Self {
        Self {
            exit_code: ended.exit_code,
            signal: ended.signal,
            reason: ended.reason,
            message: ended.message,
            started_at: ended.started_at,
            finished_at: ended.finished_at,
        }
    }
}

/// Somebody wants the task to stop. From then on it is never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// When that was asked for.
    #[serde(with = "micros")]
    pub requested_at: Moment,
    /// How long the task may take to end after TERM, in milliseconds.
    pub grace_ms: u64,
    /// Whether its state goes too, once it has ended.
    pub delete: bool,
}

/// Moments as whole microseconds.
mod micros {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::protocol::Moment;

    pub(super) fn serialize<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(moment.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        u64::deserialize(deserializer).map(Moment)
    }
}

/// Moments that may be missing.
mod optional_micros {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::protocol::Moment;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(moment: &Option<Moment>, serializer: S) -> Result<S::Ok, S::Error> {
        moment.map(|moment| moment.0).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Moment>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Moment))
    }
}
