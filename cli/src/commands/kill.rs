//! `podrun kill`.

use std::time::Duration;

use crate::args;
use crate::drive;
use crate::error::{Ended, Error};
use crate::journal::{Execution, Journal, State};
use crate::lock::{Claim, holder};
use crate::report::Report;
use crate::scope::{Finished, Scope};
use crate::session;
use crate::state::StateDir;
use crate::ui::Ui;

/// How often it is looked whether the process that drives the execution has stopped it.
const LOOK: Duration = Duration::from_millis(200);

/// Stop an execution: through the process that drives it if there is one, else by ourselves.
pub(crate) async fn kill(arguments: &args::Kill, ui: &mut dyn Ui) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let mut journal = Journal::open(&state.journal())?;
    let id = &arguments.id;
    let execution = session::execution(&journal, id)?;
    let folder = state.execution(id);
    if execution.state == State::Running && holder(folder.lock()).is_some() {
        journal.request_stop(id)?;
        while holder(folder.lock()).is_some() && session::execution(&journal, id)?.state == State::Running {
            tokio::time::sleep(LOOK).await;
        }
        let execution = session::execution(&journal, id)?;
        if execution.state != State::Running {
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
            let renderer = session::renderer()?;
            let flow = session::read_flow(&execution.source, execution.settings.defaults.as_deref(), &renderer)?;
            let folder = state.execution(&execution.id);
            let mut scope = Scope::new(&flow, &execution.id, &execution.inputs, &folder);
            for ended in journal.task_runs(&execution.id)? {
                let Some(outcome) = ended.outcome else { continue };
                let vars = journal.outputs(ended.id)?;
                let (task, attempt) = (ended.attempt.task, ended.attempt.number);
                scope.add(
                    &Finished {
                        task,
                        attempt,
                        outcome,
                        vars,
                    },
                    &folder,
                );
            }
            let task = &task_run.attempt.task;
            let Some(declared) = flow.tasks.iter().find(|declared| declared.id == *task) else {
                return Err(Error::Conflict(format!(
                    "`{}` has no task `{task}` any more, so its cluster is not known: add `--kubeconfig FILE`",
                    execution.source.display()
                )));
            };
            drive::target(declared, &scope, &renderer, &access)?
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
    }]);
}
