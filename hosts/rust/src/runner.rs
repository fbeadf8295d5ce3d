//! One loaded component, and the calls that the contract knows.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use crate::bindings::podrun::task_runner::types;
use crate::bindings::{TaskRunner, TaskRunnerPre};
use crate::clock::{self, CallGuard};
use crate::credentials::{Answers, CredentialCommand};
use crate::host::Shared;
use crate::network::Reach;
use crate::run::Emitter;
use crate::state::{Grants, State};
use crate::trap;
use crate::{Connection, Credentials, Descriptor, Diagnostic, Directories, Error, Outcome, Run, Snapshot, Task};

/// A runner answers at its next heartbeat, which comes once a second.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where tasks run.
#[derive(Clone)]
pub struct Target {
    /// JSON for the runner; satisfies [`Descriptor::config_schema`].
    pub config: String,
    /// Answers the runner's questions for a credential. With none, the host runs the command that the config names.
    pub credentials: Option<Arc<dyn Credentials>>,
}

impl fmt::Debug for Target {
    /// A config holds secrets, so it is not shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").finish_non_exhaustive()
    }
}

/// The only folders that a run sees. None stands for an empty one, which is gone after the run.
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// `/inputs`, read-only.
    pub inputs: Option<PathBuf>,
    /// `/outputs`, writable.
    pub outputs: Option<PathBuf>,
}

/// One loaded component. Clones are cheap, and each call uses a fresh instance.
///
/// Every method needs a tokio runtime with its clock and its network enabled.
#[derive(Clone)]
pub struct Runner {
    host: Arc<Shared>,
    component: TaskRunnerPre<State>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    pub(crate) fn new(host: Arc<Shared>, component: TaskRunnerPre<State>) -> Self {
        Self { host, component }
    }

    /// What this runner is and takes.
    pub async fn describe(&self) -> Result<Descriptor, Error> {
        let mut call = self.open("describe", Grants::nothing()).await?;
        let answer = call
            .bindings
            .podrun_task_runner_runner()
            .call_describe(&mut call.store)
            .await;
        call.close(answer.map(Ok))
    }

    /// What calls with this config need: addresses, and the command that yields a credential.
    pub async fn connect(&self, config: &str) -> Result<Connection, Error> {
        let mut call = self.open("connect", Grants::nothing()).await?;
        let answer = call
            .bindings
            .podrun_task_runner_runner()
            .call_connect(&mut call.store, config)
            .await;
        call.close(answer)
    }

    /// Absolute paths inside the task `id`, to be rendered into commands before the task is built.
    pub async fn layout(&self, config: &str, id: &str) -> Result<Directories, Error> {
        let mut call = self.open("layout", Grants::nothing()).await?;
        let answer = call
            .bindings
            .podrun_task_runner_runner()
            .call_layout(&mut call.store, config, id)
            .await;
        call.close(answer)
    }

