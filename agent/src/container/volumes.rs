//! The volumes of the agent's pod: where they are on the node, and whether a task may have them. Pure.
//!
//! The runtime knows no volumes, only what is mounted from where into the pod's containers. Most kinds of volumes have
//! their name in that path, because the kubelet keeps them in `pods/UID/volumes/KIND/NAME`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::cri::Mount;
use crate::protocol::VolumeMount;

/// The path of the file that the kubelet keeps for every pod.
const HOSTS: &str = "/etc/hosts";

/// The volumes of a pod, by name.
#[derive(Debug)]
pub(super) struct Volumes<'a> {
    volumes: BTreeMap<&'a str, Mount>,
    hosts: Option<&'a Mount>,
}

impl<'a> Volumes<'a> {
    /// Those of the pod `uid`: of what is mounted into its containers, what has a name, and what was given one.
    pub(super) fn of(pod: &'a [Mount], uid: &str, named: &'a BTreeMap<String, Mount>) -> Self {
        let mut volumes = volumes(pod, uid);
        volumes.extend(named.iter().map(|(name, mount)| (name.as_str(), mount.clone())));
        Self {
            volumes,
            hosts: pod.iter().find(|mount| mount.container_path == HOSTS),
        }
    }

    /// What is mounted into a task's container: what it asks for, and the pod's own hosts file. `state` is where the
    /// agent's own state is on the node.
    pub(super) fn resolve(&self, wanted: &[VolumeMount], state: &Path) -> Result<Vec<Mount>, String> {
        let mut paths = HashSet::new();
        let mut mounts = Vec::new();
        for mount in wanted {
            let VolumeMount { name, mount_path, .. } = mount;
            if !paths.insert(mount_path.trim_end_matches('/')) {
                return Err(format!("two volumes are to be mounted at `{mount_path}`"));
            }
            if mount.sub_path.is_some() {
                return Err(format!(
                    "volume mount `{name}` has a `subPath`, which is not possible for a container: a link in the volume \
                 could lead anywhere on the node; mount the whole volume"
                ));
            }
            let Some(volume) = self.volumes.get(name.as_str()) else {
                let known: Vec<_> = self.volumes.keys().map(|name| format!("`{name}`")).collect();
                return Err(format!(
                    "volume `{name}` is not known: a container of the pod must mount it as a whole, and the agent's must if \
                 it is a claim or the node's, with --volume {name}=PATH; known are: {}",
                    if known.is_empty() {
                        "none".to_owned()
                    } else {
                        known.join(", ")
                    }
                ));
            };
            if state.starts_with(&volume.host_path) {
                return Err(format!(
                    "volume `{name}` holds the agent's own state and is not for tasks: add another one to the pod"
                ));
            }
            mounts.push(Mount {
                container_path: mount_path.clone(),
                readonly: mount.read_only || volume.readonly,
                ..volume.clone()
            });
        }
        mounts.extend(self.hosts.filter(|_| !paths.contains(HOSTS)).map(|hosts| Mount {
            readonly: true,
            ..hosts.clone()
        }));
        Ok(mounts)
    }
}

/// The pod's volumes by name. One is read-only if it is so in every container: a task may do no more than those.
fn volumes<'a>(pod: &'a [Mount], uid: &str) -> BTreeMap<&'a str, Mount> {
    let mut volumes: BTreeMap<_, Mount> = BTreeMap::new();
    for mount in pod {
        if let Some(name) = name(&mount.host_path, uid) {
            let readonly = volumes.get(name).is_none_or(|before| before.readonly) && mount.readonly;
            volumes.insert(
                name,
                Mount {
                    readonly,
                    ..mount.clone()
                },
            );
        }
    }
    volumes
}

