//! `podrun render`.

use std::io::Write;

use podrun_host::{Runner, Target};
use serde_json::{Value, json};

use crate::access::Access;
use crate::args;
use crate::commands::explain::no_such_task;
use crate::commands::schema::{describe, schemas};
use crate::commands::validate::NOWHERE;
use crate::engine::{names, target};
use crate::error::{Ended, Error, named};
use crate::expression::Renderer;
use crate::files;
use crate::flow::{self, Flow, ScriptStep};
use crate::inputs;
use crate::journal::Attempt;
use crate::namespace::{self, Folder};
use crate::plan;
use crate::scope::{Scope, before_inputs};
use crate::session;
use crate::state::{ExecutionDir, StateDir};

/// Why a task cannot be rendered before a run.
const LATER: &str = "uses what there is only while the flow runs: what another task left, or the value of a round";

/// Print the pod that each task would become.
pub(crate) async fn render(arguments: &args::Render, json: bool) -> Result<Ended, Error> {
    let runner = session::load_runner(arguments.access.runner.as_deref()).await?;
    let described = describe(&runner).await?;
    let schemas = schemas(&described)?;
    let renderer = session::renderer()?;
    let operator = session::read_defaults(arguments.defaults.as_deref())?;
    let text = std::fs::read_to_string(&arguments.flow).map_err(named("read", &arguments.flow))?;
    let (flow, _) = flow::read_with(&schemas, &arguments.flow, &text, &operator, &renderer)?.sound(&arguments.flow)?;
    let scripts = flow.scripts();
    let ids: Vec<&str> = scripts.iter().map(|declared| declared.step.id.as_str()).collect();
    if let Some(id) = &arguments.task
        && !ids.contains(&id.as_str())
    {
        return Err(no_such_task(id, &ids));
    }
    let given = inputs::parse(&arguments.inputs)?;
    let given = inputs::resolve(&flow.inputs, &given, &renderer, before_inputs(&flow))?;
    let state = StateDir::open()?;
    let folder = state.execution(&format!("render-{}", std::process::id()));
    folder.create()?;
    let stored = inputs::store(&given, &folder)?;
    let preview = Preview {
        scope: Scope::new(&flow, "render", crate::journal::now(), &stored, &folder),
        access: access(arguments, &flow)?,
        server: arguments.server,
        namespace: namespace::of(&flow, arguments.namespace_files.as_deref(), &state)?,
        flow: &flow,
        renderer: &renderer,
        runner: &runner,
        schema: serde_json::from_str(&described.task_schema).unwrap_or_default(),
        folder: &folder,
    };
    let variables = flow.texts_of_variables();
    let mut result = Ok(Ended::Succeeded);
    for declared in scripts {
        let id = &declared.step.id;
        if arguments.task.as_ref().is_some_and(|wanted| wanted != id) {
            continue;
        }
        let printed = match (declared.waits(&variables), &arguments.task) {
            (true, None) => {
                print_skipped(id, json);
                Ok(())
            }
            (true, Some(_)) => Err(Error::Usage(format!("task `{id}` {LATER}"))),
            _ => preview.pod(declared).await.and_then(|pod| print(id, &pod, json)),
        };
        if let Err(error) = printed {
            result = Err(error);
            break;
        }
    }
    // What was staged is of no use any more; that it cannot be removed is no reason to fail.
    let _ = folder.remove();
    result
}

/// How to reach the cluster. Without `--server` it is not reached, and none is no mistake.
fn access(arguments: &args::Render, flow: &Flow) -> Result<Access, Error> {
    let needed = flow.scripts().iter().any(|task| task.script.config.is_none());
    match (needed, session::access(&arguments.access, None)) {
        (false, _) => Ok(Access::None),
        (true, Err(_)) if !arguments.server => Ok(Access::None),
        (true, access) => access,
    }
}

struct Preview<'a> {
    scope: Scope,
    access: Access,
    server: bool,
    namespace: Folder,
    flow: &'a Flow,
    renderer: &'a Renderer,
    runner: &'a Runner,
    /// What it says about its options.
    schema: Value,
    folder: &'a ExecutionDir,
}

impl Preview<'_> {
    async fn pod(&self, declared: ScriptStep<'_>) -> Result<Value, Error> {
        let id = &declared.step.id;
        let failed = |source| Error::Runner {
            task: Some(id.clone()),
            source,
        };
        let attempt = Attempt {
            execution: "render".to_owned(),
            task: id.clone(),
            number: 1,
        };
        let names = names(&attempt);
        let target = match target(declared, &self.scope, self.renderer, &self.access) {
            Ok(target) => target,
            Err(_) if !self.server && declared.script.config.is_none() => nowhere(None),
            Err(error) => return Err(error),
        };
        let layout = self.runner.layout(&target.config, &names.id()).await.map_err(failed)?;
        let mut scope = self.scope.for_task(id, &names.task_run(), 1, &crate::at::At::default());
        scope.directories(&layout.working_dir, &layout.output_dir);
        let (flow, schema) = (self.flow, &self.schema);
        let planned = plan::plan(flow, declared, &names, &scope, &self.namespace, self.renderer, schema)?;
        let inputs = self.folder.task_inputs(id, 1);
        files::stage(&planned.files, &inputs)?;
        let render = |target: Target| {
            let (task, inputs) = (planned.task.clone(), inputs.clone());
            async move { self.runner.render(&target, &task, Some(inputs), self.server).await }
        };
        let rendered = match render(target.clone()).await {
            // Its name cannot be looked up, which only matters to a server.
            Err(podrun_host::Error::Unavailable(_)) if !self.server => render(nowhere(Some(&target))).await,
            rendered => rendered,
        };
        let pod = rendered.map_err(failed)?;
        serde_json::from_str(&pod).map_err(|error| Error::Internal(format!("the runner's pod is not JSON: {error}")))
    }
}

/// No cluster, with the namespace that the config of a real one names.
fn nowhere(target: Option<&Target>) -> Target {
    let mut config: Value = serde_json::from_str(NOWHERE).unwrap_or_default();
    let real: Value = target
        .and_then(|target| serde_json::from_str(&target.config).ok())
        .unwrap_or_default();
    if let (Some(map), Some(namespace)) = (config.as_object_mut(), real.get("namespace")) {
        map.insert("namespace".to_owned(), namespace.clone());
    }
    Target {
        config: config.to_string(),
        credentials: None,
    }
}

fn print(task: &str, pod: &Value, json: bool) -> Result<(), Error> {
    let mut out = crate::out::out();
    if json {
        let _ = writeln!(out, "{}", json!({"type": "pod", "task": task, "pod": pod}));
        return Ok(());
    }
    let yaml = serde_saphyr::to_string(pod)
        .map_err(|error| Error::Internal(format!("failed to write the pod as YAML: {error}")))?;
    let _ = write!(out, "---\n# task {task}\n{yaml}");
    Ok(())
}

fn print_skipped(task: &str, json: bool) {
    let mut out = crate::out::out();
    let _ = match json {
        true => writeln!(out, "{}", json!({"type": "skipped", "task": task, "message": LATER})),
        false => writeln!(out, "---\n# task {task} {LATER}"),
    };
}
