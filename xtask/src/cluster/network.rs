//! The cluster's bridge: the one network device outside its pods, which carries the node's address.

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::slot::{self, Slot};

/// The networks that the machine already routes.
pub(crate) fn routes() -> Result<Vec<(Ipv4Addr, u8)>> {
    Ok(slot::routes(&ip(&["-4", "-o", "route", "show"])?))
}

/// Makes the bridge with the node's address, or completes what an interrupted call left.
pub(crate) fn ensure_bridge(slot: Slot) -> Result<()> {
    let bridge = slot.bridge();
    if !exists(&bridge)? {
        ip(&["link", "add", &bridge, "type", "bridge"])?;
    }
    // Without one of its own a bridge takes the lowest of its ports' and changes it as pods come and go, so that other
    // pods send to an address which is nobody's until they ask again.
    ip(&["link", "set", &bridge, "address", &slot.bridge_mac()])?;
    let (_, prefix) = slot.subnet();
    ip(&[
        "address",
        "replace",
        &format!("{}/{prefix}", slot.node_address()),
        "dev",
        &bridge,
    ])?;
    ip(&["link", "set", &bridge, "up"])?;
    Ok(())
}

/// Removes the bridge and whatever is still plugged into it.
pub(crate) fn remove_bridge(slot: Slot) -> Result<()> {
    let bridge = slot.bridge();
    if !exists(&bridge)? {
        return Ok(());
    }
    // The kernel removes a pod's device some time after its network namespace; whichever comes first is fine.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let devices = ports(&bridge)?;
        if devices.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("devices {} stay plugged into `{bridge}`", devices.join(", "));
        }
        for device in devices {
            let _ = ip(&["link", "delete", &device]);
        }
        thread::sleep(Duration::from_millis(20));
    }
    ip(&["link", "delete", &bridge]).map(drop)
}

fn exists(device: &str) -> Result<bool> {
    match std::fs::metadata(format!("/sys/class/net/{device}")) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to look for the network device `{device}`")),
    }
}

/// The devices plugged into the bridge.
fn ports(bridge: &str) -> Result<Vec<String>> {
    let folder = format!("/sys/class/net/{bridge}/brif");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("failed to read `{folder}`"))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("failed to start `ip` (package iproute2)")?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {}", arguments.join(" "), reason.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
