//! Whether a text is a value of an input, and which. Reasons follow "input `x`" and quote no value.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use serde_json::Value;

use crate::document::listed;
use crate::expression::Text;
use crate::flow::model::Rules;
use crate::flow::{InputDeclaration, InputKind};
use crate::types::common::milliseconds;

/// The value that `text` is for the input, or why it is none.
pub(crate) fn value(input: &InputDeclaration, text: &str) -> Result<Value, String> {
    of_kind(input.kind, &input.rules, text)
}

/// What a flow's output of that kind is that evaluates to `value`, or why it is none. What has no value has no kind.
pub(crate) fn output(kind: InputKind, value: Value) -> Result<Value, String> {
    let any = Rules {
        allow_custom_value: true,
        ..Rules::default()
    };
    match (kind, value) {
        (_, Value::Null) => Ok(Value::Null),
        (InputKind::Json | InputKind::Yaml, value) if !value.is_string() => Ok(value),
        // Whether there is such a file is for others to know.
        (InputKind::File, Value::String(uri)) => Ok(uri.trim().into()),
        (InputKind::File, _) => Err("must be a file: an input or an output file of a task".to_owned()),
        (kind, value) => of_kind(kind, &any, &crate::at::text(&value)),
    }
}

pub(crate) fn of_kind(kind: InputKind, rules: &Rules, text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    match kind {
        InputKind::String => matching(rules, text).map(Value::from),
        InputKind::Int => {
            let number: i64 = trimmed.parse().map_err(|_| "must be a whole number".to_owned())?;
            bounds(rules, &number, |bound| bound.parse().ok())?;
            Ok(number.into())
        }
        InputKind::Float => {
            let number: f64 = trimmed.parse().map_err(|_| "must be a number".to_owned())?;
            bounds(rules, &number, |bound| bound.parse().ok())?;
            let number = serde_json::Number::from_f64(number);
            number
                .map(Value::Number)
                .ok_or_else(|| "must be a finite number".to_owned())
        }
        InputKind::Boolean => trimmed
            .parse::<bool>()
            .map(Value::from)
            .map_err(|_| "must be `true` or `false`".to_owned()),
        InputKind::DateTime => time::<Timestamp>(rules, trimmed, "a moment, such as `2026-01-31T12:00:00Z`"),
        InputKind::Date => time::<Date>(rules, trimmed, "a day, such as `2026-01-31`"),
        InputKind::Time => time::<Time>(rules, trimmed, "a time of day, such as `12:00:00`"),
        InputKind::Duration => {
            let length = milliseconds(trimmed).ok_or("must be an ISO 8601 duration, such as `PT5M`")?;
            bounds(rules, &length, milliseconds)?;
            Ok(trimmed.into())
        }
        InputKind::Select => chosen(rules, text).map(Value::from),
        InputKind::MultiSelect => {
            let Ok(Value::Array(items)) = serde_json::from_str(text) else {
                return Err(r#"must be a JSON list, such as `["a", "b"]`"#.to_owned());
            };
            for item in &items {
                chosen(rules, item.as_str().ok_or("must be a list of texts")?)?;
            }
            Ok(Value::Array(items))
        }
        InputKind::File => Err("is a FILE, which is given as `-i NAME=@PATH`".to_owned()),
        InputKind::Json => serde_json::from_str(text).map_err(|_| "must be JSON".to_owned()),
        InputKind::Yaml => crate::document::parse(std::path::Path::new("the value"), text)
            .map(|node| node.to_json())
            .map_err(|_| "must be YAML".to_owned()),
        InputKind::Uri => match trimmed.split_once(':') {
            Some((scheme, rest))
                if !rest.is_empty()
                    && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                    && !trimmed.contains(char::is_whitespace) =>
            {
                Ok(trimmed.into())
            }
            _ => Err("must be a URI, such as `https://example.com/x`".to_owned()),
        },
        InputKind::Array => {
            let Ok(Value::Array(items)) = serde_json::from_str(text) else {
                return Err("must be a JSON list, such as `[1, 2]`".to_owned());
            };
            let Some(kind) = rules.items else {
                return Ok(Value::Array(items));
            };
            let item = |(index, item): (usize, Value)| {
                let text = match &item {
                    Value::String(text) => text.clone(),
                    item => item.to_string(),
                };
                of_kind(kind, &Rules::default(), &text).map_err(|reason| format!("item {index} {reason}"))
            };
            items.into_iter().enumerate().map(item).collect()
        }
    }
}

/// A text that the whole of the validator matches.
fn matching<'a>(rules: &Rules, text: &'a str) -> Result<&'a str, String> {
    let Some(validator) = &rules.validator else {
        return Ok(text);
    };
    let whole = format!("^(?:{})$", validator.text);
    match regex::Regex::new(&whole).is_ok_and(|whole| whole.is_match(text)) {
        true => Ok(text),
        false => Err(format!("must match `{}`", validator.text)),
    }
}

fn chosen<'a>(rules: &Rules, text: &'a str) -> Result<&'a str, String> {
    if rules.allow_custom_value || rules.values.iter().any(|value| value == text) {
        return Ok(text);
    }
    let values: Vec<&str> = rules.values.iter().map(String::as_str).collect();
    Err(format!("must be one of {}", listed(&values)))
}

fn bounds<T: PartialOrd>(rules: &Rules, value: &T, parse: impl Fn(&str) -> Option<T>) -> Result<(), String> {
    let bound = |text: &Option<Text>| {
        text.as_ref()
            .and_then(|text| Some((parse(text.text.trim())?, text.text.clone())))
    };
    match (bound(&rules.min), bound(&rules.max)) {
        (Some((least, text)), _) if *value < least => Err(format!("must be at least {text}")),
        (_, Some((most, text))) if *value > most => Err(format!("must be at most {text}")),
        _ => Ok(()),
    }
}

