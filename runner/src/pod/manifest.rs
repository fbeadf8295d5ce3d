//! The manifest of a task's pod: what the author declares, merged under what the runner needs. Pure.

use super::{
    FILES, Handle, LABEL_DOMAIN, MAIN, OUTPUT_DIR, SIDECAR, Stored, WORKING_DIR,
    helper::{Helper, KEEP_SCRIPT},
    names::{label_name, label_value},
};
use crate::{
    contract::{Error, Task},
    inputs::Inputs,
    merge::over,
    options::{Medium, Options, Resources, bytes},
};
use k8s_openapi::{
    DeepMerge as _,
    api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Pod, PodSpec, ResourceRequirements, Volume, VolumeMount},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use std::collections::BTreeMap;

const MAIN_SCRIPT: &str = include_str!("../scripts/main.sh");

/// Draws up the pod of a task that was checked.
pub(super) fn pod(
    task: &Task,
    options: &Options,
    handle: &Handle,
    stored: &Stored,
    inputs: &Inputs,
    inline: Option<&[u8]>,
) -> Result<Pod, Error> {
    let spec = spec(task, options, stored, inputs, inline);
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        check_resources(container)?;
    }
    Ok(Pod {
        metadata: metadata(task, options, handle, stored)?,
        spec: Some(spec),
        status: None,
    })
}

fn metadata(task: &Task, options: &Options, handle: &Handle, stored: &Stored) -> Result<ObjectMeta, Error> {
    let mut labels = options.labels.clone();
    labels.insert(format!("{LABEL_DOMAIN}/task"), handle.pod.clone());
    for (name, value) in &task.labels {
        let name = label_name(name);
        if !name.is_empty() && name != "task" {
            labels.insert(format!("{LABEL_DOMAIN}/{name}"), label_value(value));
        }
    }
    let stored = serde_json::to_string(stored)
        .map_err(|e| Error::Other(format!("failed to write the task's annotation: {e}")))?;
    let mut annotations = options.annotations.clone();
    annotations.extend([
        (format!("{LABEL_DOMAIN}/id"), task.id.clone()),
        (format!("{LABEL_DOMAIN}/digest"), handle.digest.clone()),
        (format!("{LABEL_DOMAIN}/task"), stored),
    ]);
    Ok(ObjectMeta {
        name: Some(handle.pod.clone()),
        namespace: Some(handle.namespace.clone()),
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    })
}

fn spec(task: &Task, options: &Options, stored: &Stored, inputs: &Inputs, inline: Option<&[u8]>) -> PodSpec {
    let mut theirs = options.pod_spec.clone().unwrap_or_default();
    let default = options.container_default_spec.clone().unwrap_or_default();
    let helper = Helper::new(options, &theirs);
    let (of_main, beside): (Vec<_>, Vec<_>) = std::mem::take(&mut theirs.containers)
        .into_iter()
        .partition(|container| container.name == MAIN);
    let before = theirs.init_containers.take().unwrap_or_default();
    let layers = of_main
        .into_iter()
        .chain(options.container_spec.clone())
        .chain([main(task, options, stored)]);
    let mut containers = vec![layers.fold(default.clone(), over)];
    let patience = options.keep_outputs.get().as_secs().to_string();
    if stored.collects() {
        containers.push(helper.container(SIDECAR, KEEP_SCRIPT, &[&patience]));
    }
    let mut init = Vec::new();
    if !inputs.is_empty() {
        init.push(helper.init(inline, &patience));
    }
    let with_defaults = |container| over(default.clone(), container);
    containers.extend(beside.into_iter().map(with_defaults));
    init.extend(before.into_iter().map(with_defaults));
    let deadline = stored.timeout.map(|timeout| {
        let seconds = u64::from(timeout)
            + stored.wait_until_running
            + options.keep_outputs.get().as_secs()
            + u64::from(stored.grace);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    });
    let medium = (options.volume.medium == Medium::Memory).then(|| "Memory".to_owned());
    let mut spec = PodSpec {
        enable_service_links: Some(false),
        volumes: Some(vec![
            volume(FILES, medium, options.size_limit()),
            volume(super::HELPER, None, None),
        ]),
        ..PodSpec::default()
    };
    let mut nodes = theirs.node_selector.take().unwrap_or_default();
    nodes.extend(options.node_selector.clone());
    spec.merge_from(theirs);
    spec.merge_from(PodSpec {
        restart_policy: Some("Never".into()),
        active_deadline_seconds: deadline,
        service_account_name: options.service_account_name.clone(),
        termination_grace_period_seconds: Some(i64::from(stored.grace)),
        node_selector: some(nodes),
        tolerations: (!options.tolerations.is_empty()).then(|| options.tolerations.clone()),
        affinity: options.affinity.clone(),
        priority_class_name: options.priority_class_name.clone(),
        runtime_class_name: options.runtime_class_name.clone(),
        init_containers: (!init.is_empty()).then_some(init),
        containers,
        ..PodSpec::default()
    });
    spec
}

