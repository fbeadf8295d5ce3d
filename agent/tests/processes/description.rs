//! The API's description: every request and answer of these tests is held against it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::http::Answer;

/// What an answer says when no schema can tell that a request is refused.
const BEYOND_SCHEMAS: [&str; 2] = ["is there twice", "--enable-container-mode"];

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(podrun_agent::api::OPENAPI).unwrap());

/// A method, the path as it is described, and a status.
pub(crate) type Described = (String, String, String);

/// All answers that are described.
pub(crate) fn all() -> impl Iterator<Item = Described> {
    let paths = DESCRIPTION["paths"].as_object().unwrap().iter();
    paths.flat_map(|(route, operations)| {
        let operations = operations.as_object().unwrap().iter();
        operations.flat_map(move |(method, operation)| {
            let statuses = operation["responses"].as_object().into_iter().flatten();
            statuses.map(move |(status, _)| (method.clone(), route.clone(), status.clone()))
        })
    })
}

/// Fails unless a request and its answer are as described. The answer is which one of the description's it was, unless it
/// is one that any request may get.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, body: &[u8], answer: &Answer) -> Option<Described> {
    let what = format!("{method} {path}: {}", answer.status);
    let path = path.split('?').next().unwrap();
    let route = DESCRIPTION["paths"]
        .as_object()
        .unwrap()
        .keys()
        .find(|route| fits(route, path));
    let operation = route.map(|route| &DESCRIPTION["paths"][route][method.to_lowercase()]);
    let known = route.zip(operation.filter(|operation| operation.is_object()));
    let Some((route, operation)) = known.filter(|_| answer.header("retry-after").is_none()) else {
        assert!(
            matches!(answer.status, 400..500 | 503),
            "{what}, which is not described"
        );
        check_content(&what, &DESCRIPTION["components"]["responses"]["Refused"], answer);
        return None;
    };
    let mut response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "{what} is not described");
    if let Some(reference) = response["$ref"].as_str() {
        response = DESCRIPTION.pointer(reference.trim_start_matches('#')).unwrap();
    }
    check_content(&what, response, answer);
    if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
        check_request(&what, schema, body, answer);
    }
    Some((method.to_lowercase(), route.clone(), answer.status.to_string()))
}

fn fits(route: &str, path: &str) -> bool {
    let (route, path) = (route.split('/'), path.split('/'));
    route.clone().count() == path.clone().count()
        && route
            .zip(path)
            .all(|(described, there)| described == there || described.starts_with('{'))
}

#[track_caller]
fn check_content(what: &str, response: &Value, answer: &Answer) {
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{what} has a body");
        return;
    };
    let kind = answer.header("content-type").unwrap().split(';').next().unwrap();
    let media = content.get(kind).unwrap_or_else(|| panic!("{what} is {kind}"));
    if let Some(schema) = media.get("schema") {
        let problems = problems(schema, &answer.json());
        assert!(problems.is_empty(), "{what}: {problems:?}");
    }
}

/// What is accepted, or refused for what is there already, is valid; what is refused as bad is not.
#[track_caller]
fn check_request(what: &str, schema: &Value, body: &[u8], answer: &Answer) {
    let problems = match serde_json::from_slice(body) {
        Ok(body) => problems(schema, &body),
        Err(error) => vec![error.to_string()],
    };
    let valid = match answer.status {
        200..300 | 409 | 429 | 503 => true,
        400 => {
            let message = answer.json()["message"].to_string();
            BEYOND_SCHEMAS.iter().any(|beyond| message.contains(beyond))
        }
        _ => return,
    };
    let body = || String::from_utf8_lossy(body);
    assert_eq!(problems.is_empty(), valid, "{what}: {problems:?} with {}", body());
}

fn problems(schema: &Value, value: &Value) -> Vec<String> {
    static VALIDATORS: Mutex<Option<HashMap<String, Arc<Validator>>>> = Mutex::new(None);
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap();
        let validators = validators.get_or_insert_default();
        let build = || {
            // References of the schema are into the whole description.
            let whole = json!({"components": DESCRIPTION["components"], "allOf": [schema]});
            let built = jsonschema::options().should_validate_formats(true).build(&whole);
            Arc::new(built.unwrap())
        };
        Arc::clone(validators.entry(schema.to_string()).or_insert_with(build))
    };
    validator
        .iter_errors(value)
        .map(|error| format!("{error} at {}", error.instance_path))
        .collect()
}
