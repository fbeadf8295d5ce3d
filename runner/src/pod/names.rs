//! Names and labels that Kubernetes accepts, from any text. Pure.

use super::LABEL_DOMAIN;
use crate::inputs::hex;
use sha2::{Digest, Sha256};

/// A pod name for a task id: readable, deterministic, at most 63 characters.
pub(crate) fn pod_name(id: &str) -> String {
    let mut slug = String::new();
    for c in id.chars() {
        if slug.len() >= 50 {
            break;
        }
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            'A'..='Z' => slug.push(c.to_ascii_lowercase()),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug = slug.trim_end_matches('-');
    let hash = hex(&Sha256::digest(id.as_bytes()));
    format!(
        "{}-{}",
        if slug.is_empty() { "task" } else { slug },
        hash.get(..12).unwrap_or_default()
    )
}

/// The label selector of tasks that carry all of `labels`.
pub(crate) fn selector(labels: &[(String, String)]) -> String {
    let mut parts = vec![format!("{LABEL_DOMAIN}/task")];
    parts.extend(
        labels
            .iter()
            .map(|(k, v)| format!("{LABEL_DOMAIN}/{}={}", label_name(k), label_value(v))),
    );
    parts.join(",")
}

pub(super) fn label_name(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect();
    let clean = clean.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    clean
        .get(..clean.len().min(63))
        .unwrap_or_default()
        .trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// A value as it is, or, if a label cannot hold it, its readable beginning and a hash; the whole is in the annotation.
pub(super) fn label_value(value: &str) -> String {
    let clean = label_name(value);
    if clean == value {
        return clean;
    }
    let hash = hex(&Sha256::digest(value.as_bytes()));
    let short = clean.get(..clean.len().min(50)).unwrap_or_default();
    format!("{short}.{}", hash.get(..12).unwrap_or_default())
        .trim_start_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_deterministic_readable_and_short_enough() {
        assert_eq!(pod_name("Flow.One/shell-1"), pod_name("Flow.One/shell-1"));
        assert!(pod_name("Flow.One/shell-1").starts_with("flow-one-shell-1-"));
        assert_ne!(pod_name("a.b"), pod_name("a-b"));
        for id in ["", "-", "ümlaut", &"x".repeat(500), "--a--"] {
            let name = pod_name(id);
            crate::options::check_dns_label("name", &name).unwrap();
        }
    }

    #[test]
    fn labels_that_do_not_fit_are_shortened_and_stay_apart() {
        assert_eq!(label_value("hello"), "hello");
        assert!(label_value("with spaces and ümlauts").starts_with("with-spaces-and"));
        assert_ne!(label_value("a b"), label_value("a-b"));
        for value in ["", "ü", &"v".repeat(300), "-x-"] {
            let clean = label_value(value);
            assert!(
                clean.len() <= 63 && clean.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
                "{clean}"
            );
        }
    }
}
