//! What is counted for metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use crate::protocol::Reason;

/// What happened since the start, for metrics.
#[derive(Debug, Default)]
pub struct Totals {
    /// Tasks accepted.
    pub created: AtomicU64,
    /// Tasks started.
    pub started: AtomicU64,
    /// Tasks ended, by reason.
    pub ended: Mutex<std::collections::BTreeMap<String, u64>>,
}

impl Totals {
    pub(super) fn count_end(&self, reason: Reason) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry(format!("{reason:?}")).or_default() += 1;
    }
}