fn some<K, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
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

pub(super) fn mount(volume: &str, path: &str, sub_path: Option<&str>) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        ..VolumeMount::default()
    }
}

/// Kubernetes rewrites `$$` and `$(NAME)` in commands and values; doubling every `$` makes it give back what was meant.
pub(super) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

pub(super) fn requirements(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        requests: some(resources.request.clone()),
        limits: some(resources.limit.clone()),
        claims: None,
    }
}

/// What the runner, the task and the options say of the main container.
fn main(task: &Task, options: &Options, stored: &Stored) -> Container {
    let mut command: Vec<String> = match &stored.shell {
        Some(shell) => {
            let timeout = stored.timeout.unwrap_or(0).to_string();
            let grace = stored.grace.to_string();
            [shell.as_str(), "-c", MAIN_SCRIPT, "podrun", &timeout, &grace]
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
    Container {
        name: MAIN.to_owned(),
        image: Some(task.image.clone()),
        image_pull_policy: options.pull_policy.map(|p| p.as_kubernetes().to_owned()),
        command: Some(command),
        env: Some(env),
        working_dir: Some(WORKING_DIR.to_owned()),
        resources: Some(requirements(&options.resources)),
        volume_mounts: Some(vec![
            mount(FILES, WORKING_DIR, Some("work")),
            mount(FILES, OUTPUT_DIR, Some("out")),
            mount(FILES, "/podrun/status", Some("status")),
        ]),
        ..Container::default()
    }
}

/// Requests and limits that fit each alone may not fit once they are merged.
fn check_resources(container: &Container) -> Result<(), Error> {
    let Some(ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits),
        ..
    }) = &container.resources
    else {
        return Ok(());
    };
    for (name, Quantity(request)) in requests {
        let limit = limits.get(name);
        if let Some(Quantity(limit)) = limit.filter(|limit| bytes(request) > bytes(&limit.0)) {
            return Err(Error::InvalidArgument(format!(
                "container `{}` asks for {request} of `{name}` and may not exceed {limit}, once `options.resources`, `options.containerSpec`, `options.podSpec` and `options.containerDefaultSpec` are merged: lower the request or raise the limit",
                container.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{
        contract::{Error, Input, Task},
        inputs::Inputs,
        options::Options,
        pod::Plan,
    };
    use serde_json::{Value, json};

    fn task(options: &Value) -> Task {
        Task {
            id: "flow-1".into(),
            image: "busybox".into(),
            command: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec![("A".into(), "task".into())],
            inputs: vec![],
            outputs: vec![],
            timeout: None,
            labels: vec![],
            options: options.to_string(),
        }
    }

    fn plan(options: &Value) -> Result<Plan, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("in"), "in").unwrap();
        let inputs = [Input {
            path: "in".into(),
            mode: 0o644,
        }];
        let inputs = Inputs::scan(folder.path().into(), &inputs).unwrap();
        let options = Options::parse(&options.to_string());
        options.and_then(|parsed| Plan::new(&task(&json!({})), "team", parsed, &inputs))
    }

    fn pod(options: &Value) -> Value {
        serde_json::to_value(plan(options).unwrap().pod).unwrap()
    }

    fn container<'p>(pod: &'p Value, name: &str) -> &'p Value {
        let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
        let mut all = lists.into_iter().filter_map(Value::as_array).flatten();
        all.find(|c| c["name"] == name).unwrap()
    }

    fn names(list: &Value) -> Vec<&str> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn each_option_is_where_kubernetes_looks_for_it() {
        let toleration = json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"});
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
        ]}}});
        let pod = pod(&json!({
            "annotations": {"example.com/note": "x"},
            "labels": {"example.com/team": "blue"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [toleration],
            "affinity": affinity,
            "priorityClassName": "high",
            "runtimeClassName": "gvisor",
            "serviceAccountName": "worker",
            "killGracePeriod": "PT5S",
            "pullPolicy": "IfNotPresent",
            "resources": {"request": {"cpu": 1}, "limit": {"example.com/gpu": 2}},
            "fileSidecar": {"image": "tools", "resources": {"request": {"cpu": "50m"}, "limit": {"cpu": "1"}}},
        }));
        let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
        assert_eq!(metadata["annotations"]["example.com/note"], "x");
        assert!(metadata["annotations"]["podrun.dev/digest"].is_string());
        assert_eq!(metadata["labels"]["example.com/team"], "blue");
        assert_eq!(spec["nodeSelector"], json!({"disk": "ssd"}));
        assert_eq!(spec["tolerations"], json!([toleration]));
        assert_eq!(spec["affinity"], affinity);
        assert_eq!(spec["priorityClassName"], "high");
        assert_eq!(spec["runtimeClassName"], "gvisor");
        assert_eq!(spec["serviceAccountName"], "worker");
        assert_eq!(spec["terminationGracePeriodSeconds"], 5);
        let main = container(&pod, "main");
        assert_eq!(main["imagePullPolicy"], "IfNotPresent");
        assert_eq!(
            main["resources"],
            json!({"requests": {"cpu": "1"}, "limits": {"example.com/gpu": "2"}})
        );
        assert_eq!(main["command"][5], "5");
        for name in ["init-files", "out-files"] {
            let helper = container(&pod, name);
            assert_eq!(helper["image"], "tools");
            assert_eq!(
                helper["resources"],
                json!({"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "1152Mi"}})
            );
        }
    }

    #[test]
    fn the_main_container_is_merged_in_layers_and_the_tasks_own_wins() {
        let pod = pod(&json!({
            "containerDefaultSpec": {
                "env": [{"name": "A", "value": "default"}, {"name": "B", "value": "default"}, {"name": "D", "value": "default"}],
                "securityContext": {"runAsUser": 1, "readOnlyRootFilesystem": true},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                "resources": {"limits": {"cpu": "4", "memory": "2Gi"}},
            },
            "podSpec": {
                "volumes": [{"name": "cache", "emptyDir": {}}],
                "containers": [{"name": "main", "env": [{"name": "B", "value": "pod"}, {"name": "C", "value": "pod"}],
                    "securityContext": {"runAsUser": 2}, "ports": [{"containerPort": 80}]}],
            },
            "containerSpec": {
                "env": [{"name": "C", "value": "spec"}, {"name": "A", "value": "spec"}, {"name": "WORKING_DIR", "value": "/x"}],
                "securityContext": {"runAsUser": 3},
                "resources": {"limits": {"cpu": "3"}},
                "volumeMounts": [{"name": "cache", "mountPath": "/cache", "readOnly": true}],
            },
            "resources": {"limit": {"cpu": "2"}},
        }));
        let main = container(&pod, "main");
        let env: Vec<String> = main["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| format!("{}={}", e["name"].as_str().unwrap(), e["value"].as_str().unwrap()))
            .collect();
        assert_eq!(
            env,
            [
                "D=default",
                "B=pod",
                "C=spec",
                "A=task",
                "WORKING_DIR=/podrun/work",
                "OUTPUT_DIR=/podrun/out"
            ]
        );
        assert_eq!(
            main["securityContext"],
            json!({"runAsUser": 3, "readOnlyRootFilesystem": true})
        );
        assert_eq!(main["resources"]["limits"], json!({"cpu": "2", "memory": "2Gi"}));
        assert_eq!(main["ports"], json!([{"containerPort": 80}]));
        assert_eq!(main["image"], "busybox");
        let mounts: Vec<_> = main["volumeMounts"].as_array().unwrap().iter().collect();
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            *mounts[0],
            json!({"name": "cache", "mountPath": "/cache", "readOnly": true})
        );
        assert_eq!(names(&pod["spec"]["volumes"]), ["files", "helper", "cache"]);
    }

    #[test]
    fn the_authors_containers_stand_beside_the_runners_own_with_the_defaults() {
        let pod = pod(&json!({
            "containerDefaultSpec": {"securityContext": {"runAsNonRoot": true, "runAsUser": 1000}},
            "podSpec": {
                "hostNetwork": true,
                "enableServiceLinks": true,
                "nodeSelector": {"zone": "a", "disk": "hdd"},
                "imagePullSecrets": [{"name": "theirs"}],
                "initContainers": [{"name": "setup", "image": "busybox"}],
                "containers": [{"name": "web", "image": "nginx", "command": ["nginx"], "securityContext": {"runAsUser": 101}}],
            },
            "nodeSelector": {"disk": "ssd"},
        }));
        let spec = &pod["spec"];
        assert_eq!(names(&spec["initContainers"]), ["init-files", "setup"]);
        assert_eq!(names(&spec["containers"]), ["main", "out-files", "web"]);
        assert_eq!(spec["hostNetwork"], true);
        assert_eq!(spec["enableServiceLinks"], true);
        assert_eq!(spec["nodeSelector"], json!({"zone": "a", "disk": "ssd"}));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "theirs"}]));
        assert_eq!(spec["restartPolicy"], "Never");
        let context = |name: &str| container(&pod, name)["securityContext"].clone();
        assert_eq!(context("web"), json!({"runAsNonRoot": true, "runAsUser": 101}));
        assert_eq!(context("setup"), json!({"runAsNonRoot": true, "runAsUser": 1000}));
        assert_eq!(context("main"), json!({"runAsNonRoot": true, "runAsUser": 1000}));
    }

    #[test]
    fn containers_that_move_files_are_confined_unless_the_author_says_otherwise() {
        let context = |options: Value| container(&pod(&options), "out-files")["securityContext"].clone();
        let seccomp = json!({"type": "RuntimeDefault"});
        assert_eq!(
            context(json!({})),
            json!({"allowPrivilegeEscalation": false, "seccompProfile": seccomp,
                "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]}})
        );
        let bare = json!({"drop": ["ALL"]});
        // A user who is not root has no use for root's capabilities, and a restricted namespace does not take them.
        for options in [
            json!({"containerDefaultSpec": {"securityContext": {"runAsUser": 1000}}}),
            json!({"fileSidecar": {"defaultSpec": {"securityContext": {"runAsNonRoot": true}}}}),
            json!({"podSpec": {"securityContext": {"runAsUser": 1000}}}),
            json!({"podSpec": {"securityContext": {"runAsNonRoot": true}}}),
        ] {
            assert_eq!(context(options.clone())["capabilities"], bare, "{options}");
        }
        let own = json!({"add": ["CHOWN"]});
        let chosen = json!({"containerDefaultSpec": {"securityContext": {"capabilities": {"drop": ["KILL"]}}},
            "fileSidecar": {"defaultSpec": {"securityContext": {"capabilities": own, "allowPrivilegeEscalation": true}}}});
        assert_eq!(
            context(chosen.clone())["capabilities"],
            json!({"drop": ["KILL"], "add": ["CHOWN"]})
        );
        assert_eq!(context(chosen)["allowPrivilegeEscalation"], true);
        let of_pod = json!({"podSpec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}});
        assert_eq!(context(of_pod).get("seccompProfile"), None);
    }

    #[test]
    fn the_runners_own_requests_give_way_to_the_authors_limits() {
        let resources = |options: Value| container(&pod(&options), "out-files")["resources"].clone();
        assert_eq!(
            resources(json!({"containerDefaultSpec": {"resources": {"limits": {"memory": "8Mi", "cpu": "5m"}}}})),
            json!({"limits": {"memory": "8Mi", "cpu": "5m"}, "requests": {}})
        );
        assert_eq!(
            resources(json!({"fileSidecar": {"resources": {"request": {"memory": "2Gi"}}}})),
            json!({"requests": {"memory": "2Gi", "cpu": "10m"}})
        );
    }

    #[test]
    fn requests_above_limits_are_found_once_all_is_merged() {
        let error = plan(&json!({
            "resources": {"limit": {"memory": "1Gi"}},
            "containerDefaultSpec": {"resources": {"requests": {"memory": "2Gi"}}},
        }))
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("`main`") && error.contains("2Gi") && error.contains("1Gi"),
            "{error}"
        );
    }
}
