//! Drives an execution from wherever the journal says it is to its end.

use std::path::PathBuf;

use podrun_host::{Folders, Outcome, OutputFile, Runner, Target, origin_folder};

use crate::access::Access;
use crate::error::{Ended, Error};
use crate::expression::Renderer;
use crate::faults::{Point, reach};
use crate::files;
use crate::flow::{Flow, TaskDeclaration};
use crate::follow::{Followed, Follower, Left, is_kept, verdict};
use crate::interrupt::Interrupts;
use crate::journal::{Attempt, Execution, Journal, State, TaskRun};
use crate::plan::{self, Names};
use crate::report::{self, Report};
use crate::scope::{Finished, Scope};
use crate::state::{ExecutionDir, private_folder};
use crate::ui::Ui;

/// There is no retry yet: every task has one attempt.
const ATTEMPT: u32 = 1;

/// An execution that this process has claimed.
pub(crate) struct Driver<'a> {
    pub(crate) flow: &'a Flow,
    pub(crate) renderer: &'a Renderer,
    pub(crate) execution: &'a Execution,
    pub(crate) folder: &'a ExecutionDir,
    pub(crate) runner: &'a Runner,
    pub(crate) journal: &'a mut Journal,
    pub(crate) ui: &'a mut dyn Ui,
    pub(crate) interrupts: &'a mut Interrupts,
}

