//! Flow files: what a flow declares, with every default applied and every property checked.
//!
//! Reading a flow runs nothing and renders nothing. Texts keep their expressions and their places. All mistakes are found
//! at once.

mod inputs;
pub(crate) mod model;
mod names;
mod scripts;
mod tasks;
mod texts;
mod values;

pub(crate) use model::{Code, Flow, InputDeclaration, InputFiles, InputKind, Language, ScriptStep};

use std::path::Path;

use serde_json::json;

use self::model::OutputDeclaration;
pub(crate) use self::tasks::Effective;
use self::tasks::{Reader, Unread};
use self::values::{Ids, pairs};
use crate::defaults::{self, Origin, PluginDefault};
use crate::document::typed;
use crate::document::{Node, Problem, Problems, Value};
use crate::expression::{Renderer, Text};
use crate::types::check::check;
use crate::types::{self, Schemas, input_type};

/// What a flow file says, and every mistake in it.
pub(crate) struct Reading {
    /// Without the tasks that could not be read.
    pub(crate) flow: Flow,
    /// What each task is after defaults.
    pub(crate) tasks: Vec<Effective>,
    pub(crate) problems: Vec<Problem>,
}

impl Reading {
    /// The flow and its tasks, if nothing is wrong with them.
    pub(crate) fn sound(self, file: &Path) -> Result<(Flow, Vec<Effective>), Problems> {
        Problems::or(self.problems, file, (self.flow, self.tasks))
    }
}

/// Read a flow with its own defaults and the operator's.
pub(crate) fn read(file: &Path, text: &str, operator: &[PluginDefault], renderer: &Renderer) -> Result<Flow, Problems> {
    Ok(read_with(&Schemas::new(), file, text, operator, renderer)?
        .sound(file)?
        .0)
}

/// The same, checked against schemas that may also know the task runner, with as much as can be read of what is wrong.
pub(crate) fn read_with(
    schemas: &Schemas,
    file: &Path,
    text: &str,
    operator: &[PluginDefault],
    renderer: &Renderer,
) -> Result<Reading, Problems> {
    let node = crate::document::parse(file, text)?;
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("a flow is a mapping with `id` and `tasks`, not {}", node.kind());
        return Err(Problem::new(&node.place, message).into());
    }
    let mut problems = check(&node, schemas.flow(), schemas, "");
    let mut defaults = match node.get("pluginDefaults") {
        Some(list) => defaults::read(list, Origin::Flow, schemas, &mut problems),
        None => Vec::new(),
    };
    defaults.extend_from_slice(operator);
    let inputs = inputs::read(items(&node, "inputs"), schemas, &mut problems);
    let mut reader = Reader {
        schemas,
        defaults: &defaults,
        ids: Ids::default(),
        problems,
        unread: Unread::default(),
        effective: Vec::new(),
    };
    let tasks = reader.list(items(&node, "tasks"));
    let errors = reader.list(items(&node, "errors"));
    let finally = reader.list(items(&node, "finally"));
    let Reader {
        mut problems,
        unread,
        effective,
        ..
    } = reader;
    let text = |name: &str| node.get(name).and_then(Node::text);
    let flow = Flow {
        // That it is missing has been said.
        id: text("id").unwrap_or_default(),
        namespace: text("namespace").unwrap_or_else(types::flow::default_namespace),
        labels: node.get("labels").map(labels).unwrap_or_default(),
        inputs,
        variables: node.get("variables").cloned(),
        tasks,
        errors,
        finally,
        outputs: outputs(items(&node, "outputs"), &mut problems),
        identity: identity(&node),
    };
    problems.extend(names::check(&flow, items(&node, "inputs"), &unread, renderer));
    Ok(Reading {
        flow,
        tasks: effective,
        problems,
    })
}

/// Read the operator's defaults file.
pub(crate) fn read_defaults(file: &Path, text: &str) -> Result<Vec<PluginDefault>, Problems> {
    let schemas = Schemas::new();
    let node = crate::document::parse(file, text)?;
    if !matches!(node.value, Value::Map(_)) {
        let message = format!(
            "a defaults file is a mapping with `pluginDefaults`, not {}",
            node.kind()
        );
        return Err(Problem::new(&node.place, message).into());
    }
    let mut problems = Vec::new();
    if let Some(schema) = schemas.definition("DefaultsFile") {
        problems.extend(check(&node, schema, &schemas, "the defaults file"));
    }
    let defaults = match node.get("pluginDefaults") {
        Some(list) => defaults::read(list, Origin::Operator, &schemas, &mut problems),
        None => Vec::new(),
    };
    Problems::or(problems, file, defaults)
}

/// The items of a list; none of what is no list, which has been said.
fn items<'a>(node: &'a Node, name: &str) -> &'a [Node] {
    match node.get(name).map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn labels(node: &Node) -> Vec<(String, Text)> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| typed::read::<types::flow::Label>(item, "a label of the flow").ok())
            .map(|label| (label.key, label.value))
            .collect(),
        _ => pairs(node, "labels", "the flow")
            .into_iter()
            .map(|(name, value)| (name.text, value))
            .collect(),
    }
}

fn outputs(nodes: &[Node], problems: &mut Vec<Problem>) -> Vec<OutputDeclaration> {
    let mut ids = Ids::default();
    let mut all = Vec::new();
    for node in nodes {
        problems.extend(ids.add(node, "output"));
        let owner = values::owner(node, "output");
        let Ok(output) = typed::read::<types::flow::Output>(node, &owner) else {
            continue;
        };
        if let Some(kind) = input_type(&output.kind) {
            all.push(OutputDeclaration {
                id: output.id,
                kind: kind.kind,
                value: output.value,
            });
        }
    }
    all
}

/// What the file says as JSON, without credentials: they are rotated while a flow runs, and they must not reach the
/// journal. Those are every task runner's config, and the keys of service accounts.
fn identity(flow: &Node) -> serde_json::Value {
    fn redact(value: &mut serde_json::Value, inside: &str) {
        match value {
            serde_json::Value::Object(map) => {
                for (name, value) in map {
                    let secret = match name.as_str() {
                        "config" | "credentials" => ["taskRunner", "values"].contains(&inside),
                        "serviceAccount" => true,
                        _ => false,
                    };
                    match secret {
                        true => *value = json!("redacted"),
                        false => redact(value, name),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| redact(item, inside)),
            _ => {}
        }
    }
    let mut value = flow.to_json();
    redact(&mut value, "");
    value
}

#[cfg(test)]
mod tests;
