//! What each property of a task is in the end, and who said so. Pure: it renders nothing and asks nobody.
//!
//! Values of `config` and whatever is called like a secret are never shown.

use serde_json::{Value as Json, json};

use crate::document::typed::below;
use crate::document::{Layer, Node, Value};
use crate::flow::Effective;
use crate::types::Schemas;

/// One value of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Explained {
    /// The path of the property in the task.
    pub(crate) property: String,
    /// None if it must not be shown.
    pub(crate) value: Option<Json>,
    pub(crate) layer: Layer,
    /// File, line and column, if it was written.
    pub(crate) place: Option<(String, u64, u64)>,
}

/// Properties that hold tasks, which are explained on their own.
const TASKS: [&str; 7] = ["tasks", "then", "else", "cases", "defaults", "errors", "finally"];

/// Parts of names whose values are not shown.
const SECRETS: [&str; 7] = [
    "password",
    "passphrase",
    "token",
    "secret",
    "credential",
    "apikey",
    "private",
];

/// Every value of a task, in the order of the properties' names.
pub(crate) fn explain(task: &Effective, schemas: &Schemas) -> Vec<Explained> {
    let mut all = Vec::new();
    if let Some(schema) = schemas.definition(task.kind) {
        properties(&task.node, schema, schemas, "", &mut all);
    }
    all.retain(|explained| !TASKS.contains(&explained.property.as_str()));
    all
}

/// The properties of a mapping: those that are set, and those that have a default.
fn properties(node: &Node, schema: &Json, schemas: &Schemas, path: &str, all: &mut Vec<Explained>) {
    let schema = resolved(schema, schemas);
    let known = schema.get("properties").and_then(Json::as_object);
    let mut names: Vec<&str> = known
        .into_iter()
        .flat_map(|known| known.keys().map(String::as_str))
        .collect();
    names.extend(node.entries().iter().map(|(key, _)| key.name.as_str()));
    names.sort_unstable();
    names.dedup();
    for name in names {
        let path = below(path, name);
        let schema = known.and_then(|known| known.get(name)).unwrap_or(&Json::Null);
        let entry = node
            .entries()
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, value)| value);
        match entry {
            Some(value) if value.is_null() => all.push(written(path, value)),
            Some(value) if matches!(value.value, Value::Map(_)) && !value.entries().is_empty() => {
                properties(value, schema, schemas, &path, all);
            }
            Some(value) => all.push(written(path, value)),
            None => built_in(&path, schema, schemas, all),
        }
    }
}

fn written(property: String, node: &Node) -> Explained {
    let (line, column) = node.place.position();
    let value = (!is_secret(&property)).then(|| node.to_json());
    Explained {
        value,
        layer: node.place.layer(),
        place: (line > 0).then(|| (node.place.file().to_owned(), line, column)),
        property,
    }
}

/// The defaults that the types themselves have.
fn built_in(path: &str, schema: &Json, schemas: &Schemas, all: &mut Vec<Explained>) {
    let target = resolved(schema, schemas);
    let default = schema.get("default").or_else(|| target.get("default"));
    match default {
        Some(Json::Null) => {}
        Some(Json::Array(items)) if items.is_empty() => {}
        Some(Json::Object(map)) => {
            for (name, value) in map {
                let schema = json!({"default": value});
                built_in(&below(path, name), &schema, schemas, all);
            }
        }
        Some(value) => all.push(Explained {
            property: path.to_owned(),
            value: Some(value.clone()),
            layer: Layer::BuiltIn,
            place: None,
        }),
        // A runner has defaults even where the task says nothing about it.
        None if path == "taskRunner" => properties(&Node::built_in(Value::Map(Vec::new())), target, schemas, path, all),
        None => {}
    }
}

/// What a schema refers to, be it as one of several.
fn resolved<'a>(schema: &'a Json, schemas: &'a Schemas) -> &'a Json {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        return schemas.resolve(reference).unwrap_or(schema);
    }
    let branches = schema.get("anyOf").and_then(Json::as_array);
    let reference = branches.and_then(|branches| branches.iter().find(|branch| branch.get("$ref").is_some()));
    match reference {
        Some(branch) => resolved(branch, schemas),
        None => schema,
    }
}

/// True if the value of this property must not be shown.
fn is_secret(property: &str) -> bool {
    if property == "taskRunner.config" || property.starts_with("taskRunner.config.") {
        return true;
    }
    let last = property.rsplit('.').next().unwrap_or(property);
    let name: String = last.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    SECRETS.iter().any(|secret| name.contains(secret)) || ["auth", "serviceaccount", "key"].contains(&name.as_str())
}