/// The name of the volume that a path of the node is the root of.
fn name<'a>(path: &'a str, uid: &str) -> Option<&'a str> {
    let parts: Vec<_> = path.split('/').collect();
    // Drivers of their own mount in a folder below.
    let parts = match parts.as_slice() {
        [parts @ .., "mount"] => parts,
        parts => parts,
    };
    let [.., "pods", pod, "volumes", _kind, name] = parts else {
        return None;
    };
    (*pod == uid && !name.is_empty()).then_some(*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "/kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/state/tasks";

    fn mounted(volume: &str, at: &str, readonly: bool) -> Mount {
        Mount {
            container_path: at.into(),
            host_path: format!("/kubelet/pods/u-1/{volume}"),
            readonly,
            selinux_relabel: true,
            ..Mount::default()
        }
    }

    fn pod() -> Vec<Mount> {
        vec![
            mounted("etc-hosts", "/etc/hosts", false),
            mounted("containers/agent/0a1b2c3d", "/dev/termination-log", false),
            mounted("volumes/kubernetes.io~empty-dir/state", "/var/lib/sandbox", false),
            mounted("volumes/kubernetes.io~empty-dir/data", "/data", true),
            mounted("volumes/kubernetes.io~empty-dir/data", "/work", false),
            mounted("volumes/kubernetes.io~configmap/settings", "/etc/settings", true),
            mounted("volumes/kubernetes.io~csi/pvc-7/mount", "/claim", false),
            mounted("volume-subpaths/parts/agent/0", "/part", false),
            Mount {
                host_path: "/kubelet/pods/u-2/volumes/kubernetes.io~empty-dir/foreign".into(),
                ..mounted("", "/foreign", false)
            },
            Mount {
                host_path: "/run/containerd".into(),
                ..mounted("", "/run/containerd", false)
            },
        ]
    }

    fn wanted(name: &str, at: &str) -> VolumeMount {
        VolumeMount {
            name: name.into(),
            mount_path: at.into(),
            sub_path: None,
            read_only: false,
        }
    }

    fn ask(wanted: &[VolumeMount]) -> Result<Vec<(String, String, bool)>, String> {
        let mount = |host: &str| Mount {
            host_path: host.into(),
            ..Mount::default()
        };
        let named = BTreeMap::from([
            (
                "claim".to_owned(),
                mount("/kubelet/pods/u-1/volumes/kubernetes.io~csi/pvc-7/mount"),
            ),
            (
                "mine".to_owned(),
                mount("/kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/state"),
            ),
        ]);
        let mounts = Volumes::of(&pod(), "u-1", &named).resolve(wanted, Path::new(STATE))?;
        let shown = mounts
            .into_iter()
            .map(|mount| (mount.container_path, mount.host_path, mount.readonly));
        Ok(shown.collect())
    }

    #[test]
    fn volumes_are_found_by_name_and_are_read_only_where_the_pod_has_them_so() {
        let read_only = VolumeMount {
            read_only: true,
            ..wanted("data", "/b")
        };
        let mounts = ask(&[
            wanted("data", "/a"),
            read_only,
            wanted("settings", "/c"),
            wanted("pvc-7", "/d"),
            wanted("claim", "/e"),
        ]);
        let root = |volume: &str| format!("/kubelet/pods/u-1/volumes/kubernetes.io~{volume}");
        assert_eq!(
            mounts.unwrap(),
            [
                ("/a".into(), root("empty-dir/data"), false),
                ("/b".into(), root("empty-dir/data"), true),
                ("/c".into(), root("configmap/settings"), true),
                ("/d".into(), root("csi/pvc-7/mount"), false),
                ("/e".into(), root("csi/pvc-7/mount"), false),
                ("/etc/hosts".into(), "/kubelet/pods/u-1/etc-hosts".into(), true),
            ]
        );
    }

    #[test]
    fn what_is_not_the_pods_or_not_for_tasks_is_refused() {
        for (name, expected) in [
            ("other", "volume `other` is not known"),
            ("foreign", "volume `foreign` is not known"),
            ("parts", "volume `parts` is not known"),
            ("agent", "volume `agent` is not known"),
            ("../../etc", "is not known"),
            ("state", "holds the agent's own state"),
            ("mine", "holds the agent's own state"),
        ] {
            let error = ask(&[wanted(name, "/x")]).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let error = ask(&[wanted("x", "/x")]).unwrap_err();
        assert!(
            error.ends_with("known are: `claim`, `data`, `mine`, `pvc-7`, `settings`, `state`"),
            "{error}"
        );
        let none = BTreeMap::new();
        let none = Volumes::of(&[], "u-1", &none);
        let error = none.resolve(&[wanted("x", "/x")], Path::new(STATE)).unwrap_err();
        assert!(error.ends_with("known are: none"), "{error}");
        let sub_path = VolumeMount {
            sub_path: Some("a".into()),
            ..wanted("data", "/x")
        };
        assert!(ask(&[sub_path]).unwrap_err().contains("`subPath`"));
        let twice = ask(&[wanted("data", "/x"), wanted("settings", "/x/")]);
        assert!(twice.unwrap_err().contains("two volumes"));
    }

    #[test]
    fn a_volume_of_the_tasks_own_may_take_the_place_of_the_hosts_file() {
        assert_eq!(ask(&[wanted("settings", "/etc/hosts")]).unwrap().len(), 1);
        assert_eq!(ask(&[]).unwrap().len(), 1);
        let none = BTreeMap::new();
        assert_eq!(
            Volumes::of(&[], "u-1", &none).resolve(&[], Path::new(STATE)).unwrap(),
            []
        );
    }
}
