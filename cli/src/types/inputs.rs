//! Inputs of a flow.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::Identifier;
use crate::document::Node;
use crate::expression::Text;

/// What every input has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Common {
    /// Names the input: `{{ inputs.ID }}`.
    #[schemars(with = "Identifier")]
    pub(crate) id: String,
    /// What the value must be.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "whoever reads the rest has looked at it before")]
    pub(crate) kind: String,
    /// For people.
    #[expect(dead_code, reason = "for people")]
    pub(crate) display_name: Option<Node>,
    /// For people.
    #[expect(dead_code, reason = "for people")]
    pub(crate) description: Option<Node>,
    /// A value must be given, unless there is a default. An optional input that is not given is null.
    #[serde(default = "yes")]
    pub(crate) required: bool,
    /// The value when none is given. May hold expressions over inputs before it; a list or mapping stands for its JSON.
    pub(crate) defaults: Option<Node>,
}

fn yes() -> bool {
    true
}

/// What inputs can have besides, by their type.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Plain {}

/// STRING.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Pattern {
    /// A regular expression that the whole value must match.
    #[schemars(with = "Option<String>", extend("format" = "regex"))]
    pub(crate) validator: Option<Text>,
}

/// INT and FLOAT.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Numbers {
    /// The least value.
    #[schemars(with = "Option<f64>")]
    pub(crate) min: Option<Text>,
    /// The greatest value.
    #[schemars(with = "Option<f64>")]
    pub(crate) max: Option<Text>,
}

/// DURATION.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Lengths {
    /// The shortest.
    #[schemars(with = "Option<super::common::Duration>")]
    pub(crate) min: Option<Text>,
    /// The longest.
    #[schemars(with = "Option<super::common::Duration>")]
    pub(crate) max: Option<Text>,
}

/// DATETIME, DATE and TIME.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Times {
    /// The earliest value, written as values are.
    #[schemars(with = "Option<String>")]
    pub(crate) after: Option<Text>,
    /// The latest value, written as values are.
    #[schemars(with = "Option<String>")]
    pub(crate) before: Option<Text>,
}

/// ENUM, SELECT and MULTISELECT.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Choice {
    /// What can be chosen.
    #[schemars(length(min = 1))]
    pub(crate) values: Vec<Text>,
    /// Other values are fine, too.
    #[serde(default)]
    pub(crate) allow_custom_value: bool,
}

/// ARRAY.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Items {
    /// What each item must be.
    #[schemars(with = "Option<ItemType>")]
    pub(crate) item_type: Option<Text>,
}

/// What an item of an ARRAY, or an output, can be.
#[derive(JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ItemType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Boolean,
    /// A moment, `2026-01-31T12:00:00Z`.
    DateTime,
    /// A day, `2026-01-31`.
    Date,
    /// A time of day, `12:00:00`.
    Time,
    /// An ISO 8601 duration.
    Duration,
    /// Any JSON.
    Json,
    /// A URI.
    Uri,
}
