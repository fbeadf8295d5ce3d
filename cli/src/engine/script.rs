//! A script in a pod: begun, taken up or tried again, and brought to its end.

use std::convert::Infallible;
use std::path::PathBuf;

use podrun_host::{Folders, Outcome, OutputFile, Phase, Status, Target, origin_folder};
use serde_json::Value;

use super::attempts::Attempted;
use super::follow::{Followed, Left};
use super::{Engine, is_kept, names, target};
use crate::at::At;
use crate::error::{Ended, Error};
use crate::faults::{Point, reach};
use crate::files;
use crate::flow::model::ScriptStep;
use crate::journal::{Attempt, State, TaskRun};
use crate::plan;
use crate::report::{self, Report};
use crate::scope::{Finished, Scope};
use crate::secrets::{changed, is_renewed};
use crate::state::private_folder;

impl Engine<'_> {
    /// Bring a script to its end, with as many attempts as it may have.
    pub(super) async fn script(&self, declared: ScriptStep<'_>, at: &At) -> Result<Ended, Error> {
        let one = async |attempt: &Attempt| self.one(declared, attempt, at).await;
        let (task_run, outcome) = match self.attempts(declared.step, at, one).await? {
            Attempted::Ended(task_run, outcome) => (task_run, outcome),
            Attempted::Closing(ended) => return Ok(ended),
        };
        let finished = Finished {
            name: task_run.attempt.task.clone(),
            attempt: task_run.attempt.number,
            vars: self.journal.borrow().outputs(task_run.id)?,
            outcome,
        };
        self.scope.borrow_mut().add(&finished, at, self.folder);
        Ok(self.verdict(&finished.name, &finished.outcome))
    }

    /// One attempt: begun, taken up, or known to have ended.
    async fn one(&self, declared: ScriptStep<'_>, attempt: &Attempt, at: &At) -> Result<Attempted, Error> {
        let known = self.journal.borrow().task_run(attempt)?;
        let scope = self.view(attempt, &declared.step.id, at);
        match known {
            Some(task_run) if task_run.outcome.is_some() => self.settled(declared, task_run, &scope).await,
            // Only `podrun kill` removes a task before its end, and this one did not come to say so.
            Some(task_run) if task_run.cleaned => Ok(Attempted::Closing(Ended::Cancelled)),
            // An execution that is to stop still has to stop what it began.
            Some(_) if self.execution.state != State::Running => {
                Ok(Attempted::Closing(super::ended_as(self.execution.state)))
            }
            Some(task_run) => self.attempt(declared, attempt, Some(task_run), scope).await,
            None => match self.closing()? {
                Some(ended) => Ok(Attempted::Closing(ended)),
                None => self.attempt(declared, attempt, None, scope).await,
            },
        }
    }

    /// An attempt that ended in an earlier call: finish what that call may have left undone.
    async fn settled(&self, declared: ScriptStep<'_>, task_run: TaskRun, scope: &Scope) -> Result<Attempted, Error> {
        let outcome = task_run
            .outcome
            .clone()
            .ok_or_else(|| Error::Internal("a settled task has an outcome".into()))?;
        let outcome = self.complete(declared, outcome, scope)?;
        self.conclude(&task_run, &outcome, true)?;
        let kept = task_run
            .request
            .as_ref()
            .is_some_and(|request| is_kept(request, &outcome));
        let handle = task_run.handle.as_ref().filter(|_| !task_run.cleaned && !kept);
        if let Some(handle) = handle {
            let target = self.target(declared, scope)?;
            let removed = tokio::select! {
                removed = self.runner.kill(&target, handle, None) => removed,
                // Whatever is wished for: the task has ended, and there is nothing to stop.
                () = self.wished() => return Ok(Attempted::Closing(Ended::Detached)),
            };
            let left = match removed {
                Ok(()) => Left::Nothing,
                Err(error) => Left::Stuck(error.to_string()),
            };
            self.note_left(&task_run, left)?;
        }
        Ok(Attempted::Ended(Box::new(task_run), outcome))
    }

    /// Start an attempt or take it up, and follow it.
    async fn attempt(
        &self,
        declared: ScriptStep<'_>,
        attempt: &Attempt,
        known: Option<TaskRun>,
        scope: Scope,
    ) -> Result<Attempted, Error> {
        let target = self.target(declared, &scope)?;
        let resumed = known.is_some();
        let task_run = match known {
            Some(task_run) => task_run,
            None => self.prepare(declared, attempt, scope.clone(), &target).await?,
        };
        let Some(request) = &task_run.request else {
            return Err(Error::Internal(format!("task run `{}` has no request", attempt.task)));
        };
        let renewed = is_renewed(request);
        // The journal has the names of secrets in their place.
        let sources = self.renderer.sources();
        let request = changed(request, |text| sources.reveal(text))
            .map_err(|fault| Error::Usage(format!("cannot go on with task `{}`: {fault}", attempt.task)))?;
        let request = plan::with_credentials(request, declared, &scope, self.renderer)?;
        self.show(Report::Task {
            task: attempt.task.clone(),
            taskrun: names(attempt).task_run(),
            attempt: attempt.number,
            image: request.image.clone(),
            resumed,
        });
        let inputs = self.folder.task_inputs(&attempt.task, attempt.number);
        let outputs = self.folder.task_outputs(&attempt.task, attempt.number);
        private_folder(&outputs)?;
        let folders = Folders {
            inputs: (!request.inputs.is_empty()).then_some(inputs),
            outputs: Some(outputs),
        };
        let start = || {
            let (request, folders) = (request.clone(), folders.clone());
            self.runner.start(&target, request, folders, task_run.cursor.clone())
        };
        // With another token in it the task would be taken for another one: what was started is followed by its name.
        let handle = task_run.handle.as_ref().filter(|_| resumed && renewed);
        let followed = match handle {
            None => self.follow(start(), &task_run, &request).await,
            Some(handle) => {
                let run = self
                    .runner
                    .attach(&target, handle.clone(), folders.clone(), task_run.cursor.clone());
                match self.follow(run, &task_run, &request).await {
                    Err(Error::Runner {
                        source: podrun_host::Error::NotFound(_),
                        ..
                    }) => self.follow(start(), &task_run, &request).await,
                    // Its input files are incomplete, and only whoever starts it brings them: as nothing has run yet, it
                    // is started anew.
                    Err(error) if self.is_incomplete(&target, handle, &error).await => {
                        self.runner
                            .kill(&target, handle, None)
                            .await
                            .map_err(|source| Error::Runner {
                                task: Some(attempt.task.clone()),
                                source,
                            })?;
                        self.follow(start(), &task_run, &request).await
                    }
                    followed => followed,
                }
            }
        };
        match followed {
            Ok(Followed::Ended { outcome, left }) => {
                let outcome = self.complete(declared, *outcome, &scope)?;
                self.conclude(&task_run, &outcome, false)?;
                self.note_left(&task_run, left)?;
                Ok(Attempted::Ended(Box::new(task_run), outcome))
            }
            Ok(Followed::Detached) => Ok(Attempted::Closing(Ended::Detached)),
            Err(error) => {
                // Where nothing was created, nothing binds a later call to this request.
                if !self.may_exist(attempt, resumed, &target, &error).await? {
                    self.journal.borrow_mut().forget(task_run.id)?;
                }
                Err(error)
            }
        }
    }

    /// Whether a task could not be followed because its input files have not all arrived.
    async fn is_incomplete(&self, target: &Target, handle: &str, error: &Error) -> bool {
        let Error::Runner { source, .. } = error else {
            return false;
        };
        if !matches!(source, podrun_host::Error::Other(_)) {
            return false;
        }
        let status = self.runner.status(target, handle).await;
        status.is_ok_and(|snapshot| matches!(snapshot.phase, Some(Phase::Pending | Phase::Staging)))
    }

    /// A success without a file that was required is none.
    fn complete(&self, declared: ScriptStep<'_>, mut outcome: Outcome, scope: &Scope) -> Result<Outcome, Error> {
        if report::is_success(&outcome)
            && let Some(pattern) = plan::missing_output(declared, &outcome, scope, self.renderer)?
        {
            outcome.status = Status::Failed;
            outcome.reason = Some("output-missing".to_owned());
            outcome.message = format!("no file in the working directory matches `{pattern}`, which is required");
        }
        Ok(outcome)
    }

    /// Whether an attempt that could not be followed may have something in the cluster.
    async fn may_exist(&self, attempt: &Attempt, resumed: bool, target: &Target, error: &Error) -> Result<bool, Error> {
        let known = self.journal.borrow().task_run(attempt)?;
        let Some(handle) = known.and_then(|task_run| task_run.handle) else {
            return Ok(false);
        };
        // Only a call that began the attempt knows that this is the cluster in which it would be.
        if resumed || !error.is_flows_fault() {
            return Ok(true);
        }
        tokio::select! {
            status = self.runner.status(target, &handle) => Ok(!matches!(status, Err(podrun_host::Error::NotFound(_)))),
            () = self.wished() => Ok(true),
        }
    }

    /// Render the task, stage its inputs, and remember it.
    async fn prepare(
        &self,
        declared: ScriptStep<'_>,
        attempt: &Attempt,
        mut scope: Scope,
        target: &Target,
    ) -> Result<TaskRun, Error> {
        let names = names(attempt);
        let layout = self.runner.layout(&target.config, &names.id()).await;
        let layout = layout.map_err(|source| Error::Runner {
            task: Some(attempt.task.clone()),
            source,
        })?;
        scope.directories(&layout.working_dir, &layout.output_dir);
        let schema = self.schema(&attempt.task).await?;
        let mut planned = plan::plan(
            self.flow,
            declared,
            &names,
            &scope,
            self.namespace,
            self.renderer,
            schema,
        )?;
        plan::require(&mut planned.task, declared, &scope, self.renderer, schema)?;
        files::stage(&planned.files, &self.folder.task_inputs(&attempt.task, attempt.number))?;
        let sources = self.renderer.sources();
        let kept = plan::without_credentials(&planned.task);
        let Ok(kept) = changed(&kept, |text| Ok::<_, Infallible>(sources.conceal(text)));
        self.journal.borrow_mut().prepare(attempt, &kept)
    }

    /// What the runner says about its options, asked once.
    async fn schema(&self, task: &str) -> Result<&Value, Error> {
        let ask = async || {
            let described = self.runner.describe().await.map_err(|source| Error::Runner {
                task: Some(task.to_owned()),
                source,
            })?;
            Ok(serde_json::from_str(&described.task_schema).unwrap_or_default())
        };
        self.schema.get_or_try_init(ask).await
    }

    fn target(&self, declared: ScriptStep<'_>, scope: &Scope) -> Result<Target, Error> {
        target(declared, scope, self.renderer, &self.execution.settings.access)
    }

    /// Hand over what came back, and tell how the task ended.
    fn conclude(&self, task_run: &TaskRun, outcome: &Outcome, earlier: bool) -> Result<(), Error> {
        let Attempt { task, number, .. } = &task_run.attempt;
        let published = self.publish(task_run, outcome)?;
        let outputs = self.folder.task_outputs(task, *number);
        let place = |file: &OutputFile| match &published {
            Some(folder) if !files::is_hidden(outcome, file) => folder.join(&file.path),
            _ => outputs.join(origin_folder(file.origin)).join(&file.path),
        };
        if published.is_some() {
            for file in outcome.files.iter().filter(|file| files::is_hidden(outcome, file)) {
                self.warn(&format!(
                    "task `{task}` has `{}` in the working directory and in the output directory: --outputs gets the first; the \
                     second is `{}`",
                    file.path,
                    place(file).display()
                ));
            }
        }
        let phases = self.journal.borrow().phases(task_run.id)?;
        let report = report::of_outcome(task, *number, earlier, outcome, &phases, &place);
        self.show(report);
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
        for number in 1..attempt.number {
            let earlier = Attempt {
                number,
                ..attempt.clone()
            };
            let earlier = self.journal.borrow().task_run(&earlier)?;
            if let Some(earlier) = earlier.and_then(|earlier| earlier.outcome) {
                files::withdraw(&earlier, outcome, &to)?;
            }
        }
        reach(Point::AfterPublished);
        Ok(Some(to))
    }

    fn note_left(&self, task_run: &TaskRun, left: Left) -> Result<(), Error> {
        match left {
            Left::Nothing => self.journal.borrow_mut().set_cleaned(task_run.id),
            // `podrun kill` removes it.
            Left::Kept => Ok(()),
            Left::Stuck(why) => {
                let Attempt { execution, task, .. } = &task_run.attempt;
                self.warn(&format!(
                    "what task `{task}` left in the cluster could not be removed: {why}; to try again: podrun kill \
                     {execution}"
                ));
                Ok(())
            }
        }
    }
}
