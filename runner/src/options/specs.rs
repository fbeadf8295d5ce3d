//! The free maps `podSpec`, `containerSpec`, `containerDefaultSpec` and `fileSidecar.defaultSpec`: refuses what would
//! break the runner's own part of the pod, or would be without effect. What is left is Kubernetes' to judge.

use super::Options;
use crate::{
    contract::Error,
    pod::{FILES, HELPER, INIT, MAIN, SIDECAR},
};
use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};
use std::collections::BTreeSet;

/// Where the runner's own volumes are mounted.
const OWN_FOLDERS: [&str; 2] = ["/podrun", "/podrun-helper"];

/// Checks the free maps of a task.
pub(super) fn check(options: &Options) -> Result<(), Error> {
    if let Some(spec) = &options.pod_spec {
        check_pod("options.podSpec", spec)?;
    }
    if let Some(spec) = &options.container_spec {
        check_main("options.containerSpec", spec)?;
    }
    for (field, image, spec) in [
        (
            "options.containerDefaultSpec",
            "an image of its own",
            &options.container_default_spec,
        ),
        (
            "options.fileSidecar.defaultSpec",
            "`fileSidecar.image`",
            &options.file_sidecar.default_spec,
        ),
    ] {
        if let Some(spec) = spec {
            refuse(
                field,
                "image",
                spec.image.is_some(),
                &format!("every container has {image}: leave it out"),
            )?;
            refuse(
                field,
                "name",
                !spec.name.is_empty(),
                "it is for several containers: leave it out",
            )?;
            check_shared(field, spec)?;
        }
    }
    Ok(())
}

fn refuse(field: &str, name: &str, set: bool, why: &str) -> Result<(), Error> {
    if !set {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("`{field}.{name}` cannot be set: {why}")))
}

fn check_pod(field: &str, spec: &PodSpec) -> Result<(), Error> {
    let restarts = spec.restart_policy.as_deref().is_some_and(|policy| policy != "Never");
    let one = "the runner stops a script by process 1 of its container, which would be another one's: leave it out";
    for (name, set, why) in [
        (
            "activeDeadlineSeconds",
            spec.active_deadline_seconds.is_some(),
            "it would end the pod with its files: use the task's `timeout` or `waitUntilCompletion`",
        ),
        (
            "terminationGracePeriodSeconds",
            spec.termination_grace_period_seconds.is_some(),
            "use `killGracePeriod`",
        ),
        (
            "restartPolicy",
            restarts,
            "a script is never run twice in one attempt: leave it out and use the task's `retry`",
        ),
        ("hostPID", spec.host_pid == Some(true), one),
        ("shareProcessNamespace", spec.share_process_namespace == Some(true), one),
        (
            "ephemeralContainers",
            spec.ephemeral_containers.is_some(),
            "Kubernetes adds them to running pods only: use `kubectl debug`",
        ),
    ] {
        refuse(field, name, set, why)?;
    }
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        if [FILES, HELPER].contains(&volume.name.as_str()) {
            return Err(Error::InvalidArgument(format!(
                "`{field}.volumes[{at}].name` is `{}`, a volume of the runner's own: choose another name",
                volume.name
            )));
        }
    }
    let mut names = BTreeSet::new();
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", spec.containers.as_slice()),
    ];
    for (list, containers) in lists {
        for (at, container) in containers.iter().enumerate() {
            let field = format!("{field}.{list}[{at}]");
            let name = container.name.as_str();
            let invalid = |why: String| Err(Error::InvalidArgument(format!("`{field}.name` {why}")));
            if name.is_empty() {
                return invalid("is missing: every container needs one".into());
            }
            if [INIT, SIDECAR].contains(&name) || (name == MAIN && list == "initContainers") {
                return invalid(format!(
                    "is `{name}`, a container of the runner's own: choose another name"
                ));
            }
            if !names.insert(name) {
                return invalid(format!(
                    "is `{name}`, as that of another container: choose another name"
                ));
            }
            if name == MAIN {
                check_main(&field, container)?;
            } else {
                check_other(&field, container)?;
            }
        }
    }
    Ok(())
}

/// What is merged into the main container.
fn check_main(field: &str, spec: &Container) -> Result<(), Error> {
    let another = !spec.name.is_empty() && spec.name != MAIN;
    refuse(
        field,
        "name",
        another,
        "the main container is named `main`: leave it out",
    )?;
    refuse(field, "image", spec.image.is_some(), "use the task's `containerImage`")?;
    check_shared(field, spec)
}

