//! The agent's own pod, as the kernel and the runtime know it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::{Client, Failure};
use super::cri::{ContainerState, Mount, PodSandboxConfig};

/// Labels by which the kubelet ties a container to a pod.
pub(super) mod label {
    pub(in super::super) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(in super::super) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(in super::super) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(in super::super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// Where the agent runs. None of it changes while the agent's container lives.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) uid: String,
    /// The agent's container, as the pod names it.
    pub(super) container: String,
    /// The id of the pod's sandbox.
    pub(super) sandbox: String,
    /// What the kubelet had the sandbox made of.
    pub(super) config: PodSandboxConfig,
    /// What is mounted into the agent's container.
    pub(super) mounts: Vec<Mount>,
}

/// Why the pod cannot be known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// Nothing of a kubelet is mounted.
    #[error(
        "no pod: nothing that a kubelet mounts is in /proc/self/mountinfo; container mode works in a container of a pod"
    )]
    NoPod,
    /// Things of several containers are mounted.
    #[error(
        "/proc/self/mountinfo has mounts of several containers: do not mount the kubelet's folder into the agent's"
    )]
    Ambiguous,
    /// The runtime serves another node, or other pods.
    #[error("pod {uid} has no {missing} at the runtime: --cri-socket must be that of the runtime which runs this pod")]
    Elsewhere {
        /// The pod.
        uid: String,
        /// What is missing.
        missing: &'static str,
    },
    /// The runtime is of another kind.
    #[error("the runtime does not tell how it made the sandbox of this pod ({0}): container mode needs containerd")]
    Untold(String),
    /// The runtime did not answer.
    #[error("{0}")]
    Runtime(String),
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        Self::Runtime(failure.to_string())
    }
}

impl Pod {
    /// Finds the pod by its UID, and this container in it.
    pub(super) async fn find(client: &Client, mountinfo: &str) -> Result<Self, Unknown> {
        let Place { uid, container } = place(mountinfo)?;
        let elsewhere = |missing| Unknown::Elsewhere {
            uid: uid.clone(),
            missing,
        };
        let of_pod = HashMap::from([(label::POD_UID.to_owned(), uid.clone())]);
        let mut of_agent = of_pod.clone();
        of_agent.insert(label::CONTAINER_NAME.to_owned(), container.clone());
        let sandboxes = client.sandboxes(of_pod).await?;
        let sandbox = sandboxes.into_iter().find(|sandbox| sandbox.state == 0);
        let sandbox = sandbox.ok_or_else(|| elsewhere("sandbox"))?.id;
        let own = client.containers(of_agent).await?;
        // The runtime may not have noted yet that this one runs; the ones before it have ended.
        let ended = ContainerState::Exited as i32;
        let own = own
            .into_iter()
            .find(|own| own.pod_sandbox_id == sandbox && own.state != ended);
        let own = own.ok_or_else(|| elsewhere("container that runs with the agent's name"))?;
        Ok(Self {
            mounts: client.status(&own.id).await?.mounts,
            config: config(&client.sandbox_info(&sandbox).await?)?,
            uid,
            container,
            sandbox,
        })
    }

    /// What is mounted into this container at exactly this path.
    pub(super) fn mounted_at(&self, path: &Path) -> Option<&Mount> {
        let here = |mount: &&Mount| Path::new(&mount.container_path) == path && !mount.host_path.is_empty();
        self.mounts.iter().find(here)
    }

    /// Where a path of this container is on the node, if it is in something mounted.
    pub(super) fn on_node(&self, path: &Path) -> Option<PathBuf> {
        let inside = self
            .mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.container_path) && !mount.host_path.is_empty());
        let mount = inside.max_by_key(|mount| mount.container_path.len())?;
        let rest = path.strip_prefix(&mount.container_path).ok()?;
        // Joining nothing would add a slash.
        Some(if rest.as_os_str().is_empty() {
            mount.host_path.clone().into()
        } else {
            Path::new(&mount.host_path).join(rest)
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    uid: String,
    container: String,
}

impl fmt::Display for Pod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "container `{}` of pod {}", self.container, self.uid)
    }
}

