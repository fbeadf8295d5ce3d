//! The options of a task: what a flow author may say about the pod. Parsing and validation only.

mod checks;
mod specs;
mod values;

pub(crate) use checks::{bytes, check_dns_label};
pub(crate) use values::Delete;

use crate::{contract::Error, credentials::Credentials};
use checks::{check_annotations, check_dns_name, check_labels, check_quantity};
use k8s_openapi::{
    api::core::v1::{Affinity, Container, PodSpec, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use values::{Duration, PullPolicy};

/// Largest `inlineLimit`: the API server refuses pods above about 1.5 MB, and these bytes grow by a third in text.
const INLINE_MOST: u32 = 512 * 1024;

/// Properties of other runners of this type that this one does not have, and what to use instead.
pub(crate) const REFUSED: [(&str, &str); 2] = [
    ("fileSideCarSpec", "use `fileSidecar.defaultSpec`, which is the same"),
    (
        "job",
        "pods are made without a Job: use the task's `retry`, which tells the cluster's faults from the script's",
    ),
];

/// Options that shape the run and came after the first version of the digest: those that are set are part of it.
const SHAPING: [&str; 11] = [
    "affinity",
    "containerDefaultSpec",
    "containerSpec",
    "nodeSelector",
    "podSpec",
    "priorityClassName",
    "requiredOutputs",
    "runtimeClassName",
    "syncWorkingDirectory",
    "tolerations",
    "waitUntilCompletion",
];

/// Options of one task; `{}` takes the defaults.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(test, schemars(title = "Kubernetes task runner options"))]
pub(crate) struct Options {
    /// Namespace of the pod. Default: the config's namespace, else `default`.
    pub(crate) namespace: Option<String>,
    /// Labels of the pod, beside the runner's own (`podrun.dev/...`, which cannot be set here).
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations of the pod, beside the runner's own (`podrun.dev/...`, which cannot be set here).
    pub(crate) annotations: BTreeMap<String, String>,
    /// Service account that the script runs as. Default: the namespace's.
    pub(crate) service_account_name: Option<String>,
    /// Labels that a node must have to take the pod. Joined with `podSpec.nodeSelector`; this one wins.
    pub(crate) node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pod puts up with. Takes the place of `podSpec.tolerations`.
    pub(crate) tolerations: Vec<Toleration>,
    /// Which nodes, and which other pods, the pod must or should be near to or away from.
    pub(crate) affinity: Option<Affinity>,
    /// Priority class of the pod: who gives way when the cluster is full.
    pub(crate) priority_class_name: Option<String>,
    /// Runtime class of the pod, for example a sandboxed or a GPU runtime.
    pub(crate) runtime_class_name: Option<String>,
    /// What the main container asks for and may not exceed: `cpu`, `memory`, `nvidia.com/gpu`, any resource name.
    pub(crate) resources: Resources,
    /// When the main container's image is pulled: `ALWAYS`, `IF_NOT_PRESENT` or `NEVER`. Default: Kubernetes' own rule,
    /// which is `ALWAYS` for images named without a tag or with `latest` and `IF_NOT_PRESENT` for others.
    pub(crate) pull_policy: Option<PullPolicy>,
    /// Access to a private registry for all images of the pod. A pull secret that belongs to the pod and goes away with
    /// it; the only option that needs a right on secrets (`create`).
    pub(crate) credentials: Option<Credentials>,
    /// Further fields of the pod, as Kubernetes names them: volumes, security context, host aliases, whatever has no
    /// option of its own. An option wins over the same field here. A container named `main` gives defaults to the main
    /// container; containers of other names run beside the script, are no part of its outcome, and go when the task
    /// ends: one that should go by itself when no host comes belongs into `initContainers` with `restartPolicy: Always`.
    /// Init containers run after the input files arrived. Fields that the runner needs for itself are refused.
    pub(crate) pod_spec: Option<PodSpec>,
    /// Further fields of the main container: variables, security context, volume mounts. What the task or an option says
    /// wins; so do `WORKING_DIR` and `OUTPUT_DIR`.
    pub(crate) container_spec: Option<Container>,
    /// Defaults for every container of the pod, those that move files included: what a container says itself wins. Maps
    /// are merged, variables by name, volume mounts by path, other lists replaced.
    pub(crate) container_default_spec: Option<Container>,
    /// The volume that holds the working directory and the output directory.
    pub(crate) volume: Volume,
    /// Input files that compress to at most this many bytes travel inside the pod, readable by whoever may read pods;
    /// larger ones are sent when the pod waits for them. 0 sends all of them; at most 524288.
    pub(crate) inline_limit: u32,
    /// How long the pod may take to be scheduled, pull its images and start.
    pub(crate) wait_until_running: Duration,
    /// How long the script may run when the task has no `timeout`; with one, this is ignored and the runner says so.
    /// Default: no limit.
    pub(crate) wait_until_completion: Option<Duration>,
    /// How long the log may be silent while its rest is read after the end of the script. A ceiling: the end of a log is
    /// known, so nothing waits for it. A rest that does not arrive is an error that leaves the pod, never a lost line.
    pub(crate) wait_for_logs: Duration,
    /// How long a script that is stopped may take to end after TERM, before KILL; at least `PT1S`.
    pub(crate) kill_grace_period: Duration,
    /// How long the pod keeps its output files after the script's end when no host collects them, and waits for input files that no host brings.
    pub(crate) keep_outputs: Duration,
    /// Delete the pod after the end: `true`, `false`, or `ON_SUCCESS` to keep the pods of tasks that did not succeed.
    /// One that is kept is there for a look; `podrun kill` removes it later.
    pub(crate) delete: Delete,
    /// Take up the pod that is already there. `false` deletes it and starts anew.
    pub(crate) resume: bool,
    /// Whether files that the script leaves in the output directory come back. `false` saves the sidecar when nothing
    /// else comes back either.
    pub(crate) output_dir: bool,
    /// The whole working directory comes back, input files included, not only what `outputFiles` names. Symbolic links
    /// that lead out of it are left out, with a warning.
    pub(crate) sync_working_directory: bool,
    /// Patterns of files in the working directory, each of which must match one; else a script that succeeded has failed, with
    /// the reason `output-missing`. `podrun` sets it from the patterns of `outputFiles` that are required.
    pub(crate) required_outputs: Vec<String>,
    /// Show the log lines of the init containers of `podSpec`, as `[name] line`, before those of the script.
    pub(crate) init_logs: bool,
    /// The containers that bring and collect files.
    pub(crate) file_sidecar: FileSidecar,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            service_account_name: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            priority_class_name: None,
            runtime_class_name: None,
            resources: Resources::default(),
            pull_policy: None,
            credentials: None,
            pod_spec: None,
            container_spec: None,
            container_default_spec: None,
            volume: Volume::default(),
            inline_limit: 64 * 1024,
            wait_until_running: Duration::seconds(10 * 60),
            wait_until_completion: None,
            wait_for_logs: Duration::seconds(30),
            kill_grace_period: Duration::seconds(30),
            keep_outputs: Duration::seconds(24 * 60 * 60),
            delete: Delete::Always,
            resume: true,
            output_dir: true,
            sync_working_directory: false,
            required_outputs: Vec::new(),
            init_logs: false,
            file_sidecar: FileSidecar::default(),
        }
    }
}

