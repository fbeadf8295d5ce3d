//! What is looked at before an execution begins.

mod reached;

use std::path::Path;

use podrun_host::{Descriptor, Runner};

use crate::at::At;
use crate::commands::schema::describe;
use crate::document::{Node, Problem, Problems};
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
use crate::types::check::unknown_property;

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
/// refuses, and tasks that cannot be rendered. Tasks that may not be reached, and those that use what there is only later,
/// are looked at when they begin.
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
    let described = describe(runner).await?;
    known_names(flow, &described)?;
    let schema: serde_json::Value = serde_json::from_str(&described.task_schema).unwrap_or_default();
    let stored: Vec<StoredInput> = inputs.iter().map(preview).collect();
    let mut scope = Scope::new(flow, id, now(), &stored, folder);
    for input in inputs {
        if let InputValue::File(path) = &input.value {
            scope.found_at(&input.id, path);
        }
    }
    scope.label(flow, renderer)?;
    let variables = flow.texts_of_variables();
    for declared in reached::scripts(flow, &scope, renderer, id)? {
        if declared.waits(&variables) {
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
        let mut task = plan::plan(flow, declared, &names, &scope, namespace, renderer, &schema)?.task;
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

/// Refuse names that the runner does not know, all of them at once.
fn known_names(flow: &Flow, described: &Descriptor) -> Result<(), Error> {
    let mut problems = Vec::new();
    for declared in flow.scripts() {
        let task = format!("task `{}`", declared.step.id);
        let (options, config) = (&declared.script.options, &declared.script.config);
        problems.extend(unknown_names(&described.task_schema, options, "taskRunner", &task));
        if let Some(config) = config {
            problems.extend(unknown_names(
                &described.config_schema,
                config,
                "taskRunner.config",
                &task,
            ));
        }
    }
    Ok(Problems::or(problems, Path::new(""), ())?)
}

/// Names that a JSON Schema's properties do not have. The runner checks everything else.
fn unknown_names(schema: &str, node: &Node, path: &str, task: &str) -> Vec<Problem> {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) else {
        return Vec::new();
    };
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    let unknown = node
        .entries()
        .iter()
        .filter(|(key, value)| !value.is_null() && !properties.contains_key(&key.name));
    unknown
        .map(|(key, _)| {
            let refused = schema
                .get("refused")
                .and_then(|refused| refused.get(&key.name)?.as_str());
            match refused {
                Some(instead) => {
                    let message = format!("`{path}.{}` of {task} is not supported: {instead}", key.name);
                    Problem::new(&key.place, message)
                }
                None => unknown_property(key, &format!("`{path}` of {task}"), &known),
            }
        })
        .collect()
}
