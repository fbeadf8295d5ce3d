//! Bringing a cluster up: from nothing, from a machine that was restarted, from processes that were killed half way.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::binaries::Binaries;
use super::kubectl::Kubectl;
use super::layout::{self, ApiServer, Cluster, Decisions};
use super::process::{self, Component, Ensured, Process};
use super::{cgroup, config, down, mounts, pki};
use crate::image;
use crate::interrupt;
use crate::progress::{self, Step};

/// Every component, in the order in which they start.
pub(crate) const COMPONENTS: [&str; 7] = [
    "registry",
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
];

/// The longest that any one thing takes on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_secs(180);

/// Brings the cluster up and returns once a pod can be scheduled.
pub(crate) fn up(cluster: &Cluster, api_server: Option<ApiServer>) -> Result<()> {
    let binaries = Binaries::ensure()?;
    // What takes minutes is done before anybody has to wait for the lock.
    binaries.api_server(api_server.unwrap_or_default())?;
    let _lock = cluster.lock()?;
    let mut step = Step::start(format!("bringing cluster {} up", cluster.name()));
    let decisions = cluster.decide(api_server)?;
    forget_what_a_restart_took(cluster)?;
    end_strays(cluster)?;
    for folder in ["run", "logs", "kubelet", "containerd"] {
        let folder = cluster.path(folder);
        fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    }
    pki::ensure(&cluster.path("pki"), cluster.name(), decisions.slot.node_address())?;
    write_configuration(cluster, &decisions)?;
    cgroup::ensure(&cluster.cgroup())?;

    let api_server = binaries.api_server(decisions.api_server)?;
    let components = config::components(cluster, &decisions, &binaries, &api_server);
    let mut starter = Starter {
        cluster,
        components: &components,
        path: &binaries.path(),
        step: &mut step,
        running: Vec::new(),
    };
    starter.start(&["registry", "etcd", "containerd"])?;
    starter.wait("etcd takes connections", || Ok(answers(decisions.ports.etcd)))?;
    starter.start(&["kube-apiserver"])?;
    let hyperkube = binaries.hyperkube();
    let kubectl = Kubectl::new(&hyperkube, cluster);
    starter.wait("the API server is ready", || {
        Ok(answers(decisions.ports.api) && kubectl.call(&["get", "--raw=/readyz"]).is_ok())
    })?;
    let known = !kubectl.object("node", cluster.name(), "")?.is_null();
    let renewed = renewal(&kubectl, cluster)?;
    starter.start(&["kube-controller-manager", "kube-scheduler"])?;
    starter.wait("the registry and containerd take connections", || {
        Ok(answers(decisions.ports.registry) && cluster.path("containerd/containerd.sock").exists())
    })?;
    image::push_small(decisions.ports.registry, config::PAUSE_IMAGE, &binaries.hello())?;
    starter.start(&["kubelet"])?;
    // What a node that was known before says of itself may be older than its kubelet.
    let doubtful = known && starter.has_started("kubelet");
    starter.wait("the node takes pods", || {
        let alive = !doubtful || renewal(&kubectl, cluster)? != renewed;
        Ok(alive && takes_pods(&kubectl.object("node", cluster.name(), "")?))
    })?;
    starter.wait("the node knows its pods", || knows_its_pods(&kubectl, cluster))?;
    starter.wait("namespace default has its service account", || {
        Ok(!kubectl.object("serviceaccount", "default", "default")?.is_null())
    })?;
    write_runner_kubeconfig(cluster, &decisions, &kubectl)?;
    let node = decisions.slot.node_address();
    step.done(&format!(
        "API server https://127.0.0.1:{}, node {node}",
        decisions.ports.api
    ));
    Ok(())
}

/// What should run by now, so that a component that ends is noticed at once.
struct Starter<'a> {
    cluster: &'a Cluster,
    components: &'a [Component],
    path: &'a str,
    step: &'a mut Step,
    running: Vec<(&'a Component, Ensured)>,
}

