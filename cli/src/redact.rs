//! Keeps secrets out of all that is shown.
//!
//! It knows secrets and nothing of where they come from.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A line of a secret that is shorter is too ordinary to be hidden on its own.
const SHORTEST_LINE: usize = 8;

/// Replaces secrets in text by `***`. Clones share what they know.
#[derive(Clone, Default)]
pub(crate) struct Redactor {
    /// The longest first, so that no part of one stays.
    hidden: Arc<Mutex<BTreeSet<Longest>>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Longest(std::cmp::Reverse<usize>, String);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Hide a secret from now on: as it is, in Base64, as JSON has it, and each of its lines, which is how logs come.
    pub(crate) fn add(&self, secret: &str) {
        let json = Value::from(secret).to_string();
        let trimmed = secret.trim();
        let mut forms = vec![
            secret.to_owned(),
            trimmed.to_owned(),
            json.trim_matches('"').to_owned(),
            STANDARD.encode(secret),
            STANDARD.encode(trimmed),
        ];
        let lines = trimmed
            .lines()
            .map(str::trim)
            .filter(|line| line.len() >= SHORTEST_LINE);
        forms.extend(lines.map(str::to_owned));
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.extend(
            forms
                .into_iter()
                .filter(|form| !form.trim().is_empty())
                .map(|form| Longest(std::cmp::Reverse(form.len()), form)),
        );
    }

    /// The text without the secrets that are known.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Cow::Borrowed(text);
        for Longest(_, secret) in hidden.iter() {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), "***"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_in_every_form() {
        let redactor = Redactor::default();
        assert_eq!(redactor.redact("pass\"word"), "pass\"word");
        redactor.add("pass\"word\n");
        redactor.clone().add("-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n");
        assert_eq!(redactor.redact("a pass\"word b pass\"word\n"), "a *** b ***");
        assert_eq!(redactor.redact("{\"x\": \"pass\\\"word\\n\"}"), "{\"x\": \"***\"}");
        assert_eq!(redactor.redact(&STANDARD.encode("pass\"word\n")), "***");
        assert_eq!(redactor.redact("  MIIEvQIBADANBg\r\n }"), "  ***\r\n }");
        assert_eq!(redactor.redact("unused"), "unused");
        assert_eq!(format!("{redactor:?}"), "Redactor { .. }");
    }
}