impl Driver<'_> {
    /// Run what is left to run.
    pub(crate) async fn drive(mut self) -> Result<Ended, Error> {
        let id = self.execution.id.clone();
        let result = self.tasks().await;
        let (state, message) = match &result {
            Ok(Ended::Succeeded) => (State::Succeeded, None),
            Ok(Ended::Failed) => (State::Failed, None),
            Ok(Ended::Cancelled) => (State::Cancelled, None),
            Ok(Ended::Detached) => {
                self.ui.show(&[Report::Detached {
                    resume: resume(&id),
                    id,
                }]);
                return result;
            }
            // What may run in the cluster must not be given up for an error that a better config or network cures.
            Err(error) if error.is_flows_fault() && !self.journal.goes_on(&id)? => {
                (State::Failed, Some(crate::error::message(error)))
            }
            Err(_) => {
                let message = format!(
                    "the execution is unfinished; to take it up again: {}, to end it: podrun kill {id}",
                    resume(&id)
                );
                self.ui.show(&[Report::Warning { message }]);
                return result;
            }
        };
        // An execution that ended before stays as it ended.
        if self.execution.state == State::Running {
            self.journal.finish(&id, state, message.as_deref())?;
        }
        if result.is_ok() {
            self.ui.show(&[Report::ExecutionEnded {
                id,
                state: state.name(),
                message,
            }]);
        }
        result
    }

    async fn tasks(&mut self) -> Result<Ended, Error> {
        let mut scope = Scope::new(self.flow, &self.execution.id, &self.execution.inputs, self.folder);
        let mut stopping = false;
        for declared in &self.flow.tasks {
            let attempt = Attempt {
                execution: self.execution.id.clone(),
                task: declared.id.clone(),
                number: ATTEMPT,
            };
            let known = self.journal.task_run(&attempt)?;
            let settled = known.as_ref().is_some_and(|task_run| task_run.outcome.is_some());
            if !settled && self.execution.state != State::Running {
                // It ended before this task was reached, or while it ran: nothing may be created any more.
                return Ok(ended_as(self.execution.state));
            }
            if known.is_none() && self.journal.stop_requested(&self.execution.id)? {
                return Ok(Ended::Cancelled);
            }
            if !settled && known.as_ref().is_some_and(|task_run| task_run.cleaned) {
                // Only `podrun kill` removes a task before its end, and this one did not come to say so.
                return Ok(Ended::Cancelled);
            }
            let (task_run, outcome) = match known {
                Some(task_run) if task_run.outcome.is_some() => {
                    let Some(outcome) = self.settled(declared, &task_run, &scope).await? else {
                        return Ok(Ended::Detached);
                    };
                    (task_run, outcome)
                }
                known => match self.attempt(declared, attempt, known, &scope, &mut stopping).await? {
                    (task_run, Some(outcome)) => (task_run, outcome),
                    (_, None) => return Ok(Ended::Detached),
                },
            };
            if let Some(ended) = verdict(&outcome, stopping) {
                return Ok(ended);
            }
            let vars = self.journal.outputs(task_run.id)?;
            let finished = Finished {
                task: declared.id.clone(),
                attempt: ATTEMPT,
                outcome,
                vars,
            };
            scope.add(&finished, self.folder);
        }
        Ok(Ended::Succeeded)
    }

    /// A task that ended in an earlier call: finish what that call may have left undone. None if we are to leave.
    async fn settled(
        &mut self,
        declared: &TaskDeclaration,
        task_run: &TaskRun,
        scope: &Scope,
    ) -> Result<Option<Outcome>, Error> {
        let outcome = task_run
            .outcome
            .clone()
            .ok_or_else(|| Error::Internal("a settled task has an outcome".into()))?;
        self.conclude(task_run, &outcome, true)?;
        let handle = task_run.handle.as_ref().filter(|_| !task_run.cleaned);
        if let Some(handle) = handle.filter(|_| !is_kept(&task_run.request, &outcome)) {
            let target = self.target(declared, scope)?;
            let removed = tokio::select! {
                removed = self.runner.kill(&target, handle, None) => removed,
                // Whatever is wished for: the task has ended, and there is nothing to stop.
                _ = self.interrupts.next() => return Ok(None),
            };
            let left = match removed {
                Ok(()) => Left::Nothing,
                Err(error) => Left::Stuck(error.to_string()),
            };
            self.note_left(task_run, left)?;
        }
        Ok(Some(outcome))
    }

    /// Start an attempt or take it up, and follow it. The outcome is none if the task goes on without us.
    async fn attempt(
        &mut self,
        declared: &TaskDeclaration,
        attempt: Attempt,
        known: Option<TaskRun>,
        scope: &Scope,
        stopping: &mut bool,
    ) -> Result<(TaskRun, Option<Outcome>), Error> {
        let target = self.target(declared, scope)?;
        let resumed = known.is_some();
        let task_run = match known {
            Some(task_run) => task_run,
            None => self.prepare(declared, &attempt, scope, &target).await?,
        };
        let names = names(&attempt);
        self.ui.show(&[Report::Task {
            task: declared.id.clone(),
            taskrun: names.task_run(),
            attempt: attempt.number,
            image: task_run.request.image.clone(),
            resumed,
        }]);
        let inputs = self.folder.task_inputs(&attempt.task, attempt.number);
        let outputs = self.folder.task_outputs(&attempt.task, attempt.number);
        private_folder(&outputs)?;
        let folders = Folders {
            inputs: (!task_run.request.inputs.is_empty()).then_some(inputs),
            outputs: Some(outputs.clone()),
        };
        let run = self
            .runner
            .start(&target, task_run.request.clone(), folders, task_run.cursor.clone());
        let follower = Follower {
            journal: &mut *self.journal,
            ui: &mut *self.ui,
            interrupts: &mut *self.interrupts,
            stopping,
        };
        let followed = follower.follow(run, &task_run).await;
        match followed {
            Ok(Followed::Ended { outcome, left }) => {
                self.conclude(&task_run, &outcome, false)?;
                self.note_left(&task_run, left)?;
                Ok((task_run, Some(*outcome)))
            }
            Ok(Followed::Detached) => Ok((task_run, None)),
            Err(error) => {
                // Where nothing was created, nothing binds a later call to this request.
                if !self.may_exist(&attempt, resumed, &target, &error).await? {
                    self.journal.forget(task_run.id)?;
                }
                Err(error)
            }
        }
    }

    /// Whether an attempt that could not be followed may have something in the cluster.
    async fn may_exist(
        &mut self,
        attempt: &Attempt,
        resumed: bool,
        target: &Target,
        error: &Error,
    ) -> Result<bool, Error> {
        let Some(handle) = self.journal.task_run(attempt)?.and_then(|task_run| task_run.handle) else {
            return Ok(false);
        };
        // Only a call that began the attempt knows that this is the cluster in which it would be.
        if resumed || !error.is_flows_fault() {
            return Ok(true);
        }
        tokio::select! {
            status = self.runner.status(target, &handle) => Ok(!matches!(status, Err(podrun_host::Error::NotFound(_)))),
            _ = self.interrupts.next() => Ok(true),
        }
    }

    /// Render the task, stage its inputs, and remember it.
    async fn prepare(
        &mut self,
        declared: &TaskDeclaration,
        attempt: &Attempt,
        scope: &Scope,
        target: &Target,
    ) -> Result<TaskRun, Error> {
        let names = names(attempt);
        let mut scope = scope.for_task(&declared.id, &names.task_run(), attempt.number);
        let layout = self.runner.layout(&target.config, &names.id()).await;
        let layout = layout.map_err(|source| Error::Runner {
            task: Some(declared.id.clone()),
            source,
        })?;
        scope.directories(&layout.working_dir, &layout.output_dir);
        let planned = plan::plan(self.flow, declared, &names, &scope, self.renderer)?;
        files::stage(&planned.files, &self.folder.task_inputs(&attempt.task, attempt.number))?;
        self.journal.prepare(attempt, &planned.task)
    }

    fn target(&self, declared: &TaskDeclaration, scope: &Scope) -> Result<Target, Error> {
        target(declared, scope, self.renderer, &self.execution.settings.access)
    }

    /// Hand over what came back, and tell how the task ended.
    fn conclude(&mut self, task_run: &TaskRun, outcome: &Outcome, earlier: bool) -> Result<(), Error> {
        let Attempt { task, number, .. } = &task_run.attempt;
        let published = self.publish(task_run, outcome)?;
        let outputs = self.folder.task_outputs(task, *number);
        let place = |file: &OutputFile| match &published {
            Some(folder) => folder.join(&file.path),
            None => outputs.join(origin_folder(file.origin)).join(&file.path),
        };
        let phases = self.journal.phases(task_run.id)?;
        let report = report::of_outcome(task, *number, earlier, outcome, &phases, &place);
        self.ui.show(&[report]);
        Ok(())
    }

    /// Copy outputs to where the caller wants them; where that is.
    fn publish(&self, task_run: &TaskRun, outcome: &Outcome) -> Result<Option<PathBuf>, Error> {
        let Some(folder) = &self.execution.settings.outputs else {
            return Ok(None);
        };
        let attempt = &task_run.attempt;
        let to = files::published(folder, &attempt.task);
        reach(Point::BeforePublished);
        let from = self.folder.task_outputs(&attempt.task, attempt.number);
        files::publish(outcome, &from, &to, &attempt.execution)?;
        reach(Point::AfterPublished);
        Ok(Some(to))
    }

    fn note_left(&mut self, task_run: &TaskRun, left: Left) -> Result<(), Error> {
        match left {
            Left::Nothing => self.journal.set_cleaned(task_run.id),
            // `podrun kill` removes it.
            Left::Kept => Ok(()),
            Left::Stuck(why) => {
                let Attempt { execution, task, .. } = &task_run.attempt;
                let message = format!(
                    "what task `{task}` left in the cluster could not be removed: {why}; to try again: podrun kill \
                     {execution}"
                );
                self.ui.show(&[Report::Warning { message }]);
                Ok(())
            }
        }
    }
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
    declared: &TaskDeclaration,
    scope: &Scope,
    renderer: &Renderer,
    access: &Access,
) -> Result<Target, Error> {
    match plan::config(declared, scope, renderer)? {
        Some(config) => Ok(Target {
            config: config.to_string(),
            credentials: None,
        }),
        None => access.target(),
    }
}

fn ended_as(state: State) -> Ended {
    match state {
        State::Succeeded | State::Running => Ended::Succeeded,
        State::Failed => Ended::Failed,
        State::Cancelled => Ended::Cancelled,
    }
}
