//! Values of a document as a flow needs them, once their shape has been checked.

use std::collections::HashMap;

use crate::document::typed::{below, named, text_of};
use crate::document::{Key, Node, Place, Problem, Value};
use crate::expression::Text;

/// Remembers which ids were used, and where.
#[derive(Default)]
pub(super) struct Ids {
    seen: HashMap<String, Place>,
}

impl Ids {
    /// A problem if the id was used before. `what` has one, for example "task".
    pub(super) fn add(&mut self, node: &Node, what: &str) -> Option<Problem> {
        let id = node.get("id")?;
        let text = id.text()?;
        match self.seen.get(&text) {
            None => {
                self.seen.insert(text, id.place.clone());
                None
            }
            Some(first) => {
                let message = format!("two {what}s have the id `{text}`, the other one at {first}: give each its own");
                Some(Problem::new(&id.place, message))
            }
        }
    }
}

/// Whose properties these are to the reader of an error: "task `hello`".
pub(super) fn owner(node: &Node, what: &str) -> String {
    match node.get("id").and_then(Node::text) {
        Some(id) => format!("{what} `{}`", id.escape_debug()),
        None => match what.starts_with(['a', 'e', 'i', 'o']) {
            true => format!("an {what}"),
            false => format!("a {what}"),
        },
    }
}

/// The texts of a list, or the one text.
pub(super) fn one_or_many(node: &Node, path: &str, owner: &str) -> Vec<Text> {
    match &node.value {
        Value::List(items) => {
            let items = items.iter().enumerate();
            items
                .filter_map(|(index, item)| text_of(item, named(&format!("{path}[{index}]"), owner)))
                .collect()
        }
        _ => text_of(node, named(path, owner)).into_iter().collect(),
    }
}

/// The names and texts of a mapping; an explicit null unsets what a weaker level says.
pub(super) fn pairs(node: &Node, path: &str, owner: &str) -> Vec<(Text, Text)> {
    let pair = |(key, value): &(Key, Node)| {
        let what = named(&below(path, &key.name), owner);
        let name = Text {
            text: key.name.clone(),
            place: key.place.clone(),
            what: what.clone(),
        };
        Some((name, text_of(value, what)?))
    };
    let entries = node.entries().iter().filter(|(_, value)| !value.is_null());
    entries.filter_map(pair).collect()
}

/// Every text below a node.
pub(super) fn texts_below(node: &Node, what: &str, all: &mut Vec<Text>) {
    match &node.value {
        Value::Text(text) => all.push(Text {
            text: text.clone(),
            place: node.place.clone(),
            what: what.to_owned(),
        }),
        Value::List(items) => items.iter().for_each(|item| texts_below(item, what, all)),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| texts_below(value, what, all)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(..) => {}
    }
}
