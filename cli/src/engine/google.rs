//! Tasks that ask Google Cloud.
//!
//! The journal keeps what they got without the credentials in it: a later call that needs one asks for a new one, which is
//! also what to do with a token that may have expired meanwhile.

use podrun_host::OutputFile;
use serde_json::{Map, Value};

use super::attempts::Attempted;
use super::core::outcome;
use super::{Engine, kept, names, scope_so_far};
use crate::at::{At, task_of};
use crate::error::{Ended, Error};
use crate::expression::{Fault, Renderer, Text};
use crate::flow::Flow;
use crate::flow::model::{GoogleAuth, Kind, Step};
use crate::google::{self, Credentials, Failure};
use crate::journal::{Attempt, Execution, Journal, State, now};
use crate::plan;
use crate::report;
use crate::scope::Scope;
use crate::state::ExecutionDir;

impl Engine<'_> {
    /// Bring such a task to its end.
    pub(super) async fn google(&self, step: &Step, at: &At) -> Result<Ended, Error> {
        let one = async |attempt: &Attempt| self.asked(step, attempt, at).await;
        Ok(match self.attempts(step, at, one).await? {
            Attempted::Ended(task_run, outcome) => {
                if !report::is_success(&outcome) {
                    let Attempt { task, number, .. } = &task_run.attempt;
                    let place = |_: &OutputFile| std::path::PathBuf::new();
                    self.show(report::of_outcome(task, *number, false, &outcome, &[], &place));
                }
                self.verdict(&task_run.attempt.task, &outcome)
            }
            Attempted::Closing(ended) => ended,
        })
    }

    /// One attempt: made, or known to have been made.
    async fn asked(&self, step: &Step, attempt: &Attempt, at: &At) -> Result<Attempted, Error> {
        let known = self.journal.borrow().task_run(attempt)?;
        let scope = self.view(attempt, &step.id, at);
        let task_run = match known {
            Some(task_run) => task_run,
            None => {
                if let Some(ended) = self.closing()? {
                    return Ok(Attempted::Closing(ended));
                }
                let answer = tokio::select! {
                    answer = ask(step, &attempt.task, &scope, self.renderer) => answer?,
                    () = self.wished() => {
                        let ended = self.closing()?.unwrap_or(Ended::Cancelled);
                        return Ok(Attempted::Closing(ended));
                    }
                };
                self.settle(attempt, &answer)?;
                if let Ok(outputs) = answer {
                    self.scope.borrow_mut().add_value(&step.id, at, outputs.into());
                }
                let settled = self.journal.borrow().task_run(attempt)?;
                settled.ok_or_else(|| Error::Internal("a task that was settled is unknown".into()))?
            }
        };
        let outcome = task_run.outcome.clone();
        let outcome = outcome.ok_or_else(|| Error::Internal("a task without a pod has no outcome".into()))?;
        if report::is_success(&outcome) && !self.scope.borrow().has_value(&step.id, at) {
            let kept = self.journal.borrow().outputs(task_run.id)?;
            let outputs = match reveal(kept, self.renderer) {
                Ok(outputs) => outputs,
                // Nothing uses it any more, so nobody is asked.
                Err(_) if self.execution.state != State::Running => Map::new(),
                Err(_) => again(step, &attempt.task, &scope, self.renderer).await?,
            };
            self.scope.borrow_mut().add_value(&step.id, at, outputs.into());
        }
        Ok(Attempted::Ended(Box::new(task_run), outcome))
    }

    fn settle(&self, attempt: &Attempt, answer: &Result<Map<String, Value>, Failure>) -> Result<(), Error> {
        let time = u64::try_from(now()).unwrap_or_default();
        let (failure, outputs) = match answer {
            Ok(outputs) => (None, conceal(outputs.clone(), self.renderer)),
            Err(failure) => (
                Some(self.redactor.redact(&failure.to_string()).into_owned()),
                Map::new(),
            ),
        };
        let outcome = outcome(failure, time);
        self.journal.borrow_mut().settle(attempt, &outcome, &outputs, &[])
    }
}

