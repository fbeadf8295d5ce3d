//! Where tests of the program run: a namespace of their own, and ways to call `podrun` and kubectl.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Proxy;

/// The Role that a runner has, bound to its account.
const ROLE: &str = include_str!("../../../xtask/cluster/role.yaml");

/// A variable that `cargo xtask test` sets.
pub fn variable(name: &str) -> Result<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    Ok(value
        .with_context(|| format!("{name} is not set: run `cargo xtask test`"))?
        .into())
}

/// A namespace that goes with this value, and what is needed to use it as a runner.
#[derive(Debug)]
pub struct Place {
    /// The namespace.
    pub namespace: String,
    /// The kubeconfig that a runner uses, as JSON, cut down to one context.
    access: Value,
    admin: PathBuf,
}

impl Place {
    /// Makes a namespace in which the runner's account has exactly its Role.
    pub fn new(name: &str) -> Result<Self> {
        let admin = variable("KUBECONFIG")?;
        let runner = variable("PODRUN_TEST_RUNNER_KUBECONFIG").unwrap_or_else(|_| admin.clone());
        let nanoseconds = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_nanos();
        let place = Self {
            namespace: format!("podrun-{name}-{:x}", nanoseconds & 0xffff_ffff),
            access: serde_json::from_str(&kubectl(
                &runner,
                &["config", "view", "--raw", "--minify", "--flatten", "-o", "json"],
            )?)?,
            admin,
        };
        place.kubectl(&["create", "namespace", &place.namespace])?;
        let role = tempfile::NamedTempFile::new()?;
        fs::write(role.path(), ROLE)?;
        place.kubectl(&["apply", "-f", &role.path().display().to_string()])?;
        // Pods are refused until the namespace's own account is there.
        place.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
        Ok(place)
    }

    /// What the runner's kubeconfig says about `part` (`cluster` or `user`).
    fn part(&self, list: &str, part: &str) -> &Value {
        &self.access[list][0][part]
    }

    /// Address of the API server, as `https://HOST:PORT`.
    pub fn server(&self) -> Result<&str> {
        self.part("clusters", "cluster")["server"]
            .as_str()
            .context("the kubeconfig names no server")
    }

    /// PEM of the API server's authority.
    pub fn authority(&self) -> Result<Vec<u8>> {
        decode(&self.part("clusters", "cluster")["certificate-authority-data"])?
            .context("the kubeconfig names no authority")
    }

    /// PEM certificate and key of the runner's account, if it has them.
    pub fn certificate(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let user = self.part("users", "user");
        Ok(decode(&user["client-certificate-data"])?.zip(decode(&user["client-key-data"])?))
    }

    /// The runner's token, if it has one.
    pub fn token(&self) -> Option<&str> {
        self.part("users", "user")["token"].as_str()
    }

    /// Writes a kubeconfig for this namespace, through a proxy if one is given.
    pub fn kubeconfig(&self, path: &Path, proxy: Option<&Proxy>) -> Result<()> {
        let mut access = self.access.clone();
        access["contexts"][0]["context"]["namespace"] = json!(self.namespace);
        if let Some(proxy) = proxy {
            access["clusters"][0]["cluster"] = json!({
                "server": proxy.address(),
                "certificate-authority-data": STANDARD.encode(proxy.authority()),
            });
        }
        fs::write(path, access.to_string()).with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// Waits until the script of the execution's only pod has ended.
    ///
    /// # Errors
    /// When there is no such pod, or its script goes on for a minute.
    pub fn wait_for_end(&self, execution: &str) -> Result<()> {
        let pods = self.kubectl(&["get", "pods", "-o", "name"])?;
        let prefix = format!("pod/{execution}-");
        let pod = pods.lines().find(|pod| pod.starts_with(&prefix));
        let pod = pod.with_context(|| format!("{execution} has no pod among {pods}"))?;
        let ended = r#"--for=jsonpath={.status.containerStatuses[?(@.name=="main")].state.terminated.exitCode}"#;
        self.kubectl(&["wait", pod, ended, "--timeout=60s"])?;
        Ok(())
    }

    /// Runs kubectl in the namespace as the cluster's administrator; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        kubectl(&self.admin, &all)
    }

    /// Waits until no pod is left; fails with their names if they stay.
    pub fn wait_until_empty(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let pods = self.kubectl(&["get", "pods", "-o", "name"])?;
            if pods.trim().is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("left behind in {}: {pods}", self.namespace);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A cluster that is gone has no namespace either.
        let _ = self.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

fn decode(value: &Value) -> Result<Option<Vec<u8>>> {
    Ok(value.as_str().map(|text| STANDARD.decode(text)).transpose()?)
}

fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let program = variable("PODRUN_KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let output = Command::new(&program)
        .env("KUBECONFIG", kubeconfig)
        .args(arguments)
        .output()
        .with_context(|| format!("failed to start `{}`", program.display()))?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program under test with a state folder and a cluster of its own.
#[derive(Clone, Debug)]
pub struct Podrun {
    program: PathBuf,
    runner: Option<PathBuf>,
    folder: PathBuf,
}

impl Podrun {
    /// `folder` gets the state folder and holds the `kubeconfig`; it is also the current directory.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self {
            program: variable("PODRUN_BIN")?,
            runner: variable("PODRUN_RUNNER").ok(),
            folder: folder.to_owned(),
        })
    }

    /// A call with none of the caller's environment that could matter.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_remove("PODRUN_CRASH_AT")
            .env_remove("NO_COLOR")
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("PODRUN_STATE_DIR", self.state());
        if let Some(runner) = &self.runner {
            command.env("PODRUN_RUNNER", runner);
        }
        command
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
}
