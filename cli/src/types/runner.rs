//! Takes what a task runner says about itself into the schemas of flows.

use podrun_host::Descriptor;
use serde_json::{Map, Value, json};

use super::Schemas;

/// The field of a runner's config that the host takes out of it.
pub(crate) const PROVIDER: &str = "oauthTokenProvider";

impl Schemas {
    /// The schemas with a runner's own options and config.
    pub(crate) fn with_runner(runner: &Descriptor) -> Result<Self, serde_json::Error> {
        let mut schemas = Self::new();
        let mut options: Value = serde_json::from_str(&runner.task_schema)?;
        let mut config: Value = serde_json::from_str(&runner.config_schema)?;
        allow_expressions(&mut options);
        allow_expressions(&mut config);
        schemas.define_all("Runner", &mut options);
        schemas.define_all("RunnerConfig", &mut config);
        closed(&mut config);
        // What the host does for its runner.
        if let Some(Value::Object(properties)) = config.get_mut("properties") {
            let about = schemas
                .definition("TokenProvider")
                .and_then(|schema| schema.get("description"));
            let provider = json!({"$ref": "#/$defs/TokenProvider", "description": about});
            properties.insert(PROVIDER.to_owned(), provider);
        }
        if let Some(Value::Object(refused)) = config.get_mut("refused") {
            refused.remove(PROVIDER);
        }
        schemas.define("RunnerConfig", config);
        let mut task_runner = schemas.definition("TaskRunner").cloned().unwrap_or_default();
        closed(&mut task_runner);
        if let Some(Value::Object(mine)) = task_runner.get_mut("properties") {
            let about = mine.get("config").and_then(|config| config.get("description")).cloned();
            let config = json!({"$ref": "#/$defs/RunnerConfig", "description": about});
            mine.insert("config".to_owned(), config);
            if let Some(Value::Object(more)) = options.get_mut("properties").map(Value::take) {
                mine.extend(more);
            }
        }
        if let (Some(runner), Some(refused)) = (task_runner.as_object_mut(), options.get("refused")) {
            runner.insert("refused".to_owned(), refused.clone());
        }
        schemas.define("TaskRunner", task_runner);
        Ok(schemas)
    }

    /// Move a schema's own definitions here, under names of their own.
    fn define_all(&mut self, prefix: &str, schema: &mut Value) {
        rename_references(schema, prefix);
        let definitions = schema.as_object_mut().and_then(|schema| schema.remove("$defs"));
        if let Some(Value::Object(definitions)) = definitions {
            for (name, definition) in definitions {
                self.define(&format!("{prefix}.{name}"), definition);
            }
        }
    }
}

/// No properties but those that are named.
fn closed(schema: &mut Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
}

fn rename_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(target) if name == "$ref" => *value = json!(format!("#/$defs/{prefix}.{target}")),
                    _ => rename_references(value, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, prefix)),
        _ => {}
    }
}

/// What an expression is to a schema.
const EXPRESSION: &str = "\\{\\{";

/// True for the schema of an expression that may stand for what it is beside.
pub(super) fn is_expression(schema: &Value) -> bool {
    schema.get("pattern").and_then(Value::as_str) == Some(EXPRESSION)
}

/// Wherever a text must be of some form, and for a number, `true` or `false`, an expression may stand: it is rendered before
/// the runner sees it.
fn allow_expressions(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                // These hold values, not schemas.
                if !["enum", "default", "const", "required", "examples"].contains(&name.as_str()) {
                    allow_expressions(value);
                }
            }
            if is_form(map) {
                let mut form = std::mem::take(map);
                let mut either = Map::new();
                for name in ["description", "default", "title"] {
                    if let Some(value) = form.remove(name) {
                        either.insert(name.to_owned(), value);
                    }
                }
                let expression = json!({"type": "string", "pattern": EXPRESSION});
                either.insert("anyOf".to_owned(), json!([form, expression]));
                *map = either;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(allow_expressions),
        _ => {}
    }
}

/// True for the schema of a text of some form, and of what is written as a number, `true` or `false`.
fn is_form(map: &Map<String, Value>) -> bool {
    let scalar = |name: &Value| ["integer", "number", "boolean"].iter().any(|scalar| name == scalar);
    let scalars = match map.get("type") {
        Some(Value::Array(names)) => {
            names.iter().any(scalar) && names.iter().all(|name| name == "null" || scalar(name))
        }
        Some(name) => scalar(name),
        None => false,
    };
    if scalars {
        return true;
    }
    let text = map.get("type").and_then(Value::as_str) == Some("string");
    let restricted = ["enum", "pattern", "format"]
        .iter()
        .any(|name| map.get(*name).is_some_and(|value| !value.is_object()));
    let constants = map.get("oneOf").and_then(Value::as_array).is_some_and(|branches| {
        let constant = |branch: &Value| branch.get("const").or_else(|| branch.get("anyOf")).is_some();
        !branches.is_empty() && branches.iter().all(constant)
    });
    (text && restricted) || constants
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runners_own_definitions_keep_apart_and_expressions_may_stand_for_texts() {
        let runner = Descriptor {
            name: "r".into(),
            version: "1".into(),
            config_schema: json!({"properties": {"url": {"type": "string"}}}).to_string(),
            task_schema: json!({
                "properties": {"policy": {"$ref": "#/$defs/Policy"}, "wait": {"type": "string", "pattern": "^P"}, "limit": {"type": ["integer", "null"], "default": 3}},
                "$defs": {"Policy": {"oneOf": [{"type": "string", "const": "A", "description": "a"}]}},
            })
            .to_string(),
        };
        let schemas = Schemas::with_runner(&runner).unwrap();
        let runner = schemas.definition("TaskRunner").unwrap();
        assert_eq!(runner["properties"]["policy"]["$ref"], "#/$defs/Runner.Policy");
        assert_eq!(runner["properties"]["config"]["$ref"], "#/$defs/RunnerConfig");
        let policy = schemas.definition("Runner.Policy").unwrap();
        assert_eq!(policy["anyOf"][1], json!({"type": "string", "pattern": "\\{\\{"}));
        assert_eq!(runner["properties"]["wait"]["anyOf"][0]["pattern"], "^P");
        assert_eq!(runner["properties"]["limit"]["default"], 3);
        assert_eq!(
            runner["properties"]["limit"]["anyOf"][0],
            json!({"type": ["integer", "null"]})
        );
    }
}
