//! What is looked at before an execution begins.

use podrun_host::Runner;

use crate::at::At;
use crate::document::unknown;
use crate::engine::{names, target};
use crate::error::Error;
use crate::expression::Renderer;
use crate::flow::Flow;
use crate::inputs::{Input, InputValue, StoredInput, StoredValue};
use crate::journal::{Attempt, Settings, now};
use crate::namespace::Folder;
use crate::plan;
use crate::scope::Scope;
use crate::state::ExecutionDir;

/// An execution that is about to begin.
pub(super) struct Start<'a> {
    pub(super) flow: &'a Flow,
    pub(super) renderer: &'a Renderer,
    pub(super) runner: &'a Runner,
    pub(super) settings: &'a Settings,
    pub(super) id: &'a str,
    pub(super) inputs: &'a [Input],
    pub(super) folder: &'a ExecutionDir,
    /// The files of the flow's namespace.
    pub(super) namespace: &'a Folder,
}

/// Refuse, before anything is created, what can be known to fail: names that the runner does not know, configs that it
/// refuses, and tasks that cannot be rendered. Tasks that use another task's outputs are looked at when they begin.
pub(super) async fn preflight(start: Start<'_>) -> Result<(), Error> {
    let Start {
        flow,
        renderer,
        runner,
        settings,
        id,
        inputs,
        folder,
        namespace,
    } = start;
    let described = runner
        .describe()
        .await
        .map_err(|source| Error::Runner { task: None, source })?;
    let stored: Vec<StoredInput> = inputs.iter().map(preview).collect();
    let mut scope = Scope::new(flow, id, now(), &stored, folder);
    for input in inputs {
        if let InputValue::File(path) = &input.value {
            scope.found_at(&input.id, path);
        }
    }
    scope.label(flow, renderer)?;
    for declared in flow.scripts() {
        known_names(
            &described.task_schema,
            &declared.script.options,
            &format!("property of the task runner of `{}`:", declared.step.id),
        )?;
        if let Some(config) = &declared.script.config {
            known_names(
                &described.config_schema,
                config,
                &format!("property of `config` of task `{}`:", declared.step.id),
            )?;
        }
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
        let mut task = plan::plan(flow, declared, &names, &scope, namespace, renderer)?.task;
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

/// Fail at the first name that a JSON Schema's properties do not have. The runner checks everything else.
fn known_names(schema: &str, node: &crate::document::Node, what: &str) -> Result<(), Error> {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) else {
        return Ok(());
    };
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    match node
        .entries()
        .iter()
        .find(|(key, _)| !known.contains(&key.name.as_str()))
    {
        Some((key, _)) => Err(unknown(&key.place, what, &key.name, &known).into()),
        None => Ok(()),
    }
}
