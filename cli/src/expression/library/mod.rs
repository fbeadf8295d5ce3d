//! Filters, functions and tests by name, as tables that rendering, checking and the reference page share.
//!
//! Entries work on JSON values and do no I/O; what they need from outside comes through [`super::Sources`] and
//! [`super::Files`]. No error quotes a
//! value, because any value may be a credential.
//!
//! Left out on purpose: `http`, `encrypt`, `decrypt`, `fromIon`, `toIon`, `fileURI`, `randomPort`, `printContext`, `dump`,
//! `tasksWithState`, `block`, `parent`, `format`, `nl2br`, `className`, macros, includes and method calls. The
//! reference page says why.

mod collections;
mod dates;
mod effects;
mod encoding;
mod numbers;
mod operators;
mod text;

use minijinja::Environment;
use serde_json::Value;

use super::engine::Frame;
use crate::document::{listed, nearest};

pub(crate) use self::operators::truthy;
pub(super) use self::operators::{compute, iterable, negative};

/// Why a filter, function or operator has no result: a fragment that reads after "cannot render …:" and holds no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fault(pub(crate) String);

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What a filter or function is: everything that is known about it.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// Names of its arguments; `?` marks those that may be left out, `...` one that takes all that follow.
    pub(super) parameters: &'static [&'static str],
    /// True if it runs for null; else null gives null.
    pub(super) takes_null: bool,
    pub(super) run: fn(&Call<'_>) -> Result<Value, Fault>,
    /// What it does, for the reference.
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference page is written by a test"))]
    pub(super) summary: &'static str,
    /// An expression and what it renders to, for the reference, which is tested.
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference page is written by a test"))]
    pub(super) examples: &'static [(&'static str, &'static str)],
}

/// A test, `value is name`.
pub(super) struct Test {
    pub(super) name: &'static str,
    pub(super) run: fn(&Value) -> Result<bool, Fault>,
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference page is written by a test"))]
    pub(super) examples: &'static [(&'static str, &'static str)],
}

/// One use of an entry: for a filter, the filtered value is the first argument.
pub(super) struct Call<'a> {
    pub(super) name: &'static str,
    pub(super) arguments: &'a [Value],
    pub(super) frame: &'a Frame,
    pub(super) environment: &'a Environment<'a>,
}

impl Call<'_> {
    /// An argument, null where it was left out.
    fn value(&self, index: usize) -> &Value {
        self.arguments.get(index).unwrap_or(&Value::Null)
    }

    /// A scalar as text.
    fn text(&self, index: usize) -> Result<String, Fault> {
        match self.value(index) {
            value @ (Value::String(_) | Value::Number(_) | Value::Bool(_)) => Ok(show(value)),
            value => Err(self.wrong("text", value)),
        }
    }

    fn optional_text(&self, index: usize) -> Result<Option<String>, Fault> {
        match self.value(index) {
            Value::Null => Ok(None),
            _ => self.text(index).map(Some),
        }
    }

    fn integer(&self, index: usize) -> Result<i64, Fault> {
        let value = self.value(index);
        let text = match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_i64(),
        };
        text.ok_or_else(|| self.wrong("a whole number", value))
    }

    fn optional_integer(&self, index: usize) -> Result<Option<i64>, Fault> {
        match self.value(index) {
            Value::Null => Ok(None),
            _ => self.integer(index).map(Some),
        }
    }

    /// A number of items: whole and not negative.
    fn count(&self, index: usize) -> Result<usize, Fault> {
        usize::try_from(self.integer(index)?).map_err(|_| self.fault("needs a number that is not negative"))
    }

    fn boolean(&self, index: usize, default: bool) -> Result<bool, Fault> {
        match self.value(index) {
            Value::Null => Ok(default),
            Value::Bool(value) => Ok(*value),
            value => Err(self.wrong("true or false", value)),
        }
    }

    fn list(&self, index: usize) -> Result<&Vec<Value>, Fault> {
        match self.value(index) {
            Value::Array(items) => Ok(items),
            value => Err(self.wrong("a list", value)),
        }
    }

    fn wrong(&self, wanted: &str, value: &Value) -> Fault {
        self.fault(&format!("needs {wanted}, not {}", kind(value)))
    }

    fn fault(&self, message: &str) -> Fault {
        Fault(format!("`{}` {message}", self.name))
    }
}

