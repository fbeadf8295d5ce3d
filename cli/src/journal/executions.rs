//! Executions: which flow, which inputs, how it went.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Durability, Journal, failed, json, now, to_json};
use crate::access::Access;
use crate::error::Error;
use crate::faults::{Point, reach};
use crate::inputs::StoredInput;

/// How an execution stands. One that is running and that no process drives was interrupted or detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Succeeded,
    /// It went on to its end although a task failed that may.
    Warned,
    Failed,
    Cancelled,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    fn from_name(name: &str) -> Self {
        [Self::Succeeded, Self::Warned, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|state| state.name() == name)
            .unwrap_or(Self::Running)
    }
}

/// What the command line said, so that another terminal can go on the same way. Paths only, no content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) defaults: Option<PathBuf>,
    /// The component, if one was named.
    pub(crate) runner: Option<PathBuf>,
    pub(crate) outputs: Option<PathBuf>,
    /// Where secrets and values are; not what they are.
    #[serde(default)]
    pub(crate) secrets: Option<PathBuf>,
    #[serde(default)]
    pub(crate) kv: Option<PathBuf>,
    /// The folder with those of the files of namespaces, if one was named.
    #[serde(default)]
    pub(crate) namespace_files: Option<PathBuf>,
    pub(crate) access: Access,
}

/// An execution to begin.
#[derive(Clone, Debug)]
pub(crate) struct NewExecution<'a> {
    pub(crate) id: &'a str,
    pub(crate) flow: &'a str,
    pub(crate) namespace: &'a str,
    /// The flow's file.
    pub(crate) source: &'a Path,
    /// What the flow says, without credentials.
    pub(crate) identity: &'a serde_json::Value,
    pub(crate) settings: &'a Settings,
    pub(crate) inputs: &'a [StoredInput],
}

/// An execution as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) id: String,
    pub(crate) flow: String,
    pub(crate) namespace: String,
    pub(crate) source: PathBuf,
    pub(crate) identity: serde_json::Value,
    pub(crate) settings: Settings,
    pub(crate) inputs: Vec<StoredInput>,
    pub(crate) state: State,
    pub(crate) message: Option<String>,
    pub(crate) started: i64,
    pub(crate) finished: Option<i64>,
}

const COLUMNS: &str = "id, flow, namespace, source, identity, settings, inputs, state, message, started, finished";

impl Journal {
    /// Begin an execution. Fails if there is one of that id.
    pub(crate) fn begin(&mut self, new: &NewExecution<'_>) -> Result<(), Error> {
        let settings = to_json(new.settings)?;
        let inputs = to_json(new.inputs)?;
        reach(Point::BeforeExecution);
        self.transaction("begin the execution", Durability::Disk, |transaction| {
            transaction.execute(
                "INSERT INTO executions (id, flow, namespace, source, identity, settings, inputs, state, started)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    new.id,
                    new.flow,
                    new.namespace,
                    new.source.display().to_string(),
                    new.identity.to_string(),
                    settings,
                    inputs,
                    State::Running.name(),
                    now()
                ],
            )
        })?;
        reach(Point::AfterExecution);
        Ok(())
    }

    /// The execution of that id.
    pub(crate) fn execution(&self, id: &str) -> Result<Option<Execution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM executions WHERE id = ?1");
        self.connection
            .query_row(&sql, [id], read)
            .optional()
            .map_err(failed("read the execution"))
    }

    /// The executions in one state, or all of them; the newest first.
    pub(crate) fn executions(&self, state: Option<State>) -> Result<Vec<Execution>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM executions WHERE ?1 IS NULL OR state = ?1 ORDER BY started DESC, id");
        let action = "list executions";
        let mut statement = self.connection.prepare(&sql).map_err(failed(action))?;
        let rows = statement
            .query_map([state.map(State::name)], read)
            .map_err(failed(action))?;
        rows.collect::<Result<_, _>>().map_err(failed(action))
    }

    /// Note how an execution ended.
    pub(crate) fn finish(&mut self, id: &str, state: State, message: Option<&str>) -> Result<(), Error> {
        reach(Point::BeforeFinished);
        self.transaction("finish the execution", Durability::Disk, |transaction| {
            transaction.execute(
                "UPDATE executions SET state = ?2, message = ?3, finished = ?4, stop = 0 WHERE id = ?1",
                params![id, state.name(), message, now()],
            )
        })?;
        reach(Point::AfterFinished);
        Ok(())
    }

    /// Remember other settings for an execution that goes on.
    pub(crate) fn set_settings(&mut self, id: &str, settings: &Settings) -> Result<(), Error> {
        let settings = to_json(settings)?;
        reach(Point::BeforeSettings);
        self.transaction("store the settings", Durability::Disk, |transaction| {
            transaction.execute(
                "UPDATE executions SET settings = ?2 WHERE id = ?1",
                params![id, settings],
            )
        })?;
        reach(Point::AfterSettings);
        Ok(())
    }

    /// Ask whoever drives the execution to stop it.
    pub(crate) fn request_stop(&mut self, id: &str) -> Result<(), Error> {
        reach(Point::BeforeStop);
        self.transaction("ask for a stop", Durability::Disk, |transaction| {
            transaction.execute("UPDATE executions SET stop = 1 WHERE id = ?1", [id])
        })?;
        reach(Point::AfterStop);
        Ok(())
    }

    /// Whether somebody asked for the execution to be stopped.
    pub(crate) fn stop_requested(&self, id: &str) -> Result<bool, Error> {
        let stop = self
            .connection
            .query_row("SELECT stop FROM executions WHERE id = ?1", [id], |row| row.get(0));
        stop.optional()
            .map(|stop| stop.unwrap_or(false))
            .map_err(failed("look for a stop"))
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Execution> {
    let source: String = row.get(3)?;
    let state: String = row.get(7)?;
    Ok(Execution {
        id: row.get(0)?,
        flow: row.get(1)?,
        namespace: row.get(2)?,
        source: source.into(),
        identity: json(row, 4)?,
        settings: json(row, 5)?,
        inputs: json(row, 6)?,
        state: State::from_name(&state),
        message: row.get(8)?,
        started: row.get(9)?,
        finished: row.get(10)?,
    })
}
