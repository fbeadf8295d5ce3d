//! Drives an execution from wherever the journal says it is to its end.
//!
//! The tree of tasks is walked from its root on every call. What the journal knows to have ended is not done again, so
//! walking on is resuming. Tasks of a Parallel run in one thread as futures; nothing is borrowed from the journal or the
//! screen across an await.

mod attempts;
mod core;
mod follow;
mod google;
mod kept;
mod provider;
mod retry;
mod script;
mod tree;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use podrun_host::{Credentials, Runner, Target};
use serde_json::{Map, Value};
use tokio::sync::{OnceCell, watch};

pub(crate) use follow::is_kept;
pub(crate) use google::renew;

use self::provider::Tokens;

use crate::access::Access;
use crate::at::{At, task_of};
use crate::document::Problem;
use crate::error::{Ended, Error, message};
use crate::expression::Renderer;
use crate::flow::{Flow, InputKind, ScriptStep};
use crate::inputs;
use crate::interrupt::{Interrupts, QUESTION, Wish};
use crate::journal::{Attempt, Execution, Journal, State};
use crate::namespace::Folder;
use crate::plan::{self, Names};
use crate::redact::Redactor;
use crate::report::Report;
use crate::scope::{Finished, Scope};
use crate::state::ExecutionDir;
use crate::ui::Ui;

/// How often the journal is asked whether another process wants the execution to stop.
const LOOK: Duration = Duration::from_millis(500);

/// What is wanted of everything that runs. It only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Intent {
    Run,
    /// Stop what runs, begin nothing.
    Stop,
    /// Leave what runs, and end.
    Leave,
    /// End without waiting for anything.
    LeaveNow,
}

/// An execution that this process has claimed.
pub(crate) struct Engine<'a> {
    flow: &'a Flow,
    renderer: &'a Renderer,
    redactor: &'a Redactor,
    execution: &'a Execution,
    folder: &'a ExecutionDir,
    /// The files of the flow's namespace.
    namespace: &'a Folder,
    runner: &'a Runner,
    /// What the runner says about its options, once somebody asked.
    schema: OnceCell<Value>,
    journal: RefCell<&'a mut Journal>,
    ui: RefCell<&'a mut dyn Ui>,
    intent: watch::Sender<Intent>,
    /// What expressions can see by now.
    scope: RefCell<Scope>,
    /// Task runs that ended, and those of them that failed.
    ended: Cell<usize>,
    failed: RefCell<Vec<Failure>>,
}

/// A task that failed.
#[derive(Clone, Debug)]
struct Failure {
    /// The name of its run.
    run: String,
    /// That name, and the reason.
    said: String,
    /// It, or something around it, may fail.
    allowed: bool,
}

impl Failure {
    fn new(run: String, said: String) -> Self {
        Self {
            run,
            said,
            allowed: false,
        }
    }

    fn task(&self) -> &str {
        task_of(&self.run)
    }
}

/// What an execution works with.
pub(crate) struct Parts<'a> {
    pub(crate) flow: &'a Flow,
    pub(crate) renderer: &'a Renderer,
    /// Knows the secrets that the renderer was asked for.
    pub(crate) redactor: &'a Redactor,
    pub(crate) execution: &'a Execution,
    pub(crate) folder: &'a ExecutionDir,
    /// The files of the flow's namespace.
    pub(crate) namespace: &'a Folder,
    pub(crate) runner: &'a Runner,
    pub(crate) journal: &'a mut Journal,
    pub(crate) ui: &'a mut dyn Ui,
}

/// Run what is left to run.
pub(crate) async fn drive(parts: Parts<'_>) -> Result<Ended, Error> {
    let mut interrupts = Interrupts::listen(parts.ui.can_ask())?;
    let Parts {
        flow,
        renderer,
        redactor,
        execution,
        folder,
        namespace,
        runner,
        journal,
        ui,
    } = parts;
    let inputs = inputs::revealed(&execution.inputs, renderer)?;
    let mut scope = Scope::new(flow, &execution.id, execution.started, &inputs, folder);
    scope.label(flow, renderer)?;
    let engine = Engine {
        flow,
        renderer,
        redactor,
        execution,
        folder,
        namespace,
        runner,
        schema: OnceCell::new(),
        journal: RefCell::new(journal),
        ui: RefCell::new(ui),
        intent: watch::Sender::new(Intent::Run),
        scope: RefCell::new(scope),
        ended: Cell::new(0),
        failed: RefCell::new(Vec::new()),
    };
    let result = tokio::select! {
        result = engine.tasks() => result,
        Err(error) = engine.heed(&mut interrupts) => Err(error),
    };
    engine.end(result)
}

