//! Parses the two JSON objects that a host passes, `config` and `options`, into types, with errors that name the field,
//! the nearest known name and the cure. Knows nothing about Kubernetes.

use crate::contract::Error;
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The JSON Schema of a settings type, as text.
pub(crate) fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).as_value().to_string()
}

/// Parses `text` as a `T`; `what` names the object in errors (`config`, `options`).
///
/// Values are never quoted in an error: they may be secrets.
pub(crate) fn parse<T: JsonSchema + DeserializeOwned>(what: &str, text: &str) -> Result<T, Error> {
    let value: Value = serde_json::from_str(text).map_err(|e| {
        Error::InvalidArgument(format!(
            "`{what}` is not JSON (line {}, column {})",
            e.line(),
            e.column()
        ))
    })?;
    let schema = schemars::schema_for!(T);
    check_names(what, &value, schema.as_value(), &schema)?;
    serde_path_to_error::deserialize(&value).map_err(|e| {
        let path = e.path().to_string();
        let field = if path == "." {
            what.to_owned()
        } else {
            format!("{what}.{path}")
        };
        Error::InvalidArgument(format!("`{field}`: {}", without_values(&e.into_inner().to_string())))
    })
}

/// Refuses properties that the schema does not know, deepest objects included.
fn check_names(at: &str, value: &Value, schema: &Value, root: &Schema) -> Result<(), Error> {
    let schema = resolve(schema, root);
    let (Value::Object(value), Some(Value::Object(known))) = (value, schema.get("properties")) else {
        return Ok(());
    };
    for (name, value) in value {
        let Some(property) = known.get(name) else {
            let nearest = nearest(name, known.keys().map(String::as_str)).map_or_else(
                || format!("known are {}", list(known.keys())),
                |n| format!("did you mean `{n}`?"),
            );
            return Err(Error::InvalidArgument(format!(
                "unknown property `{at}.{name}`: {nearest}"
            )));
        };
        check_names(&format!("{at}.{name}"), value, property, root)?;
    }
    Ok(())
}

/// Follows `$ref` and the `anyOf` with null that an optional object becomes.
fn resolve<'a>(schema: &'a Value, root: &'a Schema) -> &'a Value {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return root.get("$defs").and_then(|d| d.get(name)).unwrap_or(schema);
    }
    let alternatives = schema.get("anyOf").and_then(Value::as_array);
    match alternatives.and_then(|a| a.iter().find(|s| s.get("$ref").is_some())) {
        Some(object) => resolve(object, root),
        None => schema,
    }
}

/// The known name that `name` was most likely meant to be.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// Serde quotes the offending string (`invalid type: string "...", expected`): keep the kind, drop the value.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if from < to => {
            format!(
                "{}{}",
                message.get(..from).unwrap_or_default().trim_end(),
                message.get(to + 1..).unwrap_or_default()
            )
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{config::Config, contract::Error, options::Options};

    fn refusal<T: schemars::JsonSchema + serde::de::DeserializeOwned>(text: &str) -> String {
        match super::parse::<T>("options", text) {
            Err(Error::InvalidArgument(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{text} was accepted"),
        }
    }

    #[test]
    fn an_unknown_property_is_refused_with_the_nearest_name() {
        assert_eq!(
            refusal::<Options>(r#"{"pullpolicy": "ALWAYS"}"#),
            "unknown property `options.pullpolicy`: did you mean `pullPolicy`?"
        );
        assert_eq!(
            refusal::<Options>(r#"{"resources": {"requests": {}}}"#),
            "unknown property `options.resources.requests`: did you mean `request`?"
        );
        assert_eq!(
            refusal::<Config>(r#"{"masterURL": "x"}"#),
            "unknown property `options.masterURL`: did you mean `masterUrl`?"
        );
        assert!(refusal::<Options>(r#"{"zzz": 1}"#).contains("known are"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_without_quoting_it() {
        let message = refusal::<Config>(r#"{"trustCerts": "hunter2"}"#);
        assert!(
            message.contains("options.trustCerts") && !message.contains("hunter2"),
            "{message}"
        );
        assert!(refusal::<Config>("{").contains("is not JSON"));
    }
}
