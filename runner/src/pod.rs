//! From a task to the pod that runs it: names, digest, handle, labels and the manifest. Pure: values in, values out.

use crate::{
    contract::{Error, Task},
    inputs::{Inputs, hex},
    options::{Medium, Options, bytes},
};
use base64::Engine as _;
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, ResourceRequirements, SeccompProfile,
        SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Prefix of the runner's labels and annotations.
pub(crate) const LABEL_DOMAIN: &str = "podrun.dev";
/// The current directory of the script.
pub(crate) const WORKING_DIR: &str = "/podrun/work";
/// The directory whose files all come back.
pub(crate) const OUTPUT_DIR: &str = "/podrun/out";
/// The container that runs the task's program.
pub(crate) const MAIN: &str = "main";
/// The init container that brings input files.
pub(crate) const INIT: &str = "init-files";
/// The sidecar that keeps output files until they are collected.
pub(crate) const SIDECAR: &str = "out-files";
/// What the wrapper leaves as main's termination message when it stopped the script for its timeout.
pub(crate) const TIMED_OUT: &str = "podrun:timed-out";
/// Seconds between TERM and KILL when a task is stopped.
pub(crate) const GRACE: u32 = 30;

const DIGEST_VERSION: u32 = 1;
const CHUNK: usize = 96 * 1024;
/// Linux takes no longer argument or environment string.
const MAX_STRING: usize = 128 * 1024 - 1;

const MAIN_SCRIPT: &str = include_str!("scripts/main.sh");
const PROBE_SCRIPT: &str = include_str!("scripts/probe.sh");
const INLINE_SCRIPT: &str = include_str!("scripts/inline.sh");
const WAIT_SCRIPT: &str = include_str!("scripts/wait.sh");
const KEEP_SCRIPT: &str = include_str!("scripts/keep.sh");

/// Everything about a task that is known before its pod exists.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) handle: Handle,
    pub(crate) pod: Pod,
    pub(crate) stored: Stored,
    pub(crate) options: Options,
}

/// What `attach` needs, kept in an annotation of the pod.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    /// Glob patterns of the outputs.
    pub(crate) outputs: Vec<String>,
    /// Whether the output directory comes back.
    pub(crate) output_dir: bool,
    /// Seconds the script may run.
    pub(crate) timeout: Option<u32>,
    /// Seconds the pod may take to run.
    pub(crate) wait_until_running: u64,
    /// Delete the pod after the end.
    pub(crate) delete: bool,
    /// Input files arrive through exec: the pod waits for them.
    pub(crate) staged: bool,
    /// The shell that the script runs under, if it does.
    pub(crate) shell: Option<String>,
    /// The task's labels, whole.
    pub(crate) labels: Vec<(String, String)>,
}

impl Stored {
    /// Whether the pod has a sidecar that keeps files.
    pub(crate) fn collects(&self) -> bool {
        self.output_dir || !self.outputs.is_empty()
    }

    /// Reads what `Plan` wrote; none for a pod that this runner did not make.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        serde_json::from_str(annotation(pod, "task")?).ok()
    }
}

/// The durable name of a task: version, namespace, pod, digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) digest: String,
}

impl std::fmt::Display for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1/{}/{}/{}", self.namespace, self.pod, self.digest)
    }
}

impl std::str::FromStr for Handle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::InvalidArgument("`handle` is not one that this runner gave out".into());
        let parts: Vec<&str> = text.split('/').collect();
        let ["1", namespace, pod, digest] = parts[..] else {
            return Err(refuse());
        };
        crate::options::check_dns_label("handle", namespace)
            .and(crate::options::check_dns_label("handle", pod))
            .map_err(|_| refuse())?;
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            digest: digest.to_owned(),
        })
    }
}

impl Handle {
    /// The handle of a pod that this runner made.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        Some(Self {
            namespace: pod.metadata.namespace.clone()?,
            pod: pod.metadata.name.clone()?,
            digest: annotation(pod, "digest")?.to_owned(),
        })
    }
}

/// An annotation of the runner's.
pub(crate) fn annotation<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    pod.metadata
        .annotations
        .as_ref()?
        .get(&format!("{LABEL_DOMAIN}/{name}"))
        .map(String::as_str)
}

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

