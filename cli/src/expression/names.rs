//! The names that expressions can use: which there are, what is under them, and how to say that one is missing.
//!
//! [`problems`] finds wrong ones before there are values.

use serde_json::Value;

use super::ast::{Arguments, Expr, Key, Mistake, Node};
use super::template::{PieceKind, Template};
use crate::document::{listed, nearest};

/// What is known before anything has run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known<'a> {
    /// The flow's inputs.
    pub(crate) inputs: Vec<&'a str>,
    /// Tasks that have ended when the text is rendered.
    pub(crate) outputs: Vec<&'a str>,
    /// The flow's variables.
    pub(crate) vars: Vec<&'a str>,
    /// The flow's labels.
    pub(crate) labels: Vec<&'a str>,
    /// Inside of a `ForEach`: `taskrun.value` is there.
    pub(crate) each: bool,
    /// Inside of a group or another `ForEach` within a round: `parent` and `parents` are there.
    pub(crate) parents: bool,
    /// In the tasks of `errors`: `error` and `errorLogs` are there.
    pub(crate) errors: bool,
}

/// Every name that an expression can begin with, and what it is.
pub(super) const ROOTS: &[(&str, &str)] = &[
    ("inputs", "the inputs of the flow; a file is its URI"),
    (
        "outputs",
        "what tasks gave back: `outputs.task.vars`, `.outputFiles['name']`, `.exitCode`",
    ),
    (
        "vars",
        "`variables` of the flow, as written: `render(vars.x)` renders their expressions",
    ),
    ("flow", "`id`, `namespace`"),
    ("execution", "`id`, `startDate`, `state`, `originalId`"),
    ("task", "`id` and `type` of the task"),
    (
        "taskrun",
        "`id`, `startDate`, `attemptsCount`, `attempt`; in a `ForEach` also `value`, `iteration`",
    ),
    (
        "parent",
        "`taskrun.value` and `taskrun.iteration` of what is around the task: in a `ForEach` within another one those of the round \
         outside, in an `If`, `Switch`, `Parallel` or `Sequential` within a `ForEach` those of its round",
    ),
    ("parents", "all that is around in a `ForEach`, the nearest first"),
    ("labels", "labels of the flow and the execution"),
    (
        "envs",
        "variables of the host whose name begins with `ENV_`, in small letters without it: `envs.foo` is `ENV_FOO`",
    ),
    (
        "trigger",
        "nothing: executions are started by hand; for `trigger.date ?? now()`",
    ),
    ("workingDir", "the working directory of the script, in the pod"),
    ("outputDir", "a directory whose files come back, in the pod"),
    ("error", "in the tasks of `errors`: `message`, `taskId`"),
    (
        "errorLogs",
        "in the tasks of `errors`: what failed and what was logged as an error, each with `taskId`, `attemptNumber`, `timestamp`, \
         `level`, `message`",
    ),
    (
        "tasks",
        "how tasks ended, by id: `tasks.t.state` is SUCCESS, WARNING, FAILED or SKIPPED; in a `ForEach` `tasks.t[value].state`",
    ),
];

/// Names that are fixed, by root.
const CHILDREN: &[(&str, &[&str])] = &[
    ("flow", &["id", "namespace"]),
    ("execution", &["id", "startDate", "state", "originalId"]),
    ("task", &["id", "type"]),
    ("taskrun", &["id", "startDate", "attemptsCount", "attempt"]),
    ("error", &["message", "taskId"]),
];
const EACH: [&str; 2] = ["value", "iteration"];

/// Names that other systems have, and what to use instead.
const LEFT_OUT: [(&str, &str); 1] = [(
    "globals",
    "use `kv('NAME')`, with values from the file given with `--kv`, or `vars`",
)];

/// How many names an error lists.
const MOST_LISTED: usize = 12;

/// The advice for text that is not meant for us.
pub(super) const RAW: &str = "text that only looks like an expression goes between `{% raw %}` and `{% endraw %}`";

