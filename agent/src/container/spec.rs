//! What a task's container is made of. Pure.
//!
//! It is what a container of the pod without settings of its own would be: in the pod's namespaces (but never among the
//! agent's processes, through which user 0 would reach the runtime's socket), below its cgroup, with the user, the groups and the SELinux options that the pod sets for all. Beyond that it gets the runtime's
//! seccomp profile (its AppArmor profile is what runtimes apply anyway), gains no privileges, and is the first to go
//! when memory is short, because it has requested none.

use std::collections::HashMap;
use std::path::Path;

use super::ContainerTask;
use super::cri::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, Mount, NamespaceOption, PodSandboxConfig, SecurityProfile,
};
use super::output::LOG;
use super::pod::{Pod, label};
use crate::protocol::Variable;
use crate::store::TaskId;

/// The label that says which task a container is.
pub(super) const TASK: &str = "podrun.dev/task-id";

/// The label that says whose task it is: the name of the agent's container in the pod.
pub(super) const AGENT: &str = "podrun.dev/agent";

/// The annotation with the task's name, which may be what no label is.
const NAME: &str = "podrun.dev/task-name";

/// A namespace of the container's own.
const OWN: i32 = 1;

/// Killed before anything that has requested memory.
const FIRST_TO_GO: i64 = 1000;

/// What the kubelet has hidden in every container. What is not there is passed over.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What the kubelet has made read-only in every container.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The labels of every container that this agent makes in its pod.
pub(super) fn labels_of_all(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (label::POD_UID.to_owned(), pod.uid.clone()),
        (AGENT.to_owned(), pod.container.clone()),
    ])
}

/// What the container of a task is called. A name of its own keeps the kubelet from taking it for one of the pod's, and
/// lets it keep what is left of it for as long as the pod is there.
fn name(id: &TaskId) -> String {
    format!("task-{id}")
}

/// The request that makes the container. `log_folder` is where the task's folder is on the node.
pub(super) fn request(
    task: &ContainerTask,
    pod: &Pod,
    image: String,
    mounts: Vec<Mount>,
    log_folder: &Path,
) -> Result<CreateContainerRequest, String> {
    let spec = &task.spec;
    let working_dir = spec.working_dir.clone().unwrap_or_default();
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        return Err(format!(
            "`workingDir` is `{working_dir}`: in a container it must be absolute"
        ));
    }
    let log_folder = log_folder.to_str().ok_or_else(|| {
        format!(
            "the agent's --data-dir is `{}` on the node: its path must be UTF-8",
            log_folder.display()
        )
    })?;
    let name = name(&task.id);
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.clone(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image,
            user_specified_image: spec.image.clone(),
        }),
        command: spec.command.clone(),
        args: spec.args.clone(),
        working_dir,
        envs: variables(&spec.env),
        mounts,
        labels: labels(task, pod, name),
        annotations: HashMap::from([(NAME.to_owned(), task.name.to_string())]),
        log_path: LOG.to_owned(),
        linux: Some(linux(&pod.config)),
    };
    Ok(CreateContainerRequest {
        pod_sandbox_id: pod.sandbox.clone(),
        config: Some(config),
        sandbox_config: Some(PodSandboxConfig {
            log_directory: log_folder.to_owned(),
            ..pod.config.clone()
        }),
    })
}

/// With the pod's labels the kubelet leaves the container alone as long as the pod lives; without, it would take it for
/// one of a pod that is gone, and kill it.
fn labels(task: &ContainerTask, pod: &Pod, name: String) -> HashMap<String, String> {
    let metadata = pod.config.metadata.clone().unwrap_or_default();
    let mut labels = labels_of_all(pod);
    labels.extend([
        (label::POD_NAME.to_owned(), metadata.name),
        (label::POD_NAMESPACE.to_owned(), metadata.namespace),
        (label::CONTAINER_NAME.to_owned(), name),
        (TASK.to_owned(), task.id.to_string()),
    ]);
    labels
}

/// Each name once, with its last value.
fn variables(env: &[Variable]) -> Vec<KeyValue> {
    let mut last = HashMap::new();
    for (index, variable) in env.iter().enumerate() {
        last.insert(variable.name.as_str(), index);
    }
    let kept = env
        .iter()
        .enumerate()
        .filter(|(index, variable)| last.get(variable.name.as_str()) == Some(index));
    kept.map(|(_, variable)| KeyValue {
        key: variable.name.clone(),
        value: variable.value.clone(),
    })
    .collect()
}