/// Requests and limits by resource name, in Kubernetes' quantities (`500m`, `128Mi`, `1`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Resources {
    /// What the scheduler sets aside.
    pub(crate) request: BTreeMap<String, Quantity>,
    /// What the container may not exceed.
    pub(crate) limit: BTreeMap<String, Quantity>,
}

/// The `emptyDir` that all containers of the pod share.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Medium {
    /// In the node's memory: nothing touches a disk, and files count as memory of the containers that write them.
    #[serde(rename = "MEMORY", alias = "Memory")]
    Memory,
    /// On the node's disk.
    #[serde(rename = "DISK", alias = "Disk")]
    Disk,
}

/// The containers `init-files` and `out-files`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct FileSidecar {
    /// Image with sh, tar, gzip, base64, find, head, dd, wc, sha256sum and readlink.
    pub(crate) image: String,
    /// What each of these containers asks for and may not exceed. Default: 10m CPU and 16Mi memory asked for, and in
    /// memory a limit of the volume's size and 128Mi.
    pub(crate) resources: Resources,
    /// Further fields of these containers: they win over `containerDefaultSpec`.
    pub(crate) default_spec: Option<Container>,
}

impl Default for FileSidecar {
    fn default() -> Self {
        Self {
            image: "busybox".to_owned(),
            resources: Resources::default(),
            default_spec: None,
        }
    }
}

