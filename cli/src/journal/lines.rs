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
        // Lines of one execution lie close together, so walking the table between its first and its last one is cheaper
        // than sorting what an index finds, for every page anew.
        let sql = "WITH ends AS (
                     SELECT (SELECT min(sequence) FROM lines WHERE task_run = task_runs.id) AS first,
                            (SELECT max(sequence) FROM lines WHERE task_run = task_runs.id) AS last
                     FROM task_runs WHERE execution = ?1)
                   SELECT lines.sequence, task_runs.task, task_runs.attempt, lines.time, lines.level, lines.source,
                          lines.partial, lines.lossy, lines.message
                   FROM lines NOT INDEXED CROSS JOIN task_runs
                   WHERE lines.sequence > max(?2, (SELECT min(first) FROM ends) - 1)
                     AND lines.sequence <= (SELECT max(last) FROM ends)
                     AND task_runs.id = lines.task_run AND task_runs.execution = ?1
                   ORDER BY lines.sequence LIMIT ?3";
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
