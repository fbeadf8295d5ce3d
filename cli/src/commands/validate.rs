//! `podrun validate`.

use std::io::Write;
use std::path::Path;

use podrun_host::{Runner, Target, Task};
use serde_json::json;

use crate::args;
use crate::commands::schema::{describe, schemas};
use crate::defaults::PluginDefault;
use crate::document::{Node, Place, Problem, Value};
use crate::engine::names;
use crate::error::{Ended, Error};
use crate::expression::{Renderer, is_template};
use crate::flow::{self, Flow, ScriptStep};
use crate::journal::Attempt;
use crate::namespace::Folder;
use crate::plan;
use crate::scope::Scope;
use crate::session;
use crate::state::StateDir;
use crate::types::Schemas;

/// The option of which no part makes sense without the others.
const CREDENTIALS: &str = "credentials";

/// Stands for a cluster where none is asked: an address, so that no name has to be looked up.
pub(crate) const NOWHERE: &str = r#"{"masterUrl": "https://127.0.0.1", "oauthToken": "none", "trustCerts": true}"#;

/// Find every mistake in flows and in the operator's defaults.
pub(crate) async fn validate(arguments: &args::Validate, json: bool) -> Result<Ended, Error> {
    let runner = session::load_runner(arguments.runner.as_deref()).await?;
    let described = describe(&runner).await?;
    let validation = Validation {
        schemas: schemas(&described)?,
        options: serde_json::from_str(&described.task_schema).unwrap_or_default(),
        runner,
        renderer: session::renderer()?,
        state: StateDir::open()?,
    };
    let mut output = Output { json, mistakes: 0 };
    let operator = match session::read_defaults(arguments.defaults.as_deref()) {
        Ok(operator) => operator,
        Err(Error::Problems(problems)) => {
            output.problems(problems.iter());
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    for file in &arguments.flows {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                output.unreadable(file, &error);
                continue;
            }
        };
        let before = output.mistakes;
        match validation.flow(file, &text, &operator).await? {
            Ok(flow) if output.mistakes == before => output.fine(file, &flow),
            Ok(_) => {}
            Err(problems) => output.problems(problems.iter()),
        }
    }
    match output.mistakes {
        0 => Ok(Ended::Succeeded),
        1 => Err(Error::Usage("there is one mistake".to_owned())),
        count => Err(Error::Usage(format!("there are {count} mistakes"))),
    }
}

struct Validation {
    schemas: Schemas,
    /// What the runner says about its options.
    options: serde_json::Value,
    runner: Runner,
    renderer: Renderer,
    state: StateDir,
}

impl Validation {
    /// The flow, or its mistakes.
    async fn flow(
        &self,
        file: &Path,
        text: &str,
        operator: &[PluginDefault],
    ) -> Result<Result<Flow, crate::document::Problems>, Error> {
        let mut reading = match flow::read_with(&self.schemas, file, text, operator, &self.renderer) {
            Ok(reading) => reading,
            Err(problems) => return Ok(Err(problems)),
        };
        for declared in reading.flow.scripts() {
            let found = self.script(&reading.flow, declared).await?;
            let known: Vec<Place> = reading.problems.iter().map(|problem| problem.place().clone()).collect();
            // What the schema says of a place is said already.
            reading
                .problems
                .extend(found.into_iter().filter(|problem| !known.contains(problem.place())));
        }
        Ok(reading.sound(file).map(|(flow, _)| flow))
    }

    /// What can be known to be wrong with a script without values for its expressions.
    async fn script(&self, flow: &Flow, declared: ScriptStep<'_>) -> Result<Vec<Problem>, Error> {
        let ScriptStep { step, script } = declared;
        let mut problems = Vec::new();
        let attempt = Attempt {
            execution: "validate".to_owned(),
            task: step.id.clone(),
            number: 1,
        };
        let options = literal(&script.options).map_or_else(|| json!({}), |node| node.to_json());
        let mut task = Task {
            id: names(&attempt).id(),
            image: "image".to_owned(),
            command: vec!["true".to_owned()],
            env: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            timeout: None,
            labels: Vec::new(),
            options: options.to_string(),
        };
        problems.extend(plan::check(declared));
        if problems.is_empty() && !step.texts().iter().any(|text| is_template(&text.text)) {
            let scope = Scope::new(
                flow,
                "validate",
                crate::journal::now(),
                &[],
                &self.state.execution("validate"),
            );
            match plan::plan(
                flow,
                declared,
                &names(&attempt),
                &scope,
                &Folder::default(),
                &self.renderer,
                &self.options,
            ) {
                Ok(planned) => task = planned.task,
                Err(problem) => problems.push(problem),
            }
            // Rendering checks options and patterns. There are no inputs to look at.
            task.inputs.clear();
        }
        if let Some(config) = &script.config
            && is_literal(config)
            && let Err(error) = self.runner.connect(&config.to_json().to_string()).await
        {
            problems.extend(refusal(error, &step.id, config)?);
        }
        let nowhere = Target {
            config: NOWHERE.to_owned(),
            credentials: None,
        };
        if let Err(error) = self.runner.render(&nowhere, &task, None, false).await {
            problems.extend(refusal(error, &step.id, &script.options)?);
        }
        Ok(problems)
    }
}

