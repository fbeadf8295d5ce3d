//! The options of a task: what a flow author may say about the pod. Parsing and validation only.

use crate::contract::Error;
use jiff::{Span, SpanRelativeTo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap};

/// Largest `inlineLimit`: the API server refuses pods above about 1.5 MB, and these bytes grow by a third in text.
const INLINE_MOST: u32 = 512 * 1024;

/// Options of one task; `{}` takes the defaults.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "Kubernetes task runner options")]
pub(crate) struct Options {
    /// Namespace of the pod. Default: the config's namespace, else `default`.
    pub(crate) namespace: Option<String>,
    /// Labels of the pod, beside the runner's own (`podrun.dev/...`, which cannot be set here).
    pub(crate) labels: BTreeMap<String, String>,
    /// Service account that the script runs as. Default: the namespace's.
    pub(crate) service_account_name: Option<String>,
    /// CPU, memory and other resources of the main container.
    pub(crate) resources: Resources,
    /// When the main container's image is pulled: `ALWAYS`, `IF_NOT_PRESENT` or `NEVER`. Default: Kubernetes' own rule.
    pub(crate) pull_policy: Option<PullPolicy>,
    /// The volume that holds the working directory and the output directory.
    pub(crate) volume: Volume,
    /// Input files that compress to at most this many bytes travel inside the pod, readable by whoever may read pods;
    /// larger ones are sent when the pod waits for them. 0 sends all of them; at most 524288.
    pub(crate) inline_limit: u32,
    /// How long the pod may take to be scheduled, pull its images and start.
    pub(crate) wait_until_running: Duration,
    /// How long the pod keeps its output files after the script's end when no host collects them.
    pub(crate) keep_outputs: Duration,
    /// Delete the pod after the end. `false` leaves it for debugging; `podrun kill` removes it later.
    pub(crate) delete: bool,
    /// Take up the pod that is already there. `false` deletes it and starts anew.
    pub(crate) resume: bool,
    /// Whether files that the script leaves in the output directory come back. `false` saves the sidecar when the task
    /// has no output patterns either.
    pub(crate) output_dir: bool,
    /// The containers that bring and collect files.
    pub(crate) file_sidecar: FileSidecar,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            labels: BTreeMap::new(),
            service_account_name: None,
            resources: Resources::default(),
            pull_policy: None,
            volume: Volume::default(),
            inline_limit: 64 * 1024,
            wait_until_running: Duration::minutes(10),
            keep_outputs: Duration::minutes(24 * 60),
            delete: true,
            resume: true,
            output_dir: true,
            file_sidecar: FileSidecar::default(),
        }
    }
}

/// Requests and limits by resource name, in Kubernetes' quantities (`500m`, `128Mi`).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resources {
    /// What the scheduler sets aside.
    pub(crate) request: BTreeMap<String, String>,
    /// What the container may not exceed.
    pub(crate) limit: BTreeMap<String, String>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
pub(crate) enum PullPolicy {
    /// Ask the registry each time.
    #[serde(rename = "ALWAYS", alias = "Always")]
    Always,
    /// Only when the node does not have it.
    #[serde(rename = "IF_NOT_PRESENT", alias = "IfNotPresent")]
    IfNotPresent,
    /// Fail when the node does not have it.
    #[serde(rename = "NEVER", alias = "Never")]
    Never,
}

impl PullPolicy {
    /// As the pod's `imagePullPolicy`.
    pub(crate) fn as_kubernetes(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The `emptyDir` that all containers of the pod share.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Volume {
    /// Memory or disk of the node.
    pub(crate) medium: Medium,
    /// Largest size, as a quantity. Default: 1Gi in memory, unlimited on disk.
    pub(crate) size_limit: Option<String>,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            medium: Medium::Memory,
            size_limit: None,
        }
    }
}

/// Where the volume lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(crate) enum Medium {
    /// In the node's memory: nothing touches a disk, and files count as memory of the containers that write them.
    #[serde(rename = "MEMORY", alias = "Memory")]
    Memory,
    /// On the node's disk.
    #[serde(rename = "DISK", alias = "Disk")]
    Disk,
}

