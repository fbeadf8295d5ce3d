//! Flow files: what a flow declares, with every default applied and every property checked.
//!
//! Reading a flow runs nothing and renders nothing. Texts keep their expressions and their places.

mod values;

use std::path::Path;

use serde_json::json;

use self::values::{boolean, identifier, items, known_properties, pairs, scalar, text, texts, unique};
use crate::defaults::{self, Origin, PluginDefault, RUNNER_TYPES};
use crate::document::{Node, Problem, Value, listed, unknown};
use crate::expression::{Known, Renderer, Text, is_template};

/// A flow, ready to be run.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) inputs: Vec<InputDeclaration>,
    pub(crate) tasks: Vec<TaskDeclaration>,
    /// What the file says, without any task runner's config: what makes two flows the same flow.
    pub(crate) identity: serde_json::Value,
}

/// A value that whoever runs the flow supplies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputDeclaration {
    pub(crate) id: String,
    pub(crate) kind: InputKind,
    pub(crate) required: bool,
    pub(crate) default: Option<String>,
}

/// What an input may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    String,
    Int,
    Float,
    Boolean,
    File,
}

/// A script to run.
#[derive(Clone, Debug)]
pub(crate) struct TaskDeclaration {
    pub(crate) id: String,
    pub(crate) language: Language,
    pub(crate) body: Body,
    pub(crate) image: Text,
    pub(crate) before: Vec<Text>,
    pub(crate) interpreter: Vec<Text>,
    pub(crate) fail_fast: bool,
    pub(crate) env: Vec<(String, Text)>,
    /// Name in the working directory, and content or a file's URI.
    pub(crate) inputs: Vec<(Text, Text)>,
    pub(crate) outputs: Vec<Text>,
    pub(crate) timeout: Option<Text>,
    /// The task runner's properties other than its type and config.
    pub(crate) options: Node,
    /// How to reach the cluster, if the flow or a default says so.
    pub(crate) config: Option<Node>,
}

/// What the script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Shell,
    Python,
}

/// The script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Commands(Vec<Text>),
    Script(Text),
}

const FLOW: [&str; 6] = ["id", "namespace", "description", "inputs", "tasks", "pluginDefaults"];
const INPUT: [&str; 6] = ["id", "type", "displayName", "description", "required", "defaults"];
const TASK: [&str; 13] = [
    "id",
    "type",
    "description",
    "containerImage",
    "taskRunner",
    "inputFiles",
    "outputFiles",
    "env",
    "beforeCommands",
    "interpreter",
    "failFast",
    "timeout",
    "commands",
];
const TASK_TYPES: [(&str, Language, bool); 4] = [
    ("io.kestra.plugin.scripts.shell.Commands", Language::Shell, true),
    ("io.kestra.plugin.scripts.shell.Script", Language::Shell, false),
    ("io.kestra.plugin.scripts.python.Commands", Language::Python, true),
    ("io.kestra.plugin.scripts.python.Script", Language::Python, false),
];

/// Read a flow with its own defaults and the operator's.
pub(crate) fn read(file: &Path, text: &str, operator: &[PluginDefault], renderer: &Renderer) -> Result<Flow, Problem> {
    let node = crate::document::parse(file, text)?;
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("a flow is a mapping with `id` and `tasks`, not {}", node.kind());
        return Err(Problem::new(&node.place, message));
    }
    known_properties(&node, "property", &FLOW)?;
    let id = identifier(&node, "flow")?;
    let namespace = match node.get("namespace") {
        Some(namespace) => scalar(namespace, "`namespace`")?,
        None => "default".to_owned(),
    };
    let mut defaults = match node.get("pluginDefaults") {
        Some(list) => defaults::read(list, Origin::Flow)?,
        None => Vec::new(),
    };
    defaults.extend_from_slice(operator);
    let inputs = match node.get("inputs") {
        Some(list) => items(list, "`inputs`")?
            .iter()
            .map(read_input)
            .collect::<Result<Vec<_>, _>>()?,
        None => Vec::new(),
    };
    let declared = inputs.iter().map(|input| input.id.as_str());
    unique(declared, node.get("inputs"), "input")?;
    let Some(list) = node.get("tasks").filter(|list| list.value != Value::List(Vec::new())) else {
        return Err(Problem::new(
            &node.place,
            format!("flow `{id}` has no `tasks`: list at least one"),
        ));
    };
    let tasks = items(list, "`tasks`")?
        .iter()
        .map(|task| read_task(task, &defaults))
        .collect::<Result<Vec<_>, _>>()?;
    unique(tasks.iter().map(|task| task.id.as_str()), Some(list), "task")?;
    let identity = identity(&node);
    let flow = Flow {
        id,
        namespace,
        inputs,
        tasks,
        identity,
    };
    check_expressions(&flow, renderer)?;
    Ok(flow)
}

