//! Where things lie: the checkout, the cache that outlives it, and the state of clusters.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The checkout this command was built from.
pub(crate) fn workspace() -> Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest
        .parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("`{}` has no parent folder", manifest.display()))
}

/// What can be built again but should not have to be: binaries, images, build output, tools.
pub(crate) fn cache() -> Result<PathBuf> {
    match env::var_os("PODRUN_CACHE_DIR").filter(|value| !value.is_empty()) {
        Some(folder) => absolute(PathBuf::from(folder), "PODRUN_CACHE_DIR"),
        None => Ok(base("XDG_CACHE_HOME", ".cache")?.join("podrun")),
    }
}

/// One folder per cluster.
pub(crate) fn clusters() -> Result<PathBuf> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("podrun/clusters"))
}

/// Where cargo puts what it builds for these commands: the user's choice, or the cache, so that a fresh clone does not
/// start from nothing.
pub(crate) fn target() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        Some(folder) => Ok(env::current_dir()?.join(folder)),
        None => Ok(cache()?.join("target")),
    }
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(folder) = env::var_os(variable).filter(|value| !value.is_empty()) {
        return absolute(PathBuf::from(folder), variable);
    }
    let home = env::home_dir().context("no home folder: set HOME")?;
    Ok(home.join(below_home))
}

fn absolute(folder: PathBuf, variable: &str) -> Result<PathBuf> {
    if !folder.is_absolute() {
        bail!("{variable} must be an absolute path, not `{}`", folder.display());
    }
    Ok(folder)
}
