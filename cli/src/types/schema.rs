//! The JSON Schema of flows, assembled from the types.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::registry::{InputType, TaskKind, TaskType, input_type, input_type_names, task_types};
use super::{common, control, core, flow, google, inputs, script};
use crate::flow::InputKind;

/// The schemas of everything that a flow may hold, with shared definitions.
#[derive(Clone, Debug)]
pub(crate) struct Schemas {
    /// The schema of a flow; its `$defs` hold everything else.
    root: Value,
}

/// Names that a task runner knows.
pub(crate) struct RunnerNames<'a> {
    pub(crate) properties: Vec<&'a str>,
    /// Those that it refuses, and says what to use instead.
    pub(crate) refused: Vec<&'a str>,
}

/// Makes the schema of one of the parts that a type is put together from.
type Part = fn(&mut SchemaGenerator) -> Schema;

impl Schemas {
    /// The schemas without what a task runner says about itself: any option and any config passes.
    pub(crate) fn new() -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut definitions = Map::new();
        let mut tasks = Vec::new();
        for task in task_types() {
            let mut schema = put_together(&mut generator, &parts(task.kind));
            describe(&mut schema, &task.name, &task.summary);
            set_type(
                &mut schema,
                std::iter::once(task.name.as_str()).chain(task.aliases.iter().copied()),
            );
            definitions.insert(task.name.clone(), schema);
            tasks.push((task_names(task), task.name.clone()));
        }
        definitions.insert("Task".to_owned(), any_of_types("A task.", tasks));
        let mut kinds = Vec::new();
        for name in input_type_names() {
            let Some(InputType { kind, summary, .. }) = input_type(name) else {
                continue;
            };
            let mut schema = put_together(&mut generator, &[part::<inputs::Common>(), input_part(kind)]);
            describe(&mut schema, name, summary);
            set_type(&mut schema, [name].into_iter());
            definitions.insert(format!("Input.{name}"), schema);
            kinds.push((vec![name.to_owned()], format!("Input.{name}")));
        }
        definitions.insert("Input".to_owned(), any_of_types("An input.", kinds));
        let runner = script::TaskRunner::json_schema(&mut generator).to_value();
        definitions.insert("TaskRunner".to_owned(), runner);
        let provider = script::TokenProvider::json_schema(&mut generator).to_value();
        definitions.insert("TokenProvider".to_owned(), provider);
        let defaults = flow::DefaultsFile::json_schema(&mut generator).to_value();
        definitions.insert("DefaultsFile".to_owned(), defaults);
        let mut root = flow::Flow::json_schema(&mut generator).to_value();
        for (name, schema) in generator.take_definitions(true) {
            definitions.entry(name).or_insert(schema);
        }
        if let Some(root) = root.as_object_mut() {
            root.insert(
                "$schema".to_owned(),
                json!("https://json-schema.org/draft/2020-12/schema"),
            );
            root.insert("title".to_owned(), json!("Podrun flow"));
            root.insert("$defs".to_owned(), Value::Object(definitions));
        }
        Self { root }
    }

    /// The schema of a flow.
    pub(crate) fn flow(&self) -> &Value {
        &self.root
    }

    /// The schema of an operator's defaults file.
    pub(crate) fn of_defaults(&self) -> Value {
        let mut schema = self.definition("DefaultsFile").cloned().unwrap_or_default();
        if let Some(map) = schema.as_object_mut() {
            for name in ["$schema", "$defs"] {
                map.insert(name.to_owned(), self.root.get(name).cloned().unwrap_or_default());
            }
            map.insert("title".to_owned(), json!("Podrun defaults"));
        }
        schema
    }

    /// A definition that others refer to as `#/$defs/NAME`.
    pub(crate) fn definition(&self, name: &str) -> Option<&Value> {
        self.root.get("$defs")?.get(name)
    }

    /// Add or replace a definition.
    pub(super) fn define(&mut self, name: &str, schema: Value) {
        if let Some(definitions) = self.root.get_mut("$defs").and_then(Value::as_object_mut) {
            definitions.insert(name.to_owned(), schema);
        }
    }

    /// What a `$ref` stands for.
    pub(crate) fn resolve(&self, reference: &str) -> Option<&Value> {
        self.definition(reference.strip_prefix("#/$defs/")?)
    }

    /// What the task runner has; none while no runner has said so.
    pub(crate) fn of_runner(&self) -> Option<RunnerNames<'_>> {
        let runner = self.definition("TaskRunner")?;
        if runner.get("additionalProperties") != Some(&json!(false)) {
            return None;
        }
        let names = |of: &str| -> Vec<&str> {
            let names = runner.get(of).and_then(Value::as_object);
            names
                .map(|names| names.keys().map(String::as_str).collect())
                .unwrap_or_default()
        };
        Some(RunnerNames {
            properties: names("properties"),
            refused: names("refused"),
        })
    }

    /// The names of the properties of a definition.
    pub(crate) fn properties(&self, definition: &str) -> Vec<&str> {
        self.definition(definition)
            .and_then(|schema| schema.get("properties")?.as_object())
            .map(|properties| properties.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }
}

