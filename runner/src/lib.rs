//! The Podrun task runner for Kubernetes: scripts in pods, behind the contract of `wit/task-runner.wit`.
//!
//! Built for `wasm32-wasip2` it is the component that hosts load. Built natively it is the same code behind [`Runner`],
//! for tests and to measure what WebAssembly costs.
//!
//! Pure code takes values and returns values: `settings`, `config`, `options`, `credentials`, `merge`, `pod`, `status`,
//! `logs`, `outputs`, `untar`. I/O lives in `client`, `create`, `remove`, `watch`, `follow`, `init_logs`, `exec`,
//! `stage`, `collect`; `run` and `manage` put them together.

mod bindings;
mod client;
mod collect;
mod config;
mod connector;
pub mod contract;
mod create;
mod credentials;
mod exec;
mod follow;
mod init_logs;
mod inputs;
mod logs;
mod manage;
mod merge;
mod options;
mod outputs;
mod pod;
mod remove;
mod run;
mod schema;
mod session;
mod settings;
mod stage;
mod status;
mod untar;
mod watch;

#[cfg(target_family = "wasm")]
mod component;

use contract::{Connection, Descriptor, Diagnostic, Directories, Error, Host, Outcome, Snapshot, Task};

/// The runner, for one call after the other: every method blocks until it is done.
///
/// Errors, shapes and units are those of the contract.
pub struct Runner<'h> {
    host: &'h dyn Host,
}

impl<'h> Runner<'h> {
    /// A runner that reports to `host`.
    pub fn new(host: &'h dyn Host) -> Self {
        Self { host }
    }

    /// What this runner is and takes.
    pub fn describe() -> Descriptor {
        Descriptor {
            name: "kubernetes".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: schema::CONFIG.into(),
            task_schema: schema::OPTIONS.into(),
        }
    }

    /// What a host must grant before the calls below.
    pub fn connect(config: &str) -> Result<Connection, Error> {
        config::Access::parse(config).map(|access| access.connection())
    }

    /// The directories of every task.
    pub fn layout(config: &str) -> Result<Directories, Error> {
        config::Access::parse(config)?;
        Ok(Directories {
            working_dir: pod::WORKING_DIR.into(),
            output_dir: pod::OUTPUT_DIR.into(),
        })
    }

    /// Starts a task, or takes it up, and follows it to its end.
    pub fn run(&self, config: &str, task: &Task, after: Option<&str>) -> Result<Outcome, Error> {
        block_on(run::run(self.host, config, task, after))
    }

    /// Follows a task started earlier.
    pub fn attach(&self, config: &str, handle: &str, after: Option<&str>) -> Result<Outcome, Error> {
        block_on(run::attach(self.host, config, handle, after))
    }

    /// Stops a task and deletes what it left.
    pub fn kill(&self, config: &str, handle: &str, grace: Option<u32>) -> Result<(), Error> {
        block_on(manage::kill(self.host, config, handle, grace))
    }

    /// One task as it is now.
    pub fn status(&self, config: &str, handle: &str) -> Result<Snapshot, Error> {
        block_on(manage::look(self.host, config, handle))
    }

    /// Every task that carries all of `labels`.
    pub fn list(&self, config: &str, labels: &[(String, String)]) -> Result<Vec<Snapshot>, Error> {
        block_on(manage::list(self.host, config, labels))
    }

    /// Whether tasks can run with this config.
    pub fn check(&self, config: &str) -> Result<Vec<Diagnostic>, Error> {
        block_on(manage::check(self.host, config))
    }

    /// The pod that `run` would create.
    pub fn render(&self, config: &str, task: &Task, server: bool) -> Result<String, Error> {
        block_on(manage::render(self.host, config, task, server))
    }
}

fn block_on<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|e| Error::Other(format!("failed to start the runtime: {e}")))?;
    tokio::task::LocalSet::new().block_on(&runtime, call)
}
