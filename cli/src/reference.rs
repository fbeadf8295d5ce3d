//! The reference's pages, written from the schemas: one for each type of task, for flows, inputs and the task runner.

use std::fmt::Write;

use podrun_host::Descriptor;
use serde_json::{Map, Value};

use crate::types::{Schemas, input_type, input_type_names, task_types};

/// One page.
pub(crate) struct Page {
    /// The file's name.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What Kubernetes itself documents is named, not repeated.
const KUBERNETES: &str = "io.k8s.";

/// All pages.
pub(crate) fn pages(schemas: &Schemas, runner: &Descriptor) -> Vec<Page> {
    let mut index = "# Reference\n\nGenerated from the types that read flows: `podrun schema` has the same as a JSON Schema.\n\n\
                     - [flow](flow.md)\n- [inputs](inputs.md)\n- [pluginDefaults](defaults.md)\n- [task runner](task-runner.md)\n\n\
                     | type of task | what it does |\n|---|---|\n"
        .to_owned();
    let mut pages = vec![
        page(schemas, "flow.md", "Flow", "A file with one flow.", schemas.flow()),
        inputs(schemas),
        definition(
            schemas,
            "defaults.md",
            "pluginDefaults",
            "An operator's file, given as `--defaults FILE`. A flow has the same list. From weakest to strongest: the flow's \
             defaults, the operator's, the task itself, the flow's forced defaults, the operator's forced ones. Within one of \
             these an exact type beats a longer beginning, which beats a shorter one, and a later entry beats an earlier one; it is \
             one order for defaults on the types of tasks and on that of the task runner. \
             Mappings merge key by key; everything else, lists included, is replaced by the stronger side, and an explicit \
             null unsets the weaker side's value. `taskRunner.config` is replaced whole. Of a default for several types, each \
             task, and each task runner, gets the properties that it has.",
            "DefaultsFile",
        ),
        definition(
            schemas,
            "task-runner.md",
            "Task runner",
            &format!(
                "The property `taskRunner` of script tasks, as runner `{}` describes it.",
                runner.name
            ),
            "TaskRunner",
        ),
        definition(
            schemas,
            "config.md",
            "config of the task runner",
            "The property `taskRunner.config`: how the cluster is reached. It is one value, which the strongest level that has \
             one replaces whole.",
            "RunnerConfig",
        ),
    ];
    index = index.replace(
        "- [task runner](task-runner.md)\n",
        "- [task runner](task-runner.md), [its config](config.md)\n",
    );
    for task in task_types() {
        let name = format!("{}.md", task.name);
        let _ = writeln!(index, "| [{}]({name}) | {} |", task.name, task.summary);
        let mut about = task.summary.clone();
        if !task.aliases.is_empty() {
            let _ = write!(about, "\n\nOlder name: {}.", crate::document::listed(task.aliases));
        }
        pages.push(definition(schemas, &name, &task.name, &about, &task.name));
    }
    pages.push(Page {
        name: "README.md".to_owned(),
        text: index,
    });
    pages
}

fn definition(schemas: &Schemas, file: &str, title: &str, about: &str, name: &str) -> Page {
    let schema = schemas.definition(name).unwrap_or(&Value::Null);
    page(schemas, file, title, about, schema)
}

fn page(schemas: &Schemas, file: &str, title: &str, about: &str, schema: &Value) -> Page {
    let mut text = format!("# {title}\n\n{about}\n");
    let mut shown = vec![file.to_owned()];
    properties(schemas, schema, "", 0, &mut shown, &mut text);
    Page {
        name: file.to_owned(),
        text,
    }
}

fn inputs(schemas: &Schemas) -> Page {
    let mut text = "# Inputs\n\nEach item of a flow's `inputs`. Its `type` decides what else it may have.\n".to_owned();
    let common = schemas.properties("Input.BOOLEAN");
    let mut shown = Vec::new();
    if let Some(schema) = schemas.definition("Input.BOOLEAN") {
        properties(schemas, schema, "", 0, &mut shown, &mut text);
    }
    for name in input_type_names() {
        let summary = input_type(name).map(|input| input.summary).unwrap_or_default();
        let _ = write!(text, "\n## {name}\n\n{summary}\n");
        if let Some(mut schema) = schemas.definition(&format!("Input.{name}")).cloned() {
            if let Some(own) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                own.retain(|name, _| !common.contains(&name.as_str()));
            }
            properties(schemas, &schema, "", 0, &mut shown, &mut text);
        }
    }
    Page {
        name: "inputs.md".to_owned(),
        text,
    }
}

