//! What all tests of expressions share: a scope, and sources that are always the same.

mod errors;
mod properties;
mod reference;
mod syntax;

use std::path::Path;

use serde_json::json;

use super::*;
use crate::document::{Node, parse};

/// Sources with one secret, one value, one file, one time and no luck.
#[derive(Debug)]
struct Fixed;

impl Sources for Fixed {
    fn secret(&self, name: &str) -> Result<String, Fault> {
        match name {
            "TOKEN" => Ok("s3cret".into()),
            name => Err(Fault(format!("there is no secret `{name}`"))),
        }
    }

    fn kv(&self, key: &str) -> Result<Option<Value>, Fault> {
        Ok((key == "region").then(|| "eu-west-1".into()))
    }

    fn now(&self) -> jiff::Zoned {
        "2026-11-21T03:04:05.678[UTC]".parse().unwrap()
    }

    fn random(&self) -> Result<u128, Fault> {
        Ok(u128::MAX / 7)
    }
}

impl Files for Fixed {
    fn read(&self, uri: &str) -> Result<Vec<u8>, Fault> {
        match uri {
            "podrun:///inputs/file" => Ok(b"what is in data".to_vec()),
            _ => Err(Fault("that is no file of this execution".into())),
        }
    }

    fn size(&self, uri: &str) -> Result<Option<u64>, Fault> {
        Ok(self.read(uri).ok().map(|content| content.len() as u64))
    }
}

fn text(text: &str) -> Text {
    Text {
        text: text.into(),
        place: Place::built_in(),
        what: "`commands[0]` of task `t`".into(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => panic!("a scope is an object"),
    }
}

fn scope() -> Map<String, Value> {
    object(json!({
        "inputs": {"file": "podrun:///inputs/file", "count": 3, "empty": null, "text": "a b", "flag": true},
        "outputs": {
            "first": {"vars": {"x": "1", "list": [1, 2]}, "outputFiles": {"out.txt": "podrun:///f"}},
            "with-dash": {"vars": {"y": 2}},
        },
        "vars": {"greeting": "hello {{ flow.namespace }}", "twice": "{{ vars.greeting }}!", "broken": "{{ inputs.nosuch }}"},
        "flow": {"id": "f", "namespace": "company.team"},
        "labels": {},
        "taskrun": {"id": "x.t", "attempt": 1},
        "workingDir": "/podrun/work",
    }))
}

fn renderer() -> Renderer {
    Renderer::new().unwrap().with(Arc::new(Fixed)).reading(Arc::new(Fixed))
}

fn render(source: &str) -> Result<String, String> {
    renderer()
        .render(&text(source), &scope())
        .map_err(|problem| problem.to_string())
}

fn evaluate(source: &str) -> Value {
    renderer().evaluate(&text(source), &scope()).unwrap()
}

fn known() -> Known<'static> {
    Known {
        inputs: vec!["file", "count", "empty", "text", "flag"],
        outputs: vec!["first", "with-dash"],
        vars: vec!["greeting", "twice"],
        ..Known::default()
    }
}

/// The first mistake.
fn check(source: &str) -> Result<(), String> {
    let mut problems = renderer().problems(&text(source), &known()).into_iter();
    problems.next().map_or(Ok(()), |problem| Err(problem.to_string()))
}

/// The text at `script` of a document.
fn written(yaml: &str) -> Text {
    let node: Node = parse(Path::new("flow.yaml"), yaml).unwrap();
    let script = node.get("script").unwrap();
    Text {
        text: script.text().unwrap(),
        place: script.place.clone(),
        what: "`script` of task `t`".into(),
    }
}
