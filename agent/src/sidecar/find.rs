//! Which container is the main one, and which process is its first.
//!
//! Containers are told apart by their cgroups, which lie side by side below the pod's. A container's name is in the path
//! of the file that the kubelet mounts into it for its last words: the kernel remembers where it came from, and no process
//! without CAP_SYS_ADMIN can change that.

use std::collections::BTreeMap;

use super::proc::{self, Process};
use super::{Error, MARKER};
use crate::supervise::tree;

/// The first process of the container that answers to the name.
pub(super) fn first_process(name: &str) -> Result<Process, Error> {
    let unreadable = || proc_error(name);
    let own = Process::own().map_err(|_| unreadable())?;
    let own_cgroups = own.cgroups().ok_or_else(unreadable)?;
    let pod = own.mounts().ok().and_then(|mounts| pod_folder(&mounts));
    let mut containers: BTreeMap<String, Vec<(u64, Process)>> = BTreeMap::new();
    for process in tree::processes().filter_map(Process::open) {
        let container = process.cgroups().and_then(|cgroups| neighbour(&own_cgroups, &cgroups));
        if let (Some(container), Some(start_time)) = (container, process.start_time()) {
            containers.entry(container).or_default().push((start_time, process));
        }
    }
    let mut answering = Vec::new();
    for mut processes in containers.into_values() {
        processes.sort_by_key(|(start_time, _)| *start_time);
        let mut processes = processes.into_iter().map(|(_, process)| process);
        let Some(first) = processes.next() else { continue };
        let mounts = first.mounts().unwrap_or_default();
        let called = pod.as_deref().is_some_and(|pod| is_called(&mounts, pod, name));
        if called || has_marker(&first, name)? || any_has_marker(processes, name)? {
            answering.push(first);
        }
    }
    match (answering.pop(), answering.len()) {
        (None, _) => Err(Error::Absent(name.to_owned())),
        (Some(first), 0) => Ok(first),
        (Some(_), others) => Err(Error::Ambiguous(name.to_owned(), others + 1)),
    }
}

fn proc_error(name: &str) -> Error {
    let error = std::io::Error::other("`/proc` cannot be read");
    Error::Io("look for the processes", name.to_owned(), error)
}

fn any_has_marker(mut processes: impl Iterator<Item = Process>, name: &str) -> Result<bool, Error> {
    processes.try_fold(false, |found, process| Ok(found || has_marker(&process, name)?))
}

fn has_marker(process: &Process, name: &str) -> Result<bool, Error> {
    match process.environment() {
        Ok(environment) => Ok(is_marked(&environment, name)),
        Err(proc::Error::Gone) => Ok(false),
        Err(proc::Error::Io(step, error)) => Err(Error::Io(step, name.to_owned(), error)),
    }
}

fn is_marked(environment: &[u8], name: &str) -> bool {
    let marked = |variable: &[u8]| {
        let value = variable.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        Some(value == name.as_bytes())
    };
    environment
        .split(|byte| *byte == 0)
        .any(|variable| marked(variable).unwrap_or(false))
}

/// The container of a process, by the name of its cgroup beside the one that `own` tells of; none for a process of this
/// container, or of none in this pod.
fn neighbour(own: &str, cgroups: &str) -> Option<String> {
    let hierarchies = |text| str::lines(text).filter_map(|line| line.split_once(':')?.1.split_once(':'));
    hierarchies(own).find_map(|(controllers, own)| {
        let (_, there) = hierarchies(cgroups).find(|(other, _)| *other == controllers)?;
        let beside = match own {
            // In a cgroup namespace: its root is this container, and what lies outside is shown from there.
            "/" => there.strip_prefix("/../")?,
            own => {
                let (pod, container) = own.rsplit_once('/')?;
                let beside = there.strip_prefix(pod)?.strip_prefix('/')?;
                let below = beside
                    .strip_prefix(container)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                (!below).then_some(beside)?
            }
        };
        let container = beside
            .split('/')
            .next()
            .filter(|name| !name.is_empty() && *name != "..")?;
        Some(container.to_owned())
    })
}

