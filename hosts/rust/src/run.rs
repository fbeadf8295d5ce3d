//! A call of the contract's `run` or `attach` that is under way.
//!
//! The runner's `emit` becomes a [`Batch`], and returns when the batch was committed. Three promises hold around that:
//!
//! - A batch that is dropped without `commit` detaches the run, and so does dropping the [`Run`].
//! - A runner deletes what it started once the `emit` of its `ended` event returned, whatever the answer. If that batch
//!   is not committed, `emit` therefore never returns: the call is ended in its middle, and what the runner started is
//!   still there for another one.
//! - A runner that does not answer to the loss of its [`Run`] is ended, but not in the middle of the deletion that
//!   follows a committed outcome.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::bindings::podrun::task_runner::host::Directive;
use crate::durable::{self, NotDurable};
use crate::{Error, Event, Outcome};

/// How long a runner may go on deleting what it started after its outcome was committed and its run dropped.
const DELETION: Duration = Duration::from_secs(120);

/// A spawned call. Dropping it detaches: what it started goes on.
#[derive(Debug)]
pub struct Run {
    batches: mpsc::Receiver<Batch>,
    control: Control,
    task: JoinHandle<Result<Outcome, Error>>,
}

impl Run {
    /// Spawns `call`, which ends at the latest `patience` after the run was dropped.
    ///
    /// `outputs` is the folder that it puts output files in.
    pub(crate) fn spawn<F>(patience: Duration, outputs: Option<PathBuf>, call: impl FnOnce(Emitter) -> F) -> Self
    where
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        let (sender, batches) = mpsc::channel(1);
        let control = Control::default();
        let (watch, ended) = (sender.clone(), control.clone());
        let call = call(Emitter {
            batches: sender,
            control: control.clone(),
            handle: None,
            outputs,
        });
        let task = tokio::spawn(async move {
            let abandoned = async {
                watch.closed().await;
                tokio::time::sleep(patience).await;
                if ended.state.ended.load(Ordering::Relaxed) {
                    tokio::time::sleep(DELETION).await;
                }
            };
            tokio::select! {
                biased;
                outcome = call => outcome,
                () = abandoned => Err(Error::Other("the runner did not end after its run was dropped".to_owned())),
            }
        });
        Self { batches, control, task }
    }

    /// The next events; none once the call is over. Heartbeats are not delivered.
    ///
    /// The runner waits until a batch is committed, so there is no next one while the last is held. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// What cancels or detaches this run from elsewhere.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// See [`Control::cancel`].
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// See [`Control::detach`].
    pub fn detach(&self) {
        self.control.detach();
    }

    /// How it ended. To be asked once [`Run::next`] returned none; asked earlier, it detaches.
    pub async fn outcome(self) -> Result<Outcome, Error> {
        let Self {
            batches,
            control: _,
            task,
        } = self;
        drop(batches);
        task.await.unwrap_or_else(|error| {
            let what = if error.is_panic() {
                "the host's own code panicked"
            } else {
                "the runtime was shut down"
            };
            Err(Error::Other(format!("{what} before the call was over")))
        })
    }
}

/// Cancels or detaches a [`Run`] from elsewhere. What is asked for is told at the runner's next `emit`, a second later
/// at most.
#[derive(Clone, Default)]
pub struct Control {
    state: Arc<ControlState>,
}

#[derive(Default)]
struct ControlState {
    asked: AtomicU8,
    /// The outcome was committed.
    ended: AtomicBool,
}

impl Control {
    const CANCEL: u8 = 1;
    const DETACH: u8 = 2;

    /// Asks for the script to be stopped, its outputs to be collected, and the task to end as cancelled.
    pub fn cancel(&self) {
        self.state.asked.fetch_max(Self::CANCEL, Ordering::Relaxed);
    }

    /// Asks for the task to be left as it is, and for the call to end with [`Error::Detached`]. Wins over `cancel`.
    pub fn detach(&self) {
        self.state.asked.fetch_max(Self::DETACH, Ordering::Relaxed);
    }

    fn directive(&self) -> Directive {
        match self.state.asked.load(Ordering::Relaxed) {
            0 => Directive::Proceed,
            Self::CANCEL => Directive::Cancel,
            _ => Directive::Detach,
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Control").field(&self.directive()).finish()
    }
}

/// What happened, in order. Dropping it without [`Batch::commit`] detaches the run.
#[derive(Debug)]
#[must_use = "a batch that is not committed detaches its run"]
pub struct Batch {
    /// The events.
    pub events: Vec<Event>,
    /// The position after them, to be stored in the same transaction.
    pub cursor: Option<String>,
    committed: oneshot::Sender<()>,
}

impl Batch {
    /// Says that the events and the cursor are stored: the runner goes on.
    pub fn commit(self) {
        // The runner may be gone by now, which `Run::outcome` says.
        let _ = self.committed.send(());
    }
}

/// The other end of a [`Run`].
pub(crate) struct Emitter {
    batches: mpsc::Sender<Batch>,
    control: Control,
    /// From the `started` event.
    handle: Option<String>,
    /// Where the runner puts output files.
    outputs: Option<PathBuf>,
}

/// Why a runner must not go on from its outcome, which would be to delete what it started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutcomeLost {
    #[error("the outcome of task `{handle}` was not committed")]
    Uncommitted { handle: String },
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

impl Emitter {
    pub(crate) async fn emit(&mut self, events: Vec<Event>, cursor: Option<String>) -> Result<Directive, OutcomeLost> {
        if !events.is_empty() {
            let mut ended = false;
            for event in &events {
                match event {
                    Event::Started(handle) => self.handle = Some(handle.clone()),
                    Event::Ended(outcome) => {
                        ended = true;
                        if let Some(outputs) = &self.outputs {
                            durable::keep(outputs, &outcome.files).await?;
                        }
                    }
                    _ => {}
                }
            }
            if self.deliver(events, cursor).await {
                self.control.state.ended.fetch_or(ended, Ordering::Relaxed);
            } else {
                self.control.detach();
                if ended {
                    return Err(OutcomeLost::Uncommitted {
                        handle: self.handle.clone().unwrap_or_default(),
                    });
                }
            }
        } else if self.batches.is_closed() {
            self.control.detach();
        }
        Ok(self.control.directive())
    }

    /// True once the events were committed.
    async fn deliver(&self, events: Vec<Event>, cursor: Option<String>) -> bool {
        let (committed, answer) = oneshot::channel();
        self.batches
            .send(Batch {
                events,
                cursor,
                committed,
            })
            .await
            .is_ok()
            && answer.await.is_ok()
    }
}
