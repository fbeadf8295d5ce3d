//! The node's container runtime, which the manifest for container mode mounts, and what it has of a task.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use podrun_tests::faults::variable;

use super::pod::{PATIENCE, Pod};

/// Deploys the agent in container mode, at the runtime of the cluster under test.
pub(crate) fn deploy(changes: &[(&str, &str)]) -> Pod {
    let (from, to) = socket();
    let mut all = vec![(from.as_str(), to.as_str())];
    all.extend(changes);
    Pod::deploy_changed("container", &all)
}

/// What is to be replaced in the manifest, and by what, so that it mounts the folder with the runtime's socket.
pub(crate) fn socket() -> (String, String) {
    let usual = "hostPath: {path: /run/containerd, type: Directory}".to_owned();
    let own = match variable("PODRUN_TEST_CLUSTER_DIR") {
        Ok(cluster) => usual.replace("/run/containerd", &format!("{}/containerd", cluster.display())),
        Err(_) => usual.clone(),
    };
    (usual, own)
}

/// A container of a task, as the node knows it. Where the node is not this machine there is none.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Container {
    id: String,
}

impl Container {
    /// Those in which something runs: every one of the pod's that is neither the agent's nor the sandbox's own.
    pub(crate) fn of_tasks(pod: &Pod) -> BTreeSet<Self> {
        let object = pod.get();
        let uid = object["metadata"]["uid"].as_str().unwrap();
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            let cgroups = read("cgroup");
            let Some((_, below)) = cgroups.split_once(&format!("pod{uid}/")) else {
                continue;
            };
            let id = below.lines().next().unwrap_or_default();
            // Who shares the sandbox has its own.
            let command = read("cmdline");
            if command.starts_with("sh\0") || command.starts_with("sleep\0") {
                found.insert(Self { id: id.to_owned() });
            }
        }
        found
    }

    /// Waits until the runtime has nothing of it any more.
    #[track_caller]
    pub(crate) fn await_gone(&self) {
        let Ok(cluster) = variable("PODRUN_TEST_CLUSTER_DIR") else {
            return;
        };
        let places = [
            "containerd/root/io.containerd.grpc.v1.cri/containers",
            "containerd/state/io.containerd.grpc.v1.cri/containers",
            "containerd/state/io.containerd.runtime.v2.task/k8s.io",
        ];
        let begun = Instant::now();
        loop {
            let left: Vec<PathBuf> = places.iter().map(|place| cluster.join(place).join(&self.id)).collect();
            let left: Vec<_> = left.into_iter().filter(|place| place.exists()).collect();
            if left.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "left of it: {left:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
