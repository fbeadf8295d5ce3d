//! What a cluster looks like from outside.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::binaries;
use super::kubectl::Kubectl;
use super::layout::Cluster;
use super::process::{self, Process};
use super::up::{self, COMPONENTS};
use crate::progress::{Elapsed, Size};

/// Prints components, addresses and kubeconfigs. Fails when a part is missing, so that scripts can ask.
pub(crate) fn status(cluster: &Cluster) -> Result<()> {
    let decisions = cluster.existing()?;
    println!("cluster {} in {}", cluster.name(), cluster.folder().display());
    let mut missing = Vec::new();
    for component in COMPONENTS {
        match process::running(&process::pid_file(cluster.folder(), component)) {
            Some(daemon) => println!(
                "  {component:<24} pid {:<8} {}",
                daemon.process.pid,
                vitals(daemon.process)
            ),
            None => {
                println!("  {component:<24} not running");
                missing.push(component);
            }
        }
    }
    let (network, prefix) = decisions.slot.subnet();
    println!(
        "  API server               https://127.0.0.1:{0} and https://{1}:{0}",
        decisions.ports.api,
        decisions.slot.node_address()
    );
    println!(
        "  registry                 http://127.0.0.1:{}",
        decisions.ports.registry
    );
    println!(
        "  pods                     {network}/{prefix} on {}",
        decisions.slot.bridge()
    );
    println!("  administrator            {}", cluster.kubeconfig().display());
    println!("  task runner's account    {}", cluster.runner_kubeconfig().display());
    println!("  audit log                {}", cluster.path("audit.log").display());
    if !missing.is_empty() {
        bail!(
            "{} not running: `cargo xtask cluster up --name {}` repairs it",
            missing.join(", "),
            cluster.name()
        );
    }
    let program = binaries::kubectl()?;
    let node = Kubectl::new(&program, cluster).object("node", cluster.name(), "")?;
    if !up::takes_pods(&node) {
        bail!("node `{}` takes no pods", cluster.name());
    }
    println!("  node                     ready");
    Ok(())
}

fn vitals(process: Process) -> String {
    let age = process
        .age()
        .map(|age| format!("up {}", Elapsed(age)))
        .unwrap_or_default();
    let memory = process
        .memory()
        .map(|bytes| format!(", {}", Size(bytes)))
        .unwrap_or_default();
    format!("{age}{memory}")
}

/// Shows the end of a component's log, or the list of logs.
pub(crate) fn logs(cluster: &Cluster, component: Option<&str>, follow: bool, lines: u32) -> Result<()> {
    cluster.existing()?;
    let Some(component) = component else {
        for component in COMPONENTS {
            let file = process::log_file(cluster.folder(), component);
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            println!("{component:<24} {:>8}  {}", Size(size).to_string(), file.display());
        }
        println!("{:<24} {:>8}  {}", "audit", "", cluster.path("audit.log").display());
        return Ok(());
    };
    let file = match component {
        "audit" => cluster.path("audit.log"),
        name if COMPONENTS.contains(&name) => process::log_file(cluster.folder(), name),
        _ => bail!(
            "`{component}` is not a component: choose audit, {}",
            COMPONENTS.join(", ")
        ),
    };
    let mut tail = Command::new("tail");
    tail.arg("-n")
        .arg(lines.to_string())
        .args(follow.then_some("-F"))
        .arg(file);
    Err(tail.exec()).context("failed to start `tail`")
}