    /// Starts a task, or takes it up where it is if it was started before, and follows it to its end: the contract's
    /// `run`. With `after`, what that cursor covers is not repeated.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(&self, target: &Target, task: Task, folders: Folders, after: Option<String>) -> Run {
        let (runner, target) = (self.clone(), target.clone());
        self.spawn(folders.outputs.clone(), move |emitter| async move {
            let mut call = runner.follow("run", &target, folders, emitter).await?;
            let runner = call.bindings.podrun_task_runner_runner();
            let answer = runner
                .call_run(&mut call.store, &target.config, &task, after.as_ref())
                .await;
            call.close(answer)
        })
    }

    /// Follows a task that was started earlier. With `after`, what that cursor covers is not repeated.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn attach(&self, target: &Target, handle: String, folders: Folders, after: Option<String>) -> Run {
        let (runner, target) = (self.clone(), target.clone());
        self.spawn(folders.outputs.clone(), move |emitter| async move {
            let mut call = runner.follow("attach", &target, folders, emitter).await?;
            let runner = call.bindings.podrun_task_runner_runner();
            let answer = runner
                .call_attach(&mut call.store, &target.config, &handle, after.as_ref())
                .await;
            call.close(answer)
        })
    }

    /// Stops a task, gives it `grace` seconds, deletes what it left and returns when that is verified. Succeeds if it
    /// is already gone.
    pub async fn kill(&self, target: &Target, handle: &str, grace: Option<u32>) -> Result<(), Error> {
        let mut call = self.reach("kill", target).await?;
        let runner = call.bindings.podrun_task_runner_runner();
        let answer = runner
            .call_kill(&mut call.store, &target.config, &handle.to_owned(), grace)
            .await;
        call.close(answer)
    }

    /// Looks at a task without following it.
    pub async fn status(&self, target: &Target, handle: &str) -> Result<Snapshot, Error> {
        let mut call = self.reach("status", target).await?;
        let runner = call.bindings.podrun_task_runner_runner();
        let answer = runner
            .call_status(&mut call.store, &target.config, &handle.to_owned())
            .await;
        call.close(answer)
    }

    /// Every task that carries all of `labels`; all of this runner's where `labels` is empty.
    pub async fn list(&self, target: &Target, labels: &[(String, String)]) -> Result<Vec<Snapshot>, Error> {
        let mut call = self.reach("list", target).await?;
        let runner = call.bindings.podrun_task_runner_runner();
        let answer = runner.call_list(&mut call.store, &target.config, labels).await;
        call.close(answer)
    }

    /// Can tasks run here: reachable, allowed, able to create. A finding at error level means no.
    pub async fn check(&self, target: &Target) -> Result<Vec<Diagnostic>, Error> {
        let mut call = self.reach("check", target).await?;
        let answer = call
            .bindings
            .podrun_task_runner_runner()
            .call_check(&mut call.store, &target.config)
            .await;
        call.close(answer)
    }

    /// What `start` would create with the input files of this folder, as the target's own manifest; with `server`, as
    /// the target would accept it.
    pub async fn render(
        &self,
        target: &Target,
        task: &Task,
        inputs: Option<PathBuf>,
        server: bool,
    ) -> Result<String, Error> {
        let grants = Grants {
            folders: Some(Folders { inputs, outputs: None }),
            ..self.granted(target).await?
        };
        let mut call = self.open("render", grants).await?;
        let runner = call.bindings.podrun_task_runner_runner();
        let answer = runner.call_render(&mut call.store, &target.config, task, server).await;
        call.close(answer)
    }

    fn spawn<F>(&self, outputs: Option<PathBuf>, call: impl FnOnce(Emitter) -> F) -> Run
    where
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        Run::spawn(self.host.options.guest_deadline + 2 * HEARTBEAT, outputs, call)
    }

    /// An instance that may reach the target.
    async fn reach(&self, name: &'static str, target: &Target) -> Result<Call, Error> {
        let grants = self.granted(target).await?;
        self.open(name, grants).await
    }

    /// An instance that may reach the target, sees folders, and tells what happens.
    async fn follow(
        &self,
        name: &'static str,
        target: &Target,
        folders: Folders,
        emitter: Emitter,
    ) -> Result<Call, Error> {
        let grants = Grants {
            folders: Some(folders),
            emitter: Some(emitter),
            ..self.granted(target).await?
        };
        self.open(name, grants).await
    }

    async fn granted(&self, target: &Target) -> Result<Grants, Error> {
        let connection = self.connect(&target.config).await?;
        let answers = match (&target.credentials, connection.credential_command) {
            (Some(credentials), _) => Answers::Embedder(Arc::clone(credentials)),
            (None, Some((command, environment))) => {
                CredentialCommand::new(command, environment).map_or(Answers::Nobody, Answers::Command)
            }
            (None, None) => Answers::Nobody,
        };
        Ok(Grants {
            reach: Reach::resolve(&connection.endpoints).await?,
            answers,
            ..Grants::nothing()
        })
    }

    async fn open(&self, name: &'static str, grants: Grants) -> Result<Call, Error> {
        let options = &self.host.options;
        let state = State::new(name, grants, options)?;
        let mut store = Store::new(&self.host.engine, state);
        store.limiter(State::limiter);
        clock::arm(&mut store);
        let guard = self.host.ticker.call();
        match self.component.instantiate_async(&mut store).await {
            Ok(bindings) => Ok(Call {
                name,
                store,
                bindings,
                _guard: guard,
            }),
            Err(error) => Err(trap::explain(name, error, store.data())),
        }
    }
}

/// A fresh instance, for one call.
struct Call {
    name: &'static str,
    store: Store<State>,
    bindings: TaskRunner,
    _guard: CallGuard,
}

impl Call {
    /// Turns the runner's answer, or its end without one, into the caller's.
    fn close<T>(self, answer: wasmtime::Result<Result<T, types::Error>>) -> Result<T, Error> {
        match answer {
            Ok(Ok(value)) => Ok(value),
            // The runner knows only that it got no credential; the cause is on this side.
            Ok(Err(types::Error::AccessDenied(text))) => {
                Err(self.store.into_data().unanswered().unwrap_or(Error::AccessDenied(text)))
            }
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(trap::explain(self.name, error, self.store.data())),
        }
    }
}
