//! `podrun doctor`.

use std::io::Write;

use podrun_host::{Level, Runner, Target};
use serde_json::{Map, Value};

use crate::args;
use crate::engine;
use crate::error::{Ended, Error};
use crate::inputs::StoredInput;
use crate::journal::now;
use crate::names;
use crate::plan;
use crate::scope::Scope;
use crate::session;
use crate::state::StateDir;

/// Look at the cluster with the config and namespace of each of a flow's tasks, or with what the command line and environment name.
pub(crate) async fn doctor(arguments: &args::Doctor, json: bool) -> Result<Ended, Error> {
    let access = session::access(&arguments.access, None)?;
    let runner = session::load_runner(arguments.access.runner.as_deref()).await?;
    let described = runner
        .describe()
        .await
        .map_err(|source| Error::Runner { task: None, source })?;
    let mut out = Output { json };
    out.line("info", &format!("runner {} {}", described.name, described.version));
    let mut seen: Vec<String> = Vec::new();
    let mut errors = 0;
    for place in places(arguments, &access)? {
        if let Some(unknown) = &place.unknown {
            out.line("warn", unknown);
        }
        if seen.contains(&place.target.config) {
            continue;
        }
        out.line("info", &format!("cluster: {}", place.name));
        errors += look(&runner, &place.target, &mut out).await?;
        seen.push(place.target.config);
    }
    match errors {
        0 => Ok(Ended::Succeeded),
        1 => Err(Error::Unfit("tasks cannot run: one finding above says why".into())),
        count => Err(Error::Unfit(format!(
            "tasks cannot run: {count} findings above say why"
        ))),
    }
}

/// Where tasks would run.
struct Place {
    /// For people.
    name: String,
    target: Target,
    /// What cannot be known about it now.
    unknown: Option<String>,
}

/// Each cluster and namespace of a flow's tasks, or the ones that the command line and environment name.
fn places(arguments: &args::Doctor, access: &crate::access::Access) -> Result<Vec<Place>, Error> {
    let Some(file) = &arguments.flow else {
        return Ok(vec![Place {
            name: access.describe(),
            target: access.target()?,
            unknown: None,
        }]);
    };
    let values = &arguments.values;
    let renderer = session::renderer()?;
    let (renderer, _) = session::renderer_with(values.secrets.as_deref(), values.kv.as_deref(), &renderer)?;
    let flow = session::read_flow(file, arguments.defaults.as_deref(), &renderer)?;
    let inputs: [StoredInput; 0] = [];
    let scope = Scope::new(&flow, "doctor", now(), &inputs, &StateDir::open()?.execution("doctor"));
    let each = flow.scripts().into_iter().map(|declared| {
        let mut name = match &declared.script.config {
            Some(_) => format!("`taskRunner.config` of task `{}`", declared.step.id),
            None => access.describe(),
        };
        let mut target = engine::target(declared, &scope, &renderer, access)?;
        let mut unknown = None;
        match plan::namespace(declared, &scope, &renderer) {
            Ok(None) => {}
            Ok(Some(namespace)) => {
                name.push_str(&format!(", namespace `{namespace}`"));
                target.config = in_namespace(&target.config, namespace)?;
            }
            // It may come from an input, which only a run has.
            Err(problem) => unknown = Some(format!("{problem}; the namespace of its config is looked at instead")),
        }
        Ok(Place { name, target, unknown })
    });
    each.collect()
}

/// A runner's config with another namespace. A runner looks at that of its config.
fn in_namespace(config: &str, namespace: String) -> Result<String, Error> {
    let mut config: Map<String, Value> = serde_json::from_str(config)
        .map_err(|_| Error::Internal("the config of a runner is no JSON object".to_owned()))?;
    config.insert("namespace".to_owned(), namespace.into());
    Ok(Value::Object(config).to_string())
}

/// Print what the runner finds; how many findings forbid tasks.
async fn look(runner: &Runner, target: &Target, out: &mut Output) -> Result<usize, Error> {
    let findings = runner
        .check(target)
        .await
        .map_err(|source| Error::Runner { task: None, source })?;
    for finding in &findings {
        out.line(names::level(finding.level), &finding.message);
    }
    Ok(findings.iter().filter(|finding| finding.level == Level::Error).count())
}

struct Output {
    json: bool,
}

impl Output {
    fn line(&mut self, level: &str, message: &str) {
        let mut out = crate::out::out();
        let _ = if self.json {
            writeln!(
                out,
                "{}",
                serde_json::json!({"type": "finding", "level": level, "message": message})
            )
        } else {
            writeln!(out, "{:<5} {message}", if level == "info" { "ok" } else { level })
        };
    }
}
