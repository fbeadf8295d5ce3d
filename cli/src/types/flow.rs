//! A flow, and a file of defaults.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Identifier, InputReference, Tasks};
use crate::document::Node;
use crate::expression::Text;

/// A flow: tasks, and what they share.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "only its schema is used: what is not wrong in a flow is read whatever else is"
)]
pub(crate) struct Flow {
    /// Names the flow.
    #[schemars(
        with = "String",
        extend("pattern" = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$"),
        extend("patternErrorMessage" = "use up to 100 letters, digits, `.`, `-` and `_`, a letter or digit first")
    )]
    pub(crate) id: String,
    /// What the flow belongs to, for example `company.team`. It is no namespace of Kubernetes.
    #[serde(default = "default_namespace")]
    #[schemars(
        with = "String",
        extend("pattern" = r"^[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9][a-zA-Z0-9_-]*)*$"),
        extend("patternErrorMessage" = "use letters, digits, `-` and `_`, in parts with a `.` in between")
    )]
    pub(crate) namespace: String,
    /// For people.
    pub(crate) description: Option<Node>,
    /// For people: a mapping, or a list of `key` and `value`.
    #[schemars(with = "Option<Labels>")]
    pub(crate) labels: Option<Node>,
    /// Values that whoever runs the flow gives: `podrun run FLOW -i NAME=VALUE`.
    #[serde(default)]
    #[schemars(with = "Vec<InputReference>")]
    pub(crate) inputs: Vec<Node>,
    /// Values for expressions: `{{ vars.NAME }}`. They may hold expressions over inputs.
    #[schemars(with = "Option<BTreeMap<String, Node>>")]
    pub(crate) variables: Option<Node>,
    /// The tasks, run one after the other.
    #[schemars(length(min = 1))]
    pub(crate) tasks: Tasks,
    /// Tasks that run when one of `tasks` failed.
    #[serde(default)]
    pub(crate) errors: Tasks,
    /// Tasks that run last, however the others ended.
    #[serde(default)]
    pub(crate) finally: Tasks,
    /// Values that the flow gives back.
    #[serde(default)]
    #[schemars(with = "Vec<Output>")]
    pub(crate) outputs: Vec<Node>,
    /// Values for every task of a type.
    #[schemars(with = "Option<Vec<PluginDefault>>")]
    pub(crate) plugin_defaults: Option<Node>,
}

/// The namespace of a flow that names none.
pub(crate) fn default_namespace() -> String {
    "default".to_owned()
}

/// Labels, in either form.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum Labels {
    /// By name.
    Map(BTreeMap<String, Text>),
    /// One by one.
    List(Vec<Label>),
}

/// A label.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// Its name.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Text,
}

/// A value that the flow gives back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Output {
    /// Names the value.
    #[schemars(with = "Identifier")]
    pub(crate) id: String,
    /// What the value must be. Text becomes that; what cannot is an error.
    #[serde(rename = "type")]
    #[schemars(with = "super::OutputKind")]
    pub(crate) kind: String,
    /// The value: an expression.
    pub(crate) value: Text,
    /// For people.
    #[expect(dead_code, reason = "for people")]
    pub(crate) display_name: Option<Node>,
    /// For people.
    #[expect(dead_code, reason = "for people")]
    pub(crate) description: Option<Node>,
}

/// Values for every task, or task runner, of a type.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginDefault {
    /// A type, or the beginning of types up to one of their dots: `io.kestra.plugin.scripts` covers
    /// `io.kestra.plugin.scripts.shell.Commands`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// These values beat those of the tasks. Otherwise the tasks' values beat these.
    #[serde(default)]
    pub(crate) forced: bool,
    /// Properties of these tasks.
    #[schemars(with = "BTreeMap<String, Node>")]
    pub(crate) values: Node,
}

/// An operator's file: values for the tasks of every flow.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct DefaultsFile {
    /// Values for every task of a type. They beat the flow's.
    #[schemars(with = "Vec<PluginDefault>")]
    pub(crate) plugin_defaults: Node,
}
