//! The journal: what happened, so that a killed run goes on where it was.
//!
//! SQLite in write-ahead mode. What is promised to the runner is durable when the call returns: a handle, an outcome,
//! a value that the script published. Log lines and their cursor share one transaction, but it is not forced to the
//! disk: if the machine loses power they are lost together, and the runner repeats exactly them.
//!
//! No credential is ever written here: of a flow only its identity is kept, which leaves out every runner's config, and
//! of how to reach the cluster only the paths of files. Inputs are kept as they were given.

mod executions;
mod lines;
mod schema;
mod task_runs;

pub(crate) use executions::{Execution, NewExecution, Settings, State};
pub(crate) use lines::StoredLine;
pub(crate) use task_runs::{Attempt, TaskRun};

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    connection: Connection,
}

/// Whether a transaction survives a loss of power, or only the death of the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Disk,
    Process,
}

impl Journal {
    /// Open the journal file, and create it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let action = "open a table";
        let connection = Connection::open(path).map_err(failed(action))?;
        connection
            .busy_timeout(Duration::from_secs(10))
            .map_err(failed(action))?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed(action))?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(failed(action))?;
        let mut journal = Self { connection };
        schema::prepare(&mut journal, path)?;
        Ok(journal)
    }

    /// Run `change` in one transaction.
    fn transaction<T>(
        &mut self,
        action: &'static str,
        durability: Durability,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mode = match durability {
            Durability::Disk => "FULL",
            Durability::Process => "NORMAL",
        };
        self.connection
            .pragma_update(None, "synchronous", mode)
            .map_err(failed(action))?;
        // Taking the write lock at the start avoids a deadlock of two readers that both want to write.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed(action))?;
        let value = change(&transaction).map_err(failed(action))?;
        transaction.commit().map_err(failed(action))?;
        Ok(value)
    }
}

fn failed(action: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
    move |source| Error::Journal { action, source }
}

/// A value as a column of JSON.
fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("failed to store a value: {error}")))
}

/// A column of JSON as a value.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
pub(crate) mod tests;
