//! cargo-deny: which dependencies, under which licenses, from where, with which known faults.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo::cargo;
use crate::interrupt;
use crate::places;
use crate::progress::{Size, Step};
use crate::setup;

/// The release that `deny.toml` is written for.
const VERSION: &str = "0.20.2";

/// Checks what can be checked without the network.
pub(crate) fn check_offline() -> Result<()> {
    // Offline, cargo can only speak of packages that are here, including those of other platforms.
    interrupt::run(&mut cargo(&["fetch", "--locked", "--quiet"])?)?;
    interrupt::run(deny()?.args(["--offline", "check", "bans", "licenses", "sources"]))
}

/// Brings the list of known faults up to date. The error says why that is not possible.
pub(crate) fn fetch_advisories() -> Result<()> {
    let output = deny()?
        .args(["fetch", "db"])
        .stdin(Stdio::null())
        .output()
        .context("failed to start cargo-deny")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no reason given");
        bail!("the advisory database cannot be fetched: {}", reason.trim());
    }
    Ok(())
}

/// Looks every dependency up in the list of known faults.
pub(crate) fn check_advisories() -> Result<()> {
    interrupt::run(deny()?.args(["--offline", "check", "--disable-fetch", "advisories"]))
}

fn deny() -> Result<Command> {
    let mut command = Command::new(program()?);
    command
        .current_dir(places::workspace()?)
        .env("CARGO_TARGET_DIR", places::target()?);
    Ok(command)
}

/// cargo-deny as the machine has it, or one of our own.
fn program() -> Result<PathBuf> {
    let folder = places::cache()?.join("tools").join(format!("cargo-deny-{VERSION}"));
    let own = folder.join("bin/cargo-deny");
    if own.exists() {
        return Ok(own);
    }
    if let Some(found) = setup::find("cargo-deny") {
        return Ok(found);
    }
    let step = Step::start(format!("building cargo-deny {VERSION} (minutes, once)"));
    // Optimising would take longer than all of its runs together.
    let mut install = Command::new("cargo");
    install
        .args([
            "install",
            "cargo-deny",
            "--version",
            VERSION,
            "--locked",
            "--debug",
            "--quiet",
            "--root",
        ])
        .arg(&folder);
    let build = tempfile::tempdir().context("failed to make a folder to build in")?;
    interrupt::run(install.current_dir(build.path()).env("CARGO_TARGET_DIR", build.path()))?;
    step.done(&Size(own.metadata()?.len()).to_string());
    Ok(own)
}
