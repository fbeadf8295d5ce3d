//! Bodies of requests: hostile bytes in, valid tasks or a sentence out.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Container, Desired, Name, NameError, Process, Spec, Variable, VolumeMount};

/// The longest time that a task may ask for, in seconds: a hundred years.
const LONGEST: i64 = 3_155_760_000;

/// Why a body is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not the JSON that was expected.
    #[error("body is not valid: at `{at}`: {reason}")]
    Json {
        /// The field.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A field of a task is refused.
    #[error("task `{name}`: {reason}")]
    Field {
        /// The task.
        name: String,
        /// What is wrong with it, and the cure.
        reason: String,
    },
    /// Two tasks of one set have the same name.
    #[error("task `{0}` is there twice: names must be unique")]
    Twice(Name),
}

/// The body of `POST /tasks`.
pub fn task(body: &[u8]) -> Result<Desired, Error> {
    desired(json::<WireTask>(body)?)
}

/// The body of `POST /setTasks`. One invalid entry refuses the whole set.
pub fn set(body: &[u8]) -> Result<Vec<Desired>, Error> {
    let wire: Vec<WireTask> = json(body)?;
    let mut names = HashSet::with_capacity(wire.len());
    let mut tasks = Vec::with_capacity(wire.len());
    for task in wire {
        let task = desired(task)?;
        if !names.insert(task.name.clone()) {
            return Err(Error::Twice(task.name));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// A task as either shape brings it. Every field may be missing or null: what is required is checked afterwards.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTask {
    name: Option<String>,
    spec: Option<WireSpec>,
    process: Option<WireProcess>,
    container: Option<WireContainer>,
    pod_template_spec: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct WireSpec {
    process: Option<WireProcess>,
    container: Option<WireContainer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProcess {
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    env: Option<Vec<WireVariable>>,
    working_dir: Option<String>,
    timeout_seconds: Option<i64>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    image: Option<String>,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    env: Option<Vec<WireVariable>>,
    working_dir: Option<String>,
    volume_mounts: Option<Vec<WireVolumeMount>>,
    timeout_seconds: Option<i64>,
    termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVariable {
    name: Option<String>,
    value: Option<String>,
    value_from: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVolumeMount {
    name: Option<String>,
    mount_path: Option<String>,
    sub_path: Option<String>,
    read_only: Option<bool>,
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| Error::Json {
        at: error.path().to_string(),
        reason: error.into_inner().to_string(),
    })?;
    reader.end().map_err(|error| Error::Json {
        at: ".".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(value)
}

/// One task in one shape; where both shapes say something, the flat one wins.
fn desired(task: WireTask) -> Result<Desired, Error> {
    let name = Name::try_from(task.name.unwrap_or_default())?;
    let refuse = |reason: String| Error::Field {
        name: name.to_string(),
        reason,
    };
    let nested = task.spec.unwrap_or(WireSpec {
        process: None,
        container: None,
    });
    let spec = match (task.process, task.container, nested.process, nested.container) {
        (Some(_), Some(_), _, _) | (None, None, Some(_), Some(_)) => {
            Err("it has both `process` and `container`: leave one out".to_owned())
        }
        (Some(wire), None, _, _) | (None, None, Some(wire), None) => process(wire).map(Spec::Process),
        (None, Some(wire), _, _) | (None, None, None, Some(wire)) => container(wire).map(Spec::Container),
        (None, None, None, None) if task.pod_template_spec.is_some() => {
            Err("`podTemplateSpec` is not supported: say what to run in `process` or in `spec.container`".to_owned())
        }
        (None, None, None, None) => Err("it says nothing to run: give it a `process` or a `spec`".to_owned()),
    };
    Ok(Desired {
        spec: spec.map_err(refuse)?,
        name,
    })
}

fn process(wire: WireProcess) -> Result<Process, String> {
    let command = texts("command", wire.command)?;
    if command.first().is_none_or(String::is_empty) {
        return Err("`process.command` must name a program".to_owned());
    }
    Ok(Process {
        command,
        args: texts("args", wire.args)?,
        env: variables(wire.env)?,
        working_dir: folder(wire.working_dir)?,
        timeout_seconds: seconds("timeoutSeconds", wire.timeout_seconds)?.filter(|seconds| *seconds > 0),
        termination_grace_period_seconds: seconds(
            "terminationGracePeriodSeconds",
            wire.termination_grace_period_seconds,
        )?,
    })
}

fn container(wire: WireContainer) -> Result<Container, String> {
    let image = text("image", wire.image.unwrap_or_default())?;
    if image.is_empty() {
        return Err("`container.image` must name an image".to_owned());
    }
    let mounts = wire.volume_mounts.unwrap_or_default();
    Ok(Container {
        image,
        command: texts("command", wire.command)?,
        args: texts("args", wire.args)?,
        env: variables(wire.env)?,
        working_dir: folder(wire.working_dir)?,
        volume_mounts: mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        timeout_seconds: seconds("timeoutSeconds", wire.timeout_seconds)?.filter(|seconds| *seconds > 0),
        termination_grace_period_seconds: seconds(
            "terminationGracePeriodSeconds",
            wire.termination_grace_period_seconds,
        )?,
    })
}

/// No argument, variable or path of a process can hold NUL.
fn text(field: &str, text: String) -> Result<String, String> {
    if text.contains('\0') {
        return Err(format!("`{field}` holds a NUL byte, which no process can be given"));
    }
    Ok(text)
}

fn texts(field: &str, texts: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let texts = texts.unwrap_or_default();
    texts.into_iter().map(|one| text(field, one)).collect()
}

fn variables(wire: Option<Vec<WireVariable>>) -> Result<Vec<Variable>, String> {
    let variables = wire.unwrap_or_default().into_iter();
    variables
        .map(|variable| {
            let name = text("env", variable.name.unwrap_or_default())?;
            if name.is_empty() || name.contains('=') {
                return Err(format!(
                    "`env` holds a variable with the name {name:?}: it must not be empty nor hold `=`"
                ));
            }
            if variable.value_from.is_some() {
                return Err(format!(
                    "variable `{name}` has a `valueFrom`, which only the kubelet can resolve: give its `value`"
                ));
            }
            Ok(Variable {
                value: text("env", variable.value.unwrap_or_default())?,
                name,
            })
        })
        .collect()
}

/// A missing and an empty folder are the same.
fn folder(path: Option<String>) -> Result<Option<String>, String> {
    let path = path.filter(|path| !path.is_empty());
    path.map(|path| text("workingDir", path)).transpose()
}

fn mount(wire: WireVolumeMount) -> Result<VolumeMount, String> {
    let name = text("volumeMounts", wire.name.unwrap_or_default())?;
    let mount_path = text("volumeMounts", wire.mount_path.unwrap_or_default())?;
    if name.is_empty() || !mount_path.starts_with('/') {
        return Err(format!(
            "volume mount {name:?} needs a `name` and an absolute `mountPath`"
        ));
    }
    let sub_path = wire.sub_path.filter(|path| !path.is_empty());
    let sub_path = sub_path.map(|path| text("volumeMounts", path)).transpose()?;
    if let Some(path) = &sub_path
        && (path.starts_with('/') || path.split('/').any(|part| part == ".."))
    {
        return Err(format!(
            "volume mount `{name}`: `subPath` must be relative, without `..`"
        ));
    }
    Ok(VolumeMount {
        name,
        mount_path,
        sub_path,
        read_only: wire.read_only.unwrap_or_default(),
    })
}

fn seconds(field: &str, seconds: Option<i64>) -> Result<Option<u64>, String> {
    let Some(seconds) = seconds else { return Ok(None) };
    match u64::try_from(seconds) {
        Ok(valid) if seconds <= LONGEST => Ok(Some(valid)),
        _ => Err(format!("`{field}` is {seconds}: it must be between 0 and {LONGEST}")),
    }
}

#[cfg(test)]
mod tests;
