//! The host: one engine for all runners of a process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine};

use crate::bindings::{TaskRunner, TaskRunnerPre};
use crate::cache::Cache;
use crate::clock::Ticker;
use crate::error::Source;
use crate::state::State;
use crate::{Error, Runner, network};

/// What a [`Host`] grants, and where it keeps compiled components.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where compiled components are kept: a folder of this user's own, created if it is missing. With none, each
    /// [`Host::load`] compiles, which takes seconds.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of memory that one call of a runner may use.
    pub memory_limit: usize,
    /// How long a runner may compute between two calls to the host. Time that it waits does not count.
    pub guest_deadline: Duration,
    /// Environment variables that runners see, and nothing else of the process's own. The one for Kubernetes looks at
    /// HTTPS_PROXY and NO_PROXY.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    /// No cache, 256 MiB, 10 seconds, no variables.
    fn default() -> Self {
        Self {
            cache_dir: None,
            memory_limit: 256 << 20,
            guest_deadline: Duration::from_secs(10),
            environment: Vec::new(),
        }
    }
}

/// Loads runners. Keep one for the life of the process; clones are the same host.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
    linker: Arc<Linker<State>>,
    cache: Option<Cache>,
}

/// What a host's runners share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Host")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// A host with these options.
    pub fn new(options: Options) -> Result<Self, Error> {
        let cache = options.cache_dir.as_deref().map(Cache::open).transpose()?;
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true);
        let engine = Engine::new(&config).map_err(unusable)?;
        let linker = link(&engine).map_err(unusable)?;
        let ticker = Ticker::start(&engine, options.guest_deadline)
            .map_err(|error| Error::Other(format!("failed to start the clock's thread: {error}")))?;
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                engine,
                ticker,
            }),
            linker: Arc::new(linker),
            cache,
        })
    }

    /// Loads the component file `wasm`.
    pub async fn load(&self, wasm: &Path) -> Result<Runner, Error> {
        let (host, path) = (self.clone(), wasm.to_owned());
        let loaded = tokio::task::spawn_blocking(move || host.read(&path)).await;
        let failed = |source: Source| Error::Load {
            path: wasm.to_owned(),
            source,
        };
        let component = loaded.map_err(|error| failed(error.into()))?.map_err(failed)?;
        Ok(Runner::new(Arc::clone(&self.shared), component))
    }

    fn read(&self, path: &Path) -> Result<TaskRunnerPre<State>, Source> {
        let wasm = std::fs::read(path)?;
        let engine = &self.shared.engine;
        let component = match &self.cache {
            Some(cache) => cache.component(engine, &wasm)?,
            None => Component::new(engine, &wasm)?,
        };
        let exports: Vec<_> = component
            .component_type()
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let ready = self.linker.instantiate_pre(&component)?;
        Ok(TaskRunnerPre::new(ready).map_err(|error| {
            error.context(format!(
                "it is not a runner that this host can drive; it exports: {}",
                exports.join(", ")
            ))
        })?)
    }
}

fn unusable(error: wasmtime::Error) -> Error {
    Error::Other(format!("failed to set up wasmtime: {error:#}"))
}

fn link(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    linker.allow_shadowing(true);
    network::add_to_linker(&mut linker)?;
    TaskRunner::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}