fn label_name(name: &str) -> String {
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
fn label_value(value: &str) -> String {
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

impl Plan {
    /// Checks a task and draws up its pod. Nothing exists yet.
    pub(crate) fn new(task: &Task, namespace: &str, options: Options, inputs: &Inputs) -> Result<Self, Error> {
        check(task)?;
        let namespace = options.namespace.clone().unwrap_or_else(|| namespace.to_owned());
        let handle = Handle {
            namespace,
            pod: pod_name(&task.id),
            digest: digest(task, &options, inputs),
        };
        let limit = options.size_limit().and_then(bytes);
        if let Some(limit) = limit.filter(|limit| inputs.total() as f64 > *limit) {
            return Err(Error::InvalidArgument(format!(
                "the input files have {} bytes, `options.volume.sizeLimit` allows {limit}: raise it, or set `options.volume.medium` to DISK",
                inputs.total()
            )));
        }
        let inline = if inputs.is_empty() {
            None
        } else {
            inputs.inline(options.inline_limit)?
        };
        let shell = task.command.first().filter(|program| is_shell(program)).cloned();
        let stored = Stored {
            outputs: task.outputs.clone(),
            output_dir: options.output_dir,
            timeout: task.timeout,
            wait_until_running: options.wait_until_running.get().as_secs(),
            delete: options.delete,
            staged: !inputs.is_empty() && inline.is_none(),
            shell,
            labels: task.labels.clone(),
        };
        let pod = pod(task, &options, &handle, &stored, inputs, inline.as_deref())?;
        Ok(Self {
            handle,
            pod,
            stored,
            options,
        })
    }
}

fn check(task: &Task) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::InvalidArgument(message));
    if task.id.is_empty() {
        return refuse("`id` is empty: every attempt of a task needs one of its own".into());
    }
    if task.image.trim().is_empty() {
        return refuse("`containerImage` is missing: name the image that the script runs in".into());
    }
    if task.command.is_empty() || task.command.first().is_some_and(String::is_empty) {
        return refuse("`command` is empty: name a program".into());
    }
    for argument in &task.command {
        if argument.contains('\0') {
            return refuse("`command` holds a zero byte".into());
        }
        if argument.len() > MAX_STRING {
            return refuse(format!(
                "`command` holds an argument of {} bytes, Linux takes {MAX_STRING}: put the script into an input file",
                argument.len()
            ));
        }
    }
    for (name, value) in &task.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return refuse(format!(
                "`env`: `{}` cannot be an environment variable",
                name.escape_default()
            ));
        }
        if name.len() + value.len() + 1 > MAX_STRING {
            return refuse(format!(
                "`env.{name}` has {} bytes, Linux takes {MAX_STRING}: use an input file",
                value.len()
            ));
        }
    }
    if task.timeout == Some(0) {
        return refuse("`timeout` is 0: leave it out for no limit".into());
    }
    crate::outputs::Wanted::new(&task.outputs).map(|_| ())
}

/// A version and a SHA-256 over what makes two tasks the same: image, command, env, outputs, timeout, input files, and the
/// options that shape the run (service account, resources, volume, output directory). Never the config.
fn digest(task: &Task, options: &Options, inputs: &Inputs) -> String {
    let value = serde_json::json!([
        DIGEST_VERSION,
        task.image,
        task.command,
        task.env,
        task.outputs,
        task.timeout,
        inputs.files,
        options.service_account_name,
        options.resources,
        options.volume,
        options.output_dir,
    ]);
    hex(&Sha256::digest(value.to_string().as_bytes()))
}

/// Whether a program takes `-c` and a POSIX script.
fn is_shell(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash" | "ash" | "ksh"))
}

/// Kubernetes rewrites `$$` and `$(NAME)` in commands and values; doubling every `$` makes it give back what was meant.
fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

