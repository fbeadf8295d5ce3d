//! Follows one attempt of a task: stores what the runner says, then lets it go on, then shows it.

use std::time::Duration;

use podrun_host::{Event, Level, Outcome, Run, Status, Task};
use serde_json::Value;
use tokio::time::Instant;

use crate::error::{Ended, Error};
use crate::faults::{Point, reach};
use crate::interrupt::{Interrupts, QUESTION, Wish};
use crate::journal::{Journal, TaskRun};
use crate::report::{self, Report};
use crate::ui::Ui;

/// How following ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The task ended.
    Ended { outcome: Box<Outcome>, left: Left },
    /// The task goes on without us.
    Detached,
}

/// What a task that ended left in the cluster.
#[derive(Debug)]
pub(crate) enum Left {
    Nothing,
    /// Its pod, because it was asked to stay.
    Kept,
    /// Perhaps its pod, and why it could not be removed.
    Stuck(String),
}

/// True if the pod of a task is to stay after this end.
pub(crate) fn is_kept(request: &Task, outcome: &Outcome) -> bool {
    let options: Value = serde_json::from_str(&request.options).unwrap_or_default();
    match options.get("delete") {
        Some(Value::Bool(delete)) => !delete,
        Some(Value::String(only)) => only == "ON_SUCCESS" && outcome.status != Status::Succeeded,
        _ => false,
    }
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

/// What is needed to follow a task, besides the task.
pub(crate) struct Follower<'a> {
    pub(crate) journal: &'a mut Journal,
    pub(crate) ui: &'a mut dyn Ui,
    pub(crate) interrupts: &'a mut Interrupts,
    /// Set once the execution shall not go on to further tasks.
    pub(crate) stopping: &'a mut bool,
}

/// How often the journal is asked whether another process wants the execution to stop.
const LOOK: Duration = Duration::from_millis(500);

/// How long the runner has to answer a detach. It may wait for a network that is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Wait for a moment that may never come.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Follower<'_> {
    /// Follow `run` to its end.
    pub(crate) async fn follow(mut self, mut run: Run, task_run: &TaskRun) -> Result<Followed, Error> {
        let mut ended: Option<Box<Outcome>> = None;
        let mut complaint: Option<String> = None;
        let mut look = tokio::time::interval(LOOK);
        let mut leave_by: Option<Instant> = None;
        let mut over = false;
        loop {
            tokio::select! {
                biased;
                wish = self.interrupts.next() => {
                    if wish == Wish::Detach && leave_by.is_some() {
                        break;
                    }
                    if self.obey(wish, &run) {
                        leave_by = Some(Instant::now() + PATIENCE);
                    }
                }
                () = until(leave_by) => break,
                batch = run.next() => {
                    let Some(batch) = batch else {
                        over = true;
                        break;
                    };
                    complaint = stuck(&batch.events, ended.is_some()).or(complaint);
                    for event in &batch.events {
                        if let Event::Ended(outcome) = event {
                            ended = Some(Box::new(outcome.clone()));
                        }
                    }
                    self.journal.record(task_run.id, &batch.events, batch.cursor.as_deref())?;
                    let reports: Vec<Report> = batch
                        .events
                        .iter()
                        .filter_map(|event| report::of_event(&task_run.attempt.task, task_run.attempt.number, event))
                        .collect();
                    batch.commit();
                    if ended.is_some() {
                        reach(Point::AfterEndedCommitted);
                    }
                    self.ui.show(&reports);
                }
                _ = look.tick(), if !*self.stopping => {
                    if self.journal.stop_requested(&task_run.attempt.execution)? {
                        self.ui.show(&[Report::Warning { message: "stopping, as `podrun kill` asked".into() }]);
                        *self.stopping = true;
                        run.cancel();
                    }
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
            (Ok(outcome), Some(_)) => Ok(Followed::Ended {
                left: match complaint {
                    _ if is_kept(&task_run.request, &outcome) => Left::Kept,
                    Some(message) => Left::Stuck(message),
                    None => Left::Nothing,
                },
                outcome: Box::new(outcome),
            }),
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

    /// Do what is wished for; true if we are to leave.
    fn obey(&mut self, wish: Wish, run: &Run) -> bool {
        match wish {
            Wish::Ask => {
                self.ui.ask(QUESTION);
                self.interrupts.await_answer();
            }
            Wish::Stop => {
                let message = "stopping the task; interrupt again to leave it running".to_owned();
                self.ui.show(&[Report::Warning { message }]);
                *self.stopping = true;
                run.cancel();
            }
            Wish::Detach => {
                run.detach();
                return true;
            }
            Wish::Continue => {}
        }
        false
    }
}

/// How the execution ends, as far as one outcome decides it; none if the next task may run.
pub(crate) fn verdict(outcome: &Outcome, stopping: bool) -> Option<Ended> {
    match (report::is_success(outcome), stopping) {
        _ if outcome.status == podrun_host::Status::Cancelled => Some(Ended::Cancelled),
        (true, false) => None,
        (true, true) => Some(Ended::Cancelled),
        (false, _) => Some(Ended::Failed),
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
