//! The host: one engine for all runners of a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Runner};

/// What a [`Host`] grants and where it keeps compiled components.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where compiled components are kept; none keeps none, and each [`Host::load`] compiles.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of memory that one call of a runner may use.
    pub memory_limit: usize,
    /// How long a runner may compute between two calls to the host.
    pub guest_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_dir: None, memory_limit: 256 << 20, guest_deadline: Duration::from_secs(10) }
    }
}

/// Loads runners. Keep one for the life of the process.
#[derive(Clone, Debug)]
pub struct Host;

impl Host {
    /// A host with these options.
    pub fn new(_options: Options) -> Result<Self, Error> {
        Ok(Self)
    }

    /// Loads the component file `wasm`.
    pub async fn load(&self, _wasm: &Path) -> Result<Runner, Error> {
        Err(Error::Other("loading is not built yet".to_owned()))
    }
}
