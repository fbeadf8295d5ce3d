//! The journal's tables.

use std::path::Path;

use super::{Durability, Journal, failed};
use crate::error::Error;

/// Raised by every change of the tables; a newer journal is refused.
const VERSION: i32 = 2;

const TABLES: &str = "
CREATE TABLE executions (
  id TEXT PRIMARY KEY,
  flow TEXT NOT NULL,
  namespace TEXT NOT NULL,
  source TEXT NOT NULL,
  identity TEXT NOT NULL,
  settings TEXT NOT NULL,
  inputs TEXT NOT NULL,
  state TEXT NOT NULL,
  message TEXT,
  started INTEGER NOT NULL,
  finished INTEGER,
  stop INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE task_runs (
  id INTEGER PRIMARY KEY,
  execution TEXT NOT NULL REFERENCES executions (id),
  task TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  request TEXT NOT NULL,
  handle TEXT,
  cursor TEXT,
  phase TEXT,
  outcome TEXT,
  cleaned INTEGER NOT NULL DEFAULT 0,
  UNIQUE (execution, task, attempt)
) STRICT;
CREATE TABLE lines (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  task_run INTEGER NOT NULL REFERENCES task_runs (id),
  time INTEGER NOT NULL,
  level TEXT NOT NULL,
  source TEXT,
  partial INTEGER NOT NULL,
  lossy INTEGER NOT NULL,
  message TEXT NOT NULL
) STRICT;
CREATE INDEX lines_by_task_run ON lines (task_run, sequence);
CREATE TABLE outputs (
  task_run INTEGER NOT NULL REFERENCES task_runs (id),
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (task_run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE metrics (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  task_run INTEGER NOT NULL REFERENCES task_runs (id),
  name TEXT NOT NULL,
  value TEXT NOT NULL
) STRICT;
CREATE TABLE phases (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  task_run INTEGER NOT NULL REFERENCES task_runs (id),
  phase TEXT NOT NULL,
  time INTEGER NOT NULL
) STRICT;
";

/// What version 2 added.
const DECISIONS: &str = "
CREATE TABLE decisions (
  execution TEXT NOT NULL REFERENCES executions (id),
  task TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (execution, task, name)
) STRICT, WITHOUT ROWID;
";

/// Bring the tables to this version.
pub(super) fn prepare(journal: &mut Journal, path: &Path) -> Result<(), Error> {
    let version =
        |connection: &rusqlite::Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let found: i32 = version(&journal.connection).map_err(failed("read the version"))?;
    if found > VERSION {
        return Err(Error::Usage(format!(
            "journal `{}` was written by a newer podrun: use that one, or set PODRUN_STATE_DIR to another folder",
            path.display()
        )));
    }
    if found == VERSION {
        return Ok(());
    }
    journal.transaction("create the tables", Durability::Disk, |transaction| {
        // Another process may have been quicker.
        let found = version(transaction)?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
        }
        if found < 2 {
            transaction.execute_batch(DECISIONS)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        Ok(())
    })
}