/// Fail, with what to say, unless an expression can begin with that name.
pub(super) fn root(name: &str) -> Result<(), String> {
    let roots: Vec<&str> = ROOTS.iter().map(|(root, _)| *root).collect();
    if roots.contains(&name) {
        return Ok(());
    }
    if let Some((_, instead)) = LEFT_OUT.iter().find(|(left_out, _)| *left_out == name) {
        return Err(format!("an expression has no `{name}`: {instead}"));
    }
    Err(match nearest(name, &roots) {
        Some(near) => format!("an expression has no `{name}`: did you mean `{near}`?"),
        None => format!("an expression has no `{name}`: known are {}; {RAW}", listed(&roots)),
    })
}

/// What to say about a name that exists, but not here.
pub(super) fn absent(name: &str) -> String {
    let cure = match name {
        "trigger" => "executions are started by hand: use an input, or write `trigger.date ?? now()`",
        "parent" | "parents" => {
            "it is there in what is inside of a `ForEach` within another one, or of an `If`, `Switch`, `Parallel` or `Sequential` \
             within a `ForEach`; a round's value is `taskrun.value`"
        }
        "error" | "errorLogs" => "it is there in the tasks of `errors` only",
        "workingDir" | "outputDir" => "it is there in tasks with a script only",
        "task" | "taskrun" => "it is there in tasks only",
        "envs" => "set variables whose name begins with `ENV_`",
        "vars" => "the flow has no `variables`",
        _ => "it has no value at this place",
    };
    format!("there is no `{name}` here: {cure}")
}

/// What to say about a key that a value does not have. A key that is not to be shown is none.
pub(super) fn missing(owner: &str, value: &Value, key: Option<&str>) -> String {
    let (owner, named) = match owner {
        "" => ("the value".to_owned(), false),
        owner => (format!("`{owner}`"), true),
    };
    let key_text = key.map_or_else(
        || "entry of the name in the brackets".to_owned(),
        |key| format!("`{key}`"),
    );
    match value {
        Value::Object(map) => {
            let known: Vec<&str> = match named {
                true => map.keys().map(String::as_str).collect(),
                false => Vec::new(),
            };
            let cure = key.map_or_else(String::new, |key| cure(key, &known, named));
            format!("{owner} has no {key_text}{cure}")
        }
        Value::Array(items) => format!("{owner} has {} items and no {key_text}", items.len()),
        Value::Null => format!("{owner} is empty and has no {key_text}: write `?? 'other'` for another value"),
        value => format!("{owner} is {} and has no {key_text}", super::library::kind(value)),
    }
}

fn cure(name: &str, known: &[&str], named: bool) -> String {
    match nearest(name, known) {
        Some(near) => format!(": did you mean `{near}`?"),
        None if known.is_empty() && named => ": there is none to refer to".to_owned(),
        None if known.is_empty() => String::new(),
        None if known.len() > MOST_LISTED => {
            let some = known.get(..MOST_LISTED).unwrap_or_default();
            format!(": known are {} and {} more", listed(some), known.len() - MOST_LISTED)
        }
        None => format!(": known are {}", listed(known)),
    }
}

/// The name of what lies under `owner`. A key that is not to be shown is none.
pub(super) fn below(owner: &str, key: Option<&Value>) -> String {
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_');
    match (owner, key) {
        ("", _) => String::new(),
        (_, None) => format!("{owner}[…]"),
        (_, Some(Value::String(key))) if plain(key) => format!("{owner}.{key}"),
        (_, Some(Value::String(key))) => format!("{owner}['{key}']"),
        (_, Some(key)) => format!("{owner}[{key}]"),
    }
}

/// Names that are wrong whatever the values will be.
pub(super) fn problems(template: &Template, known: &Known<'_>) -> Vec<Mistake> {
    let mut finder = Finder {
        known,
        variables: Vec::new(),
        loops: 0,
        mistakes: Vec::new(),
    };
    for piece in &template.pieces {
        match &piece.kind {
            PieceKind::Print(expr) | PieceKind::If(expr) | PieceKind::ElseIf(expr) => finder.expr(expr, false),
            PieceKind::Set(name, expr) => {
                finder.expr(expr, false);
                finder.variables.insert(0, name);
            }
            PieceKind::For(name, expr) => {
                finder.expr(expr, false);
                finder.variables.push(name);
                finder.loops += 1;
            }
            PieceKind::EndFor => {
                finder.variables.pop();
                finder.loops -= 1;
            }
            PieceKind::Literal(_) | PieceKind::Else | PieceKind::EndIf => {}
        }
    }
    finder.mistakes
}

