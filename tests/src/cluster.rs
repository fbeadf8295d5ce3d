//! The cluster under test, as the environment names it: once through the component, once through kubectl.

use crate::{Audit, full, skip};
use podrun_host::{Host, Options, Runner, Target};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    sync::{OnceCell, Semaphore},
};

/// Tasks that run at a time: more would only wait for the machine, and make its delays look like the runner's.
static SLOTS: Semaphore = Semaphore::const_new(8);

/// The cluster under test, with the component loaded. One for all tests of a process.
#[derive(Debug)]
pub struct Cluster {
    /// The component, in a host of its own.
    pub runner: Runner,
    /// The cluster as the service account that has the runner's Role and nothing else.
    pub target: Target,
    /// Whether that account is the tests' own; on a cluster that was only given they run as whoever its kubeconfig names.
    pub limited: bool,
    /// Tells this process's objects from those of others.
    pub suite: String,
    kubectl: PathBuf,
    admin: PathBuf,
    folder: Option<PathBuf>,
    component: PathBuf,
}

/// The cluster that the environment names.
pub async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let connect = || {
        Cluster::connect(
            needed("KUBECONFIG"),
            variable("PODRUN_TEST_RUNNER_KUBECONFIG"),
            variable("PODRUN_TEST_CLUSTER_DIR"),
        )
    };
    CLUSTER.get_or_init(connect).await
}

/// The cluster whose API server is of the next version, if there is one: `cargo xtask test --full` makes it.
pub async fn next_cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let Some(admin) = variable("PODRUN_TEST_NEXT_KUBECONFIG") else {
        if full("an API server of the next version") {
            skip("PODRUN_TEST_NEXT_KUBECONFIG is not set, so there is no API server of the next version");
        }
        return None;
    };
    let account = variable("PODRUN_TEST_NEXT_RUNNER_KUBECONFIG");
    let folder = variable("PODRUN_TEST_NEXT_CLUSTER_DIR");
    Some(CLUSTER.get_or_init(|| Cluster::connect(admin, account, folder)).await)
}

/// A variable of the environment, if it is set to something.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn needed(name: &str) -> PathBuf {
    variable(name).unwrap_or_else(|| panic!("{name} is not set: these tests are run by `cargo xtask test`"))
}

impl Cluster {
    /// The cluster of an administrator's kubeconfig, as this account if there is one, with the folder that it lives in.
    async fn connect(admin: PathBuf, account: Option<PathBuf>, folder: Option<PathBuf>) -> Self {
        let component = needed("PODRUN_RUNNER");
        let kubectl = variable("PODRUN_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let mut cluster = Self {
            runner: load(&component, &[]).await,
            target: Target {
                config: String::new(),
                credentials: None,
            },
            limited: account.is_some(),
            suite: format!("{now:x}"),
            kubectl,
            folder,
            component,
            admin,
        };
        let account = account.unwrap_or_else(|| cluster.admin.clone());
        let kubeconfig = cluster.kubeconfig(&account).await.to_string();
        cluster.target.config = json!({ "kubeconfig": kubeconfig }).to_string();
        cluster
    }

    /// The runner in a host that shares nothing with the first, as in another process.
    pub async fn another_host(&self) -> Runner {
        load(&self.component, &[]).await
    }

    /// The runner in a host that gives it these variables.
    pub async fn host_with(&self, environment: &[(&str, &str)]) -> Runner {
        load(&self.component, environment).await
    }

    /// A file of the cluster's own folder, if the tests know it.
    pub fn file(&self, path: &str) -> Option<PathBuf> {
        let file = self.folder.as_ref().map(|f| f.join(path));
        if file.is_none() {
            skip(format_args!(
                "PODRUN_TEST_CLUSTER_DIR is not set, so there is no {path}"
            ));
        }
        file
    }

    /// The audit log, if the tests know it.
    pub fn audit(&'static self) -> Option<Audit> {
        Some(Audit::now(self, self.file("audit.log")?))
    }

    /// The administrator's kubeconfig.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// The current context of a kubeconfig file, as one object with all data inside.
    pub async fn kubeconfig(&self, file: &Path) -> Value {
        let file = file.to_str().unwrap();
        let view = ["config", "view", "--minify", "--flatten", "--raw", "-o", "json"];
        let text = self.kubectl(&[&["--kubeconfig", file], &view[..]].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    /// A target that reaches the cluster with this config.
    pub fn target(&self, config: &Value) -> Target {
        Target {
            config: config.to_string(),
            credentials: None,
        }
    }

    /// Standard output of kubectl as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments, "").await;
        succeed(arguments, &output)
    }

    /// A kubectl call that may fail, with `input` as its standard input.
    pub async fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(&self.kubectl)
            .args(arguments)
            .env("KUBECONFIG", &self.admin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start {}: {e}", self.kubectl.display()));
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        child.wait_with_output().await.unwrap()
    }

    /// What `kubectl get ... -o json` answers.
    pub async fn get(&self, what: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json"], what].concat()).await;
        serde_json::from_str(&text).unwrap()
    }

    /// Creates or changes objects.
    pub async fn apply(&self, objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let arguments = ["apply", "-f", "-"];
        succeed(&arguments, &self.try_kubectl(&arguments, &list).await);
    }

    /// Sends an object to a path of the API that kubectl has no command for.
    pub async fn post(&self, path: &str, object: &Value) {
        let arguments = ["create", "--raw", path, "-f", "-"];
        succeed(&arguments, &self.try_kubectl(&arguments, &object.to_string()).await);
    }

    /// Waits for one more task to be allowed to run.
    pub(crate) async fn slot(&self) -> tokio::sync::SemaphorePermit<'static> {
        SLOTS.acquire().await.unwrap()
    }

    /// Deletes what a failed test left, without waiting.
    pub(crate) fn sweep(&self, selector: &str) {
        let all = [
            "delete",
            "pods",
            "-A",
            "--wait=false",
            "--grace-period=1",
            "-l",
            selector,
        ];
        let swept = std::process::Command::new(&self.kubectl)
            .args(all)
            .env("KUBECONFIG", &self.admin)
            .output();
        if let Err(error) = swept {
            eprintln!("failed to delete pods with label {selector}: {error}");
        }
    }
}

fn succeed(arguments: &[&str], output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments:?}: {complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn load(component: &Path, environment: &[(&str, &str)]) -> Runner {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = Options {
        environment: environment.collect(),
        cache_dir: component.parent().map(|p| p.join("podrun-tests-compiled")),
        ..Options::default()
    };
    Host::new(options).unwrap().load(component).await.unwrap()
}
