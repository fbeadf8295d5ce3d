//! Operators, tests, and what counts as true.

use serde_json::{Number, Value};

use super::{Fault, Test, kind, show};

/// The longest list that `..` and `range` make.
pub(super) const LONGEST_RANGE: i128 = 1_000_000;

/// What counts as true, in expressions and in conditions: `false`, 0, empty text, null, and the texts `false`, `0` and
/// `-0` do not; nor does an empty list or mapping.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !matches!(text.trim(), "" | "false" | "0" | "-0" | "null"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The result of an operator between two values.
pub(in super::super) fn compute(operator: &str, left: &Value, right: &Value) -> Result<Value, Fault> {
    Ok(match operator {
        "~" => (show(left) + &show(right)).into(),
        "+" if left.is_string() || right.is_string() => (show(left) + &show(right)).into(),
        "+" if let Value::Array(items) = left => {
            let mut items = items.clone();
            match right {
                Value::Array(more) => items.extend(more.iter().cloned()),
                value => items.push(value.clone()),
            }
            items.into()
        }
        "-" if let Value::Array(items) = left => {
            let gone = |item: &&Value| match right {
                Value::Array(others) => !others.contains(item),
                other => *item != other,
            };
            items.iter().filter(gone).cloned().collect()
        }
        "+" | "-" | "*" | "/" | "%" => arithmetic(operator, left, right)?,
        "==" => equal(left, right).into(),
        "!=" => (!equal(left, right)).into(),
        ">" | "<" | ">=" | "<=" => compare(operator, left, right)?.into(),
        "contains" => contains(left, right)?.into(),
        "isIn" => contains(right, left)?.into(),
        "isNotIn" => (!contains(right, left)?).into(),
        ".." => range(left, right, 1)?,
        other => return Err(Fault::new(format!("unknown operator `{other}`"))),
    })
}

/// `-value`.
pub(in super::super) fn negative(value: &Value) -> Result<Value, Fault> {
    arithmetic("*", &Value::from(-1), value)
}

enum Operand {
    Whole(i64),
    Float(f64),
}

fn operand(operator: &str, value: &Value) -> Result<Operand, Fault> {
    let wrong = || Fault::new(format!("`{operator}` needs numbers, not {}", kind(value)));
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => parse_number(text).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Ok(Operand::Whole(whole)),
        (None, Some(float)) => Ok(Operand::Float(float)),
        (None, None) => Err(wrong()),
    }
}

/// A number as text has it: with a point or an exponent it is a floating one.
pub(super) fn parse_number(text: &str) -> Option<Number> {
    let text = text.trim();
    if text.contains(['.', 'e', 'E']) {
        Number::from_f64(text.parse().ok()?)
    } else {
        text.parse::<i64>().ok().map(Number::from)
    }
}

fn arithmetic(operator: &str, left: &Value, right: &Value) -> Result<Value, Fault> {
    let too_large = || Fault::new(format!("the result of `{operator}` does not fit into 64 bits"));
    let float = |operand: &Operand| match operand {
        Operand::Whole(value) => *value as f64,
        Operand::Float(value) => *value,
    };
    let (left, right) = (operand(operator, left)?, operand(operator, right)?);
    if let (Operand::Whole(left), Operand::Whole(right)) = (&left, &right) {
        let result = match operator {
            "+" => left.checked_add(*right),
            "-" => left.checked_sub(*right),
            "*" => left.checked_mul(*right),
            "/" | "%" if *right == 0 => return Err(Fault::new(format!("`{operator}` divides by zero"))),
            "/" => left.checked_div(*right),
            _ => left.checked_rem(*right),
        };
        return result.map(Value::from).ok_or_else(too_large);
    }
    let (left, right) = (float(&left), float(&right));
    let result = match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        _ => left % right,
    };
    Number::from_f64(result)
        .map(Value::Number)
        .ok_or_else(|| Fault::new(format!("the result of `{operator}` is no number")))
}

/// Numbers equal texts that are written like them, and so do `true` and `false`: a round's value keeps its type here, and is
/// text to flows that were written for other systems.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (scalar @ (Value::Number(_) | Value::Bool(_)), Value::String(text))
        | (Value::String(text), scalar @ (Value::Number(_) | Value::Bool(_))) => show(scalar) == *text,
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn compare(operator: &str, left: &Value, right: &Value) -> Result<bool, Fault> {
    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Ok(false),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64().partial_cmp(&right.as_f64()),
        },
        (left, right) => {
            let message = format!(
                "`{operator}` cannot compare {} with {}: `| number` makes a number of text",
                kind(left),
                kind(right)
            );
            return Err(Fault(message));
        }
    };
    Ok(order.is_some_and(|order| match operator {
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        ">=" => order.is_ge(),
        _ => order.is_le(),
    }))
}

