//! A runner's options, rendered. An expression that stands alone keeps its type where the runner's schema takes that type,
//! and becomes text where it wants text: `delete: "{{ inputs.delete }}"` is a boolean, a label is none.

use serde_json::{Map, Value};

use crate::document::{self, Node, Problem};
use crate::expression::{Renderer, Text};

/// Render options that the schema describes. `what` they are to the reader of an error.
pub(super) fn options(
    node: &Node,
    schema: &Value,
    what: &str,
    renderer: &Renderer,
    values: &Map<String, Value>,
) -> Result<Value, Problem> {
    let rendering = Rendering {
        schema,
        what,
        renderer,
        values,
    };
    rendering.value(node, &Shape::of(schema, schema))
}

struct Rendering<'a> {
    schema: &'a Value,
    what: &'a str,
    renderer: &'a Renderer,
    values: &'a Map<String, Value>,
}

impl Rendering<'_> {
    fn value(&self, node: &Node, shape: &Shape<'_>) -> Result<Value, Problem> {
        Ok(match &node.value {
            document::Value::Text(text) => {
                let text = Text {
                    text: text.clone(),
                    place: node.place.clone(),
                    what: self.what.to_owned(),
                };
                shape.fit(self.renderer.evaluate(&text, self.values)?)
            }
            document::Value::List(items) => {
                let below = shape.items(self.schema);
                let items = items.iter().map(|item| self.value(item, &below));
                items.collect::<Result<Vec<_>, _>>()?.into()
            }
            document::Value::Map(entries) => {
                let mut map = Map::new();
                for (key, value) in entries {
                    let value = self.value(value, &shape.property(self.schema, &key.name))?;
                    map.insert(key.name.clone(), value);
                }
                map.into()
            }
            _ => node.to_json(),
        })
    }
}

/// The schemas of which one describes a value; none if nothing is known about it.
struct Shape<'a>(Vec<&'a Value>);

impl<'a> Shape<'a> {
    fn of(root: &'a Value, schema: &'a Value) -> Self {
        let mut all = Vec::new();
        let mut todo = vec![schema];
        while let Some(schema) = todo.pop() {
            if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
                todo.extend(root.pointer(name.trim_start_matches('#')));
            }
            for word in ["anyOf", "oneOf", "allOf"] {
                todo.extend(schema.get(word).and_then(Value::as_array).into_iter().flatten());
            }
            all.push(schema);
        }
        Self(all)
    }

    /// The same for several schemas at once.
    fn of_all(root: &'a Value, schemas: impl Iterator<Item = &'a Value>) -> Self {
        Self(schemas.flat_map(|schema| Self::of(root, schema).0).collect())
    }

    fn property(&self, root: &'a Value, name: &str) -> Self {
        let one = |schema: &&'a Value| {
            let own = schema.get("properties").and_then(|properties| properties.get(name));
            own.or_else(|| schema.get("additionalProperties").filter(|others| others.is_object()))
        };
        Self::of_all(root, self.0.iter().filter_map(one))
    }

    fn items(&self, root: &'a Value) -> Self {
        Self::of_all(root, self.0.iter().filter_map(|schema| schema.get("items")))
    }

    fn takes(&self, kind: &str) -> bool {
        self.0.iter().any(|schema| match schema.get("type") {
            Some(Value::String(name)) => name == kind,
            Some(Value::Array(names)) => names.iter().any(|name| name == kind),
            _ => false,
        })
    }

    /// The value as what is wanted: itself if a value of its type is, else its text if text is.
    fn fit(&self, value: Value) -> Value {
        let wanted = match &value {
            Value::Null => self.takes("null"),
            Value::Bool(_) => self.takes("boolean"),
            Value::Number(number) => self.takes("number") || (!number.is_f64() && self.takes("integer")),
            Value::String(_) => true,
            Value::Array(_) => self.takes("array"),
            Value::Object(_) => self.takes("object"),
        };
        match value {
            value if wanted || !self.takes("string") => value,
            Value::Null => String::new().into(),
            value => value.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_expression_alone_keeps_the_type_that_is_wanted() {
        let schema = json!({
            "properties": {
                "delete": {"$ref": "#/$defs/Delete"},
                "inlineLimit": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "spec": {"anyOf": [{"$ref": "#/$defs/Spec"}, {"type": "null"}]},
                "name": {"type": ["string", "null"]},
                "list": {"type": "array", "items": {"$ref": "#/$defs/Spec"}},
            },
            "$defs": {
                "Delete": {"anyOf": [{"type": "boolean"}, {"type": "string", "enum": ["ON_SUCCESS"]}]},
                "Spec": {"type": "object", "properties": {"uid": {"type": "integer"}, "text": {"type": "string"}}},
            },
        });
        let text = "
delete: '{{ inputs.no }}'
inlineLimit: '{{ inputs.n + 1 }}'
labels: {a: '{{ inputs.n }}', b: '{{ inputs.no }}', c: 'x{{ inputs.n }}', d: '{{ inputs.none }}'}
spec: {uid: '{{ inputs.n }}', text: '{{ inputs.n }}', other: '{{ inputs.n }}'}
name: '{{ inputs.none }}'
list: [{uid: '{{ inputs.n }}'}, {text: '{{ inputs.n }}'}]
";
        let node = document::parse(Path::new("f.yaml"), text).unwrap();
        let values = json!({"inputs": {"no": false, "n": 7, "none": null}});
        let rendered = options(
            &node,
            &schema,
            "`taskRunner`",
            &Renderer::new().unwrap(),
            values.as_object().unwrap(),
        );
        let expected = json!({
            "delete": false,
            "inlineLimit": 8,
            "labels": {"a": "7", "b": "false", "c": "x7", "d": ""},
            "spec": {"uid": 7, "text": "7", "other": 7},
            "name": null,
            "list": [{"uid": 7}, {"text": "7"}],
        });
        assert_eq!(rendered.unwrap(), expected);
    }
}