impl Engine<'_> {
    /// Note in the journal how the walk ended, and tell.
    fn end(&self, result: Result<Ended, Error>) -> Result<Ended, Error> {
        let id = self.execution.id.clone();
        let (outputs, result) = match result {
            Ok(Ended::Succeeded | Ended::Warned) => match self.outputs() {
                Ok(outputs) => (outputs, result),
                Err(error) => (Map::new(), Err(error)),
            },
            _ => (Map::new(), result),
        };
        let (state, message) = match &result {
            Ok(Ended::Detached) => {
                self.show(Report::Detached {
                    resume: resume(&id),
                    id,
                });
                return result;
            }
            Ok(Ended::Cancelled) => (State::Cancelled, None),
            Ok(Ended::Failed) => (State::Failed, self.failures()),
            Ok(Ended::Warned) => (State::Warned, self.failures()),
            Ok(Ended::Succeeded) => (State::Succeeded, None),
            // What may run in the cluster must not be given up for an error that a better config or network cures.
            Err(error) if error.is_flows_fault() && self.journal.borrow().going_on(&id)?.is_empty() => {
                (State::Failed, Some(self.said(error)))
            }
            Err(_) => {
                let message = format!(
                    "the execution is unfinished; to take it up again: {}, to end it: podrun kill {id}",
                    resume(&id)
                );
                self.show(Report::Warning { message });
                return result;
            }
        };
        let mut journal = self.journal.borrow_mut();
        // An execution that ended before stays as it ended.
        let message = match self.execution.state {
            State::Running => {
                journal.finish(&id, state, message.as_deref())?;
                message
            }
            _ => journal.execution(&id)?.and_then(|ended| ended.message),
        };
        // Once a task has run, a mistake in the flow is no refusal of it any more.
        let result = match result {
            Err(_) if !journal.task_runs(&id)?.is_empty() => Ok(Ended::Failed),
            result => result,
        };
        if result.is_ok() {
            self.show(Report::ExecutionEnded {
                id,
                state: state.name(),
                message,
                outputs,
            });
        }
        result
    }

    /// What people are told about an error.
    fn said(&self, error: &Error) -> String {
        self.redactor.redact(&message(error)).into_owned()
    }

    /// Which tasks failed, of how many; none if a single task says it all.
    fn failures(&self) -> Option<String> {
        let failed = self.failed.borrow();
        let ended = self.ended.get();
        (ended > 1 && !failed.is_empty()).then(|| {
            let said: Vec<&str> = failed.iter().map(|failure| failure.said.as_str()).collect();
            format!("{} of {ended} tasks failed: {}", said.len(), said.join(", "))
        })
    }

    /// The values that the flow gives back.
    fn outputs(&self) -> Result<Map<String, Value>, Error> {
        let scope = self.scope.borrow();
        let renderer = self.renderer.reading(scope.readable());
        let one = |declared: &crate::flow::model::OutputDeclaration| {
            let value = renderer.evaluate(&declared.value, &scope.values)?;
            let wrong =
                |reason: &str| Problem::new(&declared.value.place, format!("output `{}` {reason}", declared.id));
            let value = inputs::output(declared.kind, value).map_err(|reason| wrong(&reason))?;
            let file = value.as_str().filter(|_| declared.kind == InputKind::File);
            if file.is_some_and(|uri| !scope.files.contains_key(uri)) {
                return Err(wrong("must be a file: an input or an output file of a task").into());
            }
            Ok((declared.id.clone(), value))
        };
        self.flow.outputs.iter().map(one).collect()
    }

    /// Follow what whoever runs us wishes. Ends only with an error.
    async fn heed(&self, interrupts: &mut Interrupts) -> Result<std::convert::Infallible, Error> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            let stopping = *self.intent.borrow() > Intent::Run;
            tokio::select! {
                wish = interrupts.next() => match wish {
                    Wish::Ask => {
                        self.ui.borrow_mut().ask(QUESTION);
                        interrupts.await_answer();
                    }
                    Wish::Stop => {
                        self.warn("stopping the task; interrupt again to leave it running");
                        self.raise(Intent::Stop);
                    }
                    Wish::Detach if *self.intent.borrow() >= Intent::Leave => self.raise(Intent::LeaveNow),
                    Wish::Detach => self.raise(Intent::Leave),
                    Wish::Continue => {}
                },
                _ = look.tick(), if !stopping => {
                    if self.journal.borrow().stop_requested(&self.execution.id)? {
                        self.warn("stopping, as `podrun kill` asked");
                        self.raise(Intent::Stop);
                    }
                }
            }
        }
    }

    fn raise(&self, intent: Intent) {
        self.intent.send_if_modified(|now| {
            let grows = intent > *now;
            *now = intent.max(*now);
            grows
        });
    }

    /// Wait until more than running on is wanted.
    async fn wished(&self) {
        // The sender lives as long as `self`.
        let _ = self.intent.subscribe().wait_for(|intent| *intent > Intent::Run).await;
    }

    /// How the execution ends if nothing may begin any more; none if something may.
    fn closing(&self) -> Result<Option<Ended>, Error> {
        let intent = *self.intent.borrow();
        Ok(match intent {
            Intent::Leave | Intent::LeaveNow => Some(Ended::Detached),
            Intent::Stop => Some(Ended::Cancelled),
            // It ended before this task was reached, or while it ran: nothing may be created any more.
            Intent::Run if self.execution.state != State::Running => Some(ended_as(self.execution.state)),
            Intent::Run => self
                .journal
                .borrow()
                .stop_requested(&self.execution.id)?
                .then_some(Ended::Cancelled),
        })
    }

    /// What a task at this place can see.
    fn view(&self, attempt: &Attempt, task: &str, at: &At) -> Scope {
        let names = names(attempt);
        self.scope
            .borrow()
            .for_task(task, &names.task_run(), attempt.number, at)
    }

    fn attempt_of(&self, task: &str, at: &At, number: u32) -> Attempt {
        Attempt {
            execution: self.execution.id.clone(),
            task: at.name(task),
            number,
        }
    }

    fn show(&self, report: Report) {
        self.ui.borrow_mut().show(&[report]);
    }

    fn warn(&self, message: &str) {
        self.show(Report::Warning {
            message: message.to_owned(),
        });
    }

    fn count(&self, failure: Option<Failure>) {
        self.ended.set(self.ended.get() + 1);
        self.failed.borrow_mut().extend(failure);
    }
}

