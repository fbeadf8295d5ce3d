//! Configuration files and command lines of the components. Pure: decisions in, text out.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::binaries::Binaries;
use super::layout::{Cluster, Decisions};
use super::process::Component;

/// The image of the container that holds a pod's network namespace.
pub(crate) const PAUSE_IMAGE: &str = "podrun.dev/pause:1";

/// The node's port for logs and exec. Every cluster has an address of its own, so they may share it.
const KUBELET_PORT: u16 = 10250;

/// A file to write before the components start: its path in the cluster's folder and its text.
pub(crate) type Text = (&'static str, String);

/// Every configuration file but the kubeconfigs.
pub(crate) fn files(cluster: &Cluster, decisions: &Decisions) -> Vec<Text> {
    vec![
        (
            "config/audit-policy.yaml",
            include_str!("../../cluster/audit-policy.yaml").to_owned(),
        ),
        ("config/cni/10-bridge.conflist", network(cluster, decisions)),
        ("config/containerd.toml", containerd(cluster, decisions)),
        ("config/hosts/_default/hosts.toml", mirror(decisions)),
        ("config/kubelet.yaml", kubelet(cluster, decisions)),
        ("config/registry.yaml", registry(cluster, decisions)),
    ]
}

/// A kubeconfig; `user` is the text of the user's entry.
pub(crate) fn kubeconfig(name: &str, server: &str, authority: &str, user: &str, namespace: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {name}
  user:
    {user}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
    namespace: {namespace}
current-context: {name}
"
    )
}

