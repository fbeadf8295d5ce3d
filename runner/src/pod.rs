//! From a task to the plan of its pod: handle, digest, and what is kept for later calls. Pure: values in, values out.

mod helper;
mod manifest;
mod names;

pub(crate) use names::{pod_name, selector};

use crate::{
    contract::{Error, Task},
    inputs::{Inputs, hex},
    options::{Delete, Medium, Options, bytes},
};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
/// The volume of the working directory, the output directory and the status of the script.
pub(crate) const FILES: &str = "files";
/// The volume of the markers of the containers that move files.
pub(crate) const HELPER: &str = "helper";

const DIGEST_VERSION: u32 = 1;
/// Linux takes no longer argument or environment string.
const MAX_STRING: usize = 128 * 1024 - 1;

/// Everything about a task that is known before its pod exists.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) handle: Handle,
    pub(crate) pod: Pod,
    pub(crate) stored: Stored,
    pub(crate) options: Options,
    /// What is allowed and yet seldom meant.
    pub(crate) warnings: Vec<String>,
}

/// What `attach` needs, kept in an annotation of the pod.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    /// Glob patterns of the outputs.
    pub(crate) outputs: Vec<String>,
    /// Those of them that a success needs.
    #[serde(default)]
    pub(crate) required: Vec<String>,
    /// Whether the output directory comes back.
    pub(crate) output_dir: bool,
    /// Seconds the script may run.
    pub(crate) timeout: Option<u32>,
    /// Seconds the pod may take to run.
    pub(crate) wait_until_running: u64,
    /// Which ends delete the pod.
    pub(crate) delete: Delete,
    /// Input files arrive through exec: the pod waits for them.
    pub(crate) staged: bool,
    /// The shell that the script runs under, if it does.
    pub(crate) shell: Option<String>,
    /// The task's labels, whole.
    pub(crate) labels: Vec<(String, String)>,
    /// `timeout` is `waitUntilCompletion`: the task has none of its own.
    #[serde(default)]
    pub(crate) until_completion: bool,
    /// Seconds between TERM and KILL when the script is stopped.
    #[serde(default = "half_a_minute")]
    pub(crate) grace: u32,
    /// Seconds that the log may be silent while its rest is read.
    #[serde(default = "half_a_minute")]
    pub(crate) wait_for_logs: u32,
    /// The whole working directory comes back.
    #[serde(default)]
    pub(crate) sync: bool,
    /// The log lines of the author's init containers are shown.
    #[serde(default)]
    pub(crate) init_logs: bool,
}

/// What pods have that were made before they said it.
fn half_a_minute() -> u32 {
    30
}

impl Stored {
    /// Whether the pod has a sidecar that keeps files.
    pub(crate) fn collects(&self) -> bool {
        self.output_dir || self.sync || !self.outputs.is_empty()
    }

