//! `podrun logs`.

use std::time::Duration;

use crate::args;
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
            let wanted = |task: &str| arguments.task.as_deref().is_none_or(|wanted| wanted == task);
            let reports: Vec<Report> = lines
                .into_iter()
                .filter(|line| wanted(&line.task))
                .filter_map(|line| report::of_line(line).map(Report::Log))
                .collect();
            ui.show(&reports);
        }
        if !arguments.follow || !running {
            return Ok(Ended::Succeeded);
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
