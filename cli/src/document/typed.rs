//! Reads typed values from a document with serde's derives, without losing where each was written.
//!
//! A schema has been checked before: what fails here says less about the cure.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{Node, Place, Problem, Value};
use crate::expression::Text;

/// Read a value. `owner` is whose properties these are to the reader of an error, for example "task `hello`".
pub(crate) fn read<'a, T: Deserialize<'a>>(node: &'a Node, owner: &'a str) -> Result<T, Problem> {
    let reader = Reader {
        node,
        path: String::new(),
        owner,
    };
    T::deserialize(reader).map_err(|failure| Problem::new(&node.place, format!("{owner}: {failure}")))
}

/// What a property is to the reader of an error.
pub(crate) fn named(path: &str, owner: &str) -> String {
    match (path.is_empty(), owner.is_empty()) {
        (true, _) => owner.to_owned(),
        (_, true) => format!("`{path}`"),
        _ => format!("`{path}` of {owner}"),
    }
}

/// The path of a property below another one.
pub(crate) fn below(path: &str, name: &str) -> String {
    let name = name.escape_debug();
    match path.is_empty() {
        true => name.to_string(),
        false => format!("{path}.{name}"),
    }
}

/// Asks a [`Reader`] for a value as it is, with its place.
const AS_IT_IS: &str = "$podrun::Node";

thread_local! {
    /// Serde's data model has no room for a place, so a value that is asked for as it is travels beside it.
    static TAKEN: RefCell<Option<(Node, String)>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct Reader<'a> {
    node: &'a Node,
    path: String,
    owner: &'a str,
}

impl<'a> IntoDeserializer<'a, Failure> for Reader<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value, _) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => {
                let items = items.iter().enumerate().map(|(index, node)| Reader {
                    node,
                    path: format!("{}[{index}]", self.path),
                    owner: self.owner,
                });
                visitor.visit_seq(SeqDeserializer::new(items))
            }
            Value::Map(entries) => {
                // An explicit null unsets what a weaker level says.
                let entries = entries.iter().filter(|(_, node)| !node.is_null()).map(|(key, node)| {
                    let path = below(&self.path, &key.name);
                    let owner = self.owner;
                    (key.name.as_str(), Reader { node, path, owner })
                });
                visitor.visit_map(MapDeserializer::new(entries))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.text() {
            Some(text) => visitor.visit_string(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Failure> {
        if name != AS_IT_IS {
            return visitor.visit_newtype_struct(self);
        }
        let what = named(&self.path, self.owner);
        TAKEN.set(Some((self.node.clone(), what)));
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Text(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            _ => Err(Failure(format!("{} must be text", named(&self.path, self.owner)))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A value as it is, and what it is to the reader of an error.
struct Taken(Node, String);

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = Taken;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a document")
            }

            fn visit_unit<E: serde::de::Error>(self) -> Result<Taken, E> {
                let taken = TAKEN.take().map(|(node, what)| Taken(node, what));
                taken.ok_or_else(|| E::custom("not read from a document"))
            }
        }
        deserializer.deserialize_newtype_struct(AS_IT_IS, Take)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Taken::deserialize(deserializer).map(|Taken(node, _)| node)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Taken(node, what) = Taken::deserialize(deserializer)?;
        text_of(&node, what.clone())
            .ok_or_else(|| serde::de::Error::custom(format!("{what} must be text, not {}", node.kind())))
    }
}

/// The text of a scalar, with its place.
pub(crate) fn text_of(node: &Node, what: String) -> Option<Text> {
    Some(Text {
        text: node.text()?,
        place: Place::clone(&node.place),
        what,
    })
}

/// Why a value cannot be read.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Task {
        id: String,
        lines: Vec<Text>,
        #[serde(default)]
        fail_fast: bool,
        any: Option<Node>,
        count: Option<u32>,
    }

    #[test]
    fn places_and_names_survive() {
        let text = "id: 1.10\nlines:\n  - a\n  - 2.50\nfailFast: true\nany: {b: c}\ncount: null\nother: x\n";
        let node = super::super::parse(Path::new("f.yaml"), text).unwrap();
        let task: Task = read(&node, "task `t`").unwrap();
        assert_eq!(task.id, "1.10");
        assert_eq!(task.lines[1].text, "2.50");
        assert_eq!(task.lines[1].place.to_string(), "f.yaml:4:5");
        assert_eq!(task.lines[1].what, "`lines[1]` of task `t`");
        assert!(task.fail_fast && task.count.is_none());
        assert_eq!(task.any.unwrap().get("b").unwrap().place.to_string(), "f.yaml:6:10");
    }

    #[test]
    fn failures_name_the_owner() {
        let node = super::super::parse(Path::new("f.yaml"), "id: a\nlines: [{}]").unwrap();
        let problem = read::<Task>(&node, "task `t`").unwrap_err().to_string();
        insta::assert_snapshot!(problem, @"f.yaml:1:1: task `t`: `lines[0]` of task `t` must be text, not a mapping");
    }
}
