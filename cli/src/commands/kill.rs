//! `podrun kill`.

use std::time::{Duration, Instant};

use crate::args;
use crate::at::task_of;
use crate::engine;
use crate::error::{Ended, Error};
use crate::journal::{Execution, Journal, State};
use crate::lock::{Claim, holder};
use crate::report::Report;
use crate::session;
use crate::state::{ExecutionDir, StateDir};
use crate::ui::Ui;

/// How often it is looked whether the process that drives the execution has stopped it.
const LOOK: Duration = Duration::from_millis(200);

/// After how long it is said who is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a script has to end by itself where nobody says.
const GRACE: u32 = 30;

/// How long a process may take beyond the script's own time to collect its files and to clean up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stop an execution: through the process that drives it if there is one, else by ourselves.
pub(crate) async fn kill(arguments: &args::Kill, ui: &mut dyn Ui) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let mut journal = Journal::open(&state.journal())?;
    let id = &arguments.id;
    let execution = session::execution(&journal, id)?;
    let folder = state.execution(id);
    if execution.state == State::Running && holder(folder.lock()).is_some() {
        journal.request_stop(id)?;
        if arguments.grace.is_some() {
            // The process that drives it stops the script as the contract's `cancel` says, which knows no grace.
            let message = "another process drives this execution and stops it with the runner's own grace, not with \
                           `--grace`";
            ui.show(&[Report::Warning {
                message: message.to_owned(),
            }]);
        }
        let patience = PATIENCE + Duration::from_secs(arguments.grace.unwrap_or(GRACE).into());
        wait(id, &folder, &journal, patience, ui).await?;
        let execution = session::execution(&journal, id)?;
        if execution.state != State::Running {
            // That process may not be gone yet, but it does no more in the cluster.
            remove(&execution, arguments, &state, &mut journal).await?;
            show_end(&execution, ui);
            return Ok(Ended::Succeeded);
        }
        // It went away before it saw the wish: what is left is ours to do.
    }
    folder.create()?;
    let claim = Claim::take(&folder.lock(), id)?;
    remove(&session::execution(&journal, id)?, arguments, &state, &mut journal).await?;
    let execution = session::execution(&journal, id)?;
    if execution.state == State::Running {
        journal.finish(id, State::Cancelled, Some("stopped by `podrun kill`"))?;
    }
    show_end(&session::execution(&journal, id)?, ui);
    drop(claim);
    Ok(Ended::Succeeded)
}

/// Wait until nobody drives the execution any more, or it has ended.
async fn wait(
    id: &str,
    folder: &ExecutionDir,
    journal: &Journal,
    patience: Duration,
    ui: &mut dyn Ui,
) -> Result<(), Error> {
    let begin = Instant::now();
    let mut told = false;
    while let Some(holder) = holder(folder.lock()) {
        if session::execution(journal, id)?.state != State::Running {
            break;
        }
        let waited = begin.elapsed();
        if waited >= patience {
            return Err(Error::Conflict(format!(
                "{holder} has not stopped execution `{id}` within {} s, and may be collecting its files: wait for its end, \
                 or end that process and run `podrun kill {id}` again",
                patience.as_secs()
            )));
        }
        if waited >= SILENCE && !told {
            told = true;
            let message = format!("waiting until {holder}, which drives this execution, has stopped it");
            ui.show(&[Report::Warning { message }]);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Remove everything that the execution may have left in the cluster.
async fn remove(
    execution: &Execution,
    arguments: &args::Kill,
    state: &StateDir,
    journal: &mut Journal,
) -> Result<(), Error> {
    let left: Vec<_> = journal
        .task_runs(&execution.id)?
        .into_iter()
        .filter(|task_run| !task_run.cleaned && task_run.handle.is_some())
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    let given = &arguments.access;
    let runner = given.runner.as_deref().or(execution.settings.runner.as_deref());
    let runner = session::load_runner(runner).await?;
    let access = session::access(given, Some(&execution.settings.access))?;
    for task_run in left {
        // A cluster that the caller names is meant; otherwise the flow's own file says how to reach the cluster.
        let target = if given.kubeconfig.is_some() {
            access.target()?
        } else {
            let settings = &execution.settings;
            let renderer = session::renderer()?;
            let (renderer, _) = session::renderer_with(settings.secrets.as_deref(), settings.kv.as_deref(), &renderer)?;
            let flow = session::read_flow(&execution.source, execution.settings.defaults.as_deref(), &renderer)?;
            let folder = state.execution(&execution.id);
            let task = task_of(&task_run.attempt.task);
            let Some(declared) = flow.scripts().into_iter().find(|declared| declared.step.id == task) else {
                return Err(Error::Conflict(format!(
                    "`{}` has no task `{task}` any more, so its cluster is not known: add `--kubeconfig FILE`",
                    execution.source.display()
                )));
            };
            let scope = match declared.waits(&flow.texts_of_variables()) {
                true => engine::renew(&flow, &renderer, execution, &folder, journal).await?,
                false => engine::scope_so_far(&flow, &renderer, execution, &folder, journal)?,
            };
            engine::target(declared, &scope, &renderer, &access)?
        };
        if let Some(handle) = &task_run.handle {
            let killed = runner.kill(&target, handle, arguments.grace).await;
            killed.map_err(|source| Error::Runner {
                task: Some(task_run.attempt.task.clone()),
                source,
            })?;
        }
        journal.set_cleaned(task_run.id)?;
    }
    Ok(())
}

fn show_end(execution: &Execution, ui: &mut dyn Ui) {
    ui.show(&[Report::ExecutionEnded {
        id: execution.id.clone(),
        state: execution.state.name(),
        message: execution.message.clone(),
        outputs: serde_json::Map::new(),
    }]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{self, Verbosity};

    #[tokio::test]
    async fn the_wait_has_an_end_and_says_who_does_not_stop() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state")).unwrap();
        let mut journal = Journal::open(&state.journal()).unwrap();
        crate::journal::tests::begin(&mut journal, "x");
        let folder = state.execution("x");
        folder.create().unwrap();
        let _claim = Claim::take(&folder.lock(), "x").unwrap();
        let mut ui = ui::choose(false, Verbosity::Quiet);
        let waited = wait("x", &folder, &journal, Duration::ZERO, ui.as_mut()).await;
        let message = waited.unwrap_err().to_string();
        let me = format!("process {}", std::process::id());
        assert!(message.contains(&me) && message.contains("podrun kill x"), "{message}");
        journal.finish("x", State::Cancelled, None).unwrap();
        wait("x", &folder, &journal, Duration::ZERO, ui.as_mut()).await.unwrap();
    }
}