/// Finds out which container this is: the kubelet mounts a file `pods/UID/containers/NAME/X` into every one, for its
/// termination message.
fn place(mountinfo: &str) -> Result<Place, Unknown> {
    let mut found = None;
    for line in mountinfo.lines() {
        // What of the file system is mounted is the fourth field.
        let root: Vec<_> = line.split(' ').nth(3).unwrap_or_default().split('/').collect();
        let [.., "pods", uid, "containers", container, _file] = root.as_slice() else {
            continue;
        };
        let place = Place {
            uid: (*uid).to_owned(),
            container: (*container).to_owned(),
        };
        match &found {
            Some(other) if *other != place => return Err(Unknown::Ambiguous),
            _ => found = Some(place),
        }
    }
    found.ok_or(Unknown::NoPod)
}

/// The sandbox's configuration, which containerd tells as JSON beyond the interface.
fn config(info: &HashMap<String, String>) -> Result<PodSandboxConfig, Unknown> {
    #[derive(Deserialize)]
    struct Info {
        config: PodSandboxConfig,
    }
    let info = info.get("info").map_or("", String::as_str);
    let info: Info = serde_json::from_str(info).map_err(|error| Unknown::Untold(error.to_string()))?;
    let cgroup = info.config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str());
    if cgroup.is_none_or(str::is_empty) {
        return Err(Unknown::Untold("it has no cgroup parent".to_owned()));
    }
    if info.config.metadata.is_none() {
        return Err(Unknown::Untold("it has no metadata".to_owned()));
    }
    Ok(info.config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_mounts_and_any_configuration_are_answered(
            text in "\\PC{0,64}",
            lines in proptest::collection::vec("[0-9]{1,3} [0-9] 8:1 (/|/x/pods/[ab]/containers/[ab]/f|/pods/[ab]/volumes/x) /y", 0..6),
        ) {
            let _ = place(&text);
            let places: std::collections::BTreeSet<_> = lines
                .iter()
                .filter_map(|line| line.split_once("/pods/")?.1.split_once("/f"))
                .map(|(named, _)| named.to_owned())
                .collect();
            match place(&lines.join("\n")) {
                Ok(found) => prop_assert_eq!(places.into_iter().collect::<Vec<_>>(), [format!("{}/containers/{}", found.uid, found.container)]),
                Err(Unknown::NoPod) => prop_assert!(places.is_empty()),
                Err(_) => prop_assert!(places.len() > 1),
            }
        }

        #[test]
        fn any_configuration_is_answered(
            text in "\\PC{0,64}",
            fields in proptest::collection::vec(proptest::sample::select(vec![
                r#""metadata":{"name":"p"}"#, r#""metadata":null"#, r#""linux":{"cgroup_parent":"/x"}"#, r#""linux":{}"#,
                r#""linux":{"cgroup_parent":"/x","security_context":{"run_as_user":{"value":1e9}}}"#, r#""labels":{"a":1}"#,
                r#""port_mappings":[{}]"#, r#""hostname":7"#,
            ]), 0..5),
        ) {
            let told = format!(r#"{{"config":{{{}}}}}"#, fields.join(","));
            for text in [text, told] {
                if let Ok(config) = config(&HashMap::from([("info".to_owned(), text)])) {
                    prop_assert!(config.metadata.is_some());
                    prop_assert!(!config.linux.unwrap().cgroup_parent.is_empty());
                }
            }
        }
    }

    #[test]
    fn the_place_is_read_from_the_kubelets_mounts() {
        let mountinfo = "\
            600 599 0:50 / / rw,relatime - overlay overlay rw\n\
            601 600 8:1 /var/lib/kubelet/pods/1b2c/volumes/kubernetes.io~empty-dir/data /data rw - ext4 /dev/sda1 rw\n\
            602 600 8:1 /pods/1b2c/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
            603 600 8:1 /pods/1b2c/containers/agent/0a1b2c3d /dev/termination-log rw - ext4 /dev/sda1 rw\n";
        let expected = Place {
            uid: "1b2c".into(),
            container: "agent".into(),
        };
        assert_eq!(place(mountinfo).unwrap(), expected);
        let twice = format!("{mountinfo}{mountinfo}");
        assert_eq!(place(&twice).unwrap(), expected, "the same twice is no contradiction");
        let other = format!("{mountinfo}604 600 8:1 /pods/1b2c/containers/main/ffff /x rw - ext4 /dev/sda1 rw\n");
        assert!(matches!(place(&other), Err(Unknown::Ambiguous)));
        for none in [
            "",
            "\n",
            "1 2 3",
            "1 2 8:1 /var/lib/kubelet /x",
            "1 2 8:1 /pods/a/containers/b /x",
        ] {
            assert!(matches!(place(none), Err(Unknown::NoPod)), "{none}");
        }
    }

    #[test]
    fn the_configuration_of_a_sandbox_is_what_containerd_tells() {
        let info = |text: &str| HashMap::from([("info".to_owned(), text.to_owned())]);
        let told = r#"{"pid": 1, "config": {"metadata": {"name": "p", "uid": "1b2c", "namespace": "n"}, "hostname": "p",
            "log_directory": "/var/log/pods/n_p_1b2c", "labels": {"app": "x"}, "linux": {
                "cgroup_parent": "/kubepods/besteffort/pod1b2c", "sysctls": {"a": "b"},
                "security_context": {"namespace_options": {"pid": 1}, "run_as_user": {"value": 1000},
                    "supplemental_groups": [7], "seccomp": {}}}}, "runtimeSpec": {}}"#;
        let linux = config(&info(told)).unwrap().linux.unwrap();
        assert_eq!(linux.cgroup_parent, "/kubepods/besteffort/pod1b2c");
        let context = linux.security_context.unwrap();
        assert_eq!(context.namespace_options.unwrap().pid, 1);
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert_eq!(context.supplemental_groups, [7]);
        for untold in [
            "",
            "{}",
            r#"{"config": {}}"#,
            r#"{"config": {"linux": {"cgroup_parent": "/x"}}}"#,
        ] {
            assert!(matches!(config(&info(untold)), Err(Unknown::Untold(_))), "{untold}");
        }
        assert!(matches!(config(&HashMap::new()), Err(Unknown::Untold(_))));
    }

    #[test]
    fn paths_on_the_node_follow_the_innermost_mount() {
        let mount = |container: &str, host: &str| Mount {
            container_path: container.into(),
            host_path: host.into(),
            ..Mount::default()
        };
        let pod = Pod {
            uid: "u".into(),
            container: "agent".into(),
            sandbox: "s".into(),
            config: PodSandboxConfig::default(),
            mounts: vec![
                mount("/data", "/node/data"),
                mount("/data/inner", "/node/inner"),
                mount("/image", ""),
            ],
        };
        let on_node = |path: &str| pod.on_node(Path::new(path));
        assert_eq!(on_node("/data/a/b"), Some("/node/data/a/b".into()));
        assert_eq!(on_node("/data/inner/b"), Some("/node/inner/b".into()));
        assert_eq!(on_node("/data").unwrap().as_os_str(), "/node/data");
        assert_eq!(on_node("/database"), None);
        assert_eq!(on_node("/image/x"), None);
        let mounted_at = |path: &str| pod.mounted_at(Path::new(path)).map(|mount| mount.host_path.as_str());
        assert_eq!(mounted_at("/data/"), Some("/node/data"));
        assert_eq!(mounted_at("/data/a"), None);
        assert_eq!(mounted_at("/image"), None);
    }
}