/// Where the kubelet keeps this pod's files, as the mounts of one of its containers tell it: `.../pods/UID`.
fn pod_folder(mounts: &str) -> Option<String> {
    sources(mounts).find_map(|source| container_of(source).map(|(pod, _)| pod.to_owned()))
}

/// Whether the mounts are those of this pod's container of this name.
fn is_called(mounts: &str, pod: &str, name: &str) -> bool {
    sources(mounts).any(|source| container_of(source) == Some((pod, name)))
}

/// What is mounted, as paths in the file systems that it is from.
fn sources(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| line.split(' ').nth(3))
}

/// The pod's folder and the container's name in `.../pods/UID/containers/NAME/INSTANCE`.
fn container_of(source: &str) -> Option<(&str, &str)> {
    let (container, _) = source.rsplit_once('/')?;
    let (containers, name) = container.rsplit_once('/')?;
    let pod = containers.strip_suffix("/containers")?;
    pod.rsplit_once('/')?.0.ends_with("/pods").then_some((pod, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_lie_side_by_side() {
        let own = "5:devices:/\n4:memory:/kubepods/podX/agent\n0::/\n";
        for (there, container) in [
            ("4:memory:/kubepods/podX/main", Some("main")),
            (
                "5:devices:/\n4:memory:/kubepods/podX/main/inner/most\n0::/",
                Some("main"),
            ),
            ("4:memory:/kubepods/podX/agent", None),
            ("4:memory:/kubepods/podX/agent/podrun-1", None),
            ("4:memory:/kubepods/podX/agent2", Some("agent2")),
            ("4:memory:/kubepods/podX", None),
            ("4:memory:/kubepods/podXY/main", None),
            ("4:memory:/kubepods/podY/main", None),
            ("4:memory:/", None),
            ("0::/kubepods/podX/main", None),
            ("", None),
        ] {
            assert_eq!(neighbour(own, there).as_deref(), container, "{there}");
        }
        // In cgroup namespaces.
        assert_eq!(
            neighbour("0::/", "0::/../cri-1.scope/x").as_deref(),
            Some("cri-1.scope")
        );
        for foreign in ["0::/", "0::/inner", "0::/../../podY/main", "0::/.."] {
            assert_eq!(neighbour("0::/", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_are_the_kubelets() {
        let line = |source: &str| format!("203 111 254:0 {source} /dev/termination-log rw - ext4 /dev/vda rw\n");
        let mounts = line("/") + &line("/var/lib/kubelet/pods/uid-1/containers/agent/5c48acd1");
        let pod = pod_folder(&mounts).unwrap();
        assert_eq!(pod, "/var/lib/kubelet/pods/uid-1");
        assert!(is_called(
            &line("/var/lib/kubelet/pods/uid-1/containers/main/1"),
            &pod,
            "main"
        ));
        for source in [
            "/var/lib/kubelet/pods/uid-1/containers/other/1",
            "/var/lib/kubelet/pods/uid-2/containers/main/1",
            "/var/lib/kubelet/pods/uid-1/volumes/kubernetes.io~empty-dir/v/pods/uid-1/containers/main/1",
            "/var/lib/kubelet/pods/uid-1/containers/main",
            "/containers/main/1",
            "",
        ] {
            assert!(!is_called(&line(source), &pod, "main"), "{source}");
        }
        assert_eq!(pod_folder("garbage\n1 2 3\n"), None);
    }

    #[test]
    fn markers_are_whole_variables() {
        assert!(is_marked(b"A=1\0SANDBOX_MAIN_CONTAINER=main\0B=2\0", "main"));
        for environment in [
            &b"SANDBOX_MAIN_CONTAINER=main2\0"[..],
            b"XSANDBOX_MAIN_CONTAINER=main\0",
            b"SANDBOX_MAIN_CONTAINER\0",
            b"A=SANDBOX_MAIN_CONTAINER=main\0",
            b"",
        ] {
            assert!(!is_marked(environment, "main"));
        }
    }
}