impl Starter<'_> {
    fn start(&mut self, names: &[&str]) -> Result<()> {
        for component in self
            .components
            .iter()
            .filter(|component| names.contains(&component.name))
        {
            let ensured = process::ensure(self.cluster.folder(), component, self.path)?;
            self.running.push((component, ensured));
        }
        Ok(())
    }

    fn has_started(&self, name: &str) -> bool {
        let mut running = self.running.iter();
        running.any(|(component, ensured)| component.name == name && matches!(ensured, Ensured::Started(_)))
    }

    /// Fails if a component that was started has ended. One that was found may have been killed before this call and been
    /// about to end: it is started anew.
    fn revive(&mut self) -> Result<()> {
        for (component, ensured) in &mut self.running {
            match ensured {
                Ensured::Found(process) | Ensured::Started(process) if process.is_alive() => {}
                Ensured::Found(_) => *ensured = process::ensure(self.cluster.folder(), component, self.path)?,
                Ensured::Started(_) => {
                    let log = process::log_file(self.cluster.folder(), component.name);
                    bail!(
                        "{} ended; the end of `{}`:\n{}",
                        component.name,
                        log.display(),
                        progress::tail(&log, 20)
                    );
                }
            }
        }
        Ok(())
    }

    /// Waits until `condition` holds, and not longer than its components live.
    fn wait(&mut self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // An answer that is an error may be one of a component that is just starting.
        let mut last = None;
        loop {
            match condition() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            self.revive()?;
            if interrupt::requested() {
                bail!("interrupted while waiting until {what}");
            }
            if Instant::now() > deadline {
                let detail = last.map(|error| format!(": {error:#}")).unwrap_or_default();
                bail!(
                    "waited {} s and still not true: {what}{detail}; see `cargo xtask cluster logs`",
                    PATIENCE.as_secs()
                );
            }
            thread::sleep(Duration::from_millis(100));
            self.step.tick(&format!("waiting until {what}"));
        }
    }
}

/// Whether the node is ready and carries no taint that keeps pods away.
pub(crate) fn takes_pods(node: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let conditions = node["status"]["conditions"]
        .as_array()
        .is_some_and(|conditions| conditions.iter().any(ready));
    let taints = node["spec"]["taints"]
        .as_array()
        .is_some_and(|taints| !taints.is_empty());
    conditions && !taints && !node["spec"]["unschedulable"].as_bool().unwrap_or(false)
}

/// Whether the kubelet knows every pod that runs on its node. One that has just started does not, and refuses exec and logs.
fn knows_its_pods(kubectl: &Kubectl<'_>, cluster: &Cluster) -> Result<bool> {
    let node = cluster.name();
    let selector = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    let running = kubectl.call(&["get", "pods", "--all-namespaces", &selector, "--output=json"])?;
    let known = kubectl.call(&["get", &format!("--raw=/api/v1/nodes/{node}/proxy/pods")])?;
    let known = uids(&known)?;
    Ok(uids(&running)?.iter().all(|uid| known.contains(uid)))
}

/// The identities in a list of objects.
fn uids(list: &str) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(list).context("failed to read a list of pods")?;
    let items = list["items"].as_array().into_iter().flatten();
    Ok(items
        .filter_map(|item| item["metadata"]["uid"].as_str().map(str::to_owned))
        .collect())
}

/// When the kubelet last said that it is alive.
fn renewal(kubectl: &Kubectl<'_>, cluster: &Cluster) -> Result<Value> {
    Ok(kubectl.object("lease", cluster.name(), "kube-node-lease")?["spec"]["renewTime"].take())
}

fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(500)).is_ok()
}

/// After a restart of the machine no container, mount or network namespace is left, but containerd's notes of them are.
fn forget_what_a_restart_took(cluster: &Cluster) -> Result<()> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("failed to read the machine's boot id")?;
    let note = cluster.path("run/boot");
    if fs::read_to_string(&note).is_ok_and(|noted| noted != boot) {
        down::end_processes(cluster)?;
        mounts::remove(cluster.folder())?;
        for stale in ["containerd/state", "containerd/runc", "addresses"] {
            let folder = cluster.path(stale);
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("failed to remove `{}`", folder.display()));
                }
                _ => {}
            }
        }
    }
    layout::write(&note, &boot)
}

