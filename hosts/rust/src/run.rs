//! A call of the contract's `run` or `attach` that is under way.

use crate::{Error, Event, Outcome};

/// A spawned call. Dropping it detaches: what it started goes on.
#[derive(Debug)]
pub struct Run {
    control: Control,
}

impl Run {
    /// The next events; none once the call is over.
    pub async fn next(&mut self) -> Option<Batch> {
        None
    }

    /// What cancels or detaches this run from elsewhere.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Asks for the task to be stopped.
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// Asks for the task to be left as it is.
    pub fn detach(&self) {
        self.control.detach();
    }

    /// How it ended; to be asked once [`Run::next`] returned none.
    pub async fn outcome(self) -> Result<Outcome, Error> {
        Err(Error::Other("running is not built yet".to_owned()))
    }
}

/// Cancels or detaches a [`Run`] from elsewhere.
#[derive(Clone, Debug)]
pub struct Control;

impl Control {
    /// Asks for the task to be stopped.
    pub fn cancel(&self) {}

    /// Asks for the task to be left as it is.
    pub fn detach(&self) {}
}

/// What happened, in order.
#[derive(Debug)]
pub struct Batch {
    /// The events.
    pub events: Vec<Event>,
    /// The position after them.
    pub cursor: Option<String>,
}

impl Batch {
    /// Says that the events and the cursor are stored.
    pub fn commit(self) {}
}