/// The value without texts that have to be rendered. Where others cannot do without such a text, they go with it: what is
/// left must not look as if something were missing.
fn literal(node: &Node) -> Option<Node> {
    let value = match &node.value {
        Value::Text(text) if is_template(text) => return None,
        Value::List(items) => Value::List(items.iter().filter(|item| is_literal(item)).cloned().collect()),
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .filter(|(key, value)| !value.is_null() && (key.name != CREDENTIALS || is_literal(value)));
            Value::Map(
                entries
                    .filter_map(|(key, value)| Some((key.clone(), literal(value)?)))
                    .collect(),
            )
        }
        value => value.clone(),
    };
    Some(Node {
        value,
        place: node.place.clone(),
    })
}

/// True for a value in which nothing has to be rendered.
fn is_literal(node: &Node) -> bool {
    match &node.value {
        Value::Text(text) => !is_template(text),
        Value::List(items) => items.iter().all(is_literal),
        Value::Map(entries) => entries.iter().all(|(_, value)| is_literal(value)),
        _ => true,
    }
}

/// What the runner refuses, at the place that it names. Anything else is no mistake of the flow.
fn refusal(error: podrun_host::Error, task: &str, node: &Node) -> Result<Option<Problem>, Error> {
    match error {
        podrun_host::Error::InvalidArgument(message) => {
            let place = place_of(&message, node);
            let message = message
                .replace("`options.", "`taskRunner.")
                .replace("`config.", "`taskRunner.config.");
            Ok(Some(Problem::new(&place, format!("task `{task}`: {message}"))))
        }
        podrun_host::Error::Unavailable(_) | podrun_host::Error::AccessDenied(_) => Ok(None),
        source => Err(Error::Runner {
            task: Some(task.to_owned()),
            source,
        }),
    }
}

/// The place of `options.a.b` or `config.a`, which a runner's message begins with.
fn place_of(message: &str, node: &Node) -> Place {
    let path = message.trim_start_matches('`');
    let path = path.split(['`', ' ']).next().unwrap_or_default().trim_end_matches(':');
    let mut rest = match path.split_once('.') {
        Some(("options" | "config", rest)) => rest,
        _ => return node.place.clone(),
    };
    let mut node = node;
    while !rest.is_empty() {
        let below = match &node.value {
            // Names may hold dots themselves.
            Value::Map(entries) => entries.iter().find_map(|(key, value)| {
                let after = rest.strip_prefix(key.name.as_str())?;
                (after.is_empty() || after.starts_with(['.', '['])).then_some((value, after))
            }),
            Value::List(items) => rest.strip_prefix('[').and_then(|rest| {
                let (index, after) = rest.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, after))
            }),
            _ => None,
        };
        let Some((value, after)) = below else { break };
        node = value;
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    node.place.clone()
}

struct Output {
    json: bool,
    mistakes: usize,
}

impl Output {
    fn problems<'a>(&mut self, problems: impl Iterator<Item = &'a Problem>) {
        let mut out = crate::out::out();
        for problem in problems {
            self.mistakes += 1;
            let (line, column) = problem.place().position();
            let _ = match self.json {
                true => writeln!(
                    out,
                    "{}",
                    json!({
                        "type": "problem",
                        "file": problem.place().file(),
                        "line": line,
                        "column": column,
                        "message": problem.message(),
                    })
                ),
                false => writeln!(out, "{problem}"),
            };
        }
    }

    fn unreadable(&mut self, file: &Path, error: &std::io::Error) {
        self.mistakes += 1;
        let message = format!("it cannot be read: {error}");
        let file = file.display().to_string();
        let mut out = crate::out::out();
        let _ = match self.json {
            true => writeln!(out, "{}", json!({"type": "problem", "file": file, "message": message})),
            false => writeln!(out, "{file}: {message}"),
        };
    }

    fn fine(&self, file: &Path, flow: &Flow) {
        let mut out = crate::out::out();
        let file = file.display().to_string();
        let _ = match self.json {
            true => writeln!(out, "{}", json!({"type": "valid", "file": file, "flow": flow.id})),
            false => writeln!(out, "{file}: flow `{}` is valid", flow.id),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_looks_as_if_nothing_were_missing() {
        let text = "credentials: {username: u, password: '{{ x }}'}\nlabels: {a: b, c: '{{ x }}'}\n\
                    podSpec: {volumes: [{name: '{{ x }}'}, {name: b}], hostname: h}\n";
        let node = crate::document::parse(Path::new("f.yaml"), text).unwrap();
        let expected = json!({"labels": {"a": "b"}, "podSpec": {"volumes": [{"name": "b"}], "hostname": "h"}});
        assert_eq!(literal(&node).unwrap().to_json(), expected);
        let node = crate::document::parse(Path::new("f.yaml"), "credentials: {auth: x}").unwrap();
        assert_eq!(literal(&node).as_ref(), Some(&node));
    }

    #[test]
    fn what_a_runner_refuses_is_found() {
        let text = "a: {b: [x, {c.d/e: y}]}\nf: z\n";
        let node = crate::document::parse(Path::new("f.yaml"), text).unwrap();
        let place = |message: &str| place_of(message, &node).to_string();
        assert_eq!(place("`options.a.b[1].c.d/e` is wrong"), "f.yaml:1:20");
        assert_eq!(place("options.f: is wrong"), "f.yaml:2:4");
        assert_eq!(place("`options.a.x.y` is missing"), "f.yaml:1:4");
        assert_eq!(place("no path"), "f.yaml:1:1");
    }
}