fn pod(
    task: &Task,
    options: &Options,
    handle: &Handle,
    stored: &Stored,
    inputs: &Inputs,
    inline: Option<&[u8]>,
) -> Result<Pod, Error> {
    let mut labels = options.labels.clone();
    labels.insert(format!("{LABEL_DOMAIN}/task"), handle.pod.clone());
    for (name, value) in &task.labels {
        let name = label_name(name);
        if !name.is_empty() && name != "task" {
            labels.insert(format!("{LABEL_DOMAIN}/{name}"), label_value(value));
        }
    }
    let stored_json = serde_json::to_string(stored)
        .map_err(|e| Error::Other(format!("failed to write the task's annotation: {e}")))?;
    let annotations = BTreeMap::from([
        (format!("{LABEL_DOMAIN}/id"), task.id.clone()),
        (format!("{LABEL_DOMAIN}/digest"), handle.digest.clone()),
        (format!("{LABEL_DOMAIN}/task"), stored_json),
    ]);
    let helper = Helper::new(options);
    let mut containers = vec![main(task, options, stored)];
    if stored.collects() {
        containers.push(helper.container(
            SIDECAR,
            KEEP_SCRIPT,
            &[&options.keep_outputs.get().as_secs().to_string()],
        ));
    }
    let init = match inline {
        _ if inputs.is_empty() => None,
        None => Some(helper.container(INIT, &format!("{PROBE_SCRIPT}{WAIT_SCRIPT}"), &[])),
        Some(pack) => {
            let sum = hex(&Sha256::digest(pack));
            let text = base64::engine::general_purpose::STANDARD.encode(pack);
            let mut arguments = vec![sum.as_str()];
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (chunk, more) = rest.split_at(rest.len().min(CHUNK));
                arguments.push(chunk);
                rest = more;
            }
            Some(helper.container(INIT, &format!("{PROBE_SCRIPT}{INLINE_SCRIPT}"), &arguments))
        }
    };
    let deadline = stored.timeout.map(|timeout| {
        let seconds =
            u64::from(timeout) + stored.wait_until_running + options.keep_outputs.get().as_secs() + u64::from(GRACE);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    });
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(handle.pod.clone()),
            namespace: Some(handle.namespace.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some("Never".into()),
            active_deadline_seconds: deadline,
            service_account_name: options.service_account_name.clone(),
            termination_grace_period_seconds: Some(i64::from(GRACE)),
            enable_service_links: Some(false),
            init_containers: init.map(|c| vec![c]),
            containers,
            volumes: Some(vec![
                volume(
                    "files",
                    (options.volume.medium == Medium::Memory).then(|| "Memory".to_owned()),
                    options.size_limit(),
                ),
                volume("helper", None, None),
            ]),
            ..PodSpec::default()
        }),
        status: None,
    })
}

fn volume(name: &str, medium: Option<String>, size_limit: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium,
            size_limit: size_limit.map(|s| Quantity(s.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn mount(volume: &str, path: &str, sub_path: Option<&str>) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        ..VolumeMount::default()
    }
}

fn main(task: &Task, options: &Options, stored: &Stored) -> Container {
    let mut command: Vec<String> = match &stored.shell {
        Some(shell) => {
            let timeout = task.timeout.unwrap_or(0).to_string();
            [
                shell.as_str(),
                "-c",
                MAIN_SCRIPT,
                "podrun",
                &timeout,
                &GRACE.to_string(),
            ]
            .map(escape)
            .to_vec()
        }
        None => Vec::new(),
    };
    command.extend(task.command.iter().map(|a| escape(a)));
    // The last of equal names wins, as in a shell; the runner's own win over all.
    let mut env: Vec<EnvVar> = Vec::new();
    let own = [("WORKING_DIR", WORKING_DIR), ("OUTPUT_DIR", OUTPUT_DIR)].map(|(n, v)| (n.to_owned(), v.to_owned()));
    for (name, value) in task.env.iter().chain(&own) {
        env.retain(|e| e.name != *name);
        env.push(EnvVar {
            name: name.clone(),
            value: Some(escape(value)),
            value_from: None,
        });
    }
    let quantities = |map: &BTreeMap<String, String>| {
        (!map.is_empty()).then(|| {
            map.iter()
                .map(|(k, v)| (k.clone(), Quantity(v.clone())))
                .collect::<BTreeMap<_, _>>()
        })
    };
    Container {
        name: MAIN.to_owned(),
        image: Some(task.image.clone()),
        image_pull_policy: options.pull_policy.map(|p| p.as_kubernetes().to_owned()),
        command: Some(command),
        env: Some(env),
        working_dir: Some(WORKING_DIR.to_owned()),
        resources: Some(ResourceRequirements {
            requests: quantities(&options.resources.request),
            limits: quantities(&options.resources.limit),
            claims: None,
        }),
        volume_mounts: Some(vec![
            mount("files", WORKING_DIR, Some("work")),
            mount("files", OUTPUT_DIR, Some("out")),
            mount("files", "/podrun/status", Some("status")),
        ]),
        ..Container::default()
    }
}

/// The containers that move files.
struct Helper<'o> {
    image: &'o str,
    memory: Option<String>,
}

