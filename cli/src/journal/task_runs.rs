//! Attempts of tasks: what was asked for, what the runner said, and how far it was read.

use podrun_host::{Event, LogLine, Outcome, Task};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value};

use super::{Durability, Journal, failed, json, now, to_json};
use crate::error::Error;
use crate::faults::{Point, reach};
use crate::names;

/// Names one attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) execution: String,
    /// The name of the task's run, as [`crate::at::At::name`] makes it.
    pub(crate) task: String,
    pub(crate) number: u32,
}

/// An attempt as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct TaskRun {
    /// The journal's own name of it.
    pub(crate) id: i64,
    pub(crate) attempt: Attempt,
    /// Exactly what the runner got, so that it gets the same again; none for a task that needs no runner.
    pub(crate) request: Option<Task>,
    pub(crate) handle: Option<String>,
    pub(crate) cursor: Option<String>,
    pub(crate) phase: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    /// Nothing of it is left in the cluster.
    pub(crate) cleaned: bool,
}

const COLUMNS: &str = "id, execution, task, attempt, request, handle, cursor, phase, outcome, cleaned";

impl Journal {
    /// Remember a task whose inputs are staged. From here on a resume asks for exactly this task.
    pub(crate) fn prepare(&mut self, attempt: &Attempt, request: &Task) -> Result<TaskRun, Error> {
        let request_json = to_json(request)?;
        reach(Point::BeforePrepared);
        let id = self.transaction("store the task", Durability::Disk, |transaction| {
            transaction.execute(
                "INSERT INTO task_runs (execution, task, attempt, request) VALUES (?1, ?2, ?3, ?4)",
                params![attempt.execution, attempt.task, attempt.number, request_json],
            )?;
            Ok(transaction.last_insert_rowid())
        })?;
        reach(Point::AfterPrepared);
        Ok(TaskRun {
            id,
            attempt: attempt.clone(),
            request: Some(request.clone()),
            handle: None,
            cursor: None,
            phase: None,
            outcome: None,
            cleaned: false,
        })
    }

    /// Store a task that needed no runner: its end, the values it published and the lines it wrote, all or nothing.
    pub(crate) fn settle(
        &mut self,
        attempt: &Attempt,
        outcome: &Outcome,
        outputs: &Map<String, Value>,
        lines: &[LogLine],
    ) -> Result<(), Error> {
        let outcome = to_json(outcome)?;
        reach(Point::BeforeSettled);
        self.transaction("store the task's end", Durability::Disk, |transaction| {
            transaction.execute(
                "INSERT INTO task_runs (execution, task, attempt, request, outcome, cleaned)
                 VALUES (?1, ?2, ?3, 'null', ?4, 1)",
                params![attempt.execution, attempt.task, attempt.number, outcome],
            )?;
            let task_run = transaction.last_insert_rowid();
            for line in lines {
                record_line(transaction, task_run, line)?;
            }
            for (name, value) in outputs {
                transaction.execute(
                    "INSERT INTO outputs (task_run, name, value) VALUES (?1, ?2, ?3)",
                    params![task_run, name, value.to_string()],
                )?;
            }
            Ok(())
        })?;
        reach(Point::AfterSettled);
        Ok(())
    }

    /// What was decided for a task's run, for example which branch it takes.
    pub(crate) fn decision(&self, execution: &str, task: &str, name: &str) -> Result<Option<Value>, Error> {
        let sql = "SELECT value FROM decisions WHERE execution = ?1 AND task = ?2 AND name = ?3";
        self.connection
            .query_row(sql, params![execution, task, name], |row| json(row, 0))
            .optional()
            .map_err(failed("read a decision"))
    }