/// Everything that tasks of an execution gave back so far, with the credentials that the journal does not keep asked for
/// anew.
pub(crate) async fn renew(
    flow: &Flow,
    renderer: &Renderer,
    execution: &Execution,
    folder: &ExecutionDir,
    journal: &Journal,
) -> Result<Scope, Error> {
    let mut scope = scope_so_far(flow, renderer, execution, folder, journal)?;
    for task_run in journal.task_runs(&execution.id)? {
        let task = task_of(&task_run.attempt.task);
        let google = flow
            .steps()
            .into_iter()
            .find(|step| step.id == task && step.kind.is_google());
        let (Some(step), Some(outcome)) = (google, &task_run.outcome) else {
            continue;
        };
        if !report::is_success(outcome) {
            continue;
        }
        let outputs = match reveal(journal.outputs(task_run.id)?, renderer) {
            Ok(outputs) => outputs,
            Err(_) => {
                let names = names(&task_run.attempt);
                let view = scope.for_task(task, &names.task_run(), task_run.attempt.number, &At::default());
                again(step, &task_run.attempt.task, &view, renderer).await?
            }
        };
        scope.add_value(task, &At::default(), outputs.into());
    }
    Ok(scope)
}

/// Ask for what the journal does not keep. That it cannot be had now is no end of a task that succeeded.
async fn again(step: &Step, name: &str, scope: &Scope, renderer: &Renderer) -> Result<Map<String, Value>, Error> {
    let answer = ask(step, name, scope, renderer).await?;
    answer.map_err(|failure| Error::Unreachable(format!("task `{name}`, for a new credential: {failure}")))
}

/// Ask Google what the task is for. Credentials in the answer are hidden from now on. An error is the flow's mistake.
async fn ask(
    step: &Step,
    name: &str,
    scope: &Scope,
    renderer: &Renderer,
) -> Result<Result<Map<String, Value>, Failure>, Error> {
    let render = |text: &Text| renderer.render(text, &scope.values);
    let timeout = step
        .timeout
        .as_ref()
        .map(|text| plan::seconds(&render(text)?, text))
        .transpose()?;
    let answer = async {
        match &step.kind {
            Kind::OauthToken(auth) => {
                let scopes = auth.scopes.iter().map(render).collect::<Result<Vec<_>, _>>()?;
                let key = key(auth, &render)?;
                Ok::<_, Error>(match credentials(key.as_deref()) {
                    Ok(credentials) => google::token(&credentials, &scopes).await.map(|token| {
                        renderer.sources().mint(name, &token.value);
                        token.outputs()
                    }),
                    Err(failure) => Err(failure),
                })
            }
            Kind::GkeCluster(cluster) => {
                let asked = google::Cluster {
                    project: render(&cluster.project)?,
                    location: render(&cluster.zone)?,
                    name: render(&cluster.cluster)?,
                };
                let key = key(&cluster.auth, &render)?;
                Ok(match credentials(key.as_deref()) {
                    Ok(credentials) => google::cluster(&credentials, &asked).await.inspect(|outputs| {
                        let client_key = outputs.get("masterAuth").and_then(|auth| auth.get("clientKey"));
                        let client_key = client_key.and_then(Value::as_str).unwrap_or_default();
                        renderer.sources().mint(name, client_key);
                    }),
                    Err(failure) => Err(failure),
                })
            }
            _ => Err(Error::Internal(format!("task `{}` asks Google nothing", step.id))),
        }
    };
    match timeout {
        None => answer.await,
        Some(seconds) => match tokio::time::timeout(std::time::Duration::from_secs(seconds.into()), answer).await {
            Ok(answer) => answer,
            Err(_) => Ok(Err(Failure::lasting(format!("no answer within {seconds} s")))),
        },
    }
}

fn key(
    auth: &GoogleAuth,
    render: &impl Fn(&Text) -> Result<String, crate::document::Problem>,
) -> Result<Option<String>, Error> {
    Ok(auth.service_account.as_ref().map(render).transpose()?)
}

/// Those of the key that a task names, else those of the machine.
pub(super) fn credentials(key: Option<&str>) -> Result<Credentials, Failure> {
    match key {
        Some(json) => Credentials::from_key(json),
        None => Credentials::from_environment(),
    }
}

/// Values for the journal, with the names of credentials in their place.
fn conceal(outputs: Map<String, Value>, renderer: &Renderer) -> Map<String, Value> {
    object(kept::concealed(outputs.into(), renderer))
}

/// Values from the journal, with the credentials in them. Fails where one is not known any more.
fn reveal(outputs: Map<String, Value>, renderer: &Renderer) -> Result<Map<String, Value>, Fault> {
    kept::revealed(outputs.into(), renderer).map(object)
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
