//! Log lines, for `podrun logs`.

use rusqlite::params;
use serde_json::{Value, json};

use super::{Attempt, Journal, failed};
use crate::at::task_of;
use crate::error::Error;
use crate::report::{is_success, time};

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
    /// Whether an attempt wrote a line that ends with that text.
    pub(crate) fn holds_line(&self, task_run: i64, end: &str) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM lines WHERE task_run = ?1 AND substr(message, -length(?2)) = ?2)";
        self.connection
            .query_row(sql, params![task_run, end], |row| row.get(0))
            .map_err(failed("look for a line"))
    }

    /// What scripts logged as errors, and what tasks failed of, in the order in which it came.
    pub(crate) fn errors(&self, execution: &str) -> Result<Value, Error> {
        let action = "read errors";
        let sql = "SELECT task_runs.task, task_runs.attempt, lines.time, lines.message
                   FROM lines JOIN task_runs ON task_runs.id = lines.task_run
                   WHERE execution = ?1 AND lines.level = 'error' ORDER BY lines.sequence";
        let mut statement = self.connection.prepare(sql).map_err(failed(action))?;
        let rows = statement
            .query_map([execution], |row| {
                Ok((
                    row.get(2)?,
                    entry(
                        &row.get::<_, String>(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        &row.get::<_, String>(3)?,
                    ),
                ))
            })
            .map_err(failed(action))?;
        let mut all: Vec<(i64, Value)> = rows.collect::<Result<_, _>>().map_err(failed(action))?;
        for task_run in self.task_runs(execution)? {
            let Some(outcome) = task_run.outcome.filter(|outcome| !is_success(outcome)) else {
                continue;
            };
            let Attempt { task, number, .. } = &task_run.attempt;
            let time = outcome
                .finished
                .and_then(|time| i64::try_from(time).ok())
                .unwrap_or_default();
            all.push((time, entry(task, *number, time, &outcome.message)));
        }
        all.sort_by_key(|(time, _)| *time);
        Ok(all.into_iter().map(|(_, entry)| entry).collect())
    }

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

/// An error as expressions see it.
fn entry(task: &str, attempt: u32, milliseconds: i64, message: &str) -> Value {
    json!({
        "taskId": task_of(task),
        "attemptNumber": attempt,
        "timestamp": time(milliseconds),
        "level": "ERROR",
        "message": message,
    })
}
