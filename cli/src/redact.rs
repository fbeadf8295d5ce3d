//! Keeps secrets out of all that is shown.
//!
//! It knows secrets and nothing of where they come from.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
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

/// What was seen of a line that comes in parts, so that a secret is found that lies across two of them.
#[derive(Debug, Default)]
pub(crate) struct Seam {
    /// The end of the line so far, as it came: shorter than the longest secret.
    end: String,
}

/// So much of a secret's beginning at the end of a part is hidden, whatever follows. Less gives nothing away.
const TELLING: usize = 4;

impl Redactor {
    /// A part of a line without the secrets that are known, be they cut by the part's ends. The last part is not `partial`.
    pub(crate) fn redact_part<'t>(&self, text: &'t str, partial: bool, seam: &mut Seam) -> Cow<'t, str> {
        if seam.end.is_empty() && !partial {
            return self.redact(text);
        }
        let mut hide: Vec<Range<usize>> = Vec::new();
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        for Longest(_, secret) in hidden.iter() {
            hide.extend(text.match_indices(secret.as_str()).map(|(at, _)| at..at + secret.len()));
            for (at, _) in secret.char_indices().skip(1) {
                let (begin, rest) = secret.split_at(at);
                if seam.end.ends_with(begin) && text.starts_with(rest) {
                    hide.push(0..rest.len());
                }
                if partial && at >= TELLING && text.ends_with(begin) {
                    hide.push(text.len() - at..text.len());
                }
            }
        }
        let longest = hidden.first().map_or(0, |Longest(_, secret)| secret.len());
        drop(hidden);
        match partial {
            true => {
                seam.end.push_str(text);
                let surplus = seam.end.len().saturating_sub(longest.saturating_sub(1));
                let from = (surplus..=seam.end.len()).find(|at| seam.end.is_char_boundary(*at));
                seam.end.drain(..from.unwrap_or_default());
            }
            false => seam.end.clear(),
        }
        if hide.is_empty() {
            return Cow::Borrowed(text);
        }
        hide.sort_by_key(|range| range.start);
        let mut shown = String::with_capacity(text.len());
        let mut at = 0;
        for range in hide {
            if range.start >= at {
                shown.push_str(text.get(at..range.start).unwrap_or_default());
                shown.push_str("***");
            }
            at = at.max(range.end);
        }
        shown.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_lies_across_two_parts_of_a_line_is_hidden() {
        let redactor = Redactor::default();
        redactor.add("s3cret-t0ken");
        let parts = |parts: &[&str]| {
            let mut seam = Seam::default();
            let last = parts.len() - 1;
            let parts = parts.iter().enumerate();
            let parts: Vec<String> = parts
                .map(|(index, part)| redactor.redact_part(part, index < last, &mut seam).into_owned())
                .collect();
            assert!(seam.end.is_empty());
            parts
        };
        for at in 1.."s3cret-t0ken".len() {
            let (begin, rest) = "s3cret-t0ken".split_at(at);
            let parts = parts(&[&format!("a {begin}"), &format!("{rest} b"), "c"]);
            let shown = parts.concat();
            let begin = begin.get(..at.min(TELLING - 1)).unwrap();
            assert!(
                !shown.contains(rest) || rest.len() < TELLING && !parts[1].starts_with(rest),
                "{parts:?}"
            );
            assert!(at < TELLING || !shown.contains(begin), "{parts:?}");
            assert!(
                parts[0].starts_with("a ") && parts[1].ends_with(" b") && parts[2] == "c",
                "{parts:?}"
            );
        }
        assert_eq!(parts(&["x s3c", "ret-", "t0ken y"]), ["x s3c", "ret-", "*** y"]);
        assert_eq!(parts(&["s3cret-t0ken", "s3cret-t0ken", "x"]), ["***", "***", "x"]);
        assert_eq!(parts(&["x s3", "other", "s3cret"]), ["x s3", "other", "s3cret"]);
        assert_eq!(parts(&["ä", "ö s3cret-t0ken"]), ["ä", "ö ***"]);
    }

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
