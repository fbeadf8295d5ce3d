//! Reads what a flow declares about its inputs.

use super::model::{InputDeclaration, InputKind, Rules};
use super::values::{Ids, owner};
use crate::document::{Node, Problem, Value, typed};
use crate::expression::{Text, is_template};
use crate::inputs;
use crate::types::check::check;
use crate::types::inputs::{Choice, Common, Items, Lengths, Numbers, Pattern, Times};
use crate::types::{InputType, Schemas, input_type, input_type_names};

/// The inputs, without those that are mistakes.
pub(super) fn read(nodes: &[Node], schemas: &Schemas, problems: &mut Vec<Problem>) -> Vec<InputDeclaration> {
    let mut ids = Ids::default();
    let mut all = Vec::new();
    for node in nodes {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("an input must be a mapping with `id` and `type`, not {}", node.kind());
            problems.push(Problem::new(&node.place, message));
            continue;
        }
        problems.extend(ids.add(node, "input"));
        match read_one(node, schemas) {
            Ok(input) => all.push(input),
            Err(more) => problems.extend(more),
        }
    }
    all
}

fn read_one(node: &Node, schemas: &Schemas) -> Result<InputDeclaration, Vec<Problem>> {
    let owner = owner(node, "input");
    let names = input_type_names();
    let Some(kind) = node.get("type") else {
        let message = format!("{owner} needs `type`: one of {}", crate::document::listed(&names));
        return Err(vec![Problem::new(&node.place, message)]);
    };
    let name = kind.text().unwrap_or_default();
    let Some(InputType { name, kind, .. }) = input_type(&name) else {
        let what = format!("type of {owner}:");
        return Err(vec![crate::document::unknown(
            &kind.place,
            &what,
            &name.escape_debug().to_string(),
            &names,
        )]);
    };
    let problems = match schemas.definition(&format!("Input.{name}")) {
        Some(schema) => check(node, schema, schemas, &owner),
        None => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    declaration(node, kind, &owner).map_err(|problem| vec![problem])
}

fn declaration(node: &Node, kind: InputKind, owner: &str) -> Result<InputDeclaration, Problem> {
    let common: Common = typed::read(node, owner)?;
    let declaration = InputDeclaration {
        id: common.id,
        place: node.place.clone(),
        kind,
        required: common.required,
        default: common.defaults,
        rules: rules(node, kind, owner)?,
    };
    check_default(&declaration, owner)?;
    Ok(declaration)
}

/// A problem if the default can be known not to fit.
fn check_default(declaration: &InputDeclaration, owner: &str) -> Result<(), Problem> {
    let Some(default) = &declaration.default else {
        return Ok(());
    };
    let text = default.text().unwrap_or_else(|| default.to_json().to_string());
    if is_template(&text) {
        return Ok(());
    }
    inputs::value(declaration, &text)
        .map(|_| ())
        .map_err(|reason| Problem::new(&default.place, format!("`defaults` of {owner} {reason}")))
}

fn rules(node: &Node, kind: InputKind, owner: &str) -> Result<Rules, Problem> {
    let mut rules = Rules::default();
    match kind {
        InputKind::String => {
            rules.validator = typed::read::<Pattern>(node, owner)?.validator;
        }
        InputKind::Int | InputKind::Float => {
            let Numbers { min, max } = typed::read(node, owner)?;
            let number = |text: &Option<Text>| text.as_ref().and_then(|text| text.text.parse::<f64>().ok());
            turned_round(&min, number(&min), number(&max))?;
            (rules.min, rules.max) = (min, max);
        }
        InputKind::Duration => {
            let Lengths { min, max } = typed::read(node, owner)?;
            let length = |text: &Option<Text>| {
                text.as_ref()
                    .and_then(|text| crate::types::common::milliseconds(&text.text))
            };
            turned_round(&min, length(&min), length(&max))?;
            (rules.min, rules.max) = (min, max);
        }
        InputKind::DateTime | InputKind::Date | InputKind::Time => {
            let Times { after, before } = typed::read(node, owner)?;
            for bound in [&after, &before].into_iter().flatten() {
                inputs::values::of_kind(kind, &Rules::default(), &bound.text).map_err(|reason| {
                    let message = format!("{} {reason}", bound.what);
                    Problem::new(&bound.place, message)
                })?;
            }
            (rules.after, rules.before) = (None, before);
            if let Some(after) = &after
                && inputs::values::of_kind(kind, &rules, &after.text).is_err()
            {
                let message = format!("{} is later than `before`: nothing can be between them", after.what);
                return Err(Problem::new(&after.place, message));
            }
            rules.after = after;
        }
        InputKind::Select | InputKind::MultiSelect => {
            let Choice {
                values,
                allow_custom_value,
            } = typed::read(node, owner)?;
            rules.values = values.into_iter().map(|value| value.text).collect();
            rules.allow_custom_value = allow_custom_value;
        }
        InputKind::Array => {
            let Items { item_type } = typed::read(node, owner)?;
            rules.items = item_type
                .and_then(|name| input_type(&name.text))
                .map(|InputType { kind, .. }| kind);
        }
        InputKind::Boolean | InputKind::File | InputKind::Json | InputKind::Yaml | InputKind::Uri => {}
    }
    Ok(rules)
}

/// A problem if the least value is above the greatest one.
fn turned_round<T: PartialOrd>(text: &Option<Text>, min: Option<T>, max: Option<T>) -> Result<(), Problem> {
    match (text, min, max) {
        (Some(text), Some(min), Some(max)) if min > max => {
            let message = format!("{} is above `max`: nothing can be between them", text.what);
            Err(Problem::new(&text.place, message))
        }
        _ => Ok(()),
    }
}
