//! Filters on lists and mappings.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::operators::is_empty;
use super::{Call, Entry, Fault, kind, show};

pub(super) const FILTERS: &[Entry] = &[
    Entry {
        name: "chunk",
        parameters: &["size"],
        takes_null: false,
        run: |call| match call.count(1)? {
            0 => Err(call.fault("needs a size above 0")),
            size => Ok(call
                .list(0)?
                .chunks(size)
                .map(|chunk| Value::from(chunk.to_vec()))
                .collect()),
        },
        summary: "cuts a list into lists of a size",
        examples: &[("[1, 2, 3, 4, 5] | chunk(2)", "[[1,2],[3,4],[5]]")],
    },
    Entry {
        name: "default",
        parameters: &["default"],
        takes_null: true,
        run: |call| Ok(call.value(usize::from(is_empty(call.value(0)))).clone()),
        summary: "its argument where the value is missing, null or empty",
        examples: &[
            ("inputs.empty | default('none given')", "none given"),
            ("outputs.first.nosuch | default(1)", "1"),
        ],
    },
    Entry {
        name: "distinct",
        parameters: &[],
        takes_null: false,
        run: distinct,
        summary: "a list without repetitions",
        examples: &[("['1', '1', '2', '3'] | distinct", "[\"1\",\"2\",\"3\"]")],
    },
    Entry {
        name: "first",
        parameters: &[],
        takes_null: false,
        run: |call| end(call, false),
        summary: "the first item of a list or letter of a text; null if there is none",
        examples: &[("['apple', 'banana'] | first", "apple"), ("'Mitch' | first", "M")],
    },
    Entry {
        name: "flatten",
        parameters: &[],
        takes_null: false,
        run: flatten,
        summary: "puts the items of lists in a list into it, one level deep",
        examples: &[("[1, [2, 3], [[4]]] | flatten", "[1,2,3,[4]]")],
    },
    Entry {
        name: "join",
        parameters: &["separator?"],
        takes_null: false,
        run: join,
        summary: "one text of a list, with a separator",
        examples: &[("['apple', 'banana'] | join(', ')", "apple, banana")],
    },
    Entry {
        name: "keys",
        parameters: &[],
        takes_null: false,
        run: |call| match call.value(0) {
            Value::Object(map) => Ok(map.keys().map(|key| Value::from(key.as_str())).collect()),
            Value::Array(items) => Ok((0..items.len()).map(Value::from).collect()),
            value => Err(call.wrong("a list or mapping", value)),
        },
        summary: "the names of a mapping, sorted, or the indices of a list",
        examples: &[("{'foo': 1, 'bar': 2} | keys", "[\"bar\",\"foo\"]")],
    },
    Entry {
        name: "last",
        parameters: &[],
        takes_null: false,
        run: |call| end(call, true),
        summary: "the last item of a list or letter of a text; null if there is none",
        examples: &[("['apple', 'banana'] | last", "banana"), ("'Mitch' | last", "h")],
    },
    Entry {
        name: "length",
        parameters: &[],
        takes_null: true,
        run: |call| Ok(length(call.value(0)).into()),
        summary: "how many letters, items or entries there are; 0 for everything else",
        examples: &[("'Mitch' | length", "5"), ("{'a': 1} | length", "1")],
    },
    Entry {
        name: "merge",
        parameters: &["items"],
        takes_null: true,
        run: merge,
        summary: "puts two lists or two mappings together; the entries of the argument win",
        examples: &[
            ("[1, 2] | merge([3, 4])", "[1,2,3,4]"),
            ("{'a': 1, 'b': 1} | merge({'b': 2})", "{\"a\":1,\"b\":2}"),
        ],
    },
    Entry {
        name: "reverse",
        parameters: &[],
        takes_null: false,
        run: |call| Ok(call.list(0)?.iter().rev().cloned().collect()),
        summary: "a list from its end",
        examples: &[("['apple', 'banana'] | reverse", "[\"banana\",\"apple\"]")],
    },
    Entry {
        name: "rsort",
        parameters: &[],
        takes_null: false,
        run: |call| sorted(call, true),
        summary: "sorts a list, the largest first",
        examples: &[("[3, 1, 2] | rsort", "[3,2,1]")],
    },
    Entry {
        name: "slice",
        parameters: &["fromIndex?", "toIndex?"],
        takes_null: false,
        run: slice,
        summary: "a part of a list or text, from an index up to but without another",
        examples: &[
            ("['apple', 'banana', 'cherry'] | slice(1, 2)", "[\"banana\"]"),
            ("'Mitch' | slice(1, 3)", "it"),
        ],
    },
    Entry {
        name: "sort",
        parameters: &[],
        takes_null: false,
        run: |call| sorted(call, false),
        summary: "sorts a list of numbers or of texts",
        examples: &[("[3, 1, 2] | sort", "[1,2,3]")],
    },
    Entry {
        name: "values",
        parameters: &[],
        takes_null: false,
        run: |call| match call.value(0) {
            Value::Object(map) => Ok(map.values().cloned().collect()),
            value => Err(call.wrong("a mapping", value)),
        },
        summary: "the values of a mapping, in the order of its sorted names",
        examples: &[("{'foo': 'bar', 'baz': 'qux'} | values", "[\"qux\",\"bar\"]")],
    },
];