/// Ends components that lost their pid file. Shims stay: containerd takes them up again with the containers they hold.
fn end_strays(cluster: &Cluster) -> Result<()> {
    let known: Vec<Process> = COMPONENTS
        .iter()
        .filter_map(|name| process::running(&process::pid_file(cluster.folder(), name)))
        .map(|daemon| daemon.process)
        .collect();
    let strays: Vec<Process> = process::tagged(cluster.folder())
        .into_iter()
        .filter(|process| !known.contains(process) && is_component(*process))
        .collect();
    process::end(&strays)
}

/// Components were started by name; shims, runc and network plugins were started by containerd.
fn is_component(process: Process) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = Path::new(std::str::from_utf8(program).unwrap_or_default())
        .file_name()
        .unwrap_or_default();
    ["hyperkube", "containerd", "docker-registry"]
        .iter()
        .any(|component| name == *component)
}

fn write_configuration(cluster: &Cluster, decisions: &Decisions) -> Result<()> {
    for (file, text) in config::files(cluster, decisions) {
        layout::write(&cluster.path(file), &text)?;
    }
    for (file, user) in [
        ("kubeconfig", "admin"),
        ("admin-rsa.kubeconfig", "admin-rsa"),
        ("config/controllers.kubeconfig", "kube-controller-manager"),
        ("config/scheduler.kubeconfig", "kube-scheduler"),
        ("config/kubelet.kubeconfig", "kubelet"),
    ] {
        let entry = format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            encoded(cluster, &format!("{user}.crt"))?,
            encoded(cluster, &format!("{user}.key"))?
        );
        layout::write(&cluster.path(file), &kubeconfig(cluster, decisions, &entry)?)?;
    }
    Ok(())
}

fn kubeconfig(cluster: &Cluster, decisions: &Decisions, user: &str) -> Result<String> {
    let server = format!("https://127.0.0.1:{}", decisions.ports.api);
    let name = format!("podrun-{}", cluster.name());
    Ok(config::kubeconfig(
        &name,
        &server,
        &encoded(cluster, "ca.crt")?,
        user,
        "default",
    ))
}

/// Binds the account `task-runner` to the Role and writes a kubeconfig with a token of it.
fn write_runner_kubeconfig(cluster: &Cluster, decisions: &Decisions, kubectl: &Kubectl<'_>) -> Result<()> {
    let account = kubectl.object("serviceaccount", "task-runner", "default")?;
    if !account.is_null() && cluster.runner_kubeconfig().exists() {
        return Ok(());
    }
    if account.is_null() {
        kubectl.call(&["create", "serviceaccount", "task-runner", "--namespace=default"])?;
    }
    let role = match decisions.api_server {
        ApiServer::SameAsNode => include_str!("../../cluster/role.yaml"),
        ApiServer::V1_35 => include_str!("../../cluster/role-1.35.yaml"),
    };
    kubectl.call_with(&["apply", "--namespace=default", "--filename=-"], role)?;
    let token = kubectl.call(&[
        "create",
        "token",
        "task-runner",
        "--namespace=default",
        "--duration=87600h",
    ])?;
    let user = format!("token: {}", token.trim());
    layout::write(&cluster.runner_kubeconfig(), &kubeconfig(cluster, decisions, &user)?)
}

/// A file of the PKI in base64.
fn encoded(cluster: &Cluster, name: &str) -> Result<String> {
    let path = cluster.path("pki").join(name);
    let bytes = fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_takes_pods_only_when_ready_and_without_taints() {
        let ready = json!({"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(takes_pods(&ready));
        let tainted = json!({"spec": {"taints": [{"key": "node.kubernetes.io/not-ready"}]}, "status": ready["status"]});
        assert!(!takes_pods(&tainted));
        assert!(!takes_pods(
            &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
        ));
        assert!(!takes_pods(&Value::Null));
    }
}
