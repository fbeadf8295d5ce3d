//! `podrun doctor`.

use std::io::Write;

use podrun_host::{Level, Runner, Target};

use crate::args;
use crate::drive;
use crate::error::{Ended, Error};
use crate::inputs::StoredInput;
use crate::names;
use crate::scope::Scope;
use crate::session;
use crate::state::StateDir;

/// Look at the cluster with the config of each of a flow's tasks, or with what the command line and environment name.
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
    for (name, target) in targets(arguments, &access)? {
        if seen.contains(&target.config) {
            continue;
        }
        out.line("info", &format!("cluster: {name}"));
        errors += look(&runner, &target, &mut out).await?;
        seen.push(target.config);
    }
    match errors {
        0 => Ok(Ended::Succeeded),
        1 => Err(Error::Unfit("tasks cannot run: one finding above says why".into())),
        count => Err(Error::Unfit(format!(
            "tasks cannot run: {count} findings above say why"
        ))),
    }
}

/// Each way of reaching a cluster, with a name for people.
fn targets(arguments: &args::Doctor, access: &crate::access::Access) -> Result<Vec<(String, Target)>, Error> {
    let Some(file) = &arguments.flow else {
        return Ok(vec![(access.describe(), access.target()?)]);
    };
    let renderer = session::renderer()?;
    let flow = session::read_flow(file, arguments.defaults.as_deref(), &renderer)?;
    let inputs: [StoredInput; 0] = [];
    let scope = Scope::new(&flow, "doctor", &inputs, &StateDir::open()?.execution("doctor"));
    let each = flow.tasks.iter().map(|declared| {
        let name = match declared.config {
            Some(_) => format!("`taskRunner.config` of task `{}`", declared.id),
            None => access.describe(),
        };
        Ok((name, drive::target(declared, &scope, &renderer, access)?))
    });
    each.collect()
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
        let mut out = std::io::stdout().lock();
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
