//! The agent's own log: lines on standard error, each with its time.

use std::io::Write as _;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::protocol::Moment;

struct Journal;

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("podrun_agent")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            // One write per line keeps the lines of several processes apart. Nobody may be there to read it.
            let line = format!("{} {level}: {}\n", Moment::now(), record.args());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Begins to log.
pub fn begin() {
    if log::set_logger(&Journal).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
