//! What several commands need: the flow with its defaults, the runner, and the settings of an execution.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use podrun_host::{Host, Options, Runner};

use crate::access::{Access, Sources};
use crate::args;
use crate::defaults::PluginDefault;
use crate::error::{Error, named};
use crate::expression::Renderer;
use crate::flow::{self, Flow};
use crate::journal::{Execution, Journal, Settings};
use crate::redact::Redactor;
use crate::secrets::Secrets;
use crate::state::cache_dir;

/// The file name of the runner's component beside this program.
const COMPONENT: &str = "podrun-runner.wasm";

/// The renderer for expressions.
pub(crate) fn renderer() -> Result<Renderer, Error> {
    Renderer::new().map_err(|error| Error::Internal(format!("failed to set up expressions: {error}")))
}

/// The same with the secrets and values of an execution, and what hides those secrets.
pub(crate) fn renderer_with(
    secrets: Option<&Path>,
    kv: Option<&Path>,
    renderer: &Renderer,
) -> Result<(Renderer, Redactor), Error> {
    let secrets = Secrets::load(secrets, kv)?;
    let redactor = secrets.redactor();
    Ok((renderer.with(Arc::new(secrets)), redactor))
}

/// Read a flow with the operator's defaults.
pub(crate) fn read_flow(file: &Path, defaults: Option<&Path>, renderer: &Renderer) -> Result<Flow, Error> {
    let text = std::fs::read_to_string(file).map_err(named("read", file))?;
    Ok(flow::read(file, &text, &read_defaults(defaults)?, renderer)?)
}

/// Read the operator's defaults.
pub(crate) fn read_defaults(file: Option<&Path>) -> Result<Vec<PluginDefault>, Error> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file).map_err(named("read", file))?;
    Ok(flow::read_defaults(file, &text)?)
}

/// The variables that say which proxy leads to a cluster, as every program of Kubernetes reads them.
fn proxies() -> Vec<(String, String)> {
    ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Load the runner's component: the one that is named, or the one beside this program.
pub(crate) async fn load_runner(named: Option<&Path>) -> Result<Runner, Error> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join(COMPONENT)))
            .unwrap_or_else(|| PathBuf::from(COMPONENT)),
    };
    if !path.is_file() {
        return Err(Error::Usage(format!(
            "no runner component `{}`: name one with `--runner FILE` or PODRUN_RUNNER",
            path.display()
        )));
    }
    let compiling = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            let _ = writeln!(terminal, "compiling the runner, once for this version of it …");
        }
        std::future::pending().await
    };
    let host = Host::new(Options {
        cache_dir: cache_dir(),
        environment: proxies(),
        ..Options::default()
    });
    let loaded = match host {
        Ok(host) => tokio::select! {
            loaded = host.load(&path) => loaded,
            never = compiling => never,
        },
        Err(error) => Err(error),
    };
    loaded.map_err(|source| Error::Runner { task: None, source })
}

/// Read a flow for a call, and settle how to run it: as the command line says, else as the execution was run before, else
/// as the environment says.
pub(crate) fn open_flow(
    file: &Path,
    given: &args::Settings,
    before: Option<&Settings>,
    renderer: &Renderer,
) -> Result<(Flow, Settings), Error> {
    let path = |given: &Option<PathBuf>, before: Option<&PathBuf>| match given {
        Some(path) => std::path::absolute(path).map(Some).map_err(named("find", path)),
        None => Ok(before.cloned()),
    };
    let defaults = path(&given.defaults, before.and_then(|before| before.defaults.as_ref()))?;
    let flow = read_flow(file, defaults.as_deref(), renderer)?;
    // Where every task has a config, a broken kubeconfig in the environment is nobody's concern.
    let needed = flow.scripts().iter().any(|task| task.script.config.is_none());
    let outputs = path(&given.outputs, before.and_then(|before| before.outputs.as_ref()))?;
    if let Some(folder) = &outputs {
        std::fs::create_dir_all(folder).map_err(named("create", folder))?;
    }
    let settings = Settings {
        defaults,
        runner: path(&given.access.runner, before.and_then(|before| before.runner.as_ref()))?,
        outputs,
        secrets: path(&given.values.secrets, before.and_then(|before| before.secrets.as_ref()))?,
        kv: path(&given.values.kv, before.and_then(|before| before.kv.as_ref()))?,
        namespace_files: path(
            &given.namespace_files,
            before.and_then(|before| before.namespace_files.as_ref()),
        )?,
        access: match needed {
            true => access(&given.access, before.map(|before| &before.access))?,
            false => Access::None,
        },
    };
    Ok((flow, settings))
}

/// How the cluster is reached, in the same order.
pub(crate) fn access(given: &args::Cluster, before: Option<&Access>) -> Result<Access, Error> {
    let named = given.kubeconfig.is_some() || given.context.is_some();
    match before {
        Some(before) if !named && *before != Access::None => Ok(before.clone()),
        _ => Sources::new(given.kubeconfig.clone(), given.context.clone()).resolve(),
    }
}

/// The execution of that id.
pub(crate) fn execution(journal: &Journal, id: &str) -> Result<Execution, Error> {
    journal
        .execution(id)?
        .ok_or_else(|| Error::Usage(format!("there is no execution `{id}`: `podrun ps --all` lists them")))
}

/// Fail unless `flow` is the one that the execution was started with.
pub(crate) fn same_flow(flow: &Flow, execution: &Execution) -> Result<(), Error> {
    let Some(difference) = difference(&execution.identity, &flow.identity, String::new()) else {
        return Ok(());
    };
    Err(Error::Conflict(format!(
        "execution `{}` was started with another flow (`{difference}` differs): restore `{}`, or leave out \
         `--execution-id` to start anew",
        execution.id,
        execution.source.display(),
    )))
}

/// The first place at which two values differ.
fn difference(one: &serde_json::Value, other: &serde_json::Value, path: String) -> Option<String> {
    use serde_json::Value;
    let below = |name: String| {
        if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        }
    };
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let null = Value::Null;
            names.into_iter().find_map(|name| {
                difference(
                    a.get(name).unwrap_or(&null),
                    b.get(name).unwrap_or(&null),
                    below(name.clone()),
                )
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| difference(a, b, format!("{path}[{index}]"))),
        (a, b) if a == b => None,
        _ => Some(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named() {
        let one = json!({"id": "f", "tasks": [{"id": "a", "commands": ["x"]}]});
        let other = json!({"id": "f", "tasks": [{"id": "a", "commands": ["y"]}]});
        assert_eq!(
            difference(&one, &other, String::new()).as_deref(),
            Some("tasks[0].commands[0]")
        );
        assert_eq!(difference(&one, &one.clone(), String::new()), None);
        let longer = json!({"id": "f", "tasks": []});
        assert_eq!(difference(&one, &longer, String::new()).as_deref(), Some("tasks"));
    }
}