impl Resources {
    fn check(&self, field: &str) -> Result<(), Error> {
        for (kind, map) in [("request", &self.request), ("limit", &self.limit)] {
            for (name, Quantity(quantity)) in map {
                check_quantity(&format!("{field}.{kind}.{name}"), quantity)?;
            }
        }
        for (name, Quantity(request)) in &self.request {
            let limit = self.limit.get(name);
            if let Some(Quantity(limit)) = limit.filter(|limit| bytes(request) > bytes(&limit.0)) {
                return Err(Error::InvalidArgument(format!(
                    "`{field}.request.{name}` is {request}, more than the limit of {limit}: lower it or raise `{field}.limit.{name}`"
                )));
            }
        }
        Ok(())
    }
}

impl Options {
    /// Parses and validates the options of a task.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let options: Self = crate::settings::parse("options", text, &REFUSED)?;
        if let Some(namespace) = &options.namespace {
            check_dns_label("options.namespace", namespace)?;
        }
        for (field, name) in [
            ("options.serviceAccountName", &options.service_account_name),
            ("options.priorityClassName", &options.priority_class_name),
            ("options.runtimeClassName", &options.runtime_class_name),
        ] {
            if let Some(name) = name {
                check_dns_name(field, name)?;
            }
        }
        check_labels("options.labels", &options.labels)?;
        check_annotations("options.annotations", &options.annotations)?;
        check_labels("options.nodeSelector", &options.node_selector)?;
        options.resources.check("options.resources")?;
        options.file_sidecar.resources.check("options.fileSidecar.resources")?;
        if let Some(limit) = &options.volume.size_limit {
            check_quantity("options.volume.sizeLimit", limit)?;
        }
        if options.inline_limit > INLINE_MOST {
            return Err(Error::InvalidArgument(format!(
                "`options.inlineLimit` is {}: a pod holds at most {INLINE_MOST} bytes of files, larger ones are sent when it waits for them",
                options.inline_limit
            )));
        }
        for (field, duration) in [
            ("killGracePeriod", Some(options.kill_grace_period)),
            ("waitForLogs", Some(options.wait_for_logs)),
            ("waitUntilCompletion", options.wait_until_completion),
        ] {
            if duration.is_some_and(|d| d.get().as_secs() == 0) {
                return Err(Error::InvalidArgument(format!(
                    "`options.{field}` is less than a second: write at least PT1S"
                )));
            }
        }
        if options.file_sidecar.image.trim().is_empty() {
            return Err(Error::InvalidArgument(
                "`options.fileSidecar.image` is empty: name an image with a shell, for example busybox".into(),
            ));
        }
        if let Some(credentials) = &options.credentials {
            credentials.check()?;
        }
        specs::check(&options)?;
        Ok(options)
    }

    /// The volume's size limit, as a quantity.
    pub(crate) fn size_limit(&self) -> Option<&str> {
        match (&self.volume.size_limit, self.volume.medium) {
            (Some(limit), _) => Some(limit),
            (None, Medium::Memory) => Some("1Gi"),
            (None, Medium::Disk) => None,
        }
    }

    /// The options of `SHAPING` that are set.
    pub(crate) fn shape(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else {
            return Map::new();
        };
        all.retain(|name, value| {
            let set = match value {
                Value::Null | Value::Bool(false) => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
                _ => true,
            };
            set && SHAPING.contains(&name.as_str())
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let options = Options::parse("{}").unwrap();
        assert!(options.delete == Delete::Always && options.resume && options.output_dir);
        assert!(!options.sync_working_directory && !options.init_logs && options.wait_until_completion.is_none());
        assert_eq!(options.size_limit(), Some("1Gi"));
        assert_eq!(options.wait_until_running.get().as_secs(), 600);
        assert_eq!(options.keep_outputs.get().as_secs(), 86_400);
        assert_eq!(options.kill_grace_period.whole_seconds(), 30);
        assert_eq!(options.wait_for_logs.whole_seconds(), 30);
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
            (
                r#"{"fileSidecar": {"resources": {"limit": {"cpu": "x"}}}}"#,
                "options.fileSidecar.resources.limit.cpu",
            ),
            (
                r#"{"annotations": {"podrun.dev/digest": "x"}}"#,
                "options.annotations.podrun.dev/digest",
            ),
            (
                r#"{"annotations": {"no spaces": "x"}}"#,
                "options.annotations.no spaces",
            ),
            (r#"{"nodeSelector": {"disk": "s s d"}}"#, "options.nodeSelector.disk"),
            (r#"{"priorityClassName": "High"}"#, "options.priorityClassName"),
            (r#"{"runtimeClassName": ""}"#, "options.runtimeClassName"),
            (r#"{"serviceAccountName": "a..b"}"#, "options.serviceAccountName"),
            (r#"{"killGracePeriod": "PT0S"}"#, "options.killGracePeriod"),
            (r#"{"waitForLogs": "PT0.5S"}"#, "options.waitForLogs"),
            (r#"{"waitUntilCompletion": "an hour"}"#, "options.waitUntilCompletion"),
            (r#"{"delete": "ON_FAILURE"}"#, "options.delete"),
            (r#"{"credentials": {"username": "u"}}"#, "options.credentials.password"),
            (r#"{"job": {"enabled": true}}"#, "options.job"),
            (r#"{"fileSideCarSpec": {}}"#, "options.fileSideCarSpec"),
        ] {
            let Err(Error::InvalidArgument(message)) = Options::parse(text) else {
                panic!("{text} was accepted")
            };
            assert!(message.contains(field), "{message}");
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

    #[test]
    fn every_spelling_of_a_value_means_the_same() {
        for (text, policy) in [
            ("ALWAYS", "Always"),
            ("Always", "Always"),
            ("IF_NOT_PRESENT", "IfNotPresent"),
            ("IfNotPresent", "IfNotPresent"),
            ("NEVER", "Never"),
            ("Never", "Never"),
        ] {
            let options = Options::parse(&serde_json::json!({ "pullPolicy": text }).to_string()).unwrap();
            assert_eq!(options.pull_policy.map(PullPolicy::as_kubernetes), Some(policy));
        }
        for (text, delete) in [
            ("true", Delete::Always),
            ("false", Delete::Never),
            (r#""ON_SUCCESS""#, Delete::OnSuccess),
        ] {
            let options = Options::parse(&format!(r#"{{"delete": {text}}}"#)).unwrap();
            assert_eq!(options.delete, delete);
            assert_eq!(serde_json::to_string(&delete).unwrap(), text);
        }
        let options = r#"{"resources": {"request": {"cpu": 2}, "limit": {"nvidia.com/gpu": 1, "cpu": 2.5}}}"#;
        let resources = Options::parse(options).unwrap().resources;
        assert_eq!(resources.request["cpu"].0, "2");
        assert_eq!(resources.limit["nvidia.com/gpu"].0, "1");
        assert_eq!(resources.limit["cpu"].0, "2.5");
    }

    #[test]
    fn credentials_are_in_no_text_that_is_made_of_options() {
        let options = r#"{"credentials": {"registry": "r", "username": "somebody", "password": "hunter2"}}"#;
        let options = Options::parse(options).unwrap();
        let text = format!("{options:?} {}", serde_json::to_string(&options).unwrap());
        assert!(!text.contains("hunter2") && !text.contains("somebody"), "{text}");
    }
}
