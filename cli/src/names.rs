//! The contract's names of its enumerations, as the journal and `--json` spell them.

use podrun_host::{Level, LogSource, Phase, Status};

pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Staging => "staging",
        Phase::Running => "running",
        Phase::Collecting => "collecting",
        Phase::Terminating => "terminating",
    }
}

pub(crate) fn level(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

pub(crate) fn source(source: LogSource) -> &'static str {
    match source {
        LogSource::Stdout => "stdout",
        LogSource::Stderr => "stderr",
    }
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Succeeded => "succeeded",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::TimedOut => "timed-out",
        Status::Lost => "lost",
    }
}