/// The containers `init-files` and `out-files`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FileSidecar {
    /// Image with sh, tar, gzip, base64, find, head, dd, wc, sha256sum and readlink.
    pub(crate) image: String,
}

impl Default for FileSidecar {
    fn default() -> Self {
        Self {
            image: "busybox".to_owned(),
        }
    }
}

/// A length of time, written as ISO 8601 (`PT10M`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duration(std::time::Duration);

impl Duration {
    const fn minutes(minutes: u64) -> Self {
        Self(std::time::Duration::from_secs(60 * minutes))
    }

    /// As the standard library's type.
    pub(crate) fn get(self) -> std::time::Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse::<Span>()
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .ok()
            .and_then(|duration| std::time::Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not a duration: write ISO 8601, for example PT10M or PT24H"))
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("PT{}S", self.0.as_secs()))
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "pattern": "^P", "description": "ISO 8601 duration, for example PT10M."})
    }
}

impl Options {
    /// Parses and validates the options of a task.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let options: Self = crate::settings::parse("options", text)?;
        if let Some(namespace) = &options.namespace {
            check_dns_label("options.namespace", namespace)?;
        }
        if let Some(account) = &options.service_account_name {
            check_dns_label("options.serviceAccountName", account)?;
        }
        for (key, value) in &options.labels {
            check_label(key, value)?;
        }
        for (field, map) in [
            ("request", &options.resources.request),
            ("limit", &options.resources.limit),
        ] {
            for (name, quantity) in map {
                check_quantity(&format!("options.resources.{field}.{name}"), quantity)?;
            }
        }
        for (name, request) in &options.resources.request {
            let limit = options.resources.limit.get(name);
            if let Some(limit) = limit.filter(|limit| bytes(request) > bytes(limit)) {
                return Err(Error::InvalidArgument(format!(
                    "`options.resources.request.{name}` is {request}, more than the limit of {limit}: lower it or raise `options.resources.limit.{name}`"
                )));
            }
        }
        if let Some(limit) = &options.volume.size_limit {
            check_quantity("options.volume.sizeLimit", limit)?;
        }
        if options.inline_limit > INLINE_MOST {
            return Err(Error::InvalidArgument(format!(
                "`options.inlineLimit` is {}: a pod holds at most {INLINE_MOST} bytes of files, larger ones are sent when it waits for them",
                options.inline_limit
            )));
        }
        if options.file_sidecar.image.trim().is_empty() {
            return Err(Error::InvalidArgument(
                "`options.fileSidecar.image` is empty: name an image with a shell, for example busybox".into(),
            ));
        }
        Ok(options)
    }

    /// What is allowed and yet seldom meant, if anything.
    pub(crate) fn warning(&self) -> Option<String> {
        let memory = self.resources.limit.get("memory")?;
        let size = self.size_limit().filter(|_| self.volume.medium == Medium::Memory)?;
        (bytes(memory)? < bytes(size)?).then(|| {
            format!(
                "files count as memory of the script that writes them: with `resources.limit.memory` at {memory} it is ended before it fills the {size} of `volume.sizeLimit`; raise the one, lower the other, or set `volume.medium` to DISK"
            )
        })
    }

    /// The volume's size limit, as a quantity.
    pub(crate) fn size_limit(&self) -> Option<&str> {
        match (&self.volume.size_limit, self.volume.medium) {
            (Some(limit), _) => Some(limit),
            (None, Medium::Memory) => Some("1Gi"),
            (None, Medium::Disk) => None,
        }
    }
}

/// Refuses what Kubernetes would refuse as a namespace's name.
pub(crate) fn check_dns_label(field: &str, value: &str) -> Result<(), Error> {
    let valid = !value.is_empty()
        && value.len() <= 63
        && value
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !value.starts_with('-')
        && !value.ends_with('-');
    if valid {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "`{field}` is not a name that Kubernetes accepts: use lower-case letters, digits and `-`, at most 63"
    )))
}

