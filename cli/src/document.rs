//! YAML documents as trees whose every value knows the file, line and column it came from.
//!
//! Flows and operator defaults are merged before they are understood, so an error must be able to point into either
//! file. Nothing here knows what a flow is.

mod parse;
pub(crate) mod typed;

use std::fmt;
use std::path::Path;
use std::rc::Rc;

pub(crate) use parse::parse;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    file: Rc<Source>,
    line: u64,
    column: u64,
    layer: Layer,
    /// The byte of the file at which the value itself begins, which for an alias is elsewhere.
    byte: Option<usize>,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The task, or whatever else is meant.
    Itself,
    /// The flow's `pluginDefaults`.
    FlowDefault { forced: bool },
    /// The operator's.
    OperatorDefault { forced: bool },
    /// The program.
    BuiltIn,
}

/// A file: what errors call it, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    name: String,
    text: String,
}

impl Place {
    /// A place in no file, for values that the program supplies itself.
    pub(crate) fn built_in() -> Self {
        Self {
            file: Rc::new(Source {
                name: "built-in".to_owned(),
                text: String::new(),
            }),
            line: 0,
            column: 0,
            layer: Layer::BuiltIn,
            byte: None,
        }
    }

    /// Where in the file the expression stands that begins at a byte of the value's text; the value's own place where that
    /// cannot be told.
    pub(crate) fn within(&self, text: &str, at: usize) -> Self {
        // Quotes, folding and indentation change a text on its way out of the file, so openers are counted, not bytes.
        let openers = |text: &str| -> Vec<usize> {
            let bytes = text.as_bytes();
            (0..bytes.len())
                .filter(|index| matches!(bytes.get(*index..*index + 2), Some(b"{{" | b"{%")))
                .collect()
        };
        let number = openers(text).iter().position(|opener| *opener == at);
        let written = self.byte.and_then(|byte| self.file.text.get(byte..));
        let (Some(number), Some(byte), Some(written)) = (number, self.byte, written) else {
            return self.clone();
        };
        let Some(offset) = openers(written).get(number).copied() else {
            return self.clone();
        };
        let before = self.file.text.get(..byte + offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        Self {
            file: self.file.clone(),
            line: before.matches('\n').count() as u64 + 1,
            column: column as u64 + 1,
            layer: self.layer,
            byte: self.byte,
        }
    }

    /// Who says what is written there.
    pub(crate) fn layer(&self) -> Layer {
        self.layer
    }

    pub(crate) fn file(&self) -> &str {
        &self.file.name
    }

    /// Line and column, from 1; 0 for places in no file.
    pub(crate) fn position(&self) -> (u64, u64) {
        (self.line, self.column)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file.name),
            line => write!(f, "{}:{line}:{}", self.file.name, self.column),
        }
    }
}

/// A mistake in a document: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub(crate) struct Problem {
    place: Place,
    message: String,
}

impl Problem {
    /// A mistake at `place`.
    pub(crate) fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: message.into(),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

/// Every mistake that was found, in the order of their places. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// The value, unless there are problems. Problems of `file` come first; of those that are said twice, one stays.
    pub(crate) fn or<T>(mut problems: Vec<Problem>, file: &Path, value: T) -> Result<T, Self> {
        if problems.is_empty() {
            return Ok(value);
        }
        let file = file.display().to_string();
        problems.sort_by_key(|problem| {
            let Place {
                file: other,
                line,
                column,
                ..
            } = problem.place.clone();
            let other = other.name.clone();
            (other != file, other, line, column)
        });
        // A default is wrong once, however many tasks it applies to.
        problems.dedup_by(|one, other| one == other || (one.place == other.place && one.place.layer != Layer::Itself));
        Err(Self(problems))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What YAML can say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// The number and the text it was written as: `1.10` is a version more often than a number.
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Node {
    /// A value that the program supplies itself.
    pub(crate) fn built_in(value: Value) -> Self {
        Self {
            value,
            place: Place::built_in(),
        }
    }

    /// The entry of a mapping; none for other values and for an explicit null.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
            .filter(|node| !node.is_null())
    }

    /// Remove an entry of a mapping; none if there was none but an explicit null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let index = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(index).1).filter(|node| !node.is_null())
    }

    /// A mapping with a text that the program supplies, unless it has one of that name.
    pub(crate) fn with(&self, name: &str, text: &str) -> Node {
        let mut node = self.clone();
        if node.get(name).is_none()
            && let Value::Map(entries) = &mut node.value
        {
            let key = Key {
                name: name.to_owned(),
                place: Place::built_in(),
            };
            entries.push((key, Node::built_in(Value::Text(text.to_owned()))));
        }
        node
    }

