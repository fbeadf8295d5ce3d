//! The JSON Schemas of the two objects that a host passes. They are derived from the types, by the tests alone: what derives
//! them is a third of a component that holds it, so the files beside it are what ships.

/// That of `config`.
pub(crate) const CONFIG: &str = include_str!("../schema/config.json");
/// That of `options`.
pub(crate) const OPTIONS: &str = include_str!("../schema/options.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Config},
        options::{self, Options},
        settings::Refused,
    };
    use schemars::JsonSchema;
    use serde_json::{Value, json};
    use std::path::Path;

    /// What the names of Kubernetes' own definitions begin with.
    const KUBERNETES: &str = "io.k8s.";

    /// The JSON Schema of a settings type.
    ///
    /// Its keyword `refused` says what to use instead of properties that other runners have.
    fn derived<T: JsonSchema>(refused: &Refused) -> Value {
        let mut schema = schemars::schema_for!(T);
        let refused: serde_json::Map<String, Value> = refused
            .iter()
            .map(|(name, instead)| ((*name).to_owned(), Value::from(*instead)))
            .collect();
        schema.insert("refused".into(), refused.into());
        let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut);
        for (name, definition) in definitions.into_iter().flatten() {
            if let Some(name) = name.strip_prefix(KUBERNETES) {
                ease(name, definition);
            }
        }
        schema.to_value()
    }

    /// Fits one of Kubernetes' own definitions to what authors write: a part of an object, whose rest the runner adds.
    fn ease(name: &str, definition: &mut Value) {
        let Some(definition) = definition.as_object_mut() else {
            return;
        };
        definition.remove("required");
        if name.ends_with(".Quantity") {
            definition.insert("type".into(), serde_json::json!(["string", "number"]));
            let description = "A number with a unit, for example 500m, 2 or 128Mi.";
            definition.insert("description".into(), description.into());
        }
        shorten(definition.get_mut("description"));
        let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
        for property in properties.into_iter().flat_map(|p| p.values_mut()) {
            shorten(property.get_mut("description"));
        }
    }

    /// Keeps the first sentence: Kubernetes' descriptions fill a book.
    fn shorten(description: Option<&mut Value>) {
        if let Some(Value::String(text)) = description {
            let ends = [text.find(". "), text.find('\n')];
            if let Some(end) = ends.into_iter().flatten().min() {
                text.truncate(end);
                text.push('.');
            }
        }
    }

    /// Fails if a file is not what the types say; `PODRUN_UPDATE_SCHEMAS=1` writes it anew.
    #[test]
    fn the_schemas_that_ship_are_those_of_the_types() {
        for (name, ships, derived) in [
            ("config", CONFIG, derived::<Config>(&config::REFUSED)),
            ("options", OPTIONS, derived::<Options>(&options::REFUSED)),
        ] {
            if std::env::var_os("PODRUN_UPDATE_SCHEMAS").is_some() {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{name}.json"));
                std::fs::write(path, format!("{derived:#}\n")).unwrap();
                continue;
            }
            let ships: Value = serde_json::from_str(ships).unwrap();
            assert!(
                ships == derived,
                "schema/{name}.json is not what the types say: run this test with PODRUN_UPDATE_SCHEMAS=1, and look at the difference"
            );
        }
    }

    #[test]
    fn the_schema_takes_parts_of_kubernetes_objects_and_says_what_they_are_in_short() {
        let schema = derived::<Options>(&options::REFUSED);
        let container = &schema["$defs"]["io.k8s.api.core.v1.Container"];
        assert_eq!(container.get("required"), None);
        let image = container["properties"]["image"]["description"].as_str().unwrap();
        assert_eq!(image, "Container image name.");
        let quantity = &schema["$defs"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
        assert_eq!(quantity["type"], json!(["string", "number"]));
    }
}
