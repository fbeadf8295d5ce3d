//! `podrun run` and `podrun attach`.

use crate::args;
use crate::commands::preflight::{Start, preflight};
use crate::document::listed;
use crate::engine::{self, Parts, resume};
use crate::error::{Ended, Error, named};
use crate::expression::Renderer;
use crate::flow::Flow;
use crate::inputs;
use crate::journal::{Execution, Journal, NewExecution, Settings, State};
use crate::lock::{Claim, holder};
use crate::namespace;
use crate::redact::Redactor;
use crate::report::Report;
use crate::scope::before_inputs;
use crate::session;
use crate::state::StateDir;
use crate::ui::Ui;

/// `podrun run`.
pub(crate) async fn run(arguments: &args::Run, ui: &mut dyn Ui) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let mut journal = Journal::open(&state.journal())?;
    let known = match &arguments.execution_id {
        Some(id) => journal.execution(id)?,
        None => None,
    };
    let renderer = session::renderer()?;
    let before = known.as_ref().map(|known| &known.settings);
    let (flow, settings) = session::open_flow(&arguments.flow, &arguments.settings, before, &renderer)?;
    let (renderer, redactor) = session::renderer_with(settings.secrets.as_deref(), settings.kv.as_deref(), &renderer)?;
    let given = inputs::parse(&arguments.inputs)?;
    if let Some(execution) = known {
        session::same_flow(&flow, &execution)?;
        // Without any `-i` the stored values are meant.
        if !given.is_empty() {
            let varying = inputs::varying(&flow.inputs, &given);
            let mut inputs = inputs::resolve(&flow.inputs, &given, &renderer, before_inputs(&flow))?;
            inputs.retain(|input| !varying.contains(&input.id));
            inputs::same(&inputs, &inputs::revealed(&execution.inputs, &renderer)?)?;
        }
        return go_on(
            execution,
            settings,
            &flow,
            (&renderer, &redactor),
            &state,
            &mut journal,
            ui,
        )
        .await;
    }
    let inputs = inputs::resolve(&flow.inputs, &given, &renderer, before_inputs(&flow))?;
    let runner = session::load_runner(settings.runner.as_deref()).await?;
    let id = match &arguments.execution_id {
        Some(id) => id.clone(),
        None => new_id()?,
    };
    let folder = state.execution(&id);
    let namespace = namespace::of(&flow, settings.namespace_files.as_deref(), &state)?;
    let start = Start {
        flow: &flow,
        renderer: &renderer,
        runner: &runner,
        settings: &settings,
        id: &id,
        inputs: &inputs,
        folder: &folder,
        namespace: &namespace,
    };
    preflight(start).await?;

    folder.create()?;
    let claim = Claim::take(&folder.lock(), &id)?;
    if journal.execution(&id)?.is_some() {
        return Err(Error::Conflict(format!(
            "execution `{id}` began meanwhile: the same command goes on with it"
        )));
    }
    let stored = inputs::store(&inputs, &folder)?;
    let source = std::path::absolute(&arguments.flow).map_err(named("find", &arguments.flow))?;
    let others = unfinished(&journal, &source, &flow)?;
    let new = NewExecution {
        id: &id,
        flow: &flow.id,
        namespace: &flow.namespace,
        source: &source,
        identity: &flow.identity,
        settings: &settings,
        inputs: &inputs::concealed(&stored, &renderer),
    };
    journal.begin(&new)?;
    ui.show(&[begins(&id, &flow, false)]);
    ui.show(&without_effect(&flow));
    for other in others {
        ui.show(&[unfinished_warning(&other, &state)]);
    }
    let execution = session::execution(&journal, &id)?;
    let result = engine::drive(Parts {
        flow: &flow,
        renderer: &renderer,
        redactor: &redactor,
        execution: &execution,
        folder: &folder,
        namespace: &namespace,
        runner: &runner,
        journal: &mut journal,
        ui,
    })
    .await;
    drop(claim);
    result
}

