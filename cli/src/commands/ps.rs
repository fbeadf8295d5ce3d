//! `podrun ps`.

use std::io::Write;

use serde_json::json;

use crate::args;
use crate::error::{Ended, Error};
use crate::journal::{Execution, Journal, State, now};
use crate::lock::holder;
use crate::report;
use crate::state::StateDir;
use crate::ui::{duration, table};

/// How many ended executions are listed without `--all`.
const LATEST: usize = 10;

/// List executions.
pub(crate) fn ps(arguments: &args::Ps, json: bool) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let journal = Journal::open(&state.journal())?;
    let mut ended = 0;
    let mut rows = Vec::new();
    for execution in journal.executions(None)? {
        if execution.state != State::Running {
            ended += 1;
            if ended > LATEST && !arguments.all {
                continue;
            }
        }
        rows.push(row(&journal, &state, execution)?);
    }
    let mut out = crate::out::out();
    // A reader that has seen enough is no failure.
    let _ = if json {
        print_json(&mut out, &rows)
    } else {
        print_table(&mut out, &rows)
    };
    Ok(Ended::Succeeded)
}

struct Row {
    execution: Execution,
    state: String,
    holder: Option<String>,
    task: Option<String>,
    phase: Option<String>,
    handle: Option<String>,
}

fn row(journal: &Journal, state: &StateDir, execution: Execution) -> Result<Row, Error> {
    let holder = holder(state.execution(&execution.id).lock());
    let name = match (execution.state, &holder) {
        // Nobody drives it: it was interrupted, or somebody detached.
        (State::Running, None) => "unfinished".to_owned(),
        (state, _) => state.name().to_owned(),
    };
    let last = journal.task_runs(&execution.id)?.pop();
    Ok(Row {
        state: name,
        holder,
        task: last.as_ref().map(|last| last.attempt.task.clone()),
        phase: last.as_ref().and_then(|last| last.phase.clone()),
        handle: last.and_then(|last| last.handle),
        execution,
    })
}

fn print_json(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    for row in rows {
        let execution = &row.execution;
        let value = json!({
            "id": execution.id,
            "flow": execution.flow,
            "namespace": execution.namespace,
            "source": execution.source,
            "state": row.state,
            "message": execution.message,
            "task": row.task,
            "phase": row.phase,
            "handle": row.handle,
            "process": row.holder,
            "started": report::time(execution.started),
            "finished": execution.finished.map(report::time),
        });
        writeln!(out, "{value}")?;
    }
    Ok(())
}

fn print_table(out: &mut impl Write, rows: &[Row]) -> std::io::Result<()> {
    let mut cells = vec![
        ["ID", "FLOW", "STATE", "TASK", "PHASE", "AGE", "TOOK"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in rows {
        let execution = &row.execution;
        let dash = || "-".to_owned();
        cells.push(vec![
            execution.id.clone(),
            format!("{}.{}", execution.namespace, execution.flow),
            row.state.clone(),
            row.task.clone().unwrap_or_else(dash),
            row.phase.clone().unwrap_or_else(dash),
            duration(now() - execution.started),
            execution
                .finished
                .map_or_else(dash, |finished| duration(finished - execution.started)),
        ]);
    }
    out.write_all(table(&cells).as_bytes())
}