    /// Remember a decision, so that a resumed execution takes the same way whatever the clock says then.
    pub(crate) fn decide(&mut self, execution: &str, task: &str, name: &str, value: &Value) -> Result<(), Error> {
        reach(Point::BeforeDecided);
        self.transaction("store a decision", Durability::Disk, |transaction| {
            transaction.execute(
                "INSERT INTO decisions (execution, task, name, value) VALUES (?1, ?2, ?3, ?4)",
                params![execution, task, name, value.to_string()],
            )
        })?;
        reach(Point::AfterDecided);
        Ok(())
    }

    /// Forget a task of which nothing was created, so that a resume renders it anew.
    pub(crate) fn forget(&mut self, task_run: i64) -> Result<(), Error> {
        reach(Point::BeforeForgotten);
        self.transaction("forget the task", Durability::Disk, |transaction| {
            for table in ["lines", "outputs", "metrics", "phases"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE task_run = ?1"), [task_run])?;
            }
            transaction.execute("DELETE FROM task_runs WHERE id = ?1", [task_run])
        })?;
        reach(Point::AfterForgotten);
        Ok(())
    }

    /// An attempt of a task.
    pub(crate) fn task_run(&self, attempt: &Attempt) -> Result<Option<TaskRun>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM task_runs WHERE execution = ?1 AND task = ?2 AND attempt = ?3");
        self.connection
            .query_row(&sql, params![attempt.execution, attempt.task, attempt.number], read)
            .optional()
            .map_err(failed("read the task"))
    }

    /// Every attempt of an execution, in the order in which they were begun.
    pub(crate) fn task_runs(&self, execution: &str) -> Result<Vec<TaskRun>, Error> {
        let action = "read the tasks";
        let sql = format!("SELECT {COLUMNS} FROM task_runs WHERE execution = ?1 ORDER BY id");
        let mut statement = self.connection.prepare(&sql).map_err(failed(action))?;
        let rows = statement.query_map([execution], read).map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }

    /// The names of the runs that may be in the cluster and have not ended.
    pub(crate) fn going_on(&self, execution: &str) -> Result<Vec<String>, Error> {
        let action = "look for tasks that go on";
        let sql = "SELECT task FROM task_runs WHERE execution = ?1 AND handle IS NOT NULL AND outcome IS NULL";
        let mut statement = self.connection.prepare(sql).map_err(failed(action))?;
        let rows = statement
            .query_map([execution], |row| row.get(0))
            .map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }

    /// Store what the runner said and how far it was read, all or nothing.
    pub(crate) fn record(&mut self, task_run: i64, events: &[Event], cursor: Option<&str>) -> Result<(), Error> {
        let (durability, before, after) = if events.iter().any(|event| matches!(event, Event::Ended(_))) {
            (Durability::Disk, Point::BeforeEnded, Point::AfterEnded)
        } else if events.iter().any(|event| matches!(event, Event::Started(_))) {
            (Durability::Disk, Point::BeforeStarted, Point::AfterStarted)
        } else if events
            .iter()
            .any(|event| matches!(event, Event::Output(_) | Event::Metric(_)))
        {
            (Durability::Disk, Point::BeforeBatch, Point::AfterBatch)
        } else {
            (Durability::Process, Point::BeforeBatch, Point::AfterBatch)
        };
        let outcome = events.iter().find_map(|event| match event {
            Event::Ended(outcome) => Some(to_json(outcome)),
            _ => None,
        });
        let outcome = outcome.transpose()?;
        reach(before);
        self.transaction("store events", durability, |transaction| {
            for event in events {
                record_one(transaction, task_run, event, outcome.as_deref())?;
            }
            if let Some(cursor) = cursor {
                transaction.execute(
                    "UPDATE task_runs SET cursor = ?2 WHERE id = ?1",
                    params![task_run, cursor],
                )?;
            }
            Ok(())
        })?;
        reach(after);
        Ok(())
    }

    /// Note that nothing of the attempt is left in the cluster.
    pub(crate) fn set_cleaned(&mut self, task_run: i64) -> Result<(), Error> {
        reach(Point::BeforeCleaned);
        self.transaction("note the cleaning", Durability::Process, |transaction| {
            transaction.execute("UPDATE task_runs SET cleaned = 1 WHERE id = ?1", [task_run])
        })?;
        reach(Point::AfterCleaned);
        Ok(())
    }

    /// The values that the script published.
    pub(crate) fn outputs(&self, task_run: i64) -> Result<Map<String, Value>, Error> {
        let action = "read outputs";
        let mut statement = self
            .connection
            .prepare("SELECT name, value FROM outputs WHERE task_run = ?1")
            .map_err(failed(action))?;
        let rows = statement
            .query_map([task_run], |row| Ok((row.get(0)?, json(row, 1)?)))
            .map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }

    /// When each phase of an attempt was first seen: name and milliseconds since the Unix epoch.
    pub(crate) fn phases(&self, task_run: i64) -> Result<Vec<(String, i64)>, Error> {
        let action = "read phases";
        let sql = "SELECT phase, time FROM phases WHERE task_run = ?1 ORDER BY sequence";
        let mut statement = self.connection.prepare(sql).map_err(failed(action))?;
        let rows = statement
            .query_map([task_run], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }
}