/// Everything that tasks of an execution gave back so far, as a task outside of every ForEach sees it.
pub(crate) fn scope_so_far(
    flow: &Flow,
    renderer: &Renderer,
    execution: &Execution,
    folder: &ExecutionDir,
    journal: &Journal,
) -> Result<Scope, Error> {
    let inputs = inputs::revealed(&execution.inputs, renderer)?;
    let mut scope = Scope::new(flow, &execution.id, execution.started, &inputs, folder);
    scope.label(flow, renderer)?;
    for task_run in journal.task_runs(&execution.id)? {
        let vars = kept::or_as_it_is(journal.outputs(task_run.id)?, renderer);
        let (name, attempt) = (task_run.attempt.task, task_run.attempt.number);
        match (task_run.outcome, task_run.request) {
            (Some(outcome), Some(_)) => {
                let finished = Finished {
                    name,
                    attempt,
                    outcome,
                    vars,
                };
                scope.add(&finished, &At::default(), folder);
            }
            (Some(_), None) => scope.add_value(task_of(&name), &At::default(), vars.into()),
            (None, _) => {}
        }
    }
    Ok(scope)
}

/// The names of an attempt.
pub(crate) fn names(attempt: &Attempt) -> Names<'_> {
    Names {
        execution: &attempt.execution,
        task: &attempt.task,
        attempt: attempt.number,
    }
}

/// The command that takes an execution up.
pub(crate) fn resume(id: &str) -> String {
    format!("podrun attach {id}")
}

/// How the cluster of a task is reached: its own config, or else what the caller named.
pub(crate) fn target(
    declared: ScriptStep<'_>,
    scope: &Scope,
    renderer: &Renderer,
    access: &Access,
) -> Result<Target, Error> {
    match plan::config(declared, scope, renderer)? {
        Some(config) => {
            let tokens = declared.script.tokens.as_ref();
            let tokens = tokens.map(|provider| Tokens::new(provider, &declared.step.id, scope, renderer));
            Ok(Target {
                config: config.to_string(),
                credentials: tokens
                    .transpose()?
                    .map(|tokens| Arc::new(tokens) as Arc<dyn Credentials>),
            })
        }
        None => access.target(),
    }
}

fn ended_as(state: State) -> Ended {
    match state {
        State::Succeeded | State::Running => Ended::Succeeded,
        State::Warned => Ended::Warned,
        State::Failed => Ended::Failed,
        State::Cancelled => Ended::Cancelled,
    }
}