/// Every filter.
pub(super) fn filters() -> impl Iterator<Item = &'static Entry> {
    [
        text::FILTERS,
        collections::FILTERS,
        numbers::FILTERS,
        encoding::FILTERS,
        dates::FILTERS,
    ]
    .into_iter()
    .flatten()
}

/// Every function.
pub(super) fn functions() -> impl Iterator<Item = &'static Entry> {
    [
        effects::FUNCTIONS,
        dates::FUNCTIONS,
        encoding::FUNCTIONS,
        numbers::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// Every test.
pub(super) fn tests() -> impl Iterator<Item = &'static Test> {
    operators::TESTS.iter()
}

/// The filter of that name, or what to say instead.
pub(super) fn filter(name: &str) -> Result<&'static Entry, String> {
    find(name, "filter", filters(), |entry| entry.name)
}

/// The function of that name, or what to say instead.
pub(super) fn function(name: &str) -> Result<&'static Entry, String> {
    find(name, "function", functions(), |entry| entry.name)
}

/// The test of that name, or what to say instead.
pub(super) fn test(name: &str) -> Result<&'static Test, String> {
    find(name, "test", tests(), |test| test.name)
}

fn find<T>(
    name: &str,
    what: &str,
    all: impl Iterator<Item = &'static T>,
    called: fn(&T) -> &'static str,
) -> Result<&'static T, String> {
    let all: Vec<&'static T> = all.collect();
    if let Some(found) = all.iter().find(|entry| called(entry) == name) {
        return Ok(found);
    }
    let mut names: Vec<&str> = all.iter().map(|entry| called(entry)).collect();
    names.sort_unstable();
    Err(match (left_out(name), nearest(name, &names)) {
        (Some(reason), _) => format!("the {what} `{name}` is not supported: {reason}"),
        (None, Some(near)) => format!("unknown {what} `{name}`: did you mean `{near}`?"),
        (None, None) => format!("unknown {what} `{name}`: known are {}", listed(&names)),
    })
}

/// What Kestra has and this does not, and why.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    (
        "http",
        "an expression makes no requests: fetch it in a task and use its output",
    ),
    ("encrypt", "keys have no place in expressions: use `secret`"),
    ("decrypt", "keys have no place in expressions: use `secret`"),
    ("fromIon", "files here are not in Ion: use `fromJson`"),
    ("toIon", "files here are not in Ion: use `toJson`"),
    ("ionDecode", "files here are not in Ion: use `fromJson`"),
    (
        "fileURI",
        "there are no namespace files with a URI: use `namespaceFiles` of the task",
    ),
    ("randomPort", "a port that is free here is not free in the pod"),
    ("printContext", "it would print secrets"),
    ("fetchContext", "it would print secrets"),
    ("dump", "it would print secrets"),
    ("tasksWithState", "use `error` in an error handler"),
    ("block", "texts have no blocks"),
    ("parent", "texts have no blocks"),
    ("format", "use `numberFormat` or `~`"),
    ("nl2br", "nothing here is HTML"),
    ("escape", "nothing here is HTML: use `escapeChar`"),
    ("raw", "nothing here is HTML, so nothing is escaped"),
    ("className", "there are no classes"),
];

fn left_out(name: &str) -> Option<&'static str> {
    LEFT_OUT
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reason)| *reason)
}

/// A value as it is rendered: null as nothing, lists and mappings as JSON.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// What kind of value this is, for errors.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
