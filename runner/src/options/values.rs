//! The kinds of values that options take beyond JSON's own: each is read in every spelling that flows use.

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::borrow::Cow;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// Ask the registry each time.
    Always,
    /// Only when the node does not have it.
    IfNotPresent,
    /// Fail when the node does not have it.
    Never,
}

impl PullPolicy {
    const SPELLINGS: [(&str, Self); 6] = [
        ("ALWAYS", Self::Always),
        ("IF_NOT_PRESENT", Self::IfNotPresent),
        ("NEVER", Self::Never),
        ("Always", Self::Always),
        ("IfNotPresent", Self::IfNotPresent),
        ("Never", Self::Never),
    ];

    /// As the pod's `imagePullPolicy`.
    pub(crate) fn as_kubernetes(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

impl<'de> Deserialize<'de> for PullPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let known = Self::SPELLINGS.into_iter().find(|(spelling, _)| *spelling == text);
        known
            .map(|(_, policy)| policy)
            .ok_or_else(|| D::Error::custom("not a pull policy: write ALWAYS, IF_NOT_PRESENT or NEVER"))
    }
}

impl Serialize for PullPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_kubernetes())
    }
}

#[cfg(test)]
impl JsonSchema for PullPolicy {
    fn schema_name() -> Cow<'static, str> {
        "PullPolicy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "When an image is pulled: each time, only when the node does not have it, or never. Kubernetes' own spelling is accepted too.",
            "enum": Self::SPELLINGS.map(|(spelling, _)| spelling),
        })
    }
}

/// Which pods are deleted after their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delete {
    /// Every one.
    #[default]
    Always,
    /// Those of tasks that succeeded.
    OnSuccess,
    /// None.
    Never,
}

impl Delete {
    const ON_SUCCESS: &str = "ON_SUCCESS";
}

impl<'de> Deserialize<'de> for Delete {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(true) => Ok(Self::Always),
            Value::Bool(false) => Ok(Self::Never),
            Value::String(text) if text == Self::ON_SUCCESS => Ok(Self::OnSuccess),
            _ => Err(D::Error::custom("write true, false or ON_SUCCESS")),
        }
    }
}

impl Serialize for Delete {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Always => serializer.serialize_bool(true),
            Self::OnSuccess => serializer.serialize_str(Self::ON_SUCCESS),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

#[cfg(test)]
impl JsonSchema for Delete {
    fn schema_name() -> Cow<'static, str> {
        "Delete".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`true`, `false`, or `ON_SUCCESS` to keep the pods of tasks that did not succeed.",
            "enum": [true, false, Self::ON_SUCCESS],
        })
    }
}

/// A length of time, written as ISO 8601 (`PT10M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duration(std::time::Duration);

impl Duration {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    pub(crate) fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whole seconds, as many as the contract can say.
    pub(crate) fn whole_seconds(self) -> u32 {
        u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse::<jiff::Span>()
            .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|duration| std::time::Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom("not a duration: write ISO 8601, for example PT10M or PT24H"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("PT{}S", self.0.as_secs()))
    }
}

#[cfg(test)]
impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^P", "description": "ISO 8601 duration, for example PT10M."})
    }
}