fn distinct(call: &Call<'_>) -> Result<Value, Fault> {
    let mut seen = std::collections::HashSet::new();
    let items = call.list(0)?.iter();
    Ok(items.filter(|item| seen.insert(item.to_string())).cloned().collect())
}

fn end(call: &Call<'_>, last: bool) -> Result<Value, Fault> {
    let found = match call.value(0) {
        Value::Array(items) if last => items.last().cloned(),
        Value::Array(items) => items.first().cloned(),
        Value::String(text) => {
            let letter = if last {
                text.chars().next_back()
            } else {
                text.chars().next()
            };
            letter.map(|letter| letter.to_string().into())
        }
        value => return Err(call.wrong("a list or text", value)),
    };
    Ok(found.unwrap_or_default())
}

fn flatten(call: &Call<'_>) -> Result<Value, Fault> {
    let mut flat = Vec::new();
    for item in call.list(0)? {
        match item {
            Value::Array(items) => flat.extend(items.iter().cloned()),
            item => flat.push(item.clone()),
        }
    }
    Ok(flat.into())
}

fn join(call: &Call<'_>) -> Result<Value, Fault> {
    let separator = call.optional_text(1)?.unwrap_or_default();
    let items: Vec<String> = call.list(0)?.iter().map(show).collect();
    Ok(items.join(&separator).into())
}

fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn merge(call: &Call<'_>) -> Result<Value, Fault> {
    Ok(match (call.value(0), call.value(1)) {
        (Value::Null, Value::Null) => return Err(call.fault("has nothing to merge: both values are empty")),
        (Value::Null, items) => items.clone(),
        (value, Value::Null) => value.clone(),
        (Value::Object(one), Value::Object(other)) => {
            let mut merged: Map<String, Value> = one.clone();
            merged.extend(other.iter().map(|(key, value)| (key.clone(), value.clone())));
            merged.into()
        }
        (Value::Array(one), Value::Array(other)) => one.iter().chain(other).cloned().collect(),
        (one, other) => {
            let message = format!(
                "merges two lists or two mappings, not {} and {}",
                kind(one),
                kind(other)
            );
            return Err(call.fault(&message));
        }
    })
}

fn slice(call: &Call<'_>) -> Result<Value, Fault> {
    let length = match call.value(0) {
        value @ (Value::Array(_) | Value::String(_)) => length(value),
        value => return Err(call.wrong("a list or text", value)),
    };
    let from = match call.value(1) {
        Value::Null => 0,
        _ => call.count(1)?,
    };
    let to = match call.value(2) {
        Value::Null => length,
        _ => call.count(2)?,
    };
    if from > to || to > length {
        let message = format!("cannot take from {from} to {to} of something with length {length}");
        return Err(call.fault(&message));
    }
    let range = from..to;
    Ok(match call.value(0) {
        Value::String(text) => text.chars().skip(from).take(range.len()).collect::<String>().into(),
        _ => call.list(0)?.get(range).unwrap_or_default().to_vec().into(),
    })
}

fn sorted(call: &Call<'_>, reverse: bool) -> Result<Value, Fault> {
    let mut items = call.list(0)?.clone();
    let numbers = items.iter().all(Value::is_number);
    if !numbers && !items.iter().all(Value::is_string) {
        return Err(call.fault("needs a list of numbers only or of texts only"));
    }
    let order = |one: &Value, other: &Value| -> Ordering {
        match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ if numbers => {
                let (one, other) = (one.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
                one.total_cmp(&other)
            }
            _ => one.as_str().cmp(&other.as_str()),
        }
    };
    items.sort_by(order);
    if reverse {
        items.reverse();
    }
    Ok(items.into())
}
