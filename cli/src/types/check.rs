//! Checks documents against a schema: every mistake, with its place, the nearest valid name and the cure.
//!
//! It knows the parts of JSON Schema that the types and the runner use, and says in words what they ask for. Values are
//! never quoted: they may be secrets.

use serde_json::Value as Json;

use super::common::{DURATION_FORM, milliseconds};
use super::runner::is_expression;
use super::schema::Schemas;
use crate::document::typed::{below, named};
use crate::document::{Node, Problem, Value, listed, nearest};
use crate::expression::is_template;

/// What is described elsewhere and looked at with an owner of its own.
const ELSEWHERE: [&str; 2] = ["#/$defs/Task", "#/$defs/Input"];

/// Properties that other systems have, and what to do instead.
const INSTEAD: [(&str, &str); 30] = [
    ("script", "only types that end in `.Script` have it"),
    ("commands", "only types that end in `.Commands` have it"),
    ("taskDefaults", "it is called `pluginDefaults` now"),
    ("runner", "write `taskRunner`"),
    (
        "docker",
        "write `containerImage`, and `taskRunner.credentials` for private registries",
    ),
    (
        "dockerOptions",
        "write `containerImage`, and `taskRunner.credentials` for private registries",
    ),
    ("outputDirectory", "remove it: every script has an output directory"),
    ("workerGroup", "remove it: there are no workers"),
    ("allowWarning", "remove it: a warning never ends a flow"),
    ("logLevel", "remove it, and choose with `podrun logs`"),
    ("logToFile", "remove it: `podrun logs` has the log"),
    ("taskCache", "remove it: every task runs"),
    ("version", "remove it: there is one version of each type"),
    (
        "triggers",
        "remove it: `podrun` runs a flow when it is told to, for example by cron",
    ),
    (
        "concurrency",
        "remove it: whoever starts executions decides how many there are",
    ),
    ("afterExecution", "use `finally`"),
    ("listeners", "use `errors` or `finally`"),
    ("sla", "use `timeout` on the tasks"),
    ("checks", "use `runIf`, or a Fail task with a `condition`"),
    ("revision", "remove it: the file is the revision"),
    ("ref", "write the values in `pluginDefaults`"),
    ("pluginDefaultsRef", "write the values in `pluginDefaults`"),
    ("dependsOn", "remove it: every input is asked for"),
    ("prefill", "use `defaults`"),
    ("expression", "write the `values`"),
    ("namespaces", "remove it: there is one folder of namespace files"),
    (
        "folderPerNamespace",
        "remove it: there is one folder of namespace files",
    ),
    ("ifExists", "remove it: `inputFiles` win over files of the namespace"),
    (
        "retry",
        "give it to tasks that run a script or ask Google Cloud: only these are tried again",
    ),
    (
        "timeout",
        "give it to tasks that run a script or ask Google Cloud: only these take time of their own",
    ),
];

/// Values that other systems have, and what to do instead.
const VALUES_INSTEAD: [(&str, &str); 1] = [(
    "WINDOWS",
    "scripts run in Linux containers: remove it, and use an image for Linux",
)];

/// Find every mistake in `node`. `owner` is whose properties these are to the reader, for example "task `hello`".
pub(crate) fn check(node: &Node, schema: &Json, schemas: &Schemas, owner: &str) -> Vec<Problem> {
    let mut check = Check {
        schemas,
        owner,
        problems: Vec::new(),
    };
    check.value(node, schema, "");
    check.problems
}