fn contains(whole: &Value, part: &Value) -> Result<bool, Fault> {
    Ok(match (whole, part) {
        (Value::Null, _) => false,
        (Value::Array(items), Value::Array(parts)) => parts.iter().all(|part| has(items, part)),
        (Value::Array(items), part) => has(items, part),
        (Value::Object(map), part) => map.contains_key(&show(part)),
        (Value::String(text), part) => text.contains(&show(part)),
        (whole, _) => {
            let message = format!("only text, lists and mappings contain something, not {}", kind(whole));
            return Err(Fault(message));
        }
    })
}

fn has(items: &[Value], part: &Value) -> bool {
    items.iter().any(|item| equal(item, part))
}

/// The list from one number or letter to another, both included.
pub(super) fn range(from: &Value, to: &Value, step: i64) -> Result<Value, Fault> {
    let letter = |value: &Value| {
        let mut letters = value.as_str()?.chars();
        letters.next().filter(|_| letters.next().is_none())
    };
    if step == 0 {
        return Err(Fault::new("a range needs a step other than 0"));
    }
    let (from, to, letters) = match (from.as_i64(), to.as_i64(), letter(from), letter(to)) {
        (Some(from), Some(to), ..) => (from, to, false),
        (_, _, Some(from), Some(to)) => (i64::from(u32::from(from)), i64::from(u32::from(to)), true),
        _ => return Err(Fault::new("a range goes from a whole number or letter to another")),
    };
    if (i128::from(to) - i128::from(from)) / i128::from(step) >= LONGEST_RANGE {
        return Err(Fault::new(format!("a range has at most {LONGEST_RANGE} items")));
    }
    let mut items: Vec<Value> = Vec::new();
    let mut next = Some(from);
    while let Some(item) = next.filter(|item| if step > 0 { *item <= to } else { *item >= to }) {
        let letter = u32::try_from(item).ok().and_then(char::from_u32);
        items.push(match letter.filter(|_| letters) {
            Some(letter) => letter.to_string().into(),
            None => item.into(),
        });
        next = item.checked_add(step);
    }
    Ok(items.into())
}

/// What `for` goes through: the items of a list, or a mapping's entries with `key` and `value`.
pub(in super::super) fn iterable(value: Value) -> Result<Value, Fault> {
    Ok(match value {
        Value::Null => Value::Array(Vec::new()),
        Value::Array(items) => items.into(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| serde_json::json!({"key": key, "value": value}))
            .collect(),
        other => {
            return Err(Fault(format!(
                "`for` goes through lists and mappings, not {}",
                kind(&other)
            )));
        }
    })
}

/// True for null, blank text and what has no items; the filter `default` then takes its argument.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn even(value: &Value) -> Result<bool, Fault> {
    match value.as_i64() {
        Some(number) => Ok(number % 2 == 0),
        None => Err(Fault(format!(
            "`is even` and `is odd` need a whole number, not {}",
            kind(value)
        ))),
    }
}

/// Tests. What is missing counts as null for all of them.
pub(super) const TESTS: &[Test] = &[
    Test {
        name: "defined",
        run: |value| Ok(!value.is_null()),
        examples: &[("inputs.file is defined", "true"), ("inputs.empty is defined", "false")],
    },
    Test {
        name: "empty",
        run: |value| Ok(is_empty(value)),
        examples: &[("'' is empty", "true"), ("[1] is not empty", "true")],
    },
    Test {
        name: "even",
        run: even,
        examples: &[("2 is even", "true")],
    },
    Test {
        name: "iterable",
        run: |value| Ok(value.is_array()),
        examples: &[("[1] is iterable", "true"), ("'a' is iterable", "false")],
    },
    Test {
        name: "json",
        run: |value| Ok(matches!(value, Value::String(text) if serde_json::from_str::<Value>(text).is_ok())),
        examples: &[("'{\"a\": 1}' is json", "true"), ("'a' is json", "false")],
    },
    Test {
        name: "map",
        run: |value| Ok(value.is_object()),
        examples: &[("{'a': 1} is map", "true")],
    },
    Test {
        name: "null",
        run: |value| Ok(value.is_null()),
        examples: &[
            ("inputs.empty is null", "true"),
            ("outputs.first.nosuch is null", "true"),
        ],
    },
    Test {
        name: "odd",
        run: |value| even(value).map(|even| !even),
        examples: &[("2 is odd", "false")],
    },
];