/// Read the operator's defaults file.
pub(crate) fn read_defaults(file: &Path, text: &str) -> Result<Vec<PluginDefault>, Problem> {
    let node = crate::document::parse(file, text)?;
    known_properties(&node, "property", &["pluginDefaults"])?;
    match node.get("pluginDefaults") {
        Some(list) => defaults::read(list, Origin::Operator),
        None => Err(Problem::new(
            &node.place,
            "a defaults file needs `pluginDefaults`: a list of `type` and `values`",
        )),
    }
}

fn read_input(node: &Node) -> Result<InputDeclaration, Problem> {
    known_properties(node, "property of an input", &INPUT)?;
    let id = identifier(node, "input")?;
    let types = ["STRING", "INT", "FLOAT", "BOOLEAN", "FILE"];
    let Some(kind) = node.get("type") else {
        return Err(Problem::new(
            &node.place,
            format!("input `{id}` needs a `type`: one of {}", listed(&types)),
        ));
    };
    let kind = match scalar(kind, "`type`")?.as_str() {
        "STRING" => InputKind::String,
        "INT" => InputKind::Int,
        "FLOAT" => InputKind::Float,
        "BOOLEAN" | "BOOL" => InputKind::Boolean,
        "FILE" => InputKind::File,
        other => return Err(unknown(&kind.place, &format!("type of input `{id}`:"), other, &types)),
    };
    let required = node
        .get("required")
        .map_or(Ok(true), |node| boolean(node, "`required`"))?;
    let default = node
        .get("defaults")
        .map(|node| scalar(node, "`defaults`"))
        .transpose()?;
    Ok(InputDeclaration {
        id,
        kind,
        required,
        default,
    })
}

fn read_task(node: &Node, defaults: &[PluginDefault]) -> Result<TaskDeclaration, Problem> {
    if !matches!(node.value, Value::Map(_)) {
        return Err(Problem::new(
            &node.place,
            format!("a task is a mapping with `id` and `type`, not {}", node.kind()),
        ));
    }
    let id = identifier(node, "task")?;
    let names = TASK_TYPES.map(|(name, ..)| name);
    let Some(kind) = node.get("type") else {
        return Err(Problem::new(
            &node.place,
            format!("task `{id}` needs a `type`: one of {}", listed(&names)),
        ));
    };
    let name = scalar(kind, "`type`")?;
    let Some((name, language, commands)) = TASK_TYPES.into_iter().find(|(known, ..)| *known == name) else {
        return Err(unknown(&kind.place, &format!("type of task `{id}`:"), &name, &names));
    };
    let task = defaults::apply(node, name, defaults)?;
    let what = |property: &str| format!("`{property}` of task `{id}`");
    let known: Vec<&str> = TASK
        .into_iter()
        .filter(|name| *name != "commands")
        .chain([if commands { "commands" } else { "script" }])
        .collect();
    known_properties(&task, &format!("property of task `{id}`:"), &known)?;
    let body = if commands {
        let Some(list) = task
            .get("commands")
            .filter(|list| list.value != Value::List(Vec::new()))
        else {
            return Err(Problem::new(
                &task.place,
                format!("task `{id}` needs `commands`: a list of shell commands"),
            ));
        };
        Body::Commands(texts(list, &what("commands"))?)
    } else {
        let Some(script) = task.get("script") else {
            return Err(Problem::new(&task.place, format!("task `{id}` needs a `script`")));
        };
        Body::Script(text(script, &what("script"))?)
    };
    let image = match task
        .get("containerImage")
        .map(|node| text(node, &what("containerImage")))
        .transpose()?
    {
        Some(image) if !image.text.trim().is_empty() => image,
        _ => {
            let message =
                format!("task `{id}` needs a `containerImage`, for example `containerImage: debian:stable-slim`");
            return Err(Problem::new(&task.place, message));
        }
    };
    let (options, config) = read_runner(&task, &id)?;
    let list = |name: &str| task.get(name).map_or(Ok(Vec::new()), |list| texts(list, &what(name)));
    Ok(TaskDeclaration {
        language,
        body,
        image,
        before: list("beforeCommands")?,
        interpreter: list("interpreter")?,
        fail_fast: task
            .get("failFast")
            .map_or(Ok(true), |node| boolean(node, &what("failFast")))?,
        env: pairs(&task, "env", &what)?
            .into_iter()
            .map(|(name, value)| (name.text, value))
            .collect(),
        inputs: pairs(&task, "inputFiles", &what)?,
        outputs: list("outputFiles")?,
        timeout: task
            .get("timeout")
            .map(|node| text(node, &what("timeout")))
            .transpose()?,
        options,
        config,
        id,
    })
}

