//! Tasks that need no pod: they are done at once, and the journal keeps their end.

use podrun_host::{Level, LogLine, Outcome, Status};
use serde_json::{Map, Value};

use super::google::object;
use super::kept::concealed;
use super::{Engine, Failure};
use crate::at::At;
use crate::error::{Ended, Error};
use crate::expression::truthy;
use crate::flow::model::{Kind, Step};
use crate::journal::now;
use crate::report::{self, Report};
use crate::scope::Scope;

/// The number of such a task's only attempt.
const ATTEMPT: u32 = 1;

/// What a task did.
#[derive(Default)]
struct Done {
    lines: Vec<(Level, String)>,
    outputs: Map<String, Value>,
    /// Why it failed.
    failure: Option<String>,
}

impl Engine<'_> {
    /// Do a task, or learn from the journal that it was done.
    pub(super) fn core(&self, step: &Step, at: &At) -> Result<Ended, Error> {
        let attempt = self.attempt_of(&step.id, at, ATTEMPT);
        let known = self.journal.borrow().task_run(&attempt)?;
        let (outcome, outputs) = match known {
            Some(task_run) => {
                let outputs = self.journal.borrow().outputs(task_run.id)?;
                let outputs = object(self.revealed(outputs.into(), &step.id)?);
                let outcome = task_run.outcome;
                (
                    outcome.ok_or_else(|| Error::Internal("a task without a pod has no outcome".into()))?,
                    outputs,
                )
            }
            None => {
                if let Some(ended) = self.closing()? {
                    return Ok(ended);
                }
                let done = self.act(step, &self.view(&attempt, &step.id, at))?;
                let time = u64::try_from(now()).unwrap_or_default();
                let lines: Vec<LogLine> = done
                    .lines
                    .into_iter()
                    .map(|(level, text)| log_line((level, self.redactor.redact(&text).into_owned()), time))
                    .collect();
                let failure = done.failure.map(|said| self.redactor.redact(&said).into_owned());
                let outcome = outcome(failure, time);
                let kept = object(concealed(done.outputs.clone().into(), self.renderer));
                self.journal.borrow_mut().settle(&attempt, &outcome, &kept, &lines)?;
                let reports = lines.into_iter().map(podrun_host::Event::Log);
                let reports = reports.filter_map(|event| report::of_event(&attempt.task, ATTEMPT, &event));
                self.ui.borrow_mut().show(&reports.collect::<Vec<Report>>());
                (outcome, done.outputs)
            }
        };
        self.scope.borrow_mut().add_value(&step.id, at, outputs.into());
        let succeeded = report::is_success(&outcome);
        self.count((!succeeded).then(|| Failure::new(attempt.task.clone(), attempt.task.clone())));
        if succeeded {
            return Ok(Ended::Succeeded);
        }
        let place = |_: &podrun_host::OutputFile| std::path::PathBuf::new();
        self.show(report::of_outcome(&attempt.task, ATTEMPT, false, &outcome, &[], &place));
        Ok(Ended::Failed)
    }

    fn act(&self, step: &Step, scope: &Scope) -> Result<Done, Error> {
        let renderer = self.renderer.reading(scope.readable());
        let mut done = Done::default();
        match &step.kind {
            Kind::Log { messages, level } => {
                for message in messages {
                    done.lines.push((*level, renderer.render(message, &scope.values)?));
                }
            }
            Kind::Return { format } => {
                let value = renderer.evaluate(format, &scope.values)?;
                done.outputs.insert("value".to_owned(), value);
            }
            Kind::Fail { condition, message } => {
                let holds = match condition {
                    Some(condition) => truthy(&renderer.evaluate(condition, &scope.values)?),
                    None => true,
                };
                if holds {
                    let message = message.as_ref().map(|text| renderer.render(text, &scope.values));
                    done.failure = Some(
                        message
                            .transpose()?
                            .unwrap_or_else(|| "the flow failed itself".to_owned()),
                    );
                }
            }
            _ => return Err(Error::Internal(format!("task `{}` needs more than this", step.id))),
        }
        Ok(done)
    }
}

fn log_line((level, message): (Level, String), time: u64) -> LogLine {
    LogLine {
        source: None,
        level,
        time,
        message,
        partial: false,
        lossy: false,
    }
}

pub(super) fn outcome(failure: Option<String>, time: u64) -> Outcome {
    Outcome {
        status: if failure.is_some() {
            Status::Failed
        } else {
            Status::Succeeded
        },
        reason: None,
        retryable: false,
        exit_code: None,
        message: failure.unwrap_or_default(),
        files: Vec::new(),
        started: Some(time),
        finished: Some(time),
        details: Vec::new(),
    }
}
