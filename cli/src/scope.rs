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

use crate::at::{At, Round, task_of};
use crate::document::{Node, Problem};
use crate::expression::{Files, Renderer, Text};
use crate::files::Readable;
use crate::flow::Flow;
use crate::inputs::{StoredInput, StoredValue};
use crate::journal::now;
use crate::report::time;
use crate::secrets::envs;
use crate::state::ExecutionDir;

/// The values of all rounds around, the outermost first: where `currentEachOutput` looks. No expression can name it.
pub(crate) const ROUNDS: &str = "$rounds";

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
    /// The types of all tasks by their ids.
    types: Arc<BTreeMap<String, &'static str>>,
}

/// A script that has ended, with what later tasks can use of it.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// The name of its run, as [`At::name`] makes it.
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    pub(crate) vars: Map<String, Value>,
}

/// What the defaults of inputs can use, beside the inputs before them.
pub(crate) fn before_inputs(flow: &Flow) -> Map<String, Value> {
    Map::from_iter([
        ("flow".to_owned(), json!({"id": flow.id, "namespace": flow.namespace})),
        ("envs".to_owned(), envs()),
        (
            "vars".to_owned(),
            flow.variables.as_ref().map_or_else(|| json!({}), Node::to_json),
        ),
    ])
}

impl Scope {
    /// What is known before any task has run. `started` is in milliseconds since the Unix epoch.
    pub(crate) fn new(
        flow: &Flow,
        execution: &str,
        started: i64,
        inputs: &[StoredInput],
        folder: &ExecutionDir,
    ) -> Self {
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
            (
                "execution",
                json!({"id": execution, "originalId": execution, "startDate": time(started), "state": "RUNNING"}),
            ),
            ("envs", envs()),
            ("vars", flow.variables.as_ref().map_or_else(|| json!({}), Node::to_json)),
            ("tasks", json!({})),
        ];
        Self {
            values: values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            files,
            types: Arc::new(
                flow.steps()
                    .into_iter()
                    .map(|step| (step.id.clone(), step.type_name))
                    .collect(),
            ),
        }
    }

    /// Add the flow's labels, whose texts may use all that is known by now.
    pub(crate) fn label(&mut self, flow: &Flow, renderer: &Renderer) -> Result<(), Problem> {
        let label = |(name, text): &(String, Text)| Ok((name.clone(), renderer.render(text, &self.values)?.into()));
        let labels: Map<String, Value> = flow.labels.iter().map(label).collect::<Result<_, Problem>>()?;
        self.values.insert("labels".into(), labels.into());
        Ok(())
    }

    /// Where an input lies before it is stored.
    pub(crate) fn found_at(&mut self, input: &str, path: &Path) {
        if let Some(file) = self.files.get_mut(&format!("{SCHEME}inputs/{input}")) {
            file.path = path.to_owned();
        }
    }

    /// Add what a script gave back.
    pub(crate) fn add(&mut self, finished: &Finished, at: &At, folder: &ExecutionDir) {
        let mut names = Map::new();
        let outputs = folder.task_outputs(&finished.name, finished.attempt);
        // Where both directories hold a file of that name, the one that `outputFiles` asked for is meant.
        let rank = |origin: Origin| matches!(origin, Origin::WorkingDir);
        let mut files: Vec<_> = finished.outcome.files.iter().collect();
        files.sort_by_key(|file| rank(file.origin));
        for file in files {
            let origin = origin_folder(file.origin);
            let uri = format!("{SCHEME}outputs/{}/{origin}/{}", finished.name, file.path);
            let stored = StoredFile {
                path: outputs.join(origin).join(&file.path),
                executable: file.mode & 0o111 != 0,
            };
            self.files.insert(uri.clone(), stored);
            names.insert(file.path.clone(), uri.into());
        }
        let value = json!({
            "exitCode": finished.outcome.exit_code,
            "outputFiles": names,
            "vars": finished.vars,
        });
        self.add_value(task_of(&finished.name), at, value);
    }

    /// Add what a task published: `outputs.<task>`, or `outputs.<task>[<value>]` in a round of a ForEach.
    pub(crate) fn add_value(&mut self, task: &str, at: &At, value: Value) {
        self.put("outputs", task, at, value);
    }

    /// Add how a task ended: `tasks.<task>.state`, or `tasks.<task>[<value>].state` in a round of a ForEach.
    pub(crate) fn add_state(&mut self, task: &str, at: &At, state: &str) {
        self.put("tasks", task, at, json!({"state": state}));
    }

    fn put(&mut self, root: &str, task: &str, at: &At, value: Value) {
        let mut place = self.values.entry(root).or_insert_with(|| json!({}));
        for key in std::iter::once(task.to_owned()).chain(at.rounds.iter().map(Round::key)) {
            if !place.is_object() {
                *place = json!({});
            }
            let Value::Object(map) = place else { return };
            place = map.entry(key).or_insert(Value::Null);
        }
        *place = value;
    }

    /// True once [`Scope::add_value`] added what the task published at that place.
    pub(crate) fn has_value(&self, task: &str, at: &At) -> bool {
        let mut place = self.values.get("outputs");
        for key in std::iter::once(task.to_owned()).chain(at.rounds.iter().map(Round::key)) {
            place = place.and_then(|value| value.get(key));
        }
        place.is_some()
    }

    /// The values for one attempt of a task.
    pub(crate) fn for_task(&self, task: &str, task_run: &str, attempt: u32, at: &At) -> Self {
        let mut scope = self.clone();
        let mut insert = |name: &str, value: Value| scope.values.insert(name.to_owned(), value);
        insert("task", json!({"id": task, "type": self.types.get(task)}));
        let mut own = json!({"id": task_run, "attempt": attempt, "attemptsCount": attempt, "startDate": time(now())});
        if let (Some(round), Value::Object(own)) = (at.rounds.last(), &mut own) {
            own.insert("value".to_owned(), round.value.clone());
            own.insert("iteration".to_owned(), round.index.into());
        }
        insert("taskrun", own);
        let around = at.around().into_iter();
        let parents: Vec<Value> = around
            .map(|round| json!({"taskrun": {"value": round.value, "iteration": round.index}}))
            .collect();
        if let Some(parent) = parents.first() {
            insert("parent", parent.clone());
            insert("parents", parents.into());
        }
        if !at.rounds.is_empty() {
            insert(ROUNDS, at.rounds.iter().map(Round::key).collect());
        }
        if let Some(error) = &at.error {
            insert("error", error.clone());
        }
        if let Some(logs) = &at.error_logs {
            insert("errorLogs", logs.clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(values: &[&str]) -> At {
        values.iter().enumerate().fold(At::default(), |at, (index, value)| {
            at.inside(Round::new(index, (*value).into()))
        })
    }

    #[test]
    fn outputs_of_rounds_lie_side_by_side() {
        let mut scope = Scope {
            values: Map::new(),
            files: BTreeMap::new(),
            types: Arc::default(),
        };
        scope.add_value("plain", &at(&[]), json!({"value": 1}));
        scope.add_value("each", &at(&["a"]), json!({"value": 2}));
        scope.add_value("each", &at(&["b"]), json!({"value": 3}));
        scope.add_value("deep", &at(&["a", "x"]), json!({"value": 4}));
        let expected = json!({
            "plain": {"value": 1},
            "each": {"a": {"value": 2}, "b": {"value": 3}},
            "deep": {"a": {"x": {"value": 4}}},
        });
        assert_eq!(scope.values["outputs"], expected);
    }

    #[test]
    fn a_task_sees_its_own_round_and_those_around_it() {
        let scope = Scope {
            values: Map::new(),
            files: BTreeMap::new(),
            types: Arc::default(),
        };
        let scope = scope.for_task("t", "x.t.0-1", 1, &at(&["outer", "inner"])).values;
        assert_eq!(scope["taskrun"]["value"], "inner");
        assert_eq!(scope["taskrun"]["iteration"], 1);
        assert_eq!(scope["parent"]["taskrun"]["value"], "outer");
        assert_eq!(scope["parents"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_task_in_a_group_sees_the_round_of_the_group() {
        let scope = Scope {
            values: Map::new(),
            files: BTreeMap::new(),
            types: Arc::default(),
        };
        let each = at(&["a"]);
        assert!(!scope.for_task("t", "x.t.0", 1, &each).values.contains_key("parent"));
        let values = scope.for_task("t", "x.t.0", 1, &each.inside_group()).values;
        assert_eq!(values["parent"]["taskrun"]["value"], "a");
        assert_eq!(values["taskrun"]["value"], "a");
    }
}
