//! Parses the two JSON objects that a host passes, `config` and `options`, into types, with errors that name the field,
//! the nearest known name and the cure. Knows nothing about Kubernetes.

use crate::contract::Error;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use std::fmt;

/// Properties that are refused by name, with what to use instead.
pub(crate) type Refused = [(&'static str, &'static str)];

/// Parses `text` as a `T`; `what` names the object in errors (`config`, `options`).
///
/// Values are never quoted in an error: they may be secrets.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, text: &str, refused: &Refused) -> Result<T, Error> {
    let mut value: Value = serde_json::from_str(text).map_err(|e| {
        Error::InvalidArgument(format!(
            "`{what}` is not JSON (line {}, column {})",
            e.line(),
            e.column()
        ))
    })?;
    for (name, instead) in refused {
        let given = value.as_object_mut().and_then(|fields| fields.remove(*name));
        if given.is_some_and(|given| !given.is_null()) {
            return Err(Error::InvalidArgument(format!(
                "`{what}.{name}` is not supported: {instead}"
            )));
        }
    }
    let strict = Strict {
        at: what.to_owned(),
        value: &value,
    };
    T::deserialize(strict).map_err(|mistake| Error::InvalidArgument(mistake.to_string()))
}

/// What is wrong with a settings object.
#[derive(Debug, thiserror::Error)]
enum Mistake {
    /// With its place.
    #[error("{0}")]
    Found(String),
    /// A value that its field does not take, on the way to its place.
    #[error("{0}")]
    Value(String),
}

impl Mistake {
    /// The innermost place is the one.
    fn at(self, place: &str) -> Self {
        match self {
            Self::Value(message) => Self::Found(format!("`{place}`: {}", without_values(&message))),
            found => found,
        }
    }
}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }
}

/// JSON that is strict about names: Kubernetes' own types pass over those that they do not know.
struct Strict<'de> {
    at: String,
    value: &'de Value,
}

impl<'de> Strict<'de> {
    /// Reads a part of it; what is wrong with that is there.
    fn read<S: DeserializeSeed<'de>>(seed: S, at: String, value: &'de Value) -> Result<S::Value, Mistake> {
        let place = at.clone();
        let read = seed.deserialize(Self { at, value });
        read.map_err(|mistake| mistake.at(&place))
    }
}

/// What is left of an array.
struct Items<'at, 'de> {
    at: &'at str,
    left: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Mistake;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mistake> {
        let Some((index, value)) = self.left.next() else {
            return Ok(None);
        };
        Strict::read(seed, format!("{}[{index}]", self.at), value).map(Some)
    }
}

/// What is left of an object, and the value of the field whose name was read.
struct Fields<'at, 'de> {
    at: &'at str,
    left: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Mistake;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mistake> {
        let Some((name, value)) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some((name, value));
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mistake> {
        let next = self.value.take();
        let (name, value) = next.ok_or_else(|| Mistake::Value("a value without a name".into()))?;
        Strict::read(seed, format!("{}.{name}", self.at), value)
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let Self { at, value } = self;
        let read = match value {
            Value::Array(items) => visitor.visit_seq(Items {
                at: &at,
                left: items.iter().enumerate(),
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                at: &at,
                left: fields.iter(),
                value: None,
            }),
            plain => plain.deserialize_any(visitor).map_err(de::Error::custom),
        };
        read.map_err(|mistake: Mistake| mistake.at(&at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.value.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let given = self.value.as_object().into_iter().flat_map(|fields| fields.keys());
        if let Some(name) = given.into_iter().find(|name| !known.contains(&name.as_str())) {
            let cure = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", list(known)),
            };
            return Err(Mistake::Found(format!("unknown property `{}.{name}`: {cure}", self.at)));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let read = self.value.deserialize_enum(name, variants, visitor);
        read.map_err(|error| <Mistake as de::Error>::custom(error).at(&self.at))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The known name that `name` was most likely meant to be.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let lower = name.to_lowercase();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&lower, &k.to_lowercase()), *k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

fn list(names: &[&str]) -> String {
    let mut names: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    names.sort();
    names.join(", ")
}

/// Serde quotes the offending string (`invalid type: string "...", expected`): keep the kind, drop the value.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if from < to => {
            format!(
                "{}{}",
                message.get(..from).unwrap_or_default().trim_end(),
                message.get(to + 1..).unwrap_or_default()
            )
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{config::Config, contract::Error, options::Options};

    fn refusal<T: serde::de::DeserializeOwned>(text: &str) -> String {
        match super::parse::<T>("options", text, &[("job", "use `retry`")]) {
            Err(Error::InvalidArgument(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{text} was accepted"),
        }
    }

    #[test]
    fn an_unknown_property_is_refused_with_the_nearest_name() {
        assert_eq!(
            refusal::<Options>(r#"{"pullpolicy": "ALWAYS"}"#),
            "unknown property `options.pullpolicy`: did you mean `pullPolicy`?"
        );
        assert_eq!(
            refusal::<Options>(r#"{"resources": {"requests": {}}}"#),
            "unknown property `options.resources.requests`: did you mean `request`?"
        );
        assert_eq!(
            refusal::<Config>(r#"{"masterURL": "x"}"#),
            "unknown property `options.masterURL`: did you mean `masterUrl`?"
        );
        assert!(refusal::<Options>(r#"{"zzz": 1}"#).contains("known are"));
        assert_eq!(
            refusal::<Options>(r#"{"job": {"enabled": true}}"#),
            "`options.job` is not supported: use `retry`"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_without_quoting_it() {
        let message = refusal::<Config>(r#"{"trustCerts": "hunter2"}"#);
        assert!(
            message.contains("options.trustCerts") && !message.contains("hunter2"),
            "{message}"
        );
        assert!(refusal::<Config>("{").contains("is not JSON"));
    }
}
