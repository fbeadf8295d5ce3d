//! What to say about a runner that ended without an answer.

use wasmtime_wasi::I32Exit;

use crate::Error;
use crate::clock::DeadlinePassed;
use crate::limits::MemoryLimitReached;
use crate::run::OutcomeLost;
use crate::state::State;

/// The error for a call that wasmtime ended.
pub(crate) fn explain(call: &'static str, error: wasmtime::Error, state: &State) -> Error {
    match error.downcast_ref() {
        Some(OutcomeLost::Uncommitted { handle }) => return Error::Detached(handle.clone()),
        Some(OutcomeLost::NotDurable(why)) => return Error::Other(why.to_string()),
        None => {}
    }
    let reason = reason(&error, state.panicked_at());
    Error::Trap {
        call,
        reason,
        source: error.into(),
    }
}

fn reason(error: &wasmtime::Error, panicked_at: Option<String>) -> String {
    if let Some(limit) = error.downcast_ref::<MemoryLimitReached>() {
        limit.to_string()
    } else if let Some(deadline) = error.downcast_ref::<DeadlinePassed>() {
        deadline.to_string()
    } else if let Some(I32Exit(code)) = error.downcast_ref() {
        format!("it exited with code {code}")
    } else if let Some(place) = panicked_at {
        format!("it panicked at {place}; what it said is logged at debug level")
    } else {
        format!("it crashed: {}", error.root_cause())
    }
}