impl Explained {
    /// Who said it, for people.
    pub(crate) fn source(&self) -> String {
        let place = match &self.place {
            Some((file, line, column)) => format!(" {file}:{line}:{column}"),
            None => String::new(),
        };
        let forced = |forced: bool| if forced { ", forced" } else { "" };
        match self.layer {
            Layer::Itself => format!("task{place}"),
            Layer::FlowDefault { forced: f } => format!("flow's default{}{place}", forced(f)),
            Layer::OperatorDefault { forced: f } => format!("operator's default{}{place}", forced(f)),
            Layer::BuiltIn => "built-in".to_owned(),
        }
    }

    /// The value on one line, for people.
    pub(crate) fn shown(&self) -> String {
        let text = match &self.value {
            None => return "(not shown)".to_owned(),
            Some(Json::Null) => return "(unset)".to_owned(),
            Some(Json::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let line = text.lines().next().unwrap_or_default();
        match (line.char_indices().nth(60), line.len() < text.trim_end().len()) {
            (Some((end, _)), _) => format!("{}…", line.get(..end).unwrap_or(line)),
            (None, true) => format!("{line} …"),
            (None, false) => line.to_owned(),
        }
    }

    /// One line of `--json`.
    pub(crate) fn json(&self, task: &str) -> Json {
        let (source, forced) = match self.layer {
            Layer::Itself => ("task", false),
            Layer::FlowDefault { forced } => ("flow-default", forced),
            Layer::OperatorDefault { forced } => ("operator-default", forced),
            Layer::BuiltIn => ("built-in", false),
        };
        let mut line = json!({
            "type": "value",
            "task": task,
            "property": self.property,
            "value": self.value,
            "redacted": self.value.is_none(),
            "source": source,
            "forced": forced,
        });
        if let (Some(map), Some((file, number, column))) = (line.as_object_mut(), &self.place) {
            map.insert("file".to_owned(), json!(file));
            map.insert("line".to_owned(), json!(number));
            map.insert("column".to_owned(), json!(column));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::expression::Renderer;
    use crate::flow;

    #[test]
    fn each_value_says_where_it_comes_from() {
        let operator = "
pluginDefaults:
  - type: io.kestra.plugin.scripts
    forced: true
    values: {taskRunner: {namespace: jobs, config: {masterUrl: 'https://x', oauthToken: s3cret}}}";
        let text = "
id: f
tasks:
  - id: t
    type: io.kestra.plugin.scripts.shell.Commands
    commands: [a, b]
    timeout:
    env: {A: x, API_TOKEN: s3cret}
    taskRunner: {namespace: mine, config: {masterUrl: placeholder, clientKeyData: s3cret}}
pluginDefaults:
  - type: io.kestra.plugin.scripts.shell
    values: {containerImage: busybox, timeout: PT1M}
  - {type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes, forced: true, values: {namespace: other, delete: false}}";
        let schemas = Schemas::new();
        let operator = flow::read_defaults(Path::new("operator.yaml"), operator).unwrap();
        let renderer = Renderer::new().unwrap();
        let tasks = flow::read_with(&schemas, Path::new("flow.yaml"), text, &operator, &renderer)
            .unwrap()
            .tasks;
        let lines: Vec<String> = explain(&tasks[0], &schemas)
            .iter()
            .map(|explained| {
                format!(
                    "{} = {} [{}]",
                    explained.property,
                    explained.shown(),
                    explained.source()
                )
            })
            .collect();
        let lines = lines.join("\n");
        assert!(!lines.contains("s3cret"));
        insta::assert_snapshot!(lines, @r#"
        allowFailure = false [built-in]
        commands = ["a","b"] [task flow.yaml:6:15]
        containerImage = busybox [flow's default flow.yaml:12:30]
        disabled = false [built-in]
        env.A = x [task flow.yaml:8:14]
        env.API_TOKEN = (not shown) [task flow.yaml:8:28]
        failFast = true [built-in]
        id = t [task flow.yaml:4:9]
        interpreter = ["/bin/sh","-c"] [built-in]
        targetOS = AUTO [built-in]
        taskRunner.config.masterUrl = (not shown) [operator's default, forced operator.yaml:5:64]
        taskRunner.config.oauthToken = (not shown) [operator's default, forced operator.yaml:5:89]
        taskRunner.delete = false [flow's default, forced flow.yaml:13:111]
        taskRunner.namespace = jobs [operator's default, forced operator.yaml:5:38]
        timeout = (unset) [task flow.yaml:7:12]
        type = io.kestra.plugin.scripts.shell.Commands [task flow.yaml:5:11]
        "#);
    }
}
