//! Tasks that run other tasks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::Tasks;
use crate::document::Node;
use crate::expression::Text;

/// What tasks that hold one list of tasks have.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Inner {
    /// The tasks.
    #[schemars(length(min = 1))]
    pub(crate) tasks: Tasks,
}

/// What happens after a failure, and in the end.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Ends {
    /// Tasks that run when one of the tasks failed.
    #[serde(default)]
    pub(crate) errors: Tasks,
    /// Tasks that run last, however the others ended.
    #[serde(default)]
    pub(crate) finally: Tasks,
}

/// `io.kestra.plugin.core.flow.Parallel`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Parallel {
    /// How many of the tasks run at once; 0: all of them.
    #[serde(default)]
    pub(crate) concurrent: u32,
}

/// `io.kestra.plugin.core.flow.ForEach`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForEach {
    /// What to go over: a list, or an expression that renders to a list as JSON. The tasks see one value as
    /// `{{ taskrun.value }}`.
    #[schemars(with = "ForEachValues")]
    pub(crate) values: Node,
    /// For how many values the tasks run at once; 0: for all of them.
    #[serde(default = "one")]
    pub(crate) concurrency_limit: u32,
}

fn one() -> u32 {
    1
}

/// A list or an expression for one.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ForEachValues {
    /// The values.
    List(Vec<Node>),
    /// Renders to JSON.
    Expression(String),
}

/// `io.kestra.plugin.core.flow.If`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct If {
    /// What decides: empty, `false`, `0` and `null` mean no.
    pub(crate) condition: Text,
    /// Tasks that run if the condition holds.
    #[schemars(length(min = 1))]
    pub(crate) then: Tasks,
    /// Tasks that run otherwise.
    #[serde(default, rename = "else")]
    pub(crate) otherwise: Tasks,
}

/// `io.kestra.plugin.core.flow.Switch`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Switch {
    /// Which case runs.
    pub(crate) value: Text,
    /// Tasks by the value that they are for.
    #[schemars(with = "Option<BTreeMap<String, Tasks>>")]
    pub(crate) cases: Option<Node>,
    /// Tasks that run if there is no case for the value.
    #[serde(default)]
    pub(crate) defaults: Tasks,
}
