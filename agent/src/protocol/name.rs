//! Names of tasks, checked once and then trusted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name in bytes.
const LONGEST: usize = 253;

/// The name of a task. It never becomes a path, and is refused all the same if it looks like one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is none.
    #[error("a task needs a `name`")]
    Empty,
    /// It is too long.
    #[error("task name is {0} bytes long: at most {LONGEST} are allowed")]
    Long(usize),
    /// It holds what no name may hold.
    #[error("task name {name:?} is refused: `{part}` is not allowed in it")]
    Part {
        /// The name.
        name: String,
        /// What is not allowed.
        part: &'static str,
    },
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        let part = match name.as_str() {
            "" => return Err(NameError::Empty),
            long if long.len() > LONGEST => return Err(NameError::Long(long.len())),
            "." => ".",
            text if text.contains("..") => "..",
            text if text.contains('/') => "/",
            text if text.contains('\0') => "NUL",
            text if text.chars().any(char::is_control) => "control character",
            _ => return Ok(Self(name)),
        };
        Err(NameError::Part { name, part })
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_paths_or_hide_something_are_refused() {
        let long = "a".repeat(254);
        for refused in [
            "", ".", "..", "a/b", "/", "../x", "a..b", "a\0b", "a\nb", "\u{7f}", &long,
        ] {
            assert!(Name::try_from(refused.to_owned()).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn other_names_are_accepted() {
        let long = "a".repeat(253);
        for accepted in [
            "my-first-task",
            "a.b",
            "-x",
            "Ünïcode ☃",
            "a b",
            "%2e",
            "con",
            ".hidden",
            &long,
        ] {
            assert!(Name::try_from(accepted.to_owned()).is_ok(), "{accepted:?}");
        }
    }
}
