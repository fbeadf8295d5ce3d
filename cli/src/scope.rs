//! What expressions can see, and the files that they can name.
//!
//! A file renders to a URI, `podrun:///inputs/<input>` or `podrun:///outputs/<task>/<path>`. Where a value of
//! `inputFiles` is exactly such a URI, the file takes its place; everything else is literal content. Only files of the
//! same execution have a URI, so no expression can name another file of the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use podrun_host::{Origin, Outcome, origin_folder};
use serde_json::{Map, Value, json};

use crate::expression::Files;
use crate::files::Readable;
use crate::flow::Flow;
use crate::inputs::{StoredInput, StoredValue};
use crate::secrets::envs;
use crate::state::ExecutionDir;

/// The start of every file's URI.
pub(crate) const SCHEME: &str = "podrun:///";

/// A file of this execution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredFile {
    pub(crate) path: PathBuf,
    pub(crate) executable: bool,
}

/// The values and files that a task can use.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) values: Map<String, Value>,
    pub(crate) files: BTreeMap<String, StoredFile>,
}

/// A task that has ended, with what later tasks can use of it.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    pub(crate) vars: Map<String, Value>,
}

impl Scope {
    /// What is known before any task has run.
    pub(crate) fn new(flow: &Flow, execution: &str, inputs: &[StoredInput], folder: &ExecutionDir) -> Self {
        let mut files = BTreeMap::new();
        let mut values = Map::new();
        for input in inputs {
            let value = match &input.value {
                StoredValue::Plain(value) => value.clone(),
                StoredValue::File { executable, .. } => {
                    let uri = format!("{SCHEME}inputs/{}", input.id);
                    files.insert(
                        uri.clone(),
                        StoredFile {
                            path: folder.input(&input.id),
                            executable: *executable,
                        },
                    );
                    uri.into()
                }
            };
            values.insert(input.id.clone(), value);
        }
        let values = [
            ("inputs", Value::Object(values)),
            ("outputs", json!({})),
            ("flow", json!({"id": flow.id, "namespace": flow.namespace})),
            ("execution", json!({"id": execution})),
            ("envs", envs()),
        ];
        Self {
            values: values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            files,
        }
    }

    /// Where an input lies before it is stored.
    pub(crate) fn found_at(&mut self, input: &str, path: &Path) {
        if let Some(file) = self.files.get_mut(&format!("{SCHEME}inputs/{input}")) {
            file.path = path.to_owned();
        }
    }

    /// Add what a task gave back.
    pub(crate) fn add(&mut self, finished: &Finished, folder: &ExecutionDir) {
        let mut names = Map::new();
        let outputs = folder.task_outputs(&finished.task, finished.attempt);
        // Where both directories hold a file of that name, the one that `outputFiles` asked for is meant.
        let rank = |origin: Origin| matches!(origin, Origin::WorkingDir);
        let mut files: Vec<_> = finished.outcome.files.iter().collect();
        files.sort_by_key(|file| rank(file.origin));
        for file in files {
            let uri = format!(
                "{SCHEME}outputs/{}/{}/{}",
                finished.task,
                origin_folder(file.origin),
                file.path
            );
            let path = outputs.join(origin_folder(file.origin)).join(&file.path);
            self.files.insert(
                uri.clone(),
                StoredFile {
                    path,
                    executable: file.mode & 0o111 != 0,
                },
            );
            names.insert(file.path.clone(), uri.into());
        }
        let value = json!({
            "exitCode": finished.outcome.exit_code,
            "outputFiles": names,
            "vars": finished.vars,
        });
        if let Some(Value::Object(outputs)) = self.values.get_mut("outputs") {
            outputs.insert(finished.task.clone(), value);
        }
    }

    /// The values for one attempt of a task.
    pub(crate) fn for_task(&self, task: &str, task_run: &str, attempt: u32) -> Self {
        let mut scope = self.clone();
        scope.values.insert("task".into(), json!({"id": task}));
        scope
            .values
            .insert("taskrun".into(), json!({"id": task_run, "attempt": attempt}));
        scope
    }

    /// The files for expressions that read them.
    pub(crate) fn readable(&self) -> Arc<dyn Files> {
        let files = self.files.iter().map(|(uri, file)| (uri.clone(), file.path.clone()));
        Arc::new(Readable::new(files.collect()))
    }

    /// Add the directories, which the runner decides.
    pub(crate) fn directories(&mut self, working: &str, output: &str) {
        self.values.insert("workingDir".into(), working.into());
        self.values.insert("outputDir".into(), output.into());
    }
}
