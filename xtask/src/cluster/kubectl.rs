//! Calls of the linked kubectl as a cluster's administrator.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::layout::Cluster;

/// kubectl bound to one cluster.
#[derive(Debug)]
pub(crate) struct Kubectl<'a> {
    program: &'a Path,
    cluster: &'a Cluster,
}

impl<'a> Kubectl<'a> {
    /// Uses the binary `program`, called `hyperkube` or `kubectl`.
    pub(crate) fn new(program: &'a Path, cluster: &'a Cluster) -> Self {
        Self { program, cluster }
    }

    /// What it prints.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<String> {
        self.call_with(arguments, "")
    }

    /// What it prints, given `input` on its standard input.
    pub(crate) fn call_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(self.program);
        // The binary picks its component by the name that it is called by.
        command
            .arg0("kubectl")
            .arg("--kubeconfig")
            .arg(self.cluster.kubeconfig())
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(input.as_bytes())
                .context("failed to write to kubectl")?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "`kubectl {}` failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One object, or null when it does not exist.
    pub(crate) fn object(&self, kind: &str, name: &str, namespace: &str) -> Result<Value> {
        let text = self.call(&[
            "get",
            kind,
            name,
            "--namespace",
            namespace,
            "--ignore-not-found",
            "--output=json",
        ])?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("failed to read {kind} `{name}`"))
    }
}