struct Check<'a> {
    schemas: &'a Schemas,
    owner: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn problem(&mut self, node: &Node, message: String) {
        self.problems.push(Problem::new(&node.place, message));
    }

    /// What `path` is, at the beginning of a sentence.
    fn subject(&self, path: &str) -> String {
        match named(path, self.owner) {
            name if name.is_empty() => "the flow".to_owned(),
            name => name,
        }
    }

    fn value(&mut self, node: &Node, schema: &'a Json, path: &str) {
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            if ELSEWHERE.contains(&reference) {
                return;
            }
            if let Some(schema) = self.schemas.resolve(reference) {
                self.value(node, schema, path);
            }
            return;
        }
        if let Some(names) = self.choices(schema) {
            return self.choice(node, &names, path);
        }
        if !self.fits(node, schema) {
            let wanted = self.wanted(schema);
            let subject = self.subject(path);
            let instead = match &node.value {
                Value::Text(text) if is_template(text) => ": no expression can stand for it, write the value itself",
                _ => "",
            };
            return self.problem(
                node,
                format!("{subject} must be {wanted}, not {}{instead}", node.kind()),
            );
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(word).and_then(Json::as_array) {
                self.branches(node, branches, path);
            }
        }
        for part in schema.get("allOf").and_then(Json::as_array).into_iter().flatten() {
            self.part(node, part, path);
        }
        match &node.value {
            Value::Map(_) => self.map(node, schema, path),
            Value::List(items) => self.list(node, items, schema, path),
            Value::Text(text) => self.text(node, text, schema, path),
            Value::Integer(_) | Value::Float(..) => self.number(node, schema, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The names that a text must be one of, if it must.
    fn choices(&self, schema: &'a Json) -> Option<Vec<&'a str>> {
        if let Some(names) = schema.get("enum").and_then(Json::as_array) {
            return names.iter().map(Json::as_str).collect();
        }
        if let Some(name) = schema.get("const") {
            return Some(vec![name.as_str()?]);
        }
        let branches = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        let mut names = Vec::new();
        for branch in branches.iter().filter(|branch| !is_null(branch)) {
            let branch = self.resolved(branch);
            names.extend(self.choices(branch)?);
        }
        Some(names)
    }

    fn resolved(&self, schema: &'a Json) -> &'a Json {
        let reference = schema.get("$ref").and_then(Json::as_str);
        reference
            .and_then(|reference| self.schemas.resolve(reference))
            .unwrap_or(schema)
    }

    fn choice(&mut self, node: &Node, names: &[&str], path: &str) {
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            _ => "",
        };
        if names.contains(&text) {
            return;
        }
        let value = VALUES_INSTEAD.iter().find(|(value, _)| *value == text);
        let cure = match nearest(text, names).filter(|_| !text.is_empty()) {
            _ if value.is_some() => value.map(|(_, instead)| (*instead).to_owned()).unwrap_or_default(),
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", listed(names)),
        };
        let subject = self.subject(path);
        self.problem(node, format!("{subject} is none of its possible values: {cure}"));
    }

    /// True if a value of this kind can satisfy the schema.
    fn fits(&self, node: &Node, schema: &'a Json) -> bool {
        let schema = self.resolved(schema);
        if is_expression(schema) {
            return matches!(&node.value, Value::Text(text) if is_template(text));
        }
        if let Some(branches) = schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Json::as_array)
        {
            return branches.iter().any(|branch| self.fits(node, branch));
        }
        let types = types(schema);
        types.is_empty()
            || types.iter().any(|name| match &node.value {
                Value::Null => *name == "null",
                Value::Bool(_) => *name == "boolean",
                Value::Integer(_) => ["integer", "number"].contains(name),
                Value::Float(..) => *name == "number",
                Value::Text(_) => *name == "string",
                Value::List(_) => *name == "array",
                Value::Map(_) => *name == "object",
            })
    }

    /// What the schema asks for, in words.
    fn wanted(&self, schema: &'a Json) -> String {
        let schema = self.resolved(schema);
        let mut words: Vec<String> = Vec::new();
        match schema
            .get("anyOf")
            .or_else(|| schema.get("oneOf"))
            .and_then(Json::as_array)
        {
            Some(branches) => words.extend(
                branches
                    .iter()
                    .filter(|branch| !is_null(branch) && !is_expression(branch))
                    .map(|branch| self.wanted(branch)),
            ),
            None => {
                let types = types(schema);
                let text = types.contains(&"string");
                for name in types {
                    words.push(
                        match name {
                            "string" => "text",
                            "integer" if !text => "a whole number",
                            "number" if !text => "a number",
                            "boolean" if !text => "true or false",
                            "array" => "a list",
                            "object" => "a mapping",
                            _ => continue,
                        }
                        .to_owned(),
                    );
                }
            }
        }
        words.dedup();
        words.join(" or ")
    }

    /// One of several schemas must hold: the problems are those of the first that a value of this kind can satisfy.
    fn branches(&mut self, node: &Node, branches: &'a [Json], path: &str) {
        let mut first = None;
        for branch in branches {
            if !self.fits(node, branch) {
                continue;
            }
            let mut attempt = Check {
                schemas: self.schemas,
                owner: self.owner,
                problems: Vec::new(),
            };
            attempt.value(node, branch, path);
            if attempt.problems.is_empty() {
                return;
            }
            first.get_or_insert(attempt.problems);
        }
        self.problems.extend(first.unwrap_or_default());
    }

    fn part(&mut self, node: &Node, part: &'a Json, path: &str) {
        match (part.get("if"), part.get("then")) {
            (Some(condition), Some(then)) => {
                let mut attempt = Check {
                    schemas: self.schemas,
                    owner: self.owner,
                    problems: Vec::new(),
                };
                attempt.value(node, condition, path);
                if attempt.problems.is_empty() {
                    self.value(node, then, path);
                }
            }
            _ => self.value(node, part, path),
        }
    }

    fn map(&mut self, node: &Node, schema: &'a Json, path: &str) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let others = schema.get("additionalProperties");
        let mut meant = Vec::new();
        // An explicit null unsets what a weaker level says.
        for (key, value) in node.entries().iter().filter(|(_, value)| !value.is_null()) {
            let below = below(path, &key.name);
            if let Some(schema) = properties.and_then(|properties| properties.get(&key.name)) {
                self.value(value, schema, &below);
            } else if others == Some(&Json::Bool(false)) {
                // Older names are not what anybody means.
                let older = |schema: &Json| schema.get("deprecated") == Some(&Json::Bool(true));
                let known: Vec<&str> = properties
                    .into_iter()
                    .flatten()
                    .filter(|(_, schema)| !older(schema))
                    .map(|(name, _)| name.as_str())
                    .collect();
                if let Some(instead) = schema
                    .get("refused")
                    .and_then(|refused| refused.get(&key.name)?.as_str())
                {
                    let subject = self.subject(&below);
                    let message = format!("{subject} is not supported: {instead}");
                    self.problems.push(Problem::new(&key.place, message));
                    continue;
                }
                let owner = named(path, self.owner);
                meant.extend(nearest(&key.name, &known));
                self.problems.push(unknown_property(key, &owner, &known));
            } else if let Some(schema) = others {
                self.value(value, schema, &below);
            }
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            if node.get(name).is_some() || meant.contains(&name) {
                continue;
            }
            let about = properties
                .and_then(|properties| properties.get(name)?.get("description")?.as_str())
                .map(sentence)
                .unwrap_or_default();
            let subject = self.subject(path);
            self.problem(node, format!("{subject} needs `{name}`{about}"));
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &'a Json, path: &str) {
        let at_least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if (items.len() as u64) < at_least {
            let subject = self.subject(path);
            self.problem(node, format!("{subject} has too few items: list at least {at_least}"));
        }
        let Some(schema) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(item, schema, &format!("{path}[{index}]"));
        }
    }

    fn text(&mut self, node: &Node, text: &str, schema: &'a Json, path: &str) {
        let word = |name: &str| schema.get(name).and_then(Json::as_str);
        if let Some(pattern) = word("pattern")
            && !regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            let cure = match word("patternErrorMessage") {
                Some(cure) => cure.to_owned(),
                None => format!("it must match `{pattern}`"),
            };
            let subject = self.subject(path);
            return self.problem(node, format!("{subject} is not valid: {cure}"));
        }
        match word("format") {
            Some("duration") if !is_template(text) && milliseconds(text).is_none() => {
                let subject = self.subject(path);
                self.problem(
                    node,
                    format!("{subject} is no duration of fixed length: {DURATION_FORM}"),
                );
            }
            Some("regex") => {
                if let Err(error) = regex::Regex::new(text) {
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    let subject = self.subject(path);
                    self.problem(node, format!("{subject} is no regular expression: {why}"));
                }
            }
            _ => {}
        }
        let length = text.chars().count() as u64;
        if schema
            .get("minLength")
            .and_then(Json::as_u64)
            .is_some_and(|least| length < least)
        {
            let subject = self.subject(path);
            self.problem(node, format!("{subject} must not be empty"));
        }
    }

    fn number(&mut self, node: &Node, schema: &'a Json, path: &str) {
        let number = match &node.value {
            Value::Integer(value) => *value as f64,
            Value::Float(value, _) => *value,
            _ => return,
        };
        let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
        let subject = self.subject(path);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.problem(node, format!("{subject} must be at least {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.problem(node, format!("{subject} must be at most {most}"));
        }
    }
}

/// A problem with a name that is none of `known`.
pub(crate) fn unknown_property(key: &crate::document::Key, owner: &str, known: &[&str]) -> Problem {
    let instead = INSTEAD.iter().find(|(name, _)| *name == key.name);
    let cure = match (nearest(&key.name, known), instead) {
        (_, Some((_, instead))) => (*instead).to_owned(),
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, None) if known.is_empty() => "remove it".to_owned(),
        (None, None) => format!("known are {}", listed(known)),
    };
    let message = match owner.is_empty() {
        true => format!("unknown property `{}`: {cure}", key.name),
        false => format!("unknown property of {owner}: `{}`: {cure}", key.name),
    };
    Problem::new(&key.place, message)
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The first sentence of a description, as the end of another one.
fn sentence(description: &str) -> String {
    let text = description.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    let first = text.get(..end).unwrap_or_default().trim_end_matches('.');
    let mut letters = first.chars();
    match letters.next() {
        Some(letter) => format!(": {}{}", letter.to_lowercase(), letters.as_str()),
        None => String::new(),
    }
}
