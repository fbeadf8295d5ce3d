//! What every task can have.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::borrow::Cow;

use crate::document::Node;
use crate::expression::Text;

/// What every task can have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Common {
    /// Names the task, for expressions and for people. Unique in the flow, at whatever depth.
    #[schemars(with = "Identifier")]
    pub(crate) id: String,
    /// What the task does: decides which other properties it has.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "whoever reads the rest has looked at it before")]
    pub(crate) kind: String,
    /// For people.
    #[expect(dead_code, reason = "for people")]
    pub(crate) description: Option<Node>,
    /// The task does not run, and later expressions do not see it.
    #[serde(default)]
    pub(crate) disabled: bool,
    /// The task runs only if this renders to true; else it counts as skipped. An expression, for example
    /// `{{ inputs.deploy }}`.
    pub(crate) run_if: Option<Text>,
    /// A failure leaves a warning, and what follows runs.
    #[serde(default)]
    pub(crate) allow_failure: bool,
}

/// What tasks can have that take time and may fail by themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempts {
    /// When the task is tried again after a failure, as a new attempt. Attempts that the cluster lost (an evicted pod, a lost
    /// node) are tried again too: they do not count as `maxAttempts`, and there are at most 5 of them.
    pub(crate) retry: Option<Retry>,
    /// How long one attempt may take, an ISO 8601 duration. The script is stopped when it is over, and its files come back.
    #[schemars(with = "Option<RenderedDuration>")]
    pub(crate) timeout: Option<Text>,
}

/// When a task that failed is tried again. The attempts are limited by `maxAttempts` and `maxDuration`; without either
/// they are not limited.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Retry {
    /// How the wait before the next attempt is chosen: `constant` waits `interval`, `exponential` waits `interval` times
    /// `delayFactor` to the power of the attempts so far and at most `maxInterval`, `random` waits between `minInterval` and
    /// `maxInterval`.
    #[serde(rename = "type")]
    pub(crate) kind: RetryKind,
    /// The wait of `constant`, the first one of `exponential`.
    pub(crate) interval: Option<Duration>,
    /// The longest wait of `exponential` and `random`.
    pub(crate) max_interval: Option<Duration>,
    /// The shortest wait of `random`.
    pub(crate) min_interval: Option<Duration>,
    /// What each wait of `exponential` is multiplied with.
    #[serde(default = "two")]
    pub(crate) delay_factor: f64,
    /// Attempts in all, the first included.
    #[schemars(range(min = 1))]
    pub(crate) max_attempts: Option<u32>,
    /// The older name of `maxAttempts`, which wins.
    #[schemars(range(min = 1), extend("deprecated" = true))]
    pub(crate) max_attempt: Option<u32>,
    /// No attempt begins so long after the first one began.
    pub(crate) max_duration: Option<Duration>,
    /// A warning says so when an attempt failed and another follows.
    #[serde(default)]
    pub(crate) warning_on_retry: bool,
    /// What is tried again.
    #[serde(default)]
    #[expect(dead_code, reason = "there is one")]
    pub(crate) behavior: Behavior,
}

fn two() -> f64 {
    2.0
}

/// How waits are chosen.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RetryKind {
    /// Always the same.
    Constant,
    /// Longer each time.
    Exponential,
    /// At random.
    Random,
}

/// What is tried again.
#[derive(Clone, Copy, Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Behavior {
    /// The task.
    #[default]
    RetryFailedTask,
}

/// The id of a task, an input or an output, for the schema.
pub(crate) struct Identifier;

impl JsonSchema for Identifier {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Identifier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_-]{0,99}$",
            "patternErrorMessage": "use up to 100 letters, digits, `-` and `_`, a letter or digit first",
        })
    }
}

/// An ISO 8601 duration, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Duration(pub(crate) u64);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        milliseconds(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not an ISO 8601 duration of fixed length, such as `PT5M`"))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "duration",
            "pattern": "^[Pp][^{]+$",
            "patternErrorMessage": DURATION_FORM,
        })
    }
}

/// How a duration is written.
pub(crate) const DURATION_FORM: &str = "write an ISO 8601 duration such as `PT5M` or `PT1H30M`";

/// An ISO 8601 duration, or an expression for one.
pub(crate) struct RenderedDuration;

impl JsonSchema for RenderedDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RenderedDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}

/// The length of an ISO 8601 duration whose days have 24 hours; none for other texts, and for months and years.
pub(crate) fn milliseconds(text: &str) -> Option<u64> {
    // The parser also knows a form for people, `5 min`; other readers of flows do not.
    let text = Some(text.trim()).filter(|text| text.starts_with(['P', 'p']))?;
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

impl JsonSchema for Text {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "number", "boolean"]})
    }
}

impl JsonSchema for Node {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Any".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

/// Where an item of a list that the reader goes through itself is described.
macro_rules! reference {
    ($(#[$doc:meta])* $name:ident, $to:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"$ref": concat!("#/$defs/", $to)})
            }
        }
    };
}

reference!(
    /// A task of any type.
    TaskReference,
    "Task"
);
reference!(
    /// An input of any type.
    InputReference,
    "Input"
);
reference!(
    /// A task runner.
    RunnerReference,
    "TaskRunner"
);

/// A list of tasks, each described on its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tasks(pub(crate) Vec<Node>);

impl JsonSchema for Tasks {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tasks".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<TaskReference>()})
    }
}