/// What no container that the runner writes can take from elsewhere.
fn check_shared(field: &str, spec: &Container) -> Result<(), Error> {
    for (name, set, why) in [
        (
            "command",
            spec.command.is_some(),
            "the program is the task's `commands`",
        ),
        ("args", spec.args.is_some(), "the program is the task's `commands`"),
        (
            "workingDir",
            spec.working_dir.is_some(),
            "scripts start where their files are: use `cd` in the commands",
        ),
        (
            "restartPolicy",
            spec.restart_policy.is_some(),
            "a script is never run twice in one attempt: use the task's `retry`",
        ),
        (
            "terminationMessagePath",
            spec.termination_message_path.is_some(),
            "the runner reads the message at its usual place: leave it out",
        ),
    ] {
        refuse(field, name, set, why)?;
    }
    for (at, mount) in spec.volume_mounts.iter().flatten().enumerate() {
        if [FILES, HELPER].contains(&mount.name.as_str()) {
            return Err(own_volume(field, at, mount, "the script has its folders already"));
        }
        let path = mount.mount_path.trim_end_matches('/');
        let inside = OWN_FOLDERS.iter().any(|own| {
            path.strip_prefix(own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if inside {
            return Err(Error::InvalidArgument(format!(
                "`{field}.volumeMounts[{at}].mountPath` is `{}`, below the runner's own folders ({}): choose another path",
                mount.mount_path,
                OWN_FOLDERS.join(", ")
            )));
        }
    }
    Ok(())
}

/// A container that is the author's alone. It may see the folders of the script, and not what the runner keeps beside them.
fn check_other(field: &str, spec: &Container) -> Result<(), Error> {
    for (at, mount) in spec.volume_mounts.iter().flatten().enumerate() {
        let folder = mount.sub_path.as_deref().and_then(|path| path.split('/').next());
        if mount.name == HELPER || (mount.name == FILES && !matches!(folder, Some("work" | "out"))) {
            let cure = format!("mount `{FILES}` with `subPath: work` or `subPath: out` to share the script's folders");
            return Err(own_volume(field, at, mount, &cure));
        }
    }
    Ok(())
}

fn own_volume(field: &str, at: usize, mount: &VolumeMount, cure: &str) -> Error {
    Error::InvalidArgument(format!(
        "`{field}.volumeMounts[{at}].name` is `{}`, a volume of the runner's own: {cure}",
        mount.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refusal(options: &Value) -> String {
        match Options::parse(&options.to_string()) {
            Err(Error::InvalidArgument(message)) => message,
            other => panic!("{options}: {other:?}"),
        }
    }

    #[test]
    fn what_would_break_the_runners_own_part_is_refused_by_name_with_the_cure() {
        let pod = |spec: Value| json!({ "podSpec": spec });
        let mount = |volume: &str, path: &str| json!({"volumeMounts": [{"name": volume, "mountPath": path}]});
        for (options, field, cure) in [
            (
                pod(json!({"activeDeadlineSeconds": 5})),
                "podSpec.activeDeadlineSeconds",
                "`timeout`",
            ),
            (
                pod(json!({"terminationGracePeriodSeconds": 5})),
                "podSpec.terminationGracePeriodSeconds",
                "`killGracePeriod`",
            ),
            (
                pod(json!({"restartPolicy": "Always"})),
                "podSpec.restartPolicy",
                "`retry`",
            ),
            (pod(json!({"hostPID": true})), "podSpec.hostPID", "process 1"),
            (
                pod(json!({"shareProcessNamespace": true})),
                "podSpec.shareProcessNamespace",
                "process 1",
            ),
            (
                pod(json!({"ephemeralContainers": [{"name": "x"}]})),
                "podSpec.ephemeralContainers",
                "kubectl debug",
            ),
            (
                pod(json!({"volumes": [{"name": "v"}, {"name": "files"}]})),
                "podSpec.volumes[1].name",
                "another name",
            ),
            (
                pod(json!({"containers": [{"name": "out-files"}]})),
                "podSpec.containers[0].name",
                "another name",
            ),
            (
                pod(json!({"containers": [{"name": "init-files"}]})),
                "podSpec.containers[0].name",
                "another name",
            ),
            (
                pod(json!({"initContainers": [{"name": "main"}]})),
                "podSpec.initContainers[0].name",
                "another name",
            ),
            (
                pod(json!({"initContainers": [{"name": "a"}], "containers": [{"name": "a"}]})),
                "podSpec.containers[0].name",
                "another name",
            ),
            (
                pod(json!({"containers": [{"image": "x"}]})),
                "podSpec.containers[0].name",
                "is missing",
            ),
            (
                pod(json!({"containers": [{"name": "main", "command": ["x"]}]})),
                "podSpec.containers[0].command",
                "`commands`",
            ),
            (
                pod(json!({"containers": [{"name": "web", "volumeMounts": [{"name": "files", "mountPath": "/x"}]}]})),
                "podSpec.containers[0].volumeMounts[0].name",
                "subPath: work",
            ),
            (
                json!({"containerSpec": {"name": "other"}}),
                "containerSpec.name",
                "`main`",
            ),
            (
                json!({"containerSpec": {"image": "other"}}),
                "containerSpec.image",
                "`containerImage`",
            ),
            (
                json!({"containerSpec": {"workingDir": "/x"}}),
                "containerSpec.workingDir",
                "`cd`",
            ),
            (
                json!({"containerSpec": mount("v", "/podrun/work/x")}),
                "containerSpec.volumeMounts[0].mountPath",
                "another path",
            ),
            (
                json!({"containerDefaultSpec": mount("v", "/podrun/")}),
                "containerDefaultSpec.volumeMounts[0].mountPath",
                "another path",
            ),
            (
                json!({"containerDefaultSpec": mount("helper", "/x")}),
                "containerDefaultSpec.volumeMounts[0].name",
                "own",
            ),
            (
                json!({"containerDefaultSpec": {"args": []}}),
                "containerDefaultSpec.args",
                "`commands`",
            ),
            (
                json!({"fileSidecar": {"defaultSpec": {"image": "x"}}}),
                "fileSidecar.defaultSpec.image",
                "`fileSidecar.image`",
            ),
        ] {
            let message = refusal(&options);
            assert!(message.contains(&format!("options.{field}`")), "{options}: {message}");
            assert!(message.contains(cure), "{options}: {message}");
        }
    }

    #[test]
    fn what_is_the_authors_own_is_left_to_kubernetes() {
        for options in [
            json!({"podSpec": {"restartPolicy": "Never", "hostPID": false, "volumes": [{"name": "v"}]}}),
            json!({"containerSpec": {"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/podrunner"}]}}),
            json!({"podSpec": {"containers": [
                {"name": "web", "image": "x", "command": ["x"], "volumeMounts": [{"name": "files", "subPath": "work", "mountPath": "/in"}]},
            ]}}),
        ] {
            Options::parse(&options.to_string()).unwrap();
        }
    }

    #[test]
    fn the_maps_are_read_as_kubernetes_types_with_the_nearest_name() {
        for (options, says) in [
            (
                json!({"podSpec": {"hostNetwrk": true}}),
                "unknown property `options.podSpec.hostNetwrk`: did you mean `hostNetwork`?",
            ),
            (
                json!({"podSpec": {"containers": [{"name": "web", "imagePullPolcy": "Always"}]}}),
                "unknown property `options.podSpec.containers[0].imagePullPolcy`: did you mean `imagePullPolicy`?",
            ),
            (
                json!({"containerSpec": {"securityContext": {"runAsUsr": 1}}}),
                "unknown property `options.containerSpec.securityContext.runAsUsr`: did you mean `runAsUser`?",
            ),
            (
                json!({"tolerations": [{"key": "a"}, {"operater": "b"}]}),
                "unknown property `options.tolerations[1].operater`: did you mean `operator`?",
            ),
            (
                json!({"affinity": {"nodeAfinity": {}}}),
                "unknown property `options.affinity.nodeAfinity`: did you mean `nodeAffinity`?",
            ),
            (
                json!({"containerSpec": {"securityContext": {"runAsUser": "me"}}}),
                "`options.containerSpec.securityContext.runAsUser`",
            ),
            (json!({"podSpec": {"tolerations": {}}}), "`options.podSpec.tolerations`"),
        ] {
            let message = refusal(&options);
            assert!(message.contains(says), "{message}");
        }
    }
}