/// A list of properties, each with what is below it.
fn properties(schemas: &Schemas, schema: &Value, path: &str, depth: usize, shown: &mut Vec<String>, text: &mut String) {
    let Some(known) = schema
        .get("properties")
        .and_then(Value::as_object)
        .filter(|known| !known.is_empty())
    else {
        return;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if depth == 0 {
        text.push('\n');
    }
    let indent = "  ".repeat(depth);
    for (name, property) in known {
        let target = resolved(schemas, property);
        let _ = write!(text, "{indent}- `{path}{name}`: {}", kind(schemas, property));
        if required.contains(&name.as_str()) {
            text.push_str(", required");
        }
        if let Some(default) = default(property) {
            let _ = write!(text, ", default `{default}`");
        }
        text.push_str(".\n");
        let description = property.get("description").or_else(|| target.get("description"));
        if let Some(description) = description.and_then(Value::as_str) {
            let _ = writeln!(text, "{indent}  {}", description.replace('\n', " "));
        }
        for (value, meaning) in choices(schemas, property) {
            let _ = writeln!(text, "{indent}  - `{value}`: {}", meaning.replace('\n', " "));
        }
        below(schemas, property, depth, shown, text);
    }
}

/// What is inside a property.
fn below(schemas: &Schemas, property: &Value, depth: usize, shown: &mut Vec<String>, text: &mut String) {
    for (name, target) in references(schemas, property) {
        let elsewhere =
            ["Task", "Input", "TaskRunner", "RunnerConfig"].contains(&name.as_str()) || name.contains(KUBERNETES);
        if elsewhere || shown.contains(&name) {
            continue;
        }
        shown.push(name);
        properties(schemas, target, "", depth + 1, shown, text);
        shown.pop();
    }
}

/// The definitions that a schema refers to, directly, as an alternative, as items or as values.
fn references<'a>(schemas: &'a Schemas, schema: &'a Value) -> Vec<(String, &'a Value)> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.trim_start_matches("#/$defs/").to_owned();
        let Some(target) = schemas.resolve(reference) else {
            return Vec::new();
        };
        let mut all = vec![(name, target)];
        // A choice between definitions has no properties of its own.
        if target.get("properties").is_none() {
            all.extend(references(schemas, target));
        }
        return all;
    }
    let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    branches
        .chain(schema.get("items"))
        .chain(schema.get("additionalProperties"))
        .flat_map(|schema| references(schemas, schema))
        .collect()
}

fn resolved<'a>(schemas: &'a Schemas, schema: &'a Value) -> &'a Value {
    references(schemas, schema).first().map_or(schema, |(_, target)| target)
}

fn default(property: &Value) -> Option<&Value> {
    let default = property.get("default")?;
    let empty = match default {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() || map.values().all(Value::is_null),
        _ => false,
    };
    (!empty).then_some(default)
}

/// What kind of value it is, in words.
fn kind(schemas: &Schemas, schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.trim_start_matches("#/$defs/");
        return match name {
            "Task" => "a task".to_owned(),
            "Input" => "[an input](inputs.md)".to_owned(),
            "TaskRunner" => "[a task runner](task-runner.md)".to_owned(),
            "RunnerConfig" => "[a mapping](config.md)".to_owned(),
            name => match name.find(KUBERNETES) {
                Some(at) => {
                    let name = name.get(at..).unwrap_or(name);
                    format!("Kubernetes' {}", name.rsplit('.').next().unwrap_or(name))
                }
                None => schemas
                    .resolve(reference)
                    .map_or_else(String::new, |schema| kind(schemas, schema)),
            },
        };
    }
    if let Some(branches) = schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
    {
        let mut words: Vec<String> = Vec::new();
        for branch in branches {
            let word = match branch.get("pattern").and_then(Value::as_str) {
                // That an expression may stand for a value need not be said each time.
                Some("\\{\\{") => continue,
                _ => kind(schemas, branch),
            };
            if word != "nothing" && !words.contains(&word) {
                words.push(word);
            }
        }
        return words.join(" or ");
    }
    if schema.get("enum").is_some() || schema.get("const").is_some() {
        return "one of several words".to_owned();
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => return "anything".to_owned(),
    };
    if types.contains(&"string") {
        return match schema.get("format").and_then(Value::as_str) {
            Some("duration") => "a duration".to_owned(),
            Some("regex") => "a regular expression".to_owned(),
            _ => "text".to_owned(),
        };
    }
    let words = types.iter().map(|name| match *name {
        "integer" => "a whole number".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("a list (each item {})", kind(schemas, items)),
            None => "a list".to_owned(),
        },
        "object" => match schema.get("additionalProperties").filter(|values| values.is_object()) {
            Some(values) => format!("a mapping (of names to {})", kind(schemas, values)),
            None => "a mapping".to_owned(),
        },
        _ => "nothing".to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// The words that a property can be, with what they mean.
fn choices(schemas: &Schemas, schema: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |schema: &Map<String, Value>| {
        if let Some(Value::String(name)) = schema.get("const") {
            let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
            all.push((name.clone(), meaning.to_owned()));
        }
    };
    let mut todo = vec![schema];
    while let Some(schema) = todo.pop() {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            todo.extend(schemas.resolve(reference));
        }
        if let Some(map) = schema.as_object() {
            add(map);
        }
        for word in ["oneOf", "anyOf"] {
            todo.extend(schema.get(word).and_then(Value::as_array).into_iter().flatten().rev());
        }
    }
    all
}
