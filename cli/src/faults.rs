//! Crash barriers: named points around every commit of the journal at which a test can make the process die.
//!
//! `PODRUN_CRASH_AT=after-started` aborts at the first pass of that point, `after-batch:3` at the third. Only a build
//! with the `faults` feature looks at the variable; otherwise [`reach`] is empty.

/// A point that a test can crash at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeExecution,
    AfterExecution,
    /// Around the transaction that holds other settings.
    BeforeSettings,
    AfterSettings,
    /// Around the wish of `podrun kill`.
    BeforeStop,
    AfterStop,
    /// A task is rendered and its inputs are staged; the journal does not know it yet.
    BeforePrepared,
    AfterPrepared,
    /// Around forgetting a task of which nothing was created.
    BeforeForgotten,
    AfterForgotten,
    /// Around the transaction of a task that needs no runner.
    BeforeSettled,
    AfterSettled,
    /// Around the transaction that holds which way a task goes.
    BeforeDecided,
    AfterDecided,
    /// Around the transaction that holds the handle: nothing is created before it.
    BeforeStarted,
    AfterStarted,
    /// Around a transaction of log lines, outputs, metrics and their cursor.
    BeforeBatch,
    AfterBatch,
    /// Around the transaction that holds the outcome: nothing is deleted before it.
    BeforeEnded,
    AfterEnded,
    /// The batch with the outcome is committed to the runner, which deletes the pod now.
    AfterEndedCommitted,
    /// Around the note that nothing is left in the cluster.
    BeforeCleaned,
    AfterCleaned,
    /// Around copying output files to the folder of `--outputs`.
    BeforePublished,
    /// A copy is complete under its temporary name.
    AmidPublished,
    AfterPublished,
    /// Around the execution's last transaction.
    BeforeFinished,
    AfterFinished,
}

/// Die here if a test asked for it.
#[cfg(not(feature = "faults"))]
pub(crate) fn reach(_point: Point) {}

/// Die here if a test asked for it.
#[cfg(feature = "faults")]
pub(crate) fn reach(point: Point) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static PASSES: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("PODRUN_CRASH_AT") else {
        return;
    };
    let (name, pass) = match wanted.split_once(':') {
        Some((name, pass)) => (name, pass.parse().unwrap_or(1)),
        None => (wanted.as_str(), 1),
    };
    // `AfterStarted` is `after-started` in the variable.
    let mut own = String::new();
    for (index, letter) in format!("{point:?}").char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            own.push('-');
        }
        own.push(letter.to_ascii_lowercase());
    }
    if own == name && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == pass {
        std::process::abort();
    }
}
