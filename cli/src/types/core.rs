//! Tasks that `podrun` does itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::script::OneOrMany;
use crate::document::Node;
use crate::expression::Text;

/// `io.kestra.plugin.core.log.Log`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Log {
    /// A line for the execution's log, or several.
    #[schemars(with = "OneOrMany")]
    pub(crate) message: Node,
    /// How much the lines matter.
    #[serde(default)]
    pub(crate) level: Level,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    /// Every detail.
    Trace,
    /// Details.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// Something went wrong, and the flow goes on.
    Warn,
    /// Something failed.
    Error,
}

impl From<Level> for podrun_host::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// `io.kestra.plugin.core.debug.Return`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Return {
    /// The value, which later tasks see as `{{ outputs.ID.value }}`.
    pub(crate) format: Text,
}

/// `io.kestra.plugin.core.execution.Fail`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fail {
    /// The flow fails only if this renders to something other than empty, `false`, `0` and `null`. Default: it fails.
    pub(crate) condition: Option<Text>,
    /// What the failure says.
    pub(crate) error_message: Option<Text>,
}