    /// What the script's limit of time is, for people.
    pub(crate) fn limit(&self) -> String {
        let seconds = self.timeout.unwrap_or_default();
        if self.until_completion {
            format!("{seconds} s (`waitUntilCompletion`; a longer one, or a `timeout` of the task, gives it more)")
        } else {
            format!("its timeout of {seconds} s")
        }
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

impl Plan {
    /// Checks a task and draws up its pod. Nothing exists yet.
    pub(crate) fn new(task: &Task, namespace: &str, options: Options, inputs: &Inputs) -> Result<Self, Error> {
        check(task)?;
        // They are fetched like any other; the digest has them among the options.
        let mut outputs = task.outputs.clone();
        for pattern in &options.required_outputs {
            crate::outputs::Wanted::new(std::slice::from_ref(pattern), false)?;
            if !outputs.contains(pattern) {
                outputs.push(pattern.clone());
            }
        }
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
        let until_completion = options.wait_until_completion.filter(|_| task.timeout.is_none());
        let stored = Stored {
            outputs,
            required: options.required_outputs.clone(),
            output_dir: options.output_dir,
            timeout: task.timeout.or(until_completion.map(|d| d.whole_seconds())),
            wait_until_running: options.wait_until_running.get().as_secs(),
            delete: options.delete,
            staged: !inputs.is_empty() && inline.is_none(),
            shell,
            labels: task.labels.clone(),
            until_completion: until_completion.is_some(),
            grace: options.kill_grace_period.whole_seconds(),
            wait_for_logs: options.wait_for_logs.whole_seconds(),
            sync: options.sync_working_directory,
            init_logs: options.init_logs,
        };
        let pod = manifest::pod(task, &options, &handle, &stored, inputs, inline.as_deref())?;
        let warnings = warnings(task, &options, &pod);
        Ok(Self {
            handle,
            pod,
            stored,
            options,
            warnings,
        })
    }
}

/// What is allowed and yet seldom meant.
fn warnings(task: &Task, options: &Options, pod: &Pod) -> Vec<String> {
    let mut warnings = Vec::new();
    if task.timeout.is_some() && options.wait_until_completion.is_some() {
        warnings.push("`waitUntilCompletion` is ignored: the task has a `timeout`".to_owned());
    }
    let containers = pod
        .spec
        .as_ref()
        .map(|spec| spec.containers.as_slice())
        .unwrap_or_default();
    let main = containers.iter().find(|container| container.name == MAIN);
    let limits = main.and_then(|main| main.resources.as_ref()?.limits.as_ref());
    let memory = limits
        .and_then(|limits| limits.get("memory"))
        .map(|quantity| quantity.0.as_str());
    let size = options.size_limit().filter(|_| options.volume.medium == Medium::Memory);
    if let (Some(memory), Some(size)) = (memory, size)
        && bytes(memory) < bytes(size)
    {
        warnings.push(format!(
            "files count as memory of the script that writes them: with `resources.limit.memory` at {memory} it is ended before it fills the {size} of `volume.sizeLimit`; raise the one, lower the other, or set `volume.medium` to DISK"
        ));
    }
    let beside: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_str())
        .filter(|name| ![MAIN, SIDECAR].contains(name))
        .collect();
    if !beside.is_empty() {
        warnings.push(format!(
            "the pod stays as long as {} of `podSpec.containers` runs if no host comes for it: one that never ends belongs into `initContainers` with `restartPolicy: Always`, which Kubernetes ends with the script",
            beside.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        ));
    }
    warnings
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
    crate::outputs::Wanted::new(&task.outputs, false).map(|_| ())
}

/// A version and a SHA-256 over what makes two tasks the same: image, command, env, outputs, timeout, input files, and the
/// options that shape the run (service account, resources, volume, output directory, and those of `Options::shape` that are
/// set, so that an option that comes later leaves the digests of tasks without it). Never the config or a credential.
fn digest(task: &Task, options: &Options, inputs: &Inputs) -> String {
    let mut value = vec![serde_json::json!([
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
    ])];
    let mut shape = options.shape();
    if task.timeout.is_some() {
        shape.remove("waitUntilCompletion");
    }
    if !shape.is_empty() {
        value.push(shape.into());
    }
    let text: String = value.iter().map(ToString::to_string).collect();
    hex(&Sha256::digest(text.as_bytes()))
}

/// Whether a program takes `-c` and a POSIX script.
fn is_shell(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("sh" | "bash" | "dash" | "ash" | "ksh"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Input;
    use k8s_openapi::api::core::v1::Container;
    use serde_json::json;

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

    fn with(options: serde_json::Value) -> Plan {
        let task = Task {
            options: options.to_string(),
            ..task()
        };
        plan(&task, &[])
    }

    #[test]
    fn a_volume_that_does_not_fit_the_memory_is_warned_of() {
        let warnings = |options: serde_json::Value| with(options).warnings;
        let small = warnings(json!({"resources": {"limit": {"memory": "64Mi"}}}));
        assert!(small[0].contains("64Mi") && small[0].contains("1Gi"), "{small:?}");
        assert_eq!(
            small,
            warnings(json!({"containerSpec": {"resources": {"limits": {"memory": "64Mi"}}}}))
        );
        for fits in [
            json!({}),
            json!({"resources": {"limit": {"memory": "1Gi"}}}),
            json!({"resources": {"limit": {"memory": "64Mi"}}, "volume": {"medium": "DISK"}}),
            json!({"resources": {"limit": {"memory": "64Mi"}}, "volume": {"sizeLimit": "60Mi"}}),
        ] {
            assert_eq!(warnings(fits.clone()), Vec::<String>::new(), "{fits}");
        }
    }

    #[test]
    fn the_tasks_own_timeout_beats_the_one_of_the_options_which_is_said() {
        let ignored = with(json!({"waitUntilCompletion": "PT1H"}));
        assert_eq!(
            (ignored.stored.timeout, ignored.stored.until_completion),
            (Some(5), false)
        );
        assert!(ignored.warnings[0].contains("`waitUntilCompletion` is ignored"));
        assert_eq!(ignored.handle.digest, with(json!({})).handle.digest);
        let open = Task {
            timeout: None,
            options: r#"{"waitUntilCompletion": "PT1H"}"#.into(),
            ..task()
        };
        let limited = plan(&open, &[]);
        assert_eq!(
            (limited.stored.timeout, limited.stored.until_completion),
            (Some(3600), true)
        );
        assert_eq!(limited.warnings, Vec::<String>::new());
        assert!(limited.stored.limit().contains("`waitUntilCompletion`"));
        let spec = limited.pod.spec.unwrap();
        assert_eq!(spec.active_deadline_seconds, Some(3600 + 600 + 86_400 + 30));
        assert_eq!(spec.containers[0].command.as_ref().unwrap()[4], "3600");
    }

    #[test]
    fn a_container_beside_the_script_that_may_keep_the_pod_is_warned_of() {
        let beside = json!({"podSpec": {"containers": [{"name": "web", "image": "x"}, {"name": "main"}]}});
        let warnings = with(beside).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("`web`"), "{warnings:?}");
        let sidecar =
            json!({"podSpec": {"initContainers": [{"name": "web", "image": "x", "restartPolicy": "Always"}]}});
        assert_eq!(with(sidecar).warnings, Vec::<String>::new());
    }

    #[test]
    fn what_a_pod_of_a_former_version_does_not_say_has_its_former_value() {
        let mut pod = with(json!({})).pod;
        let former = json!({
            "outputs": [], "outputDir": true, "timeout": null, "waitUntilRunning": 600, "delete": false, "staged": false,
            "shell": "sh", "labels": [],
        });
        let annotations = pod.metadata.annotations.as_mut().unwrap();
        annotations.insert("podrun.dev/task".into(), former.to_string());
        let stored = Stored::of(&pod).unwrap();
        assert_eq!((stored.delete, stored.grace, stored.sync), (Delete::Never, 30, false));
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
            options:
                r#"{"waitUntilRunning": "PT1H", "delete": "ON_SUCCESS", "labels": {"a": "b"}, "annotations": {"a": "b"},
                "killGracePeriod": "PT5S", "waitForLogs": "PT5S", "initLogs": true, "tolerations": [], "podSpec": null,
                "credentials": {"username": "u", "password": "p"}, "syncWorkingDirectory": false}"#
                    .into(),
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
            Task {
                options: r#"{"podSpec": {"hostNetwork": true}}"#.into(),
                ..task()
            },
            Task {
                options: r#"{"syncWorkingDirectory": true}"#.into(),
                ..task()
            },
            Task {
                options: r#"{"nodeSelector": {"disk": "ssd"}}"#.into(),
                ..task()
            },
        ] {
            assert_ne!(base, digest(&other, &[("a", b"1")]));
        }
        assert_ne!(base, digest(&task(), &[("a", b"2")]));
        assert_ne!(base, digest(&task(), &[("b", b"1")]));
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
