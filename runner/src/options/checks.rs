//! What Kubernetes accepts as names, labels, annotations and quantities, checked before anything is created.

use crate::{contract::Error, pod::LABEL_DOMAIN};
use std::collections::BTreeMap;

/// Bytes of all annotations of a pod; the runner's own need some of them.
const ANNOTATIONS: usize = 192 * 1024;

/// Refuses what Kubernetes would refuse as a namespace's name.
pub(crate) fn check_dns_label(field: &str, value: &str) -> Result<(), Error> {
    if value.len() <= 63 && is_dns_label(value) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "`{field}` is not a name that Kubernetes accepts: use lower-case letters, digits and `-`, at most 63"
    )))
}

/// Refuses what Kubernetes would refuse as the name of most objects: names with dots between them.
pub(crate) fn check_dns_name(field: &str, value: &str) -> Result<(), Error> {
    if value.len() <= 253 && value.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "`{field}` is not a name that Kubernetes accepts: use lower-case letters, digits, `-` and `.`, at most 253"
    )))
}

fn is_dns_label(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !value.starts_with('-')
        && !value.ends_with('-')
}

/// Checks a map of labels, or of labels to be selected by.
pub(super) fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    for (key, value) in labels {
        check_key(field, key)?;
        if !is_word(value) {
            return Err(refused(
                field,
                key,
                "the value must be at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends",
            ));
        }
    }
    Ok(())
}

/// Checks a map of annotations.
pub(super) fn check_annotations(field: &str, annotations: &BTreeMap<String, String>) -> Result<(), Error> {
    for key in annotations.keys() {
        check_key(field, key)?;
    }
    let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > ANNOTATIONS {
        return Err(Error::InvalidArgument(format!(
            "`{field}` has {bytes} bytes, a pod takes {ANNOTATIONS}: put large values into an input file"
        )));
    }
    Ok(())
}

fn check_key(field: &str, key: &str) -> Result<(), Error> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    if prefix == Some(LABEL_DOMAIN) {
        let why = "names under `podrun.dev/` belong to the runner: choose another prefix";
        return Err(refused(field, key, why));
    }
    if name.is_empty() || !is_word(name) || prefix.is_some_and(|p| p.is_empty() || p.len() > 253) {
        return Err(refused(
            field,
            key,
            "not a name that Kubernetes accepts: write NAME or DOMAIN/NAME",
        ));
    }
    Ok(())
}

fn is_word(text: &str) -> bool {
    text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().next().is_none_or(|b| b.is_ascii_alphanumeric())
        && text.bytes().last().is_none_or(|b| b.is_ascii_alphanumeric())
}

fn refused(field: &str, key: &str, why: &str) -> Error {
    Error::InvalidArgument(format!("`{field}.{key}`: {why}"))
}

/// Refuses what is not a quantity.
pub(super) fn check_quantity(field: &str, value: &str) -> Result<(), Error> {
    if bytes(value).is_some_and(|n| n >= 0.0 && n.is_finite()) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "`{field}` is not a quantity: write for example 500m, 2 or 128Mi"
    )))
}

/// The number that a quantity stands for: bytes, if it is one of memory.
pub(crate) fn bytes(quantity: &str) -> Option<f64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match quantity.get(digits.len()..)? {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|n| n * factor)
}