    /// The entries of a mapping; empty for other values.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The same value, said by somebody else.
    pub(crate) fn said_by(mut self, layer: Layer) -> Self {
        self.place.layer = layer;
        self.value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.said_by(layer)).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(mut key, node)| {
                        key.place.layer = layer;
                        (key, node.said_by(layer))
                    })
                    .collect(),
            ),
            value => value,
        };
        self
    }

    /// The text of a scalar; none for lists and mappings.
    pub(crate) fn text(&self) -> Option<String> {
        match &self.value {
            Value::Null => Some(String::new()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Integer(value) => Some(value.to_string()),
            Value::Float(_, written) => Some(written.clone()),
            Value::Text(value) => Some(value.clone()),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What kind of value this is, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The same value as JSON, with what `render` makes of each text, which gets it and where it was written.
    pub(crate) fn to_json_with<E>(
        &self,
        render: &mut impl FnMut(&str, &Place) -> Result<serde_json::Value, E>,
    ) -> Result<serde_json::Value, E> {
        Ok(match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value, _) => (*value).into(),
            Value::Text(value) => render(value, &self.place)?,
            Value::List(items) => serde_json::Value::Array(
                items
                    .iter()
                    .map(|item| item.to_json_with(render))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, node) in entries {
                    map.insert(key.name.clone(), node.to_json_with(render)?);
                }
                serde_json::Value::Object(map)
            }
        })
    }

    /// The same value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self.to_json_with(&mut |text, _| Ok::<_, std::convert::Infallible>(text.into())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }
}

/// An error for a name that is none of `known`, with the nearest one.
pub(crate) fn unknown(place: &Place, what: &str, name: &str, known: &[&str]) -> Problem {
    let near = nearest(name, known);
    let cure = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", listed(known)),
    };
    Problem::new(place, format!("unknown {what} `{name}`: {cure}"))
}

/// The known name that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                *candidate,
            )
        })
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .map(|(_, candidate)| candidate)
}

/// Names in a sentence.
pub(crate) fn listed(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(text: &str) -> Node {
        parse(Path::new("flow.yaml"), text).unwrap()
    }

    #[test]
    fn places_point_at_values_and_keys() {
        let node = doc("id: hello\ntasks:\n  - id: one\n    env:\n      A: b\n");
        assert_eq!(node.get("id").unwrap().place.to_string(), "flow.yaml:1:5");
        let Value::List(tasks) = &node.get("tasks").unwrap().value else {
            panic!("tasks is a list")
        };
        let env = tasks[0].get("env").unwrap();
        assert_eq!(env.entries()[0].0.place.to_string(), "flow.yaml:5:7");
        assert_eq!(env.entries()[0].1.place.to_string(), "flow.yaml:5:10");
    }

    #[test]
    fn scalars_keep_their_text() {
        let node =
            doc("version: 1.10\nport: 8080\nflag: true\nscript: |\n  a\n    b\nempty:\nquoted: \"8080\"\nno: n\n");
        assert_eq!(node.get("version").unwrap().text().unwrap(), "1.10");
        assert_eq!(node.get("port").unwrap().text().unwrap(), "8080");
        assert_eq!(node.get("port").unwrap().value, Value::Integer(8080));
        assert_eq!(node.get("script").unwrap().text().unwrap(), "a\n  b\n");
        assert_eq!(node.get("quoted").unwrap().value, Value::Text("8080".into()));
        assert!(node.get("empty").is_none());
        assert_eq!(node.get("no").unwrap().value, Value::Text("n".into()));
    }

    #[test]
    fn aliases_and_merges_work() {
        let node = doc("a: &x\n  k: v\nb: *x\nc:\n  <<: *x\n  l: w\n");
        assert_eq!(node.get("b").unwrap().get("k").unwrap().text().unwrap(), "v");
        assert_eq!(node.get("c").unwrap().get("k").unwrap().text().unwrap(), "v");
    }

    #[test]
    fn bad_yaml_names_the_place_and_quotes_no_neighbours() {
        let problem = parse(Path::new("flow.yaml"), "token: s3cret\nid: [a\nb: c\n")
            .unwrap_err()
            .to_string();
        assert!(problem.starts_with("flow.yaml:"), "{problem}");
        assert!(!problem.contains("s3cret"), "{problem}");
        let twice = parse(Path::new("flow.yaml"), "id: a\nid: b\n").unwrap_err().to_string();
        assert!(twice.contains("id") && twice.starts_with("flow.yaml:2"), "{twice}");
    }

    #[test]
    fn nearest_name() {
        assert_eq!(
            nearest("containerimage", &["commands", "containerImage"]),
            Some("containerImage")
        );
        assert_eq!(
            nearest("outputFile", &["outputFiles", "inputFiles"]),
            Some("outputFiles")
        );
        assert_eq!(nearest("zzz", &["outputFiles"]), None);
    }
}
