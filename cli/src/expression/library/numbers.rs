//! Filters on numbers, and functions that give numbers.

use serde_json::{Number, Value};

use super::operators::{compute, parse_number, range};
use super::{Call, Entry, Fault};

pub(super) const FILTERS: &[Entry] = &[
    Entry {
        name: "abs",
        parameters: &[],
        takes_null: false,
        run: |call| match number(call, 0)? {
            number if number.as_i64().is_some() => Ok(number.as_i64().and_then(i64::checked_abs).into()),
            number => float(call, number.as_f64().map(f64::abs)),
        },
        summary: "a number without its sign",
        examples: &[("-7 | abs", "7")],
    },
    Entry {
        name: "int",
        parameters: &[],
        takes_null: false,
        run: |call| whole(call, &number(call, 0)?, f64::trunc),
        summary: "a whole number of text or a number, without its fraction",
        examples: &[("'12' | int", "12"), ("3.9 | int", "3")],
    },
    Entry {
        name: "number",
        parameters: &["type?"],
        takes_null: false,
        run: to_number,
        summary: "a number of text; with a type, `INT`, `LONG` and `BIGINTEGER` are whole, `FLOAT`, `DOUBLE` and \
                  `BIGDECIMAL` are not; 64 bits in every case",
        examples: &[("('12.3' | number) + 1", "13.3"), ("'7' | number('INT')", "7")],
    },
    Entry {
        name: "numberFormat",
        parameters: &["format?"],
        takes_null: false,
        run: number_format,
        summary: "a number in a pattern of `#`, `0`, `,` and `.`, rounded half to even",
        examples: &[
            ("3.141592653 | numberFormat('#.##')", "3.14"),
            ("1234567.5 | numberFormat('#,##0.00')", "1,234,567.50"),
            ("7 | numberFormat('000')", "007"),
        ],
    },
    Entry {
        name: "round",
        parameters: &["digits?"],
        takes_null: false,
        run: round,
        summary: "rounds half away from zero, to a whole number or to digits behind the point",
        examples: &[("2.5 | round", "3"), ("3.14159 | round(2)", "3.14")],
    },
];

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry {
        name: "max",
        parameters: &["values..."],
        takes_null: true,
        run: |call| extreme(call, ">"),
        summary: "the largest of its arguments",
        examples: &[("max(20, 80, inputs.count)", "80")],
    },
    Entry {
        name: "min",
        parameters: &["values..."],
        takes_null: true,
        run: |call| extreme(call, "<"),
        summary: "the smallest of its arguments",
        examples: &[("min(20, 80, inputs.count)", "3")],
    },
    Entry {
        name: "range",
        parameters: &["start", "end", "increment?"],
        takes_null: true,
        run: |call| range(call.value(0), call.value(1), call.optional_integer(2)?.unwrap_or(1)),
        summary: "a list of numbers or letters, both ends included; `0..3` is `range(0, 3)`",
        examples: &[("range(0, 6, 2)", "[0,2,4,6]"), ("'a'..'c'", "[\"a\",\"b\",\"c\"]")],
    },
];

fn number(call: &Call<'_>, index: usize) -> Result<Number, Fault> {
    let value = call.value(index);
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => parse_number(text),
        _ => None,
    }
    .ok_or_else(|| call.wrong("a number", value))
}

fn float(call: &Call<'_>, value: Option<f64>) -> Result<Value, Fault> {
    value
        .and_then(Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| call.fault("has no number as its result"))
}

fn whole(call: &Call<'_>, number: &Number, round: fn(f64) -> f64) -> Result<Value, Fault> {
    if let Some(whole) = number.as_i64() {
        return Ok(whole.into());
    }
    let rounded = number.as_f64().map(round).filter(|value| value.abs() < 9e18);
    rounded
        .map(|value| Value::from(value as i64))
        .ok_or_else(|| call.fault("gives a number of at most 64 bits"))
}

fn to_number(call: &Call<'_>) -> Result<Value, Fault> {
    let number = number(call, 0)?;
    match call.optional_text(1)?.as_deref() {
        None => Ok(number.into()),
        Some("INT" | "LONG" | "BIGINTEGER") if number.as_i64().is_some() => Ok(number.into()),
        Some("INT" | "LONG" | "BIGINTEGER") => Err(call.fault("needs a whole number of at most 64 bits for this type")),
        Some("FLOAT" | "DOUBLE" | "BIGDECIMAL") => float(call, number.as_f64()),
        Some(_) => {
            let types = "`INT`, `LONG`, `FLOAT`, `DOUBLE`, `BIGDECIMAL` or `BIGINTEGER`";
            Err(call.fault(&format!("knows the types {types}")))
        }
    }
}

fn round(call: &Call<'_>) -> Result<Value, Fault> {
    let number = number(call, 0)?;
    let digits = call.optional_integer(1)?.unwrap_or(0);
    if digits == 0 {
        return whole(call, &number, f64::round);
    }
    let digits = i32::try_from(digits).ok().filter(|digits| (1..=15).contains(digits));
    let Some(digits) = digits else {
        return Err(call.fault("rounds to 0 to 15 digits"));
    };
    let scale = 10f64.powi(digits);
    float(call, number.as_f64().map(|value| (value * scale).round() / scale))
}

fn number_format(call: &Call<'_>) -> Result<Value, Fault> {
    let number = number(call, 0)?.as_f64().unwrap_or_default();
    let format = call.optional_text(1)?.unwrap_or_else(|| "#,##0.###".to_owned());
    if !format.chars().all(|c| matches!(c, '#' | '0' | ',' | '.')) || format.matches('.').count() > 1 {
        return Err(call.fault("knows patterns of `#`, `0`, `,` and `.`, for example `#,##0.00`"));
    }
    let (whole, fraction) = format.split_once('.').unwrap_or((&format, ""));
    let least = fraction.matches('0').count();
    if fraction.len() > 15 || whole.len() > 30 {
        return Err(call.fault("knows patterns of at most 30 places before and 15 behind the point"));
    }
    let text = format!("{:.*}", fraction.len(), number.abs());
    let (digits, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let zeros = whole.matches('0').count();
    let mut digits = if zeros == 0 && digits == "0" {
        String::new()
    } else {
        digits.to_owned()
    };
    while digits.len() < zeros {
        digits.insert(0, '0');
    }
    if let Some((_, group)) = whole.rsplit_once(',').filter(|(_, group)| !group.is_empty()) {
        let mut at = digits.len();
        while at > group.len() {
            at -= group.len();
            digits.insert(at, ',');
        }
    }
    let mut decimals = decimals.to_owned();
    while decimals.len() > least && decimals.ends_with('0') {
        decimals.pop();
    }
    if digits.is_empty() && decimals.is_empty() {
        digits.push('0');
    }
    let zero = digits.chars().chain(decimals.chars()).all(|c| matches!(c, '0' | ','));
    let sign = if number < 0.0 && !zero { "-" } else { "" };
    let point = if decimals.is_empty() { "" } else { "." };
    Ok(format!("{sign}{digits}{point}{decimals}").into())
}

fn extreme(call: &Call<'_>, operator: &str) -> Result<Value, Fault> {
    let mut found = Value::Null;
    for value in call.arguments {
        if found.is_null() || compute(operator, value, &found)? == Value::Bool(true) {
            found = value.clone();
        }
    }
    Ok(found)
}
