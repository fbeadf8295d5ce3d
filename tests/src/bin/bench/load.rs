//! Part e: how long the component takes to be ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use podrun_host::{Host, Options, Runner};
use tempfile::TempDir;

use crate::figures::Series;

/// The component as it was when the benchmark began, whoever builds it anew meanwhile, and a cache for it.
pub(crate) struct Component {
    folder: TempDir,
}

impl Component {
    /// Copies the file.
    pub(crate) fn copy(wasm: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for the component")?;
        let component = Self { folder };
        fs::copy(wasm, component.file()).with_context(|| format!("failed to read component `{}`", wasm.display()))?;
        Ok(component)
    }

    /// The component's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("podrun-runner.wasm")
    }

    /// The cache's folder.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A runner from the cache, filled if need be.
    pub(crate) async fn load(&self) -> Result<Runner> {
        warm(&self.file(), self.cache()).await
    }

    /// Loads the component by compiling it; milliseconds from nothing to a runner.
    pub(crate) async fn cold(&self, into: &mut Series<'_>) -> Result<()> {
        let begun = Instant::now();
        let host = Host::new(Options::default())?;
        host.load(&self.file()).await?;
        into.add("e/cold", begun.elapsed().as_secs_f64() * 1000.0);
        Ok(())
    }

    /// Loads it from the cache, then calls what does nothing but parse its argument, on fresh instances.
    pub(crate) async fn cached(&self, config: &str, into: &mut Series<'_>) -> Result<()> {
        let begun = Instant::now();
        let runner = self.load().await?;
        into.add("e/cached", begun.elapsed().as_secs_f64() * 1000.0);
        // The first instance pays for the pages of the code.
        for key in ["e/first-instance", "e/instance"] {
            let begun = Instant::now();
            runner.layout(config, "bench").await?;
            into.add(key, begun.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }
}

/// A runner from a cache, filled if need be.
pub(crate) async fn warm(wasm: &Path, cache: PathBuf) -> Result<Runner> {
    let options = Options {
        cache_dir: Some(cache),
        ..Options::default()
    };
    Ok(Host::new(options)?.load(wasm).await?)
}
