//! What belongs to one call: its share of WASI, its limits, and the answers to its questions.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};

use crate::bindings::podrun::task_runner::host::{Directive, Host};
use crate::bindings::podrun::task_runner::types;
use crate::clock::Meter;
use crate::credentials::Answers;
use crate::guest_output::GuestOutput;
use crate::limits::MemoryLimiter;
use crate::network::Reach;
use crate::run::Emitter;
use crate::{Credential, Error, Event, Folders, Options};

/// Handles to streams, sockets and files that one call may hold at a time.
const HANDLES: usize = 100_000;

/// What one call is granted.
pub(crate) struct Grants {
    pub(crate) reach: Reach,
    pub(crate) answers: Answers,
    pub(crate) folders: Option<Folders>,
    pub(crate) emitter: Option<Emitter>,
}

impl Grants {
    /// No network, no folder, no questions.
    pub(crate) fn nothing() -> Self {
        Self {
            reach: Reach::default(),
            answers: Answers::Nobody,
            folders: None,
            emitter: None,
        }
    }
}

/// The data of one call's store.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    meter: Meter,
    limiter: MemoryLimiter,
    reach: Reach,
    answers: Answers,
    emitter: Option<Emitter>,
    stderr: GuestOutput,
    /// Why the last question for a credential had no answer.
    unanswered: Option<Error>,
    /// Stands in for a folder that was not given, until the call is over.
    _empty: Option<TempDir>,
}

impl State {
    pub(crate) fn new(call: &'static str, grants: Grants, options: &Options) -> Result<Self, Error> {
        let Grants {
            reach,
            answers,
            folders,
            emitter,
        } = grants;
        let stderr = GuestOutput::new(call, "stderr");
        let mut wasi = WasiCtx::builder();
        wasi.stdout(GuestOutput::new(call, "stdout")).stderr(stderr.clone());
        wasi.envs(&options.environment);
        // A guest that hashes a piece of a file holds its thread longer than the read before it does; a hop to another
        // thread and back for every call on a file costs more than both.
        wasi.allow_blocking_current_thread(true);
        let check = reach.clone();
        wasi.allow_tcp(reach.is_some())
            .socket_addr_check(move |address, purpose| Box::pin(std::future::ready(check.allows(address, purpose))));
        let mut empty = None;
        if let Some(Folders { inputs, outputs }) = folders {
            if inputs.is_none() || outputs.is_none() {
                empty = Some(TempDir::new().map_err(|error| unusable(&std::env::temp_dir(), &error))?);
            }
            let given = |folder: Option<PathBuf>, name: &str| match (folder, &empty) {
                (Some(folder), _) => Ok(folder),
                (None, Some(empty)) => {
                    let folder = empty.path().join(name);
                    std::fs::create_dir(&folder).map_err(|error| unusable(&folder, &error))?;
                    Ok(folder)
                }
                (None, None) => Err(Error::Other("a folder that was not given has no stand-in".to_owned())),
            };
            for (folder, name, permissions) in [
                (given(inputs, "inputs")?, "/inputs", FsPerms::ReadOnly),
                (given(outputs, "outputs")?, "/outputs", FsPerms::ReadWrite),
            ] {
                wasi.preopened_dir(&folder, name, permissions)
                    .map_err(|error| unusable(&folder, &error))?;
            }
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Ok(Self {
            wasi: wasi.build(),
            table,
            meter: Meter::new(options.guest_deadline),
            limiter: MemoryLimiter::new(options.memory_limit),
            reach,
            answers,
            emitter,
            stderr,
            unanswered: None,
            _empty: empty,
        })
    }

    pub(crate) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    pub(crate) fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.limiter
    }

    /// What the runner's questions for names are answered from.
    pub(crate) fn names(&mut self) -> (&Reach, &mut ResourceTable) {
        self.meter.refill();
        (&self.reach, &mut self.table)
    }

    /// Where the runner's code panicked, if it did.
    pub(crate) fn panicked_at(&self) -> Option<String> {
        self.stderr.panicked_at()
    }

    /// Why the last question for a credential had no answer.
    pub(crate) fn unanswered(self) -> Option<Error> {
        self.unanswered
    }
}

fn unusable(folder: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Folder {
        path: folder.to_owned(),
        reason: error.to_string(),
    }
}

impl WasiView for State {
    /// Every call to the host's WASI comes through here first.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.meter.refill();
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl types::Host for State {}

impl Host for State {
    async fn emit(&mut self, events: Vec<Event>, cursor: Option<String>) -> wasmtime::Result<Directive> {
        self.meter.refill();
        match &mut self.emitter {
            Some(emitter) => Ok(emitter.emit(events, cursor).await?),
            // Nobody listens to the other calls; what they have to say beyond their result is for whoever debugs them.
            None => {
                for event in events {
                    if let Event::Diagnostic(diagnostic) = event {
                        tracing::debug!("a runner says: {}", diagnostic.message);
                    }
                }
                Ok(Directive::Proceed)
            }
        }
    }

    async fn authenticate(&mut self, refused: bool) -> wasmtime::Result<Option<Credential>> {
        self.meter.refill();
        let answer = self.answers.credential(refused).await;
        self.unanswered = None;
        Ok(answer.unwrap_or_else(|error| {
            tracing::debug!("{error}");
            self.unanswered = Some(error);
            None
        }))
    }
}
