//! Where cases run: namespaces, accounts, a private registry, and eyes on the cluster. One for all cases.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{Account, Watcher};
use crate::Door;
use crate::faults::{Place, Podrun, variable};
use crate::google::{Cluster, Google};

/// The registry that asks who one is.
const REGISTRY: &str = "private.podrun.test";

/// Its user and password.
const USER: &str = "robot:hunter2";

/// The account that may also create secrets.
const PULLER: &str = "puller";

/// An account with the runner's Role alone. The runner's own must not even ask for more: see the program `verbs`.
const LIMITED: &str = "limited";

/// What the cases share.
#[derive(Debug)]
pub struct Stage {
    place: Place,
    /// A second namespace with the same rights.
    other: Place,
    /// Tells this run's executions from those of others.
    pub(super) run: String,
    /// The tokens of the accounts [`PULLER`] and [`LIMITED`].
    puller: String,
    limited: String,
    pub(super) pods: Watcher,
    pub(super) secrets: Watcher,
    registry: Option<Private>,
}

/// Objects of Kubernetes, as the administrator made them.
pub(super) struct Objects<'a> {
    place: &'a Place,
    file: tempfile::NamedTempFile,
}

impl Drop for Objects<'_> {
    fn drop(&mut self) {
        // Those in the namespace go with it; another run replaces the others.
        let file = self.file.path().display().to_string();
        let _ = self
            .place
            .kubectl(&["delete", "--wait=false", "--ignore-not-found", "-f", &file]);
    }
}

/// A registry that shows the cluster's images to whoever knows the password.
#[derive(Debug)]
struct Private {
    folder: PathBuf,
    _door: Door,
    _runtime: Runtime,
}

impl Drop for Private {
    fn drop(&mut self) {
        // It goes with the cluster at the latest.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Stage {
    /// Sets the stage.
    ///
    /// # Errors
    /// When the environment names no cluster, or it is not as `cargo xtask cluster` makes it.
    pub fn new() -> Result<Self> {
        let admin = variable("KUBECONFIG")?;
        compile()?;
        let place = Place::new("conformance")?;
        let other = Place::new("conformance-other")?;
        let rules = ["create", "role", PULLER, "--verb=create", "--resource=secrets"];
        place.kubectl(&rules)?;
        let puller = account(&place, PULLER, &["task-runner", PULLER])?;
        let limited = account(&place, LIMITED, &["task-runner"])?;
        let run = format!("{:04x}", fastrand::u16(..));
        Ok(Self {
            run,
            puller,
            limited,
            pods: Watcher::new(&admin, "pods")?,
            secrets: Watcher::new(&admin, "secrets")?,
            registry: private_registry()?,
            place,
            other,
        })
    }

    /// What `%{name}` in expectations and defaults stands for.
    ///
    /// # Errors
    /// When the runner's kubeconfig lacks one of them.
    pub fn words(&self) -> Result<BTreeMap<&'static str, String>> {
        let user = |encoded: &str| STANDARD.encode(encoded);
        let mut words = BTreeMap::from([
            ("namespace", self.place.namespace.clone()),
            ("other", self.other.namespace.clone()),
            ("server", self.place.server()?.to_owned()),
            ("authority", STANDARD.encode(self.place.authority()?)),
            ("registry", REGISTRY.to_owned()),
            ("auth", user(USER)),
        ]);
        if let Some(token) = self.place.token() {
            words.insert("token", token.to_owned());
            words.insert("token64", user(token));
            words.insert("authority64", user(&words["authority"]));
        }
        Ok(words)
    }

    /// Why a case cannot run on this cluster, if it was only given.
    pub(super) fn lacks(&self, text: &str, account: Account, google: bool) -> Option<&'static str> {
        match account {
            Account::Secrets if self.registry.is_none() => {
                Some("PODRUN_TEST_CLUSTER_DIR is not set, so there is no private registry")
            }
            _ if (google || text.contains("%{token")) && self.place.token().is_none() => {
                Some("the kubeconfig holds no token")
            }
            _ => None,
        }
    }

    /// Google's services, which lead to this cluster.
    pub(super) fn google(&self) -> Result<Google> {
        let server = self.place.server()?;
        Ok(Google::start(Cluster {
            endpoint: server.strip_prefix("https://").unwrap_or(server).to_owned(),
            certificate_authority: STANDARD.encode(self.place.authority()?),
            token: Some(self.place.token().context("the runner has no token")?.to_owned()),
        }))
    }

    /// Makes objects, which go with the value.
    pub(super) fn objects(&self, objects: &[Value]) -> Result<Option<Objects<'_>>> {
        if objects.is_empty() {
            return Ok(None);
        }
        let file = tempfile::NamedTempFile::new()?;
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        fs::write(file.path(), list.to_string())?;
        self.place
            .kubectl(&["apply", "-f", &file.path().display().to_string()])?;
        Ok(Some(Objects {
            place: &self.place,
            file,
        }))
    }

    /// Writes the kubeconfig of an account.
    pub(super) fn kubeconfig(&self, path: &Path, account: Account) -> Result<()> {
        self.place.kubeconfig(path, None)?;
        let token = match account {
            Account::Runner => return Ok(()),
            Account::None => return Ok(fs::remove_file(path)?),
            Account::Limited => &self.limited,
            Account::Secrets => &self.puller,
        };
        let mut access: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
        access["users"][0]["user"] = json!({"token": token});
        Ok(fs::write(path, access.to_string())?)
    }
}

/// Makes an account with these roles in the namespace; its token.
fn account(place: &Place, name: &str, roles: &[&str]) -> Result<String> {
    place.kubectl(&["create", "serviceaccount", name])?;
    let account = format!("--serviceaccount={}:{name}", place.namespace);
    for role in roles {
        let binding = format!("{name}-{role}");
        place.kubectl(&["create", "rolebinding", &binding, &format!("--role={role}"), &account])?;
    }
    let token = place.kubectl(&["create", "token", name, "--duration=2h"])?;
    Ok(token.trim().to_owned())
}

/// Has `podrun` compile its component into its cache: many of them would do it at the same time otherwise.
fn compile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = Podrun::new(folder.path())?.command(&["schema"]).output()?;
    if !output.status.success() {
        bail!("podrun schema: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Opens the registry if the cluster's own folder is known.
fn private_registry() -> Result<Option<Private>> {
    let Ok(cluster) = variable("PODRUN_TEST_CLUSTER_DIR") else {
        return Ok(None);
    };
    let hosts = cluster.join("config/hosts");
    let mirror = fs::read_to_string(hosts.join("_default/hosts.toml"))?;
    let address = mirror.split('\'').nth(1).and_then(|url| url.strip_prefix("http://"));
    let upstream: SocketAddr = address.context("the cluster's registry has no address")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let door = runtime.block_on(Door::registry(upstream, USER));
    let folder = hosts.join(REGISTRY);
    fs::create_dir_all(&folder)?;
    let text = format!(
        "server = 'http://{}'\ncapabilities = ['pull', 'resolve']\n",
        door.address
    );
    fs::write(folder.join("hosts.toml"), text)?;
    Ok(Some(Private {
        folder,
        _door: door,
        _runtime: runtime,
    }))
}
