//! The server: everything put together, from the start to the end.

use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::api::listen::Listeners;
use crate::api::tls::Tls;
use crate::api::{self, Api};
use crate::container::{Containers, Runtime};
use crate::engine::{Engine, Settings};
use crate::options::Options;
use crate::store::Store;
use crate::supervise::identity;
use crate::{descriptors, init, sidecar};

/// How many threads wait for the disk at most.
const DISK_THREADS: usize = 8;

/// Serves until a signal says that it is enough. The error says why it cannot, and what would help.
pub fn serve(options: Options) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS)
        .build()
        .map_err(|error| format!("failed to start: {error}"))?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> Result<(), String> {
    let mut ends = Ends::new().map_err(|error| format!("failed to take signals: {error}"))?;
    descriptors::raise();
    for ignored in &options.ignored {
        log::warn!("{ignored} has no effect: this agent logs to standard error");
    }
    if options.main_container.is_some() {
        sidecar::check().map_err(|error| error.to_string())?;
    }
    let store = Store::open(&options.data_dir).map_err(|error| error.to_string())?;
    let settings = Settings {
        max_active: options.max_active_tasks,
        max_tasks: options.max_tasks,
        grace: options.grace_period,
        log_limit: options.log_max_size,
        reconcile_interval: options.reconcile_interval,
        main_container: options.main_container.clone(),
        boot_id: identity::boot_id(),
    };
    let containers = match &options.cri_socket {
        Some(socket) => Some(runtime(socket, &options).await?),
        None => None,
    };
    let listeners = listen(&options).await?;
    let engine = Engine::start(store, settings, containers)
        .await
        .map_err(|error| error.to_string())?;
    let api = Arc::new(Api::new(Arc::clone(&engine), options.token_file));
    log::info!("ready; state is in `{}`", options.data_dir.display());
    // While the tasks are being stopped the API still answers, so that clients see how they end.
    let end = async {
        if ends.stop_tasks().await {
            engine.stop_all().await;
        }
    };
    listeners.serve(api, end).await;
    log::info!("ended; {} tasks go on", engine.table().active());
    Ok(())
}

/// The runtime that tasks with `spec.container` go to.
async fn runtime(socket: &Path, options: &Options) -> Result<Arc<dyn Containers>, String> {
    let runtime = Runtime::connect(socket, &options.data_dir, &options.volumes).await;
    Ok(Arc::new(runtime.map_err(|error| error.to_string())?))
}

async fn listen(options: &Options) -> Result<Listeners, String> {
    if let Some(file) = &options.token_file {
        api::token(file)?;
    }
    let tls = options
        .tls
        .clone()
        .map(|(certificate, key)| Tls::load(certificate, key))
        .transpose()?;
    let mut listeners = Listeners::default();
    if let Some(address) = &options.listen_addr {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let bound = listeners.tcp(address, tls).await?;
        log::info!("listening at {scheme}://{bound}");
        if bound.ip().is_unspecified() && options.token_file.is_none() {
            log::warn!(
                "whoever reaches this address can run anything here: set --token-file, or listen at 127.0.0.1 only"
            );
        }
    }
    if let Some(path) = &options.unix_socket {
        listeners.unix(path).await?;
        log::info!("listening at `{}`", path.display());
    }
    Ok(listeners)
}

/// The signals that end a server.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    /// From init: the container is about to go, and the tasks with it.
    stop_tasks: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        let ends = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stop_tasks: signal(SignalKind::user_defined2())?,
        };
        // An init blocks signals for its server until here.
        SigSet::empty().thread_set_mask()?;
        Ok(ends)
    }

    /// Waits for one. The answer says whether the tasks are to be stopped: a server that ends alone leaves them to the
    /// next one.
    async fn stop_tasks(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.stop_tasks.recv() => init::is_started_by_init(),
        }
    }
}
