//! Log lines, for `podrun logs`.

use rusqlite::params;

use super::{Journal, failed};
use crate::error::Error;

/// A line that a script wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredLine {
    /// Grows from line to line over the whole journal.
    pub(crate) sequence: i64,
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) time: i64,
    pub(crate) level: String,
    pub(crate) source: Option<String>,
    pub(crate) partial: bool,
    pub(crate) lossy: bool,
    pub(crate) message: String,
}

impl Journal {
    /// At most `limit` lines of an execution after the line `after`, in the order in which they came.
    pub(crate) fn lines(&self, execution: &str, after: i64, limit: u32) -> Result<Vec<StoredLine>, Error> {
        let action = "read log lines";
        let sql = "SELECT lines.sequence, task_runs.task, task_runs.attempt, lines.time, lines.level, lines.source,
                          lines.partial, lines.lossy, lines.message
                   FROM lines JOIN task_runs ON task_runs.id = lines.task_run
                   WHERE task_runs.execution = ?1 AND lines.sequence > ?2 ORDER BY lines.sequence LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed(action))?;
        let rows = statement
            .query_map(params![execution, after, limit], |row| {
                Ok(StoredLine {
                    sequence: row.get(0)?,
                    task: row.get(1)?,
                    attempt: row.get(2)?,
                    time: row.get(3)?,
                    level: row.get(4)?,
                    source: row.get(5)?,
                    partial: row.get(6)?,
                    lossy: row.get(7)?,
                    message: row.get(8)?,
                })
            })
            .map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }
}