fn time<T: std::str::FromStr + PartialOrd>(rules: &Rules, text: &str, form: &str) -> Result<Value, String> {
    let time: T = text.parse().map_err(|_| format!("must be {form}"))?;
    let bound = |text: &Option<Text>| {
        text.as_ref()
            .and_then(|text| Some((text.text.trim().parse::<T>().ok()?, text.text.clone())))
    };
    match (bound(&rules.after), bound(&rules.before)) {
        (Some((earliest, text)), _) if time < earliest => Err(format!("must not be before {text}")),
        (_, Some((latest, text))) if time > latest => Err(format!("must not be after {text}")),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Node, Place};

    fn with(kind: InputKind, rules: Rules, text: &str) -> Result<Value, String> {
        let input = InputDeclaration {
            id: "x".into(),
            place: Place::built_in(),
            kind,
            required: true,
            default: None::<Node>,
            rules,
        };
        value(&input, text)
    }

    fn text(text: &str) -> Option<Text> {
        Some(Text {
            text: text.into(),
            place: Place::built_in(),
            what: String::new(),
        })
    }

    #[test]
    fn every_kind_has_its_values() {
        let plain = |kind, text| with(kind, Rules::default(), text);
        for (kind, good, bad) in [
            (InputKind::Int, "3", "3.5"),
            (InputKind::Float, "1e3", "inf"),
            (InputKind::Boolean, "true", "yes"),
            (InputKind::DateTime, "2026-01-31T12:00:00Z", "tomorrow"),
            (InputKind::Date, "2026-01-31", "31.1.2026"),
            (InputKind::Time, "12:30:00", "noon"),
            (InputKind::Duration, "PT5M", "5 min"),
            (InputKind::Json, "{\"a\": [1]}", "{a"),
            (InputKind::Yaml, "a: [1]", "a: ["),
            (InputKind::Uri, "s3://bucket/x", "no uri"),
            (InputKind::Array, "[1, \"a\"]", "{}"),
        ] {
            assert!(plain(kind, good).is_ok(), "{kind:?} {good}");
            let reason = plain(kind, bad).unwrap_err();
            assert!(
                reason.starts_with("must be") && !reason.contains(bad),
                "{kind:?} {bad}: {reason}"
            );
        }
        assert_eq!(plain(InputKind::Yaml, "a: [1]").unwrap(), serde_json::json!({"a": [1]}));
    }

    #[test]
    fn outputs_become_what_they_are_declared_to_be() {
        use serde_json::json;
        for (kind, value, expected) in [
            (InputKind::String, json!(5), json!("5")),
            (InputKind::String, json!([1, "a"]), json!("[1,\"a\"]")),
            (InputKind::Int, json!(" 5\n"), json!(5)),
            (InputKind::Boolean, json!("true"), json!(true)),
            (InputKind::Select, json!("any"), json!("any")),
            (InputKind::Array, json!([1, "a"]), json!([1, "a"])),
            (InputKind::Json, json!("{\"a\": 1}"), json!({"a": 1})),
            (InputKind::Json, json!({"a": 1}), json!({"a": 1})),
            (InputKind::Int, json!(null), json!(null)),
        ] {
            assert_eq!(output(kind, value).unwrap(), expected, "{kind:?}");
        }
        for (kind, value) in [
            (InputKind::Int, json!("abc")),
            (InputKind::Boolean, json!(1)),
            (InputKind::Array, json!({"a": 1})),
            (InputKind::Json, json!("{a")),
            (InputKind::File, json!(1)),
        ] {
            assert!(output(kind, value.clone()).is_err(), "{kind:?} {value}");
        }
    }

    #[test]
    fn rules_hold() {
        let rules = |change: fn(&mut Rules)| {
            let mut rules = Rules::default();
            change(&mut rules);
            rules
        };
        let range = rules(|rules| (rules.min, rules.max) = (text("1"), text("3")));
        assert_eq!(
            with(InputKind::Int, range.clone(), "4").unwrap_err(),
            "must be at most 3"
        );
        assert_eq!(with(InputKind::Float, range, "0.5").unwrap_err(), "must be at least 1");
        let lengths = rules(|rules| rules.max = text("PT1H"));
        assert_eq!(
            with(InputKind::Duration, lengths, "PT61M").unwrap_err(),
            "must be at most PT1H"
        );
        let days = rules(|rules| rules.after = text("2026-01-01"));
        assert_eq!(
            with(InputKind::Date, days, "2025-12-31").unwrap_err(),
            "must not be before 2026-01-01"
        );
        let pattern = rules(|rules| rules.validator = text("[a-z]+|x1"));
        assert_eq!(with(InputKind::String, pattern.clone(), "x1").unwrap(), "x1");
        assert_eq!(
            with(InputKind::String, pattern, "ab1").unwrap_err(),
            "must match `[a-z]+|x1`"
        );
        let choice = rules(|rules| rules.values = vec!["a".into(), "b".into()]);
        assert_eq!(
            with(InputKind::Select, choice.clone(), "c").unwrap_err(),
            "must be one of `a`, `b`"
        );
        assert!(with(InputKind::MultiSelect, choice.clone(), "[\"a\", \"b\"]").is_ok());
        assert!(with(InputKind::MultiSelect, choice, "[\"a\", \"c\"]").is_err());
        let items = rules(|rules| rules.items = Some(InputKind::Int));
        assert_eq!(
            with(InputKind::Array, items, "[1, \"x\"]").unwrap_err(),
            "item 1 must be a whole number"
        );
    }
}
