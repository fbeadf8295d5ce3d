//! Reads YAML into trees.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::{Key, Layer, Node, Place, Problem, Source, Value};

/// Parse one YAML document. `name` is what errors call it.
pub(crate) fn parse(name: &Path, text: &str) -> Result<Node, Problem> {
    let file = Rc::new(Source {
        name: name.display().to_string(),
        text: text.to_owned(),
    });
    // Snippets would quote neighbouring lines, and those may hold credentials. `n` and `yes` are text, as YAML 1.2 says.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let place = place(&file, location, location);
        Problem::new(&place, format!("not valid YAML: {}", reason(&error.to_string())))
    })?;
    Ok(convert(raw, &file))
}

/// What the parser says, without the place, which is said already, and without advice for programs.
fn reason(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let plain = [
        (
            "multiple YAML documents",
            "there is more than one document; a second one begins at `---`",
        ),
        ("recursive references", "an alias stands within what it names"),
        (
            "budget breached",
            "there is too much of it, perhaps because of aliases of aliases",
        ),
    ];
    if let Some((_, plain)) = plain.iter().find(|(start, _)| line.starts_with(start)) {
        return plain;
    }
    let end = [" at line ", ", set "].iter().filter_map(|mark| line.find(mark)).min();
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}

fn place(file: &Rc<Source>, referenced: Location, defined: Location) -> Place {
    Place {
        file: file.clone(),
        line: referenced.line(),
        column: referenced.column(),
        layer: Layer::Itself,
        byte: defined.span().byte_offset().and_then(|byte| usize::try_from(byte).ok()),
    }
}

fn convert(raw: Spanned<Raw>, file: &Rc<Source>) -> Node {
    let place = place(file, raw.referenced, raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Integer(value) => Value::Integer(value),
        Raw::Float(value) => Value::Float(
            value,
            written(raw.defined, &file.text).unwrap_or_else(|| value.to_string()),
        ),
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => Value::List(items.into_iter().map(|item| convert(item, file)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = Key {
                        name: key.value,
                        place: self::place(file, key.referenced, key.defined),
                    };
                    (key, convert(value, file))
                })
                .collect(),
        ),
    };
    Node { value, place }
}

/// The text of a scalar as its author wrote it.
fn written(location: Location, text: &str) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let written = text.get(start..end)?.trim();
    written.parse::<f64>().ok()?;
    Some(written.to_owned())
}

enum Raw {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Raw, E> {
        i64::try_from(value)
            .map(Raw::Integer)
            .map_err(|_| E::custom(format!("number {value} is too large")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            if map.iter().any(|(other, _)| other.value == key.value) {
                return Err(A::Error::custom(format!("key `{}` is written twice", key.value)));
            }
            map.push((key, value));
        }
        Ok(Raw::Map(map))
    }
}