impl<'o> Helper<'o> {
    fn new(options: &'o Options) -> Self {
        // What a helper writes into a volume in memory counts as the helper's own.
        let in_memory = options.volume.medium == Medium::Memory;
        let volume = if in_memory {
            options.size_limit().and_then(bytes)
        } else {
            Some(0.0)
        };
        let memory = volume.map(|b| format!("{}Mi", (b / 1_048_576.0).ceil() as u64 + 128));
        Self {
            image: &options.file_sidecar.image,
            memory,
        }
    }

    fn container(&self, name: &str, script: &str, arguments: &[&str]) -> Container {
        let mut command = vec!["sh", "-c", script, "podrun"];
        command.extend(arguments);
        let quantity = |text: &str| Quantity(text.to_owned());
        Container {
            name: name.to_owned(),
            image: Some(self.image.to_owned()),
            command: Some(command.into_iter().map(escape).collect()),
            resources: Some(ResourceRequirements {
                requests: Some(BTreeMap::from([
                    ("cpu".into(), quantity("10m")),
                    ("memory".into(), quantity("16Mi")),
                ])),
                limits: self
                    .memory
                    .as_ref()
                    .map(|m| BTreeMap::from([("memory".into(), quantity(m))])),
                claims: None,
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                // Root without these could not read a file that another user keeps for himself, or make one writable for all.
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".into()]),
                    add: Some(vec!["DAC_OVERRIDE".into(), "FOWNER".into()]),
                }),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..SecurityContext::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            volume_mounts: Some(vec![
                mount("files", "/podrun", None),
                mount("helper", "/podrun-helper", None),
            ]),
            ..Container::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Input;

    fn task() -> Task {
        Task {
            id: "flow-1".into(),
            image: "busybox".into(),
            command: vec!["sh".into(), "-c".into(), "echo $HOME $$ $(FOO)".into()],
            env: vec![("A".into(), "$$5".into()), ("WORKING_DIR".into(), "/elsewhere".into())],
            inputs: vec![],
            outputs: vec!["*.txt".into()],
            timeout: Some(5),
            labels: vec![
                ("flow".into(), "hello".into()),
                ("execution".into(), "with spaces and ümlauts".into()),
            ],
            options: "{}".into(),
        }
    }

    fn plan(task: &Task, files: &[(&str, &[u8])]) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            std::fs::write(folder.path().join(path), content).unwrap();
        }
        let inputs: Vec<Input> = files
            .iter()
            .map(|(p, _)| Input {
                path: (*p).to_owned(),
                mode: 0o644,
            })
            .collect();
        let inputs = Inputs::scan(folder.path().into(), &inputs).unwrap();
        Plan::new(task, "team", Options::parse(&task.options).unwrap(), &inputs).unwrap()
    }

    fn containers(plan: &Plan) -> Vec<Container> {
        let spec = plan.pod.spec.clone().unwrap();
        spec.init_containers
            .into_iter()
            .flatten()
            .chain(spec.containers)
            .collect()
    }

    #[test]
    fn kubernetes_gives_back_every_dollar_that_the_author_wrote() {
        let plan = plan(&task(), &[]);
        let main = &containers(&plan)[0];
        assert_eq!(
            main.command.as_ref().unwrap().last().unwrap(),
            "echo $$HOME $$$$ $$(FOO)"
        );
        let env = main.env.as_ref().unwrap();
        assert_eq!(env[0].value.as_deref(), Some("$$$$5"));
        // The runner's own variables win.
        assert_eq!(
            env.iter()
                .filter(|e| e.name == "WORKING_DIR")
                .map(|e| e.value.as_deref())
                .collect::<Vec<_>>(),
            [Some(WORKING_DIR)]
        );
    }