/// `podrun attach`.
pub(crate) async fn attach(arguments: &args::Attach, ui: &mut dyn Ui) -> Result<Ended, Error> {
    let state = StateDir::open()?;
    let mut journal = Journal::open(&state.journal())?;
    let execution = session::execution(&journal, &arguments.id)?;
    let renderer = session::renderer()?;
    let before = Some(&execution.settings);
    let (flow, settings) = session::open_flow(&execution.source, &arguments.settings, before, &renderer)?;
    let (renderer, redactor) = session::renderer_with(settings.secrets.as_deref(), settings.kv.as_deref(), &renderer)?;
    session::same_flow(&flow, &execution)?;
    go_on(
        execution,
        settings,
        &flow,
        (&renderer, &redactor),
        &state,
        &mut journal,
        ui,
    )
    .await
}

/// Take an execution up.
async fn go_on(
    mut execution: Execution,
    settings: Settings,
    flow: &Flow,
    (renderer, redactor): (&Renderer, &Redactor),
    state: &StateDir,
    journal: &mut Journal,
    ui: &mut dyn Ui,
) -> Result<Ended, Error> {
    let folder = state.execution(&execution.id);
    folder.create()?;
    let claim = Claim::take(&folder.lock(), &execution.id)?;
    let runner = session::load_runner(settings.runner.as_deref()).await?;
    if settings != execution.settings {
        journal.set_settings(&execution.id, &settings)?;
        execution.settings = settings;
    }
    let namespace = namespace::of(flow, execution.settings.namespace_files.as_deref(), state)?;
    // Whoever drove it before may have changed it until the claim was ours.
    execution.state = session::execution(journal, &execution.id)?.state;
    ui.show(&[begins(&execution.id, flow, true)]);
    let result = engine::drive(Parts {
        flow,
        renderer,
        redactor,
        execution: &execution,
        folder: &folder,
        namespace: &namespace,
        runner: &runner,
        journal,
        ui,
    })
    .await;
    drop(claim);
    result
}

fn begins(id: &str, flow: &Flow, resumed: bool) -> Report {
    Report::Execution {
        id: id.to_owned(),
        flow: flow.id.clone(),
        namespace: flow.namespace.clone(),
        resumed,
        resume: resume(id),
    }
}

/// What the flow asks for in vain.
fn without_effect(flow: &Flow) -> Vec<Report> {
    let scripts = flow.scripts();
    let tasks = scripts.iter().filter(|task| task.script.warning_on_std_err);
    let ids: Vec<&str> = tasks.map(|task| task.step.id.as_str()).collect();
    let message = format!(
        "`warningOnStdErr` has no effect, in {}: Kubernetes does not tell the two streams of a script apart",
        listed(&ids)
    );
    match ids.is_empty() {
        true => Vec::new(),
        false => vec![Report::Warning { message }],
    }
}

/// Executions of the same flow that have not ended.
fn unfinished(journal: &Journal, source: &std::path::Path, flow: &Flow) -> Result<Vec<Execution>, Error> {
    let same = |execution: &Execution| {
        execution.source == source || (execution.flow == flow.id && execution.namespace == flow.namespace)
    };
    let running = journal.executions(Some(State::Running))?;
    Ok(running.into_iter().filter(same).collect())
}

fn unfinished_warning(execution: &Execution, state: &StateDir) -> Report {
    let id = &execution.id;
    let message = match holder(state.execution(id).lock()) {
        Some(holder) => format!("execution {id} of this flow is still running, driven by {holder}"),
        None => format!(
            "execution {id} of this flow is unfinished; to take it up: {}, to end it: podrun kill {id}",
            resume(id)
        ),
    };
    Report::Warning { message }
}

/// A new id: short enough to type, and with 60 random bits in no danger of being minted twice.
fn new_id() -> Result<String, Error> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| Error::Internal(format!("no random numbers: {error}")))?;
    Ok(bytes
        .iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte % 32)))
        .map(|letter| char::from(*letter))
        .collect())
}