fn check_label(key: &str, value: &str) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::InvalidArgument(format!("`options.labels.{key}`: {why}")));
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    if prefix == Some(crate::pod::LABEL_DOMAIN) {
        return refuse("labels under `podrun.dev/` belong to the runner: choose another prefix");
    }
    let word = |s: &str| {
        s.len() <= 63
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && s.bytes().next().is_none_or(|b| b.is_ascii_alphanumeric())
            && s.bytes().last().is_none_or(|b| b.is_ascii_alphanumeric())
    };
    if name.is_empty() || !word(name) || prefix.is_some_and(|p| p.is_empty() || p.len() > 253) {
        return refuse("not a label name that Kubernetes accepts");
    }
    if !word(value) {
        return refuse(
            "the value must be at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends",
        );
    }
    Ok(())
}

fn check_quantity(field: &str, value: &str) -> Result<(), Error> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = value.get(digits.len()..).unwrap_or_default();
    let number = digits.parse::<f64>().is_ok_and(|n| n >= 0.0 && n.is_finite());
    let unit = matches!(
        suffix,
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"
    );
    if number && unit {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "`{field}` is not a quantity: write for example 500m, 2 or 128Mi"
    )))
}

/// The number that a quantity which `check_quantity` accepted stands for: bytes, if it is one of memory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let options = Options::parse("{}").unwrap();
        assert!(options.delete && options.resume && options.output_dir);
        assert_eq!(options.size_limit(), Some("1Gi"));
        assert_eq!(options.wait_until_running.get().as_secs(), 600);
        assert_eq!(options.keep_outputs.get().as_secs(), 86_400);
    }

    #[test]
    fn bad_values_name_the_field_and_the_cure() {
        for (text, field) in [
            (r#"{"namespace": "Up"}"#, "options.namespace"),
            (r#"{"labels": {"podrun.dev/id": "x"}}"#, "options.labels.podrun.dev/id"),
            (r#"{"labels": {"a": "no spaces"}}"#, "options.labels.a"),
            (
                r#"{"resources": {"limit": {"memory": "lots"}}}"#,
                "options.resources.limit.memory",
            ),
            (
                r#"{"resources": {"request": {"cpu": "2"}, "limit": {"cpu": "1500m"}}}"#,
                "options.resources.request.cpu",
            ),
            (r#"{"waitUntilRunning": "10m!"}"#, "options.waitUntilRunning"),
            (r#"{"inlineLimit": 524289}"#, "options.inlineLimit"),
            (r#"{"pullPolicy": "SOMETIMES"}"#, "options.pullPolicy"),
            (r#"{"fileSidecar": {"image": ""}}"#, "options.fileSidecar.image"),
        ] {
            let Err(Error::InvalidArgument(message)) = Options::parse(text) else {
                panic!("{text} was accepted")
            };
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn a_volume_that_does_not_fit_the_memory_is_warned_of() {
        let warning = |text: &str| Options::parse(text).unwrap().warning();
        let small = warning(r#"{"resources": {"limit": {"memory": "64Mi"}}}"#).unwrap();
        assert!(small.contains("64Mi") && small.contains("1Gi"), "{small}");
        for fits in [
            "{}",
            r#"{"resources": {"limit": {"memory": "1Gi"}}}"#,
            r#"{"resources": {"limit": {"memory": "64Mi"}}, "volume": {"medium": "DISK"}}"#,
            r#"{"resources": {"limit": {"memory": "64Mi"}}, "volume": {"sizeLimit": "60Mi"}}"#,
        ] {
            assert_eq!(warning(fits), None, "{fits}");
        }
    }

    #[test]
    fn durations_and_policies_are_accepted_in_both_spellings() {
        let options =
            Options::parse(r#"{"waitUntilRunning": "P1DT1S", "keepOutputs": "PT1H30M", "pullPolicy": "Always", "volume": {"medium": "DISK"}}"#)
                .unwrap();
        assert_eq!(options.keep_outputs.get().as_secs(), 5400);
        assert_eq!(options.wait_until_running.get().as_secs(), 86_401);
        assert_eq!(options.pull_policy.map(PullPolicy::as_kubernetes), Some("Always"));
        assert_eq!(options.size_limit(), None);
    }
}