struct Finder<'a> {
    known: &'a Known<'a>,
    /// Names that the text itself gives: those of `set`, then those of the loops around.
    variables: Vec<&'a str>,
    loops: usize,
    mistakes: Vec<Mistake>,
}

impl<'a> Finder<'a> {
    fn expr(&mut self, expr: &'a Expr, lenient: bool) {
        match &expr.node {
            Node::Null | Node::Bool(_) | Node::Integer(_) | Node::Float(_) | Node::Text(_) | Node::Raise => {}
            Node::List(items) => items.iter().for_each(|item| self.expr(item, lenient)),
            Node::Map(entries) => {
                for (key, value) in entries {
                    self.expr(key, lenient);
                    self.expr(value, lenient);
                }
            }
            Node::Name(_) | Node::Access(..) => self.path(expr, lenient),
            Node::Call(_, arguments) => self.arguments(arguments, lenient),
            Node::Filter(base, name, arguments) => {
                self.expr(base, lenient || name == "default");
                self.arguments(arguments, lenient);
            }
            Node::Test(base, ..) => self.expr(base, true),
            Node::Not(inner) | Node::Negative(inner) | Node::Positive(inner) => self.expr(inner, lenient),
            Node::And(left, right) | Node::Or(left, right) | Node::Binary(_, left, right) => {
                self.expr(left, lenient);
                self.expr(right, lenient);
            }
            Node::Coalesce(left, right, _) => {
                self.expr(left, true);
                self.expr(right, lenient);
            }
            Node::Ternary(condition, yes, no) => {
                for part in [condition, yes, no] {
                    self.expr(part, lenient);
                }
            }
        }
    }

    fn arguments(&mut self, arguments: &'a Arguments, lenient: bool) {
        for value in &arguments.positional {
            self.expr(value, lenient);
        }
        for (_, value) in &arguments.named {
            self.expr(value, lenient);
        }
    }

    fn path(&mut self, expr: &'a Expr, lenient: bool) {
        let mut keys = Vec::new();
        let mut base = expr;
        while let Node::Access(inner, key) = &base.node {
            if let Key::Computed(key) = key {
                self.expr(key, lenient);
            }
            keys.push(key);
            base = inner;
        }
        let Node::Name(name) = &base.node else {
            return self.expr(base, lenient);
        };
        if self.variables.contains(&name.as_str()) || (name == "loop" && self.loops > 0) {
            return;
        }
        let child = match keys.last() {
            Some(Key::Name(child)) => Some(child.as_str()),
            _ => None,
        };
        if let Err(message) = root(name).and_then(|()| self.here(name, child, lenient)) {
            self.mistakes.push(Mistake::new(base.at, message));
        }
    }

    /// Fail, with what to say, if a name of ours has no value here, or not that one.
    fn here(&self, name: &str, child: Option<&str>, lenient: bool) -> Result<(), String> {
        if lenient {
            return Ok(());
        }
        let known = self.known;
        let there = match name {
            "trigger" => false,
            "parent" | "parents" => known.parents,
            "error" | "errorLogs" => known.errors,
            _ => true,
        };
        if !there {
            return Err(absent(name));
        }
        let Some(child) = child else { return Ok(()) };
        let mut children: Vec<&str> = match name {
            "inputs" => known.inputs.clone(),
            "outputs" => known.outputs.clone(),
            "vars" => known.vars.clone(),
            "labels" => known.labels.clone(),
            _ => match CHILDREN.iter().find(|(root, _)| *root == name) {
                Some((_, children)) => children.to_vec(),
                None => return Ok(()),
            },
        };
        if name == "taskrun" {
            if known.each {
                children.extend(EACH);
            } else if EACH.contains(&child) {
                return Err(format!(
                    "there is no `taskrun.{child}` here: it is there in the tasks of a `ForEach` only"
                ));
            }
        }
        if name == "labels" && child == "system" {
            return Ok(());
        }
        if children.contains(&child) {
            return Ok(());
        }
        let owner = match name {
            "outputs" => "`outputs` (tasks before this one)".to_owned(),
            name => format!("`{name}`"),
        };
        Err(format!("{owner} has no `{child}`{}", cure(child, &children, true)))
    }
}
