//! `podrun run` and `podrun attach`.

use std::path::Path;

use podrun_host::Runner;

use crate::args;
use crate::at::At;
use crate::commands::schema::describe;
use crate::document::{Node, Problem, Problems};
use crate::engine::{self, Parts, names, resume, target};
use crate::error::{Ended, Error, named};
use crate::expression::Renderer;
use crate::flow::Flow;
use crate::inputs::{self, Input, InputValue, StoredInput, StoredValue};
use crate::interrupt::Interrupts;
use crate::journal::{Attempt, Execution, Journal, NewExecution, Settings, State, now};
use crate::lock::{Claim, holder};
use crate::plan;
use crate::redact::Redactor;
use crate::report::Report;
use crate::scope::Scope;
use crate::session;
use crate::state::{ExecutionDir, StateDir};
use crate::types::check::{REFUSED, unknown_property};
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
            inputs::same(&inputs::resolve(&flow.inputs, &given)?, &execution.inputs)?;
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
    let inputs = inputs::resolve(&flow.inputs, &given)?;
    let runner = session::load_runner(settings.runner.as_deref()).await?;
    let id = match &arguments.execution_id {
        Some(id) => id.clone(),
        None => new_id()?,
    };
    let folder = state.execution(&id);
    known_names(&flow, &runner, &arguments.flow).await?;
    preflight(&flow, &renderer, &runner, &settings, &id, &inputs, &folder).await?;

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
        inputs: &stored,
    };
    journal.begin(&new)?;
    ui.show(&[begins(&id, &flow, false)]);
    for other in others {
        ui.show(&[unfinished_warning(&other, &state)]);
    }
    let execution = session::execution(&journal, &id)?;
    let result = drive(
        &execution,
        &flow,
        (&renderer, &redactor),
        &folder,
        &runner,
        &mut journal,
        ui,
    )
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
    rendering: (&Renderer, &Redactor),
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
    // Whoever drove it before may have changed it until the claim was ours.
    execution.state = session::execution(journal, &execution.id)?.state;
    ui.show(&[begins(&execution.id, flow, true)]);
    let result = drive(&execution, flow, rendering, &folder, &runner, journal, ui).await;
    drop(claim);
    result
}

async fn drive(
    execution: &Execution,
    flow: &Flow,
    (renderer, redactor): (&Renderer, &Redactor),
    folder: &ExecutionDir,
    runner: &Runner,
    journal: &mut Journal,
    ui: &mut dyn Ui,
) -> Result<Ended, Error> {
    let mut interrupts = Interrupts::listen(ui.can_ask())?;
    let parts = Parts {
        flow,
        renderer,
        redactor,
        execution,
        folder,
        runner,
        journal,
        ui,
    };
    engine::drive(parts, &mut interrupts).await
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

/// Refuse names that the runner does not know, before anything is created.
async fn known_names(flow: &Flow, runner: &Runner, file: &Path) -> Result<(), Error> {
    let described = describe(runner).await?;
    let mut problems = Vec::new();
    for declared in flow.scripts() {
        let owner = format!("`taskRunner` of task `{}`", declared.step.id);
        problems.extend(unknown_names(&described.task_schema, &declared.script.options, &owner));
        if let Some(config) = &declared.script.config {
            let owner = format!("`taskRunner.config` of task `{}`", declared.step.id);
            problems.extend(unknown_names(&described.config_schema, config, &owner));
        }
    }
    Ok(Problems::or(problems, file, ())?)
}

/// Refuse, before anything is created, what can be known to fail: configs that the runner refuses, and tasks that cannot be rendered. Tasks that use another task's outputs are looked at when they begin.
async fn preflight(
    flow: &Flow,
    renderer: &Renderer,
    runner: &Runner,
    settings: &Settings,
    id: &str,
    inputs: &[Input],
    folder: &ExecutionDir,
) -> Result<(), Error> {
    let stored: Vec<StoredInput> = inputs.iter().map(preview).collect();
    let mut scope = Scope::new(flow, id, now(), &stored, folder);
    for input in inputs {
        if let InputValue::File(path) = &input.value {
            scope.found_at(&input.id, path);
        }
    }
    scope.label(flow, renderer)?;
    for declared in flow.scripts() {
        if declared.script.uses_outputs(&declared.step.id) {
            continue;
        }
        let failed = |source| Error::Runner {
            task: Some(declared.step.id.clone()),
            source,
        };
        let attempt = Attempt {
            execution: id.to_owned(),
            task: declared.step.id.clone(),
            number: 1,
        };
        let names = names(&attempt);
        let target = target(declared, &scope, renderer, &settings.access)?;
        runner.connect(&target.config).await.map_err(failed)?;
        let layout = runner.layout(&target.config, &names.id()).await.map_err(failed)?;
        let mut scope = scope.for_task(&declared.step.id, &names.task_run(), 1, &At::default());
        scope.directories(&layout.working_dir, &layout.output_dir);
        let mut task = plan::plan(flow, declared, &names, &scope, renderer)?.task;
        // Rendering checks options and patterns. It has no inputs to look at, and only a refusal counts.
        task.inputs.clear();
        if let Err(source @ podrun_host::Error::InvalidArgument(_)) = runner.render(&target, &task, None, false).await {
            return Err(failed(source));
        }
    }
    Ok(())
}

/// An input as it will be stored; planning looks at no content.
fn preview(input: &Input) -> StoredInput {
    let value = match &input.value {
        InputValue::Plain(value) => StoredValue::Plain(value.clone()),
        InputValue::File(_) => StoredValue::File {
            size: 0,
            sha256: String::new(),
            executable: false,
        },
    };
    StoredInput {
        id: input.id.clone(),
        value,
    }
}

/// Names that a JSON Schema's properties do not have. The runner checks everything else.
fn unknown_names(schema: &str, node: &Node, owner: &str) -> Vec<Problem> {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) else {
        return Vec::new();
    };
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    let unknown = node
        .entries()
        .iter()
        .filter(|(key, value)| !value.is_null() && !known.contains(&key.name.as_str()));
    unknown
        .map(|(key, _)| unknown_property(key, owner, &known, schema.get(REFUSED)))
        .collect()
}
