//! Taking a cluster down: no process, shim, mount, network device, address or control group stays.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::layout::Cluster;
use super::{cgroup, config, mounts, network, process};
use crate::progress::Step;

/// Links that a kubelet leaves for tools that read container logs at their old place.
const LOG_LINKS: &str = "/var/log/containers";

/// Results of network plugins, kept by name of network.
const NETWORK_RESULTS: &str = "/var/lib/cni/results";

/// Takes the cluster down, whatever state it is in. A cluster that does not exist is down already.
pub(crate) fn down(cluster: &Cluster) -> Result<()> {
    let _lock = cluster.lock()?;
    if !cluster.folder().exists() {
        eprintln!("· cluster {} does not exist", cluster.name());
        return Ok(());
    }
    let step = Step::start(format!("taking cluster {} down", cluster.name()));
    end_processes(cluster)?;
    cgroup::remove(&cluster.cgroup())?;
    mounts::remove(cluster.folder())?;
    match cluster.decisions() {
        Ok(Some(decisions)) => {
            network::remove_bridge(decisions.slot)?;
            remove_tree(&config::shim_sockets(&decisions))?;
        }
        Ok(None) => {}
        // Taking the cluster down is the only cure, so it must not stop here.
        Err(error) => eprintln!("  {error:#}; look for its bridge among `ip link show type bridge`"),
    }
    remove_entries(Path::new(LOG_LINKS), |entry| {
        fs::read_link(entry).is_ok_and(|target| target.starts_with(cluster.folder()))
    });
    let results = format!("{}-", cluster.cgroup());
    remove_entries(Path::new(NETWORK_RESULTS), |entry| {
        entry
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| is_result_of(name, &results))
    });
    // Whatever is mounted now would be emptied, not removed.
    if let Some(mount) = mounts::below(cluster.folder())?.first() {
        bail!("`{}` is still mounted", mount.display());
    }
    remove_tree(cluster.folder())?;
    step.done("");
    Ok(())
}

/// Ends everything that runs for the cluster: components, shims, and what containers run. Whoever could start something new
/// is found as well, so the search goes on until nothing is left.
pub(crate) fn end_processes(cluster: &Cluster) -> Result<()> {
    for _ in 0..100 {
        let mut processes = process::tagged(cluster.folder());
        processes.extend(cgroup::processes(&cluster.cgroup())?);
        if processes.is_empty() {
            return Ok(());
        }
        process::end(&processes)?;
    }
    bail!("processes of cluster {} keep coming back", cluster.name())
}

/// A result is called after its network, a container (64 hexadecimal digits) and an interface. The network of a cluster
/// whose name merely begins the same way is another one.
fn is_result_of(name: &str, prefix: &str) -> bool {
    let container = name.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
    container.is_some_and(|container| container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn remove_entries(folder: &Path, chosen: impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if chosen(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn remove_tree(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_cluster_with_a_longer_name_stay() {
        let container = "0123456789abcdef".repeat(4);
        assert!(is_result_of(&format!("podrun-a-{container}-eth0"), "podrun-a-"));
        assert!(!is_result_of(&format!("podrun-a-b-{container}-eth0"), "podrun-a-"));
    }
}
