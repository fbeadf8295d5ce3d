//! `podrun logs`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::args;
use crate::document::listed;
use crate::error::{Ended, Error};
use crate::journal::{Journal, State};
use crate::lock::holder;
use crate::report::{self, Report};
use crate::session;
use crate::state::StateDir;
use crate::ui::Ui;

/// Lines read at once.
const PAGE: u32 = 1000;

/// How often a followed journal is read.
const LOOK: Duration = Duration::from_millis(200);

/// Print the log lines of an execution, each once.
pub(crate) async fn logs(arguments: &args::Logs, ui: &mut dyn Ui) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let journal = Journal::open(&state.journal())?;
    session::execution(&journal, &arguments.id)?;
    let mut after = 0;
    loop {
        // Asked before the lines are read, so that no line written before the end is missed.
        let running = session::execution(&journal, &arguments.id)?.state == State::Running;
        let driven = holder(state.execution(&arguments.id).lock()).is_some();
        loop {
            let lines = journal.lines(&arguments.id, after, PAGE)?;
            let Some(last) = lines.last() else { break };
            after = last.sequence;
            let wanted = |task: &str| arguments.task.as_deref().is_none_or(|wanted| is_of(task, wanted));
            let reports: Vec<Report> = lines
                .into_iter()
                .filter(|line| wanted(&line.task))
                .filter_map(|line| report::of_line(line).map(Report::Log))
                .collect();
            ui.show(&reports);
        }
        if !arguments.follow || !running {
            return known(&journal, arguments);
        }
        if !driven {
            let message = format!(
                "nobody drives this execution; to take it up: podrun attach {}",
                arguments.id
            );
            ui.show(&[Report::Warning { message }]);
            return Ok(Ended::Succeeded);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a task run is of that task, or of one of its rounds.
fn is_of(task: &str, wanted: &str) -> bool {
    task.strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A mistake if the task that was asked for has not run.
fn known(journal: &Journal, arguments: &args::Logs) -> Result<Ended, Error> {
    let (execution, Some(wanted)) = (&arguments.id, &arguments.task) else {
        return Ok(Ended::Succeeded);
    };
    let runs = journal.task_runs(execution)?;
    let names: BTreeSet<&str> = runs.iter().map(|run| run.attempt.task.as_str()).collect();
    if names.iter().any(|name| is_of(name, wanted)) {
        return Ok(Ended::Succeeded);
    }
    let names: Vec<&str> = names.into_iter().collect();
    Err(Error::Usage(match names[..] {
        [] => format!("--task: no task of execution `{execution}` has run"),
        _ => format!(
            "--task: no task `{wanted}` of execution `{execution}` has run: those that have are {}",
            listed(&names)
        ),
    }))
}
