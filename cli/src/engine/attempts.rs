//! The attempts of a task: one after the other, until one succeeds or no other may follow.

use podrun_host::{Outcome, Status};

use super::retry::Tally;
use super::{Engine, Failure, Intent};
use crate::at::At;
use crate::error::{Ended, Error};
use crate::flow::model::Step;
use crate::journal::{Attempt, TaskRun, now};
use crate::report::{self, Report};

/// What came of an attempt.
pub(super) enum Attempted {
    Ended(Box<TaskRun>, Outcome),
    /// The execution ends before this task did.
    Closing(Ended),
}

impl Engine<'_> {
    /// Make attempts by `one` until the task has ended; what came of the last.
    pub(super) async fn attempts(
        &self,
        step: &Step,
        at: &At,
        one: impl AsyncFn(&Attempt) -> Result<Attempted, Error>,
    ) -> Result<Attempted, Error> {
        let mut tally = Tally::default();
        let mut number = 1;
        loop {
            let attempt = self.attempt_of(&step.id, at, number);
            let (task_run, outcome) = match one(&attempt).await? {
                Attempted::Ended(task_run, outcome) => (task_run, outcome),
                closing => return Ok(closing),
            };
            if report::is_success(&outcome) || outcome.status == Status::Cancelled {
                return Ok(Attempted::Ended(task_run, outcome));
            }
            let (began, ended) = self.times(&task_run, &outcome)?;
            tally.add(&outcome, began, ended);
            let next = step.retry.as_ref().and_then(|retry| {
                let time = tally.next(retry, fastrand::f64())?;
                Some((retry, time))
            });
            let Some((retry, time)) = next else {
                return Ok(Attempted::Ended(task_run, outcome));
            };
            if retry.warning_on_retry {
                let message = format!("attempt {number} of task `{}` failed, another follows", attempt.task);
                self.warn(&message);
            }
            if let Some(ended) = self.pause(&attempt, number + 1, time).await? {
                return Ok(Attempted::Closing(ended));
            }
            number += 1;
        }
    }

    /// When an attempt began and ended: as we saw it, or, for one without phases, as its outcome says.
    fn times(&self, task_run: &TaskRun, outcome: &Outcome) -> Result<(Option<i64>, Option<i64>), Error> {
        let phases = self.journal.borrow().phases(task_run.id)?;
        let said = |time: Option<u64>| time.and_then(|time| i64::try_from(time).ok());
        let began = phases.first().map(|(_, time)| *time);
        let ended = phases.iter().find(|(name, _)| name == "ended").map(|(_, time)| *time);
        Ok((
            began.or_else(|| said(outcome.started)),
            ended.or_else(|| said(outcome.finished)),
        ))
    }

    /// What an outcome makes of its task.
    pub(super) fn verdict(&self, name: &str, outcome: &Outcome) -> Ended {
        let stopping = *self.intent.borrow() == Intent::Stop;
        match (report::is_success(outcome), stopping) {
            _ if outcome.status == Status::Cancelled => Ended::Cancelled,
            (true, false) => {
                self.count(None);
                Ended::Succeeded
            }
            (true, true) => Ended::Cancelled,
            (false, _) => {
                let why = match (outcome.exit_code, &outcome.reason) {
                    (_, Some(reason)) => reason.clone(),
                    (Some(code), None) => format!("exit code {code}"),
                    (None, None) => outcome.message.lines().next().unwrap_or_default().to_owned(),
                };
                self.count(Some(Failure::new(name.to_owned(), format!("{name} ({why})"))));
                Ended::Failed
            }
        }
    }

    /// Wait until the next attempt may begin, unless the journal knows that it has.
    async fn pause(&self, attempt: &Attempt, next: u32, time: i64) -> Result<Option<Ended>, Error> {
        let next = Attempt {
            number: next,
            ..attempt.clone()
        };
        if self.journal.borrow().task_run(&next)?.is_some() {
            return Ok(None);
        }
        if let Some(ended) = self.closing()? {
            return Ok(Some(ended));
        }
        let wait = u64::try_from(time.saturating_sub(now())).unwrap_or_default();
        self.show(Report::Retry {
            task: attempt.task.clone(),
            attempt: next.number,
            milliseconds: wait,
        });
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(wait)) => {}
            () = self.wished() => {}
        }
        self.closing()
    }
}
