//! Follows one attempt of a task: stores what the runner says, then lets it go on, then shows it.

use std::borrow::Cow;
use std::time::Duration;

use podrun_host::{Event, Level, LogLine, Outcome, Run, Task};
use serde_json::Value;
use tokio::time::Instant;

use super::{Engine, Intent};
use crate::error::Error;
use crate::faults::{Point, reach};
use crate::journal::TaskRun;
use crate::plan::PREPARED;
use crate::redact::{Redactor, Seam};
use crate::report::{self, Report};

/// How following ended.
#[derive(Debug)]
pub(super) enum Followed {
    /// The task ended.
    Ended { outcome: Box<Outcome>, left: Left },
    /// The task goes on without us.
    Detached,
}

/// What a task that ended left in the cluster.
#[derive(Debug)]
pub(super) enum Left {
    Nothing,
    /// Its pod, because it was asked to stay.
    Kept,
    /// Perhaps its pod, and why it could not be removed.
    Stuck(String),
}

/// True if the pod of a task is to stay after its end.
pub(crate) fn is_kept(request: &Task, outcome: &Outcome) -> bool {
    let options: Value = serde_json::from_str(&request.options).unwrap_or_default();
    match options.get("delete") {
        Some(Value::Bool(delete)) => !delete,
        Some(Value::String(when)) => when == "ON_SUCCESS" && !report::is_success(outcome),
        _ => false,
    }
}

/// An event without secrets in what it tells people. Values that a script publishes are for later tasks, and stay.
fn hide(redactor: &Redactor, event: &Event, seam: &mut Seam) -> Event {
    let mut event = event.clone();
    let text = match &mut event {
        Event::Log(line) => {
            if let Cow::Owned(hidden) = redactor.redact_part(&line.message, line.partial, seam) {
                line.message = hidden;
            }
            return event;
        }
        Event::Diagnostic(said) => &mut said.message,
        Event::Ended(outcome) => &mut outcome.message,
        _ => return event,
    };
    if let Cow::Owned(hidden) = redactor.redact(text) {
        *text = hidden;
    }
    event
}

/// Whether a task writes where its `beforeCommands` end.
fn announces(request: &Task) -> bool {
    request.command.iter().any(|argument| argument.contains(PREPARED))
}

/// Lower the level of a line that `beforeCommands` wrote; whether they go on.
fn prepares(line: &mut LogLine) -> bool {
    if line.level == Level::Info {
        line.level = Level::Debug;
    }
    !line.message.ends_with(PREPARED)
}

/// What the runner could not clean up, if it says so after the outcome: only that follows an outcome.
fn stuck(events: &[Event], ended: bool) -> Option<String> {
    let start = match events.iter().position(|event| matches!(event, Event::Ended(_))) {
        Some(end) => end,
        None if ended => 0,
        None => return None,
    };
    let complaint = |event: &Event| match event {
        Event::Diagnostic(said) if matches!(said.level, Level::Warn | Level::Error) => Some(said.message.clone()),
        _ => None,
    };
    events.iter().skip(start).filter_map(complaint).next_back()
}

/// How long the runner has to answer a detach. It may wait for a network that is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Wait for a moment that may never come.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Engine<'_> {
    /// Follow `run` to its end.
    pub(super) async fn follow(&self, mut run: Run, task_run: &TaskRun, request: &Task) -> Result<Followed, Error> {
        let mut ended: Option<Box<Outcome>> = None;
        let mut complaint: Option<String> = None;
        let mut intents = self.intent.subscribe();
        intents.mark_changed();
        let mut leave_by: Option<Instant> = None;
        let mut over = false;
        let mut seam = Seam::default();
        let mut preparing = announces(request) && !self.journal.borrow().holds_line(task_run.id, PREPARED)?;
        loop {
            tokio::select! {
                biased;
                // The sender lives as long as the engine.
                Ok(()) = intents.changed() => match *intents.borrow_and_update() {
                    Intent::Run => {}
                    Intent::Stop => run.cancel(),
                    Intent::Leave => {
                        run.detach();
                        leave_by = Some(Instant::now() + PATIENCE);
                    }
                    Intent::LeaveNow => break,
                },
                () = until(leave_by) => break,
                batch = run.next() => {
                    let Some(batch) = batch else {
                        over = true;
                        break;
                    };
                    let mut events: Vec<Event> = batch
                        .events
                        .iter()
                        .map(|event| hide(self.redactor, event, &mut seam))
                        .collect();
                    for event in &mut events {
                        if let Event::Log(line) = event {
                            preparing = preparing && prepares(line);
                        }
                    }
                    complaint = stuck(&events, ended.is_some()).or(complaint);
                    for event in &events {
                        if let Event::Ended(outcome) = event {
                            ended = Some(Box::new(outcome.clone()));
                        }
                    }
                    self.journal
                        .borrow_mut()
                        .record(task_run.id, &events, batch.cursor.as_deref())?;
                    let reports: Vec<Report> = events
                        .iter()
                        .filter_map(|event| report::of_event(&task_run.attempt.task, task_run.attempt.number, event))
                        .collect();
                    batch.commit();
                    if ended.is_some() {
                        reach(Point::AfterEndedCommitted);
                    }
                    self.ui.borrow_mut().show(&reports);
                }
            }
        }
        if !over {
            // Dropping the run detaches it, whatever the runner is waiting for.
            let left = Left::Stuck("it was not waited for".to_owned());
            return Ok(match ended {
                Some(outcome) => Followed::Ended { outcome, left },
                None => Followed::Detached,
            });
        }
        match (run.outcome().await, ended) {
            (Ok(_), Some(outcome)) => {
                let left = match complaint {
                    _ if is_kept(request, &outcome) => Left::Kept,
                    Some(message) => Left::Stuck(message),
                    None => Left::Nothing,
                };
                Ok(Followed::Ended { outcome, left })
            }
            // What was promised counts; cleaning up is made good later.
            (Err(error), Some(outcome)) => Ok(Followed::Ended {
                outcome,
                left: Left::Stuck(error.to_string()),
            }),
            (Err(podrun_host::Error::Detached(_)), None) => Ok(Followed::Detached),
            (Err(source), None) => Err(Error::Runner {
                task: Some(task_run.attempt.task.clone()),
                source,
            }),
            (Ok(_), None) => Err(Error::Internal(
                "the runner returned an outcome that it did not announce".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podrun_host::{Diagnostic, Status};

    fn says(level: Level, message: &str) -> Event {
        let message = message.to_owned();
        Event::Diagnostic(Diagnostic { level, message })
    }

    fn end() -> Event {
        Event::Ended(Outcome {
            status: Status::Succeeded,
            reason: None,
            retryable: false,
            exit_code: Some(0),
            message: String::new(),
            files: Vec::new(),
            started: None,
            finished: None,
            details: Vec::new(),
        })
    }

    #[test]
    fn only_a_warning_after_the_end_tells_of_what_is_left() {
        let warning = says(Level::Warn, "slow");
        assert_eq!(stuck(std::slice::from_ref(&warning), false), None);
        assert_eq!(stuck(&[warning.clone(), end()], false), None);
        assert_eq!(stuck(&[says(Level::Info, "deleting")], true), None);
        assert_eq!(stuck(&[end(), warning.clone()], false).as_deref(), Some("slow"));
        assert_eq!(stuck(&[warning], true).as_deref(), Some("slow"));
    }
}
