//! One cluster: its name, its folder, what was decided when it was first brought up.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::network;
use super::slot::Slot;
use crate::places;

/// The longest name: it becomes a node's name, a control group and part of socket paths.
const LONGEST_NAME: usize = 30;

/// Longest path of a socket that the kernel takes, less what containerd appends to the cluster's folder.
const LONGEST_FOLDER: usize = 107 - "/containerd/containerd.sock.ttrpc".len();

/// What `up` decides once and every later command reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Decisions {
    /// Addresses and device names.
    pub(crate) slot: Slot,
    /// Ports on this machine.
    pub(crate) ports: Ports,
    /// The version of the API server.
    #[serde(default)]
    pub(crate) api_server: ApiServer,
}

/// Which API server a cluster has. The other components are of one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum ApiServer {
    /// That of the node.
    #[default]
    #[serde(rename = "1.34")]
    #[value(name = "1.34")]
    SameAsNode,
    /// The next one, which a node of this version may have.
    #[serde(rename = "1.35")]
    #[value(name = "1.35")]
    V1_35,
}

/// Ports that were free when the cluster was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Ports {
    /// The API server, on every address.
    pub(crate) api: u16,
    /// etcd for the API server, on the loopback address.
    pub(crate) etcd: u16,
    /// etcd for its peers, of which there are none.
    pub(crate) etcd_peers: u16,
    /// The registry, on the loopback address.
    pub(crate) registry: u16,
}

/// A cluster that may or may not exist.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    name: String,
    folder: PathBuf,
}

impl Cluster {
    /// The cluster with this name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || !name.chars().all(valid)
            || name.starts_with('-')
            || name.ends_with('-')
        {
            bail!("`{name}` cannot name a cluster: use up to {LONGEST_NAME} of a-z, 0-9 and inner dashes");
        }
        let folder = places::clusters()?.join(name);
        if folder.as_os_str().len() > LONGEST_FOLDER {
            bail!(
                "`{}` is too long for the sockets in it ({LONGEST_FOLDER} bytes at most): set XDG_STATE_HOME to a shorter path",
                folder.display()
            );
        }
        Ok(Self {
            name: name.to_owned(),
            folder,
        })
    }

    /// Every cluster that has a folder.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let root = places::clusters()?;
        let entries = match fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", root.display())),
        };
        let mut clusters: Vec<Self> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| Self::named(entry.file_name().to_str()?).ok())
            .collect();
        clusters.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(clusters)
    }

    /// Its name, which is also that of its node.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name of its control groups and of its network. Both are the machine's, not the folder's: two clusters of one
    /// name, each in a state folder of its own, must not share them, or their kubelets kill each other's pods.
    pub(crate) fn cgroup(&self) -> String {
        let digest = Sha256::digest(self.folder.as_os_str().as_bytes());
        let place: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("podrun-{}-{place}", self.name)
    }

    /// The folder that holds everything it has.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in its folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The kubeconfig that has no more rights than a task runner needs.
    pub(crate) fn runner_kubeconfig(&self) -> PathBuf {
        self.path("runner.kubeconfig")
    }

    /// Excludes every other command on this cluster until the result is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let root = places::clusters()?;
        make_private(&root)?;
        let path = root.join(format!(".{}.lock", self.name));
        let lock = File::create(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
        lock.lock()
            .with_context(|| format!("failed to lock `{}`", path.display()))?;
        Ok(lock)
    }

    /// What was decided, if the cluster exists.
    pub(crate) fn decisions(&self) -> Result<Option<Decisions>> {
        let path = self.path("cluster.json");
        match fs::read(&path) {
            Ok(bytes) => {
                let decisions = serde_json::from_slice(&bytes);
                decisions.map(Some).with_context(|| {
                    format!(
                        "failed to read `{}`: take the cluster down and up again",
                        path.display()
                    )
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        }
    }

    /// What was decided, or an error that says how to make the cluster.
    pub(crate) fn existing(&self) -> Result<Decisions> {
        let decisions = self.decisions()?;
        decisions.with_context(|| {
            format!(
                "there is no cluster `{0}`: run `cargo xtask cluster up --name {0}`",
                self.name
            )
        })
    }

    /// Reads what was decided, or decides it: a free slot and free ports. The bridge is made under the machine's lock, so
    /// that nobody else, under whichever state folder, takes the same slot.
    pub(crate) fn decide(&self, api_server: Option<ApiServer>) -> Result<Decisions> {
        let lock_path = Path::new("/run/podrun-clusters.lock");
        let lock = File::create(lock_path).with_context(|| format!("failed to create `{}`", lock_path.display()))?;
        lock.lock()
            .with_context(|| format!("failed to lock `{}`", lock_path.display()))?;
        if let Some(decisions) = self.decisions()? {
            if api_server.is_some_and(|wanted| wanted != decisions.api_server) {
                bail!(
                    "cluster `{0}` has another API server: run `cargo xtask cluster down --name {0}` first",
                    self.name
                );
            }
            network::ensure_bridge(decisions.slot)?;
            return Ok(decisions);
        }
        let mut taken = Vec::new();
        for cluster in Self::all()? {
            taken.extend(cluster.decisions().ok().flatten().map(|decisions| decisions.slot));
        }
        let slot = Slot::pick(&taken, &network::routes()?)?;
        let decisions = Decisions {
            slot,
            ports: Ports::free()?,
            api_server: api_server.unwrap_or_default(),
        };
        make_private(&self.folder)?;
        let path = self.path("cluster.json");
        write(&path, &serde_json::to_string_pretty(&decisions)?)?;
        network::ensure_bridge(slot)?;
        Ok(decisions)
    }
}

impl Ports {
    /// Asks the kernel for unused ports. All stay bound until each is known, so that they differ.
    fn free() -> Result<Self> {
        let bind = || TcpListener::bind("0.0.0.0:0").context("failed to find a free port");
        let listeners = [bind()?, bind()?, bind()?, bind()?];
        let [api, etcd, etcd_peers, registry] = listeners.each_ref().map(TcpListener::local_addr);
        Ok(Self {
            api: api?.port(),
            etcd: etcd?.port(),
            etcd_peers: etcd_peers?.port(),
            registry: registry?.port(),
        })
    }
}

/// Makes a folder that only its owner reads: it holds keys.
fn make_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .with_context(|| format!("failed to create `{}`", folder.display()))
}

/// Writes a file so that a reader sees the old text or the new one, never half.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let store = || -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let draft = tempfile::NamedTempFile::new_in(folder)?;
        fs::write(draft.path(), text)?;
        draft.persist(path)?;
        Ok(())
    };
    store().with_context(|| format!("failed to write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_no_node_name_is_refused() {
        for name in ["", "Dev", "a/b", "-a", "a-", "a.b", &"a".repeat(31)] {
            assert!(Cluster::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn clusters_of_one_name_in_two_folders_share_no_control_group() {
        let cluster = |folder: &str| Cluster {
            name: "test-42".to_owned(),
            folder: folder.into(),
        };
        let one = cluster("/one/test-42").cgroup();
        assert_eq!(one, cluster("/one/test-42").cgroup());
        assert!(one.starts_with("podrun-test-42-"), "{one}");
        assert_ne!(one, cluster("/other/test-42").cgroup());
    }

    #[test]
    fn free_ports_differ() {
        let ports = Ports::free().unwrap();
        let mut all = [ports.api, ports.etcd, ports.etcd_peers, ports.registry].to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
