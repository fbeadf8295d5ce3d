//! What clients and the agent say to each other, and nothing else: no I/O, no clock, no state.
//!
//! Two shapes of a task exist in the field, one nested (`spec.process`, `status.state`) and one flat (`process`,
//! `processStatus`). [`parse`] takes both and yields one [`Desired`], [`answer`] gives both back. Unknown fields are
//! ignored everywhere, so that old agents read what new clients send.

pub mod answer;
mod name;
pub mod parse;
mod state;

pub use name::{Name, NameError};
pub use state::{Moment, Reason, Running, State, Terminated, Waiting};

use serde::{Deserialize, Serialize};

/// A task as a client wants it: valid, in one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// What the task is called; unique among the tasks of an agent.
    pub name: Name,
    /// What is to be run.
    pub spec: Spec,
}

/// What a task runs. In JSON an object with the one field `process` or `container`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Spec {
    /// A process beside the agent, or in the main container.
    Process(Process),
    /// A container in the agent's pod.
    Container(Container),
}

impl Spec {
    /// How long the task may run, in seconds.
    #[must_use]
    pub fn timeout_seconds(&self) -> Option<u64> {
        match self {
            Self::Process(process) => process.timeout_seconds,
            Self::Container(container) => container.timeout_seconds,
        }
    }

    /// How long the task may take to end after TERM, in seconds, where it says so itself.
    #[must_use]
    pub fn grace_seconds(&self) -> Option<u64> {
        match self {
            Self::Process(process) => process.termination_grace_period_seconds,
            Self::Container(container) => container.termination_grace_period_seconds,
        }
    }
}

/// A program with its arguments and surroundings. It is started as it stands, without a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The program and its first arguments; never empty.
    pub command: Vec<String>,
    /// The arguments after those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables that are added to the surroundings; the last of equal names wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Variable>,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How long it may run; without, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How long it may take to end after TERM; without, the agent's `--grace-period`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u64>,
}

impl Process {
    /// The whole argument vector: the command, then the arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.command.iter().chain(&self.args).map(String::as_str)
    }
}

/// A container that the node's runtime runs in the agent's pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The image, as in a pod.
    pub image: String,
    /// Takes the place of the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Takes the place of the image's command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Variables beside the image's own; the last of equal names wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Variable>,
    /// Where the program starts; without, the image's own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Volumes of the agent's pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// How long it may run; without, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How long it may take to end after TERM; without, the agent's `--grace-period`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u64>,
}

/// A variable of a task's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name: not empty, without `=`.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: String,
}

/// A volume of the agent's pod at a place in a task's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The volume's name in the pod.
    pub name: String,
    /// Where it appears in the container.
    pub mount_path: String,
    /// A folder inside the volume that appears instead of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// Whether the task may only read it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}