fn part<T: JsonSchema>() -> Part {
    T::json_schema
}

/// What a type of task is put together from.
fn parts(kind: TaskKind) -> Vec<Part> {
    let attempts = part::<common::Attempts>();
    let mut parts = vec![part::<common::Common>()];
    parts.extend(match kind {
        TaskKind::Commands(_) => vec![attempts, part::<script::Commands>(), part::<script::Pod>()],
        TaskKind::Script(_) => vec![attempts, part::<script::Script>(), part::<script::Pod>()],
        TaskKind::Parallel => vec![
            part::<control::Parallel>(),
            part::<control::Inner>(),
            part::<control::Ends>(),
        ],
        TaskKind::Sequential => vec![part::<control::Inner>(), part::<control::Ends>()],
        TaskKind::ForEach => vec![
            part::<control::ForEach>(),
            part::<control::Inner>(),
            part::<control::Ends>(),
        ],
        TaskKind::If => vec![part::<control::If>(), part::<control::Ends>()],
        TaskKind::Switch => vec![part::<control::Switch>(), part::<control::Ends>()],
        TaskKind::Log => vec![part::<core::Log>()],
        TaskKind::Return => vec![part::<core::Return>()],
        TaskKind::Fail => vec![part::<core::Fail>()],
        TaskKind::GkeCluster => vec![attempts, part::<google::Cluster>(), part::<google::Auth>()],
        TaskKind::OauthToken => vec![attempts, part::<google::Auth>()],
    });
    parts
}

/// What a type of input has besides.
fn input_part(kind: InputKind) -> Part {
    match kind {
        InputKind::String => part::<inputs::Pattern>(),
        InputKind::Int | InputKind::Float => part::<inputs::Numbers>(),
        InputKind::DateTime | InputKind::Date | InputKind::Time => part::<inputs::Times>(),
        InputKind::Duration => part::<inputs::Lengths>(),
        InputKind::Select | InputKind::MultiSelect => part::<inputs::Choice>(),
        InputKind::Array => part::<inputs::Items>(),
        InputKind::Boolean | InputKind::File | InputKind::Json | InputKind::Yaml | InputKind::Uri => {
            part::<inputs::Plain>()
        }
    }
}

/// One object with the properties of all parts, and no others.
fn put_together(generator: &mut SchemaGenerator, parts: &[Part]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for part in parts {
        let mut schema = part(generator).to_value();
        if let Some(Value::Object(more)) = schema.get_mut("properties").map(Value::take) {
            properties.extend(more);
        }
        if let Some(Value::Array(more)) = schema.get_mut("required").map(Value::take) {
            required.extend(more);
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn describe(schema: &mut Value, title: &str, description: &str) {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), json!(title));
        schema.insert("description".to_owned(), json!(description));
    }
}

fn set_type<'a>(schema: &mut Value, names: impl Iterator<Item = &'a str>) {
    if let Some(property) = schema.pointer_mut("/properties/type").and_then(Value::as_object_mut) {
        property.insert("enum".to_owned(), names.collect());
    }
}

fn task_names(task: &TaskType) -> Vec<String> {
    let old = task.aliases.iter().map(|alias| (*alias).to_owned());
    std::iter::once(task.name.clone()).chain(old).collect()
}

/// An object whose property `type` decides what else it may hold.
fn any_of_types(description: &str, types: Vec<(Vec<String>, String)>) -> Value {
    let names: Vec<&String> = types.iter().flat_map(|(names, _)| names).collect();
    let cases: Vec<Value> = types
        .iter()
        .map(|(names, definition)| {
            json!({
                "if": {"properties": {"type": {"enum": names}}, "required": ["type"]},
                "then": {"$ref": format!("#/$defs/{definition}")},
            })
        })
        .collect();
    json!({
        "description": description,
        "type": "object",
        "properties": {"type": {"type": "string", "enum": names}},
        "required": ["type"],
        "allOf": cases,
    })
}

/// What a flow's output can be: what an input can be.
pub(crate) struct OutputKind;

impl JsonSchema for OutputKind {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OutputKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": input_type_names()})
    }
}