/// The task runner's options and its config.
fn read_runner(task: &Node, id: &str) -> Result<(Node, Option<Node>), Problem> {
    let Some(runner) = task.get("taskRunner") else {
        return Ok((Node::built_in(Value::Map(Vec::new())), None));
    };
    if !matches!(runner.value, Value::Map(_)) {
        let message = format!(
            "`taskRunner` of task `{id}` must be a mapping with a `type`, not {}",
            runner.kind()
        );
        return Err(Problem::new(&runner.place, message));
    }
    if let Some(kind) = runner.get("type") {
        let name = scalar(kind, "`taskRunner.type`")?;
        if !RUNNER_TYPES.contains(&name.as_str()) {
            return Err(unknown(
                &kind.place,
                &format!("task runner of task `{id}`:"),
                &name,
                &RUNNER_TYPES[..1],
            ));
        }
    }
    let config = match runner.get("config") {
        Some(node) if !matches!(node.value, Value::Map(_)) => {
            let message = format!(
                "`taskRunner.config` of task `{id}` must be a mapping, not {}",
                node.kind()
            );
            return Err(Problem::new(&node.place, message));
        }
        config => config.cloned(),
    };
    let options = runner
        .entries()
        .iter()
        .filter(|(key, value)| key.name != "type" && key.name != "config" && !value.is_null())
        .cloned()
        .collect();
    Ok((
        Node {
            value: Value::Map(options),
            place: runner.place.clone(),
        },
        config,
    ))
}

impl TaskDeclaration {
    /// True if the task can only be rendered once other tasks have ended.
    pub(crate) fn uses_outputs(&self) -> bool {
        self.texts()
            .iter()
            .any(|text| is_template(&text.text) && text.text.contains("outputs"))
    }

    /// Every text of the task, its runner's options and config included.
    fn texts(&self) -> Vec<Text> {
        let body = match &self.body {
            Body::Commands(commands) => commands.clone(),
            Body::Script(script) => vec![script.clone()],
        };
        let mut all = vec![self.image.clone()];
        all.extend(body);
        all.extend(
            self.before
                .iter()
                .chain(&self.interpreter)
                .chain(&self.outputs)
                .chain(&self.timeout)
                .cloned(),
        );
        all.extend(self.env.iter().map(|(_, value)| value.clone()));
        all.extend(
            self.inputs
                .iter()
                .flat_map(|(name, value)| [name.clone(), value.clone()]),
        );
        let mut nested = |node: &Node, what: String| {
            let collected = node.to_json_with(&mut |text, place| {
                all.push(Text {
                    text: text.to_owned(),
                    place: place.clone(),
                    what: what.clone(),
                });
                Ok::<_, std::convert::Infallible>(String::new())
            });
            match collected {
                Ok(_) => {}
                Err(never) => match never {},
            }
        };
        nested(&self.options, format!("`taskRunner` of task `{}`", self.id));
        if let Some(config) = &self.config {
            nested(config, format!("`taskRunner.config` of task `{}`", self.id));
        }
        all
    }
}

fn check_expressions(flow: &Flow, renderer: &Renderer) -> Result<(), Problem> {
    let mut known = Known {
        inputs: flow.inputs.iter().map(|input| input.id.as_str()).collect(),
        ..Known::default()
    };
    for task in &flow.tasks {
        for text in task.texts() {
            renderer.check(&text, &known)?;
        }
        known.outputs.push(&task.id);
    }
    Ok(())
}

/// What the file says as JSON, with every task runner's config left out: credentials are rotated while a flow runs, and
/// they must not reach the journal.
fn identity(flow: &Node) -> serde_json::Value {
    let mut value = flow.to_json();
    let redact = |value: Option<&mut serde_json::Value>| {
        if let Some(config) = value.and_then(|value| value.get_mut("config")) {
            *config = json!("redacted");
        }
    };
    for task in value
        .get_mut("tasks")
        .and_then(serde_json::Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        redact(task.get_mut("taskRunner"));
    }
    for default in value
        .get_mut("pluginDefaults")
        .and_then(serde_json::Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        redact(default.get_mut("values"));
        redact(
            default
                .get_mut("values")
                .and_then(|values| values.get_mut("taskRunner")),
        );
    }
    value
}

#[cfg(test)]
mod tests;