fn linux(pod: &PodSandboxConfig) -> LinuxContainerConfig {
    let pod = pod.linux.as_ref().and_then(|linux| linux.security_context.clone());
    let pod = pod.unwrap_or_default();
    LinuxContainerConfig {
        resources: Some(LinuxContainerResources {
            oom_score_adj: FIRST_TO_GO,
        }),
        security_context: Some(LinuxContainerSecurityContext {
            namespace_options: Some(NamespaceOption {
                pid: OWN,
                ..pod.namespace_options.unwrap_or_default()
            }),
            selinux_options: pod.selinux_options,
            run_as_user: pod.run_as_user,
            run_as_group: pod.run_as_group,
            supplemental_groups: pod.supplemental_groups,
            supplemental_groups_policy: pod.supplemental_groups_policy,
            no_new_privs: true,
            masked_paths: MASKED.map(str::to_owned).to_vec(),
            readonly_paths: READONLY.map(str::to_owned).to_vec(),
            seccomp: Some(SecurityProfile { profile_type: 0 }),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::cri::{Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, PodSandboxMetadata};
    use crate::protocol::{Container, Name};

    fn pod() -> Pod {
        Pod {
            uid: "u-1".into(),
            container: "agent".into(),
            sandbox: "s-1".into(),
            config: PodSandboxConfig {
                metadata: Some(PodSandboxMetadata {
                    name: "pod".into(),
                    uid: "u-1".into(),
                    namespace: "ns".into(),
                    attempt: 2,
                }),
                hostname: "pod".into(),
                log_directory: "/var/log/pods/ns_pod_u-1".into(),
                linux: Some(LinuxPodSandboxConfig {
                    cgroup_parent: "/kubepods/podu-1".into(),
                    security_context: Some(LinuxSandboxSecurityContext {
                        namespace_options: Some(NamespaceOption {
                            network: 2,
                            pid: 0,
                            ..NamespaceOption::default()
                        }),
                        run_as_user: Some(Int64Value { value: 1000 }),
                        supplemental_groups: vec![7],
                        ..LinuxSandboxSecurityContext::default()
                    }),
                }),
                ..PodSandboxConfig::default()
            },
            mounts: vec![],
        }
    }

    fn task(spec: Container) -> ContainerTask {
        ContainerTask {
            id: TaskId::parse("0123456789abcdef-01234567").unwrap(),
            name: Name::try_from("a task".to_owned()).unwrap(),
            spec,
            folder: "/state/tasks/x".into(),
            log_limit: 1,
        }
    }

    fn made(spec: Container) -> Result<CreateContainerRequest, String> {
        request(
            &task(spec),
            &pod(),
            "sha256:1".into(),
            vec![],
            Path::new("/node/state/x"),
        )
    }

    #[test]
    fn the_container_is_the_pods_and_says_whose_it_is() {
        let request = made(Container {
            image: "busybox".into(),
            command: vec!["sh".into(), "-c".into()],
            args: vec!["echo $(HOME)".into()],
            working_dir: Some("/work".into()),
            ..Container::default()
        })
        .unwrap();
        assert_eq!(request.pod_sandbox_id, "s-1");
        let sandbox = request.sandbox_config.unwrap();
        assert_eq!(sandbox.log_directory, "/node/state/x");
        assert_eq!(sandbox.linux.unwrap().cgroup_parent, "/kubepods/podu-1");
        assert_eq!(sandbox.metadata.unwrap().attempt, 2);
        let config = request.config.unwrap();
        let image = config.image.unwrap();
        assert_eq!(
            (image.image.as_str(), image.user_specified_image.as_str()),
            ("sha256:1", "busybox")
        );
        assert_eq!(config.command, ["sh", "-c"]);
        assert_eq!(config.args, ["echo $(HOME)"]);
        assert_eq!(config.working_dir, "/work");
        assert_eq!(config.log_path, "cri.log");
        let labels: std::collections::BTreeMap<_, _> = config.labels.into_iter().collect();
        let expected = [
            ("io.kubernetes.container.name", "task-0123456789abcdef-01234567"),
            ("io.kubernetes.pod.name", "pod"),
            ("io.kubernetes.pod.namespace", "ns"),
            ("io.kubernetes.pod.uid", "u-1"),
            ("podrun.dev/agent", "agent"),
            ("podrun.dev/task-id", "0123456789abcdef-01234567"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(labels, expected.into());
        assert_eq!(config.annotations["podrun.dev/task-name"], "a task");
    }

    #[test]
    fn it_may_do_no_more_than_a_plain_container_of_the_pod() {
        let linux = made(Container::default()).unwrap().config.unwrap().linux.unwrap();
        let context = linux.security_context.unwrap();
        let namespaces = context.namespace_options.unwrap();
        assert_eq!((namespaces.network, namespaces.pid, namespaces.ipc), (2, 1, 0));
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert_eq!(context.supplemental_groups, [7]);
        assert!(context.no_new_privs);
        assert_eq!(context.seccomp.unwrap().profile_type, 0);
        assert!(context.masked_paths.contains(&"/proc/kcore".to_owned()));
        assert!(context.readonly_paths.contains(&"/proc/sys".to_owned()));
        assert_eq!(linux.resources.unwrap().oom_score_adj, 1000);
    }

    #[test]
    fn of_equal_variables_the_last_one_counts() {
        let variable = |name: &str, value: &str| Variable {
            name: name.into(),
            value: value.into(),
        };
        let env = vec![variable("A", "1"), variable("B", "2"), variable("A", "3")];
        let config = made(Container {
            env,
            ..Container::default()
        })
        .unwrap()
        .config
        .unwrap();
        let env: Vec<_> = config.envs.into_iter().map(|one| (one.key, one.value)).collect();
        assert_eq!(
            env,
            [("B".to_owned(), "2".to_owned()), ("A".to_owned(), "3".to_owned())]
        );
    }

    #[test]
    fn a_relative_folder_is_refused() {
        let working_dir = Some("work".to_owned());
        let error = made(Container {
            working_dir,
            ..Container::default()
        })
        .unwrap_err();
        assert!(error.contains("`workingDir` is `work`"), "{error}");
    }
}
