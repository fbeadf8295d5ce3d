//! Values of a document as a flow needs them, each with an error that says what is meant.

use crate::document::{Key, Node, Place, Problem, Value, unknown};
use crate::expression::Text;

/// Fail at the first property that is none of `known`.
pub(super) fn known_properties(node: &Node, what: &str, known: &[&str]) -> Result<(), Problem> {
    match node
        .entries()
        .iter()
        .find(|(key, _)| !known.contains(&key.name.as_str()))
    {
        Some((key, _)) => Err(unknown(&key.place, what, &key.name, known)),
        None => Ok(()),
    }
}

/// The `id` of a flow, an input or a task.
pub(super) fn identifier(node: &Node, what: &str) -> Result<String, Problem> {
    let Some(id) = node.get("id") else {
        return Err(Problem::new(&node.place, format!("a {what} needs an `id`")));
    };
    let text = scalar(id, "`id`")?;
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (c == '.' && what == "flow"));
    if fits && text.len() <= 100 {
        return Ok(text);
    }
    let message = format!("`{text}` cannot be the id of a {what}: use up to 100 letters, digits, `-` and `_`");
    Err(Problem::new(&id.place, message))
}

/// Fail at the first id that is used twice.
pub(super) fn unique<'a>(ids: impl Iterator<Item = &'a str>, list: Option<&Node>, what: &str) -> Result<(), Problem> {
    let mut seen = std::collections::HashSet::new();
    for (index, id) in ids.enumerate() {
        if !seen.insert(id) {
            let place = match list.map(|list| &list.value) {
                Some(Value::List(items)) => items.get(index).map(|item| item.place.clone()),
                _ => None,
            };
            let message = format!("two {what}s have the id `{id}`: give each its own");
            return Err(Problem::new(&place.unwrap_or_else(Place::built_in), message));
        }
    }
    Ok(())
}

/// The items of a list.
pub(super) fn items<'a>(node: &'a Node, what: &str) -> Result<&'a [Node], Problem> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ => Err(Problem::new(
            &node.place,
            format!("{what} must be a list, not {}", node.kind()),
        )),
    }
}

/// The text of a scalar.
pub(super) fn scalar(node: &Node, what: &str) -> Result<String, Problem> {
    node.text()
        .ok_or_else(|| Problem::new(&node.place, format!("{what} must be text, not {}", node.kind())))
}

/// True or false.
pub(super) fn boolean(node: &Node, what: &str) -> Result<bool, Problem> {
    match &node.value {
        Value::Bool(value) => Ok(*value),
        _ => Err(Problem::new(
            &node.place,
            format!("{what} must be true or false, not {}", node.kind()),
        )),
    }
}

/// Text that may hold expressions.
pub(super) fn text(node: &Node, what: &str) -> Result<Text, Problem> {
    Ok(Text {
        text: scalar(node, what)?,
        place: node.place.clone(),
        what: what.to_owned(),
    })
}

/// A list of such texts.
pub(super) fn texts(node: &Node, what: &str) -> Result<Vec<Text>, Problem> {
    let item = |(index, item): (usize, &Node)| {
        // "`commands` of task `t`" becomes "`commands[1]` of task `t`".
        let what = what.replacen("` of", &format!("[{index}]` of"), 1);
        text(item, &what)
    };
    items(node, what)?.iter().enumerate().map(item).collect()
}

/// The names and values of a mapping that a task has.
pub(super) fn pairs(task: &Node, name: &str, what: &impl Fn(&str) -> String) -> Result<Vec<(Text, Text)>, Problem> {
    let Some(node) = task.get(name) else {
        return Ok(Vec::new());
    };
    if !matches!(node.value, Value::Map(_)) {
        let message = format!(
            "{} must be a mapping of names to values, not {}",
            what(name),
            node.kind()
        );
        return Err(Problem::new(&node.place, message));
    }
    let pair = |(key, value): &(Key, Node)| {
        let what = what(&format!("{name}.{}", key.name.escape_debug()));
        let key = Text {
            text: key.name.clone(),
            place: key.place.clone(),
            what: what.clone(),
        };
        Ok((key, text(value, &what)?))
    };
    node.entries()
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(pair)
        .collect()
}