    #[test]
    fn only_what_is_needed_is_in_the_pod() {
        let names = |plan: &Plan| containers(plan).into_iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names(&plan(&task(), &[])), [MAIN, SIDECAR]);
        assert_eq!(names(&plan(&task(), &[("a", b"1")])), [INIT, MAIN, SIDECAR]);
        let bare = Task {
            options: r#"{"outputDir": false}"#.into(),
            outputs: vec![],
            ..task()
        };
        assert_eq!(names(&plan(&bare, &[])), [MAIN]);
        assert!(!plan(&task(), &[("a", b"1")]).stored.staged);
        let sent = Task {
            options: r#"{"inlineLimit": 0}"#.into(),
            ..task()
        };
        assert!(plan(&sent, &[("a", b"1")]).stored.staged);
        // The status folder is all that main sees of the runner's own files.
        let mounts = containers(&plan(&task(), &[]))[0].volume_mounts.clone().unwrap();
        assert!(mounts.iter().all(|m| m.name == "files" && m.sub_path.is_some()));
    }

    #[test]
    fn inputs_that_cannot_fit_the_volume_are_refused() {
        let small = Task {
            options: r#"{"volume": {"sizeLimit": "1Ki"}}"#.into(),
            ..task()
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 1025]).unwrap();
        let inputs = Inputs::scan(
            folder.path().into(),
            &[Input {
                path: "a".into(),
                mode: 0o644,
            }],
        )
        .unwrap();
        let error = Plan::new(&small, "n", Options::parse(&small.options).unwrap(), &inputs)
            .unwrap_err()
            .to_string();
        assert!(error.contains("options.volume.sizeLimit"), "{error}");
    }

    #[test]
    fn the_digest_changes_with_the_task_and_not_with_how_it_is_watched() {
        let digest = |task: &Task, files: &[(&str, &[u8])]| plan(task, files).handle.digest;
        let base = digest(&task(), &[("a", b"1")]);
        assert_eq!(base, digest(&task(), &[("a", b"1")]));
        let patient = Task {
            options: r#"{"waitUntilRunning": "PT1H", "delete": false, "labels": {"a": "b"}}"#.into(),
            ..task()
        };
        assert_eq!(base, digest(&patient, &[("a", b"1")]));
        for other in [
            Task {
                image: "debian".into(),
                ..task()
            },
            Task {
                command: vec!["sh".into()],
                ..task()
            },
            Task { env: vec![], ..task() },
            Task {
                outputs: vec![],
                ..task()
            },
            Task {
                timeout: None,
                ..task()
            },
            Task {
                options: r#"{"resources": {"limit": {"cpu": "1"}}}"#.into(),
                ..task()
            },
        ] {
            assert_ne!(base, digest(&other, &[("a", b"1")]));
        }
        assert_ne!(base, digest(&task(), &[("a", b"2")]));
        assert_ne!(base, digest(&task(), &[("b", b"1")]));
    }

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
    fn handles_are_parsed_strictly() {
        let handle = plan(&task(), &[]).handle;
        assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
        for text in [
            "",
            "1/a/b",
            "2/a/b/c",
            &handle.to_string().replace("team", "te am"),
            &format!("{handle}/x"),
        ] {
            assert!(text.parse::<Handle>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_that_do_not_fit_are_shortened_and_stay_apart() {
        let labels = plan(&task(), &[]).pod.metadata.labels.unwrap();
        assert_eq!(labels["podrun.dev/flow"], "hello");
        assert!(labels["podrun.dev/execution"].starts_with("with-spaces-and"));
        assert_ne!(label_value("a b"), label_value("a-b"));
        for value in ["", "ü", &"v".repeat(300), "-x-"] {
            let clean = label_value(value);
            assert!(
                clean.len() <= 63 && clean.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
                "{clean}"
            );
        }
    }

    #[test]
    fn a_bad_task_is_refused_with_the_field_and_the_cure() {
        let inputs = Inputs::scan("/nowhere".into(), &[]).unwrap();
        for (task, field) in [
            (
                Task {
                    id: String::new(),
                    ..task()
                },
                "`id`",
            ),
            (
                Task {
                    image: " ".into(),
                    ..task()
                },
                "`containerImage`",
            ),
            (
                Task {
                    command: vec![],
                    ..task()
                },
                "`command`",
            ),
            (
                Task {
                    command: vec!["sh".into(), "x".repeat(200_000)],
                    ..task()
                },
                "input file",
            ),
            (
                Task {
                    env: vec![("A=B".into(), String::new())],
                    ..task()
                },
                "`env`",
            ),
            (
                Task {
                    timeout: Some(0),
                    ..task()
                },
                "`timeout`",
            ),
            (
                Task {
                    outputs: vec!["a[".into()],
                    ..task()
                },
                "`outputFiles`",
            ),
        ] {
            let error = Plan::new(&task, "n", Options::default(), &inputs)
                .unwrap_err()
                .to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