/// Pods get addresses from the cluster's subnet and reach the node, and with it the API server, through the bridge.
fn network(cluster: &Cluster, decisions: &Decisions) -> String {
    let (network, prefix) = decisions.slot.subnet();
    let list = json!({
        "cniVersion": "0.4.0",
        "name": cluster.cgroup(),
        "plugins": [{
            "type": "bridge",
            "bridge": decisions.slot.bridge(),
            "isGateway": true,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": cluster.path("addresses"),
                "ranges": [[{ "subnet": format!("{network}/{prefix}"), "gateway": decisions.slot.node_address() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    format!("{list:#}\n")
}

/// `restrict_oom_score_adj`: the machine may withhold CAP_SYS_RESOURCE. NRI and CDI sockets would be shared by clusters.
fn containerd(cluster: &Cluster, decisions: &Decisions) -> String {
    let path = |below: &str| cluster.path(below).display().to_string();
    format!(
        "version = 3
root = '{root}'
state = '{state}'

[grpc]
  address = '{socket}'

[plugins.'io.containerd.nri.v1.nri']
  disable = true

[plugins.'io.containerd.internal.v1.opt']
  path = '{opt}'

[plugins.'io.containerd.shim.v1.manager']
  socket_dir = '{sockets}'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '{hosts}'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  enable_cdi = false

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
  conf_dir = '{cni}'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  Root = '{runc}'
  SystemdCgroup = false
",
        root = path("containerd/root"),
        state = path("containerd/state"),
        socket = path("containerd/containerd.sock"),
        opt = path("containerd/opt"),
        sockets = shim_sockets(decisions).display(),
        hosts = path("config/hosts"),
        cni = path("config/cni"),
        runc = path("containerd/runc"),
    )
}

/// The one place that images of every name come from. Naming it as the server leaves no upstream to fall back to.
fn mirror(decisions: &Decisions) -> String {
    format!(
        "server = 'http://127.0.0.1:{}'\ncapabilities = ['pull', 'resolve']\n",
        decisions.ports.registry
    )
}

fn registry(cluster: &Cluster, decisions: &Decisions) -> String {
    let config = json!({
        "version": "0.1",
        "log": { "level": "info", "accesslog": { "disabled": false } },
        "storage": {
            "filesystem": { "rootdirectory": cluster.path("registry") },
            "delete": { "enabled": true },
            // A tag that is pushed again must be seen at once.
            "maintenance": { "uploadpurging": { "enabled": false } },
        },
        "http": { "addr": format!("127.0.0.1:{}", decisions.ports.registry) },
    });
    format!("{config:#}\n")
}

/// Images are never collected and a full disk evicts nobody: tests must not depend on the developer's disk.
fn kubelet(cluster: &Cluster, decisions: &Decisions) -> String {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": decisions.slot.node_address(),
        "port": KUBELET_PORT,
        "healthzPort": 0,
        "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": false }, "x509": { "clientCAFile": cluster.path("pki/ca.crt") } },
        "authorization": { "mode": "AlwaysAllow" },
        "tlsCertFile": cluster.path("pki/kubelet.crt"),
        "tlsPrivateKeyFile": cluster.path("pki/kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{}", cluster.path("containerd/containerd.sock").display()),
        "podLogsDir": cluster.path("pod-logs"),
        "staticPodPath": "",
        "volumePluginDir": cluster.path("kubelet/volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", cluster.cgroup()),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        "resolvConf": "",
        // Nothing listens there: a lookup fails at once, and no pod gets an event about missing names.
        "clusterDNS": [decisions.slot.node_address()],
        "clusterDomain": "cluster.local",
        "makeIPTablesUtilChains": false,
        "oomScoreAdj": 0,
        "maxPods": 400,
        // A node is seen to be ready within a second, and says so again only when something has changed.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "5m",
        "registryPullQPS": 0,
        "serializeImagePulls": false,
        "maxParallelImagePulls": 4,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "87600h",
        "imageMaximumGCAge": "0s",
        "eventRecordQPS": 0,
    });
    format!("{config:#}\n")
}

/// The components in the order in which they start: name, command line, configuration.
pub(crate) fn components(
    cluster: &Cluster,
    decisions: &Decisions,
    binaries: &Binaries,
    api_server: &Path,
) -> Vec<Component> {
    let hyperkube = binaries.hyperkube();
    let path = |below: &str| cluster.path(below).display().to_string();
    let ports = decisions.ports;
    let address = decisions.slot.node_address();
    let (etcd, peers) = (
        format!("http://127.0.0.1:{}", ports.etcd),
        format!("http://127.0.0.1:{}", ports.etcd_peers),
    );
    let texts = files(cluster, decisions);
    let component = |name, command| Component {
        name,
        command,
        configuration: configuration(&texts, name),
    };
    vec![
        component(
            "registry",
            line(
                Path::new("/usr/bin/docker-registry"),
                "serve",
                &[path("config/registry.yaml")],
            ),
        ),
        component(
            "etcd",
            line(
                &hyperkube,
                "etcd",
                &[
                    format!("--data-dir={}", path("etcd")),
                    // A killed process loses nothing by this; only a machine that stops dead does.
                    "--unsafe-no-fsync".to_owned(),
                    "--log-level=warn".to_owned(),
                    format!("--listen-client-urls={etcd}"),
                    format!("--advertise-client-urls={etcd}"),
                    format!("--listen-peer-urls={peers}"),
                    format!("--initial-advertise-peer-urls={peers}"),
                    format!("--initial-cluster=default={peers}"),
                ],
            ),
        ),
        component(
            "containerd",
            line(&binaries.containerd(), "--config", &[path("config/containerd.toml")]),
        ),
        component(
            "kube-apiserver",
            line(
                api_server,
                "kube-apiserver",
                &[
                    format!("--etcd-servers={etcd}"),
                    "--bind-address=0.0.0.0".to_owned(),
                    format!("--secure-port={}", ports.api),
                    format!("--advertise-address={address}"),
                    "--endpoint-reconciler-type=none".to_owned(),
                    format!("--tls-cert-file={}", path("pki/apiserver.crt")),
                    format!("--tls-private-key-file={}", path("pki/apiserver.key")),
                    format!("--client-ca-file={}", path("pki/ca.crt")),
                    "--authorization-mode=Node,RBAC".to_owned(),
                    "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                    "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                    format!("--service-account-key-file={}", path("pki/accounts.pub")),
                    format!("--service-account-signing-key-file={}", path("pki/accounts.key")),
                    format!("--kubelet-client-certificate={}", path("pki/admin.crt")),
                    format!("--kubelet-client-key={}", path("pki/admin.key")),
                    format!("--kubelet-certificate-authority={}", path("pki/ca.crt")),
                    "--kubelet-preferred-address-types=InternalIP".to_owned(),
                    format!("--audit-policy-file={}", path("config/audit-policy.yaml")),
                    format!("--audit-log-path={}", path("audit.log")),
                    // Tests read the log as one file.
                    "--audit-log-maxsize=8192".to_owned(),
                    "--profiling=false".to_owned(),
                ],
            ),
        ),
        component(
            "kube-controller-manager",
            line(
                &hyperkube,
                "kube-controller-manager",
                &[
                    format!("--kubeconfig={}", path("config/controllers.kubeconfig")),
                    "--use-service-account-credentials".to_owned(),
                    format!("--service-account-private-key-file={}", path("pki/accounts.key")),
                    format!("--root-ca-file={}", path("pki/ca.crt")),
                    "--leader-elect=false".to_owned(),
                    "--secure-port=0".to_owned(),
                ],
            ),
        ),
        component(
            "kube-scheduler",
            line(
                &hyperkube,
                "kube-scheduler",
                &[
                    format!("--kubeconfig={}", path("config/scheduler.kubeconfig")),
                    "--leader-elect=false".to_owned(),
                    "--secure-port=0".to_owned(),
                ],
            ),
        ),
        component(
            "kubelet",
            line(
                &hyperkube,
                "kubelet",
                &[
                    format!("--config={}", path("config/kubelet.yaml")),
                    format!("--kubeconfig={}", path("config/kubelet.kubeconfig")),
                    format!("--hostname-override={}", cluster.name()),
                    format!("--node-ip={address}"),
                    format!("--root-dir={}", path("kubelet")),
                    format!("--cert-dir={}", path("kubelet-pki")),
                ],
            ),
        ),
    ]
}

/// What a component reads when it starts. The other files are read again whenever they are needed.
fn configuration(texts: &[Text], component: &str) -> String {
    let file = match component {
        "registry" => "config/registry.yaml",
        "containerd" => "config/containerd.toml",
        "kube-apiserver" => "config/audit-policy.yaml",
        "kubelet" => "config/kubelet.yaml",
        _ => return String::new(),
    };
    texts
        .iter()
        .find(|(name, _)| *name == file)
        .map(|(_, text)| text.clone())
        .unwrap_or_default()
}

fn line(program: &Path, subcommand: &str, arguments: &[String]) -> Vec<String> {
    let mut line = vec![program.display().to_string(), subcommand.to_owned()];
    line.extend_from_slice(arguments);
    line
}

/// The sockets of shims: the one thing of a cluster outside its folder, because containerd takes 42 bytes of path at most.
pub(crate) fn shim_sockets(decisions: &Decisions) -> PathBuf {
    Path::new("/run/podrun").join(decisions.slot.bridge())
}