fn record_one(
    transaction: &Transaction<'_>,
    task_run: i64,
    event: &Event,
    outcome: Option<&str>,
) -> rusqlite::Result<()> {
    match event {
        Event::Started(handle) => {
            transaction.execute(
                "UPDATE task_runs SET handle = ?2 WHERE id = ?1",
                params![task_run, handle],
            )?;
        }
        Event::Phase(phase) => record_phase(transaction, task_run, names::phase(*phase))?,
        Event::Log(line) => record_line(transaction, task_run, line)?,
        Event::Output(output) => {
            transaction.execute(
                "INSERT INTO outputs (task_run, name, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (task_run, name) DO UPDATE SET value = excluded.value",
                params![task_run, output.name, output.value],
            )?;
        }
        Event::Metric(metric) => {
            transaction.execute(
                "INSERT INTO metrics (task_run, name, value) VALUES (?1, ?2, ?3)",
                params![task_run, metric.name, metric.value],
            )?;
        }
        Event::Ended(_) => {
            transaction.execute(
                "UPDATE task_runs SET outcome = ?2 WHERE id = ?1",
                params![task_run, outcome],
            )?;
            record_phase(transaction, task_run, "ended")?;
        }
        // Not replayed by the runner either: they say what is the case now.
        Event::Progress(_) | Event::Diagnostic(_) => {}
    }
    Ok(())
}

/// A phase that is only repeated is not new.
fn record_phase(transaction: &Transaction<'_>, task_run: i64, phase: &str) -> rusqlite::Result<()> {
    let changed = transaction.execute(
        "UPDATE task_runs SET phase = ?2 WHERE id = ?1 AND (phase IS NULL OR phase <> ?2)",
        params![task_run, phase],
    )?;
    if changed > 0 {
        transaction.execute(
            "INSERT INTO phases (task_run, phase, time) VALUES (?1, ?2, ?3)",
            params![task_run, phase, now()],
        )?;
    }
    Ok(())
}

fn record_line(transaction: &Transaction<'_>, task_run: i64, line: &LogLine) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO lines (task_run, time, level, source, partial, lossy, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    statement.execute(params![
        task_run,
        i64::try_from(line.time).unwrap_or(i64::MAX),
        names::level(line.level),
        line.source.map(names::source),
        line.partial,
        line.lossy,
        line.message
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<TaskRun> {
    let outcome: Option<String> = row.get(8)?;
    Ok(TaskRun {
        id: row.get(0)?,
        attempt: Attempt {
            execution: row.get(1)?,
            task: row.get(2)?,
            number: row.get(3)?,
        },
        request: json(row, 4)?,
        handle: row.get(5)?,
        cursor: row.get(6)?,
        phase: row.get(7)?,
        outcome: if outcome.is_some() { Some(json(row, 8)?) } else { None },
        cleaned: row.get(9)?,
    })
}
