//! Flows as data, with what is expected of them: the outcome, log lines, outputs, and the pods that result.
//!
//! A case is a folder with `flow.yaml`, `expect.yaml` ([`Expectation`]) and whatever else the flow needs: `defaults.yaml`
//! holds the operator's defaults, other files lie beside the flow. In `expect.yaml` and `defaults.yaml`, `%{name}` stands for
//! what only this cluster knows ([`Stage::words`]); flows are run as they are written.

mod case;
mod compare;
mod expectation;
mod observed;
mod stage;
mod watcher;

pub use case::{Case, cases};
pub use expectation::{Account, Expectation, Interrupt, Refused, TaskExpectation};
pub use observed::{Ended, Line, Observed};
pub use stage::Stage;
pub use watcher::{Seen, Watcher};
