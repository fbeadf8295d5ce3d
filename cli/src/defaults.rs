//! `pluginDefaults`: values that a flow or an operator sets once for every task of a type.
//!
//! From weakest to strongest: the flow's defaults, the operator's, the task itself, the flow's forced defaults, the
//! operator's forced ones. Within one of these an exact type beats a longer prefix, which beats a shorter one, and a
//! later entry beats an earlier one. Prefixes end on dot boundaries: `io.kestra.plugin.scripts.python` covers
//! `….python.Script` and not `….pythonic.Script`.
//!
//! Mappings merge key by key. Everything else, lists included, is replaced by the stronger side, and an explicit null
//! unsets the weaker side's value. `taskRunner.config` is one value that the stronger side replaces whole, so that
//! placeholders never mix with real credentials.

use crate::document::typed;
use crate::document::{Layer, Node, Problem, Value, nearest};
use crate::types::check::unknown_property;
use crate::types::{self, Schemas, canonical, task_types};

/// The task runner's type, and the name it had before.
pub(crate) const RUNNER_TYPES: [&str; 2] = [
    "io.kestra.plugin.ee.kubernetes.runner.Kubernetes",
    "io.kestra.plugin.kubernetes.runner.Kubernetes",
];

/// Who wrote a default. Later is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Flow,
    Operator,
}

/// One entry of `pluginDefaults`.
#[derive(Clone, Debug)]
pub(crate) struct PluginDefault {
    kind: String,
    forced: bool,
    values: Node,
    origin: Origin,
}

/// Read the `pluginDefaults` list of a flow or of an operator's file, whose shape has been checked. What is no default
/// becomes a problem.
pub(crate) fn read(list: &Node, origin: Origin, schemas: &Schemas, problems: &mut Vec<Problem>) -> Vec<PluginDefault> {
    let Value::List(items) = &list.value else {
        return Vec::new();
    };
    let mut defaults = Vec::new();
    for item in items {
        // What cannot be read was found when the shape was checked.
        let Ok(entry) = typed::read::<types::flow::PluginDefault>(item, "a default") else {
            continue;
        };
        let forced = entry.forced;
        let layer = match origin {
            Origin::Flow => Layer::FlowDefault { forced },
            Origin::Operator => Layer::OperatorDefault { forced },
        };
        let default = PluginDefault {
            kind: canonical(entry.kind.trim_end_matches('.')).to_owned(),
            forced,
            values: entry.values.said_by(layer),
            origin,
        };
        problems.extend(default.mistakes(item, schemas));
        defaults.push(default);
    }
    defaults
}

impl PluginDefault {
    /// Properties that no type which this default covers has, and a type that is nearly one.
    fn mistakes(&self, item: &Node, schemas: &Schemas) -> Vec<Problem> {
        let mut problems = Vec::new();
        let covered: Vec<&str> = task_types()
            .iter()
            .map(|task| task.name.as_str())
            .filter(|name| specificity(&self.kind, name).is_some())
            .collect();
        let runner = RUNNER_TYPES.iter().any(|name| specificity(&self.kind, name).is_some());
        if covered.is_empty() && !runner {
            let names: Vec<&str> = task_types()
                .iter()
                .map(|task| task.name.as_str())
                .chain(RUNNER_TYPES)
                .flat_map(|name| {
                    std::iter::once(name).chain(name.match_indices('.').filter_map(|(at, _)| name.get(..at)))
                })
                .collect();
            // Defaults for types that only other systems have are none of our business; a slip of the pen is.
            let near = nearest(&self.kind, &names).filter(|near| strsim::damerau_levenshtein(near, &self.kind) <= 2);
            if let (Some(near), Some(node)) = (near, item.get("type")) {
                let message = format!("no type of task begins with `{}`: did you mean `{near}`?", self.kind);
                problems.push(Problem::new(&node.place, message));
            }
            return problems;
        }
        let mut known: Vec<&str> = covered.iter().flat_map(|name| schemas.properties(name)).collect();
        known.sort_unstable();
        known.dedup();
        for (key, _) in self.values.entries() {
            if ["id", "type"].contains(&key.name.as_str()) {
                let message = format!(
                    "a default cannot change the `{}` of what it applies to: remove it",
                    key.name
                );
                problems.push(Problem::new(&key.place, message));
            } else if !runner && !known.contains(&key.name.as_str()) {
                let owner = format!("the tasks that the default for `{}` covers", self.kind);
                problems.push(unknown_property(key, &owner, &known));
            }
        }
        problems
    }
}

/// A task with all defaults applied, those of its task runner included. Of defaults for several types, a task gets the
/// properties that its own type has.
pub(crate) fn apply(
    task: &Node,
    task_kind: &str,
    defaults: &[PluginDefault],
    schemas: &Schemas,
) -> Result<Node, Problem> {
    let known = schemas.properties(task_kind);
    let fitting: Vec<PluginDefault> = defaults
        .iter()
        .map(|default| {
            let mut default = default.clone();
            if let Value::Map(entries) = &mut default.values.value
                && default.kind != task_kind
            {
                entries.retain(|(key, _)| known.contains(&key.name.as_str()));
            }
            default
        })
        .collect();
    let mut task = layer(task, &[task_kind], &fitting, Level::Task)?;
    if !known.contains(&"taskRunner") {
        return Ok(task);
    }
    let mut runner = match task.get("taskRunner") {
        Some(runner) => runner.clone(),
        None => Node::built_in(Value::Map(Vec::new())),
    };
    if matches!(runner.value, Value::Map(_)) {
        let kind = runner.get("type").and_then(Node::text);
        let kinds: Vec<&str> = match &kind {
            Some(kind) if !RUNNER_TYPES.contains(&kind.as_str()) => vec![kind.as_str()],
            _ => RUNNER_TYPES.to_vec(),
        };
        // A default that covers the task has been applied to all of it, its runner included.
        let others: Vec<PluginDefault> = defaults
            .iter()
            .filter(|default| specificity(&default.kind, task_kind).is_none())
            .cloned()
            .collect();
        runner = layer(&runner, &kinds, &others, Level::Runner)?;
    }
    if let Value::Map(entries) = &mut task.value {
        match entries.iter_mut().find(|(key, _)| key.name == "taskRunner") {
            Some((_, node)) => *node = runner,
            None if runner.entries().is_empty() => {}
            None => {
                let key = crate::document::Key {
                    name: "taskRunner".into(),
                    place: runner.place.clone(),
                };
                entries.push((key, runner));
            }
        }
    }
    Ok(task)
}

/// What is being merged decides which keys are special.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Task,
    Runner,
    Value,
}

fn layer(node: &Node, kinds: &[&str], defaults: &[PluginDefault], level: Level) -> Result<Node, Problem> {
    let mut matching: Vec<(usize, &PluginDefault)> = defaults
        .iter()
        .filter_map(|default| {
            kinds
                .iter()
                .filter_map(|kind| specificity(&default.kind, kind))
                .max()
                .map(|s| (s, default))
        })
        .collect();
    // The sort is stable: of equals the later entry stays the stronger one.
    matching.sort_by_key(|(specificity, default)| (default.forced, default.origin, *specificity));
    let mut merged = Node {
        value: Value::Map(Vec::new()),
        place: node.place.clone(),
    };
    for (_, default) in matching.iter().filter(|(_, default)| !default.forced) {
        merge(&mut merged, &default.values, level)?;
    }
    merge(&mut merged, node, level)?;
    merged.place = node.place.clone();
    for (_, default) in matching.iter().filter(|(_, default)| default.forced) {
        merge(&mut merged, &default.values, level)?;
    }
    Ok(merged)
}

/// How precisely a default's type names `kind`; none if it does not.
fn specificity(default: &str, kind: &str) -> Option<usize> {
    if default == kind {
        return Some(usize::MAX);
    }
    let prefix = default.strip_suffix('.').unwrap_or(default);
    kind.strip_prefix(prefix)?.starts_with('.').then_some(prefix.len())
}

fn merge(base: &mut Node, over: &Node, level: Level) -> Result<(), Problem> {
    let (Value::Map(entries), Value::Map(stronger)) = (&mut base.value, &over.value) else {
        *base = over.clone();
        return Ok(());
    };
    for (key, value) in stronger {
        let Some((_, weaker)) = entries.iter_mut().find(|(other, _)| other.name == key.name) else {
            entries.push((key.clone(), value.clone()));
            continue;
        };
        match (level, key.name.as_str()) {
            (Level::Runner, "config") => *weaker = value.clone(),
            (Level::Runner, "type") => {
                same_runner(weaker, value)?;
                *weaker = value.clone();
            }
            (Level::Task, "taskRunner") => merge(weaker, value, Level::Runner)?,
            _ => merge(weaker, value, Level::Value)?,
        }
    }
    Ok(())
}

/// Properties of one runner make no sense to another, so a default for another runner is a mistake and not a merge.
fn same_runner(weaker: &Node, stronger: &Node) -> Result<(), Problem> {
    let (Some(one), Some(other)) = (weaker.text(), stronger.text()) else {
        return Ok(());
    };
    let equal = one == other || (RUNNER_TYPES.contains(&one.as_str()) && RUNNER_TYPES.contains(&other.as_str()));
    if equal {
        return Ok(());
    }
    let message = format!(
        "task runner `{other}` meets `{one}` of {}: use one type, or remove one of the two",
        weaker.place
    );
    Err(Problem::new(&stronger.place, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;
    use std::path::Path;

    const SCRIPT: &str = "io.kestra.plugin.scripts.python.Script";

    fn defaults(text: &str, origin: Origin) -> Vec<PluginDefault> {
        let node = parse(Path::new("defaults.yaml"), text).unwrap();
        read(
            node.get("pluginDefaults").unwrap(),
            origin,
            &Schemas::new(),
            &mut Vec::new(),
        )
    }

    fn effective(task: &str, flow: &str, operator: &str) -> Result<serde_json::Value, Problem> {
        let mut all = defaults(flow, Origin::Flow);
        all.extend(defaults(operator, Origin::Operator));
        let task = parse(Path::new("flow.yaml"), task).unwrap();
        Ok(apply(&task, SCRIPT, &all, &Schemas::new())?.to_json())
    }

    const NONE: &str = "pluginDefaults: []";

    #[test]
    fn exact_beats_longer_beats_shorter_whatever_the_order() {
        let flow = "pluginDefaults:
          - {type: io.kestra.plugin.scripts.python.Script, values: {containerImage: exact}}
          - {type: io.kestra.plugin.scripts, values: {containerImage: short, timeout: short, runIf: short}}
          - {type: io.kestra.plugin.scripts.python, values: {containerImage: long, timeout: long}}";
        let value = effective("{id: t}", flow, NONE).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"containerImage": "exact", "timeout": "long", "runIf": "short", "id": "t"})
        );
    }

    #[test]
    fn prefixes_end_on_dots() {
        let flow = "pluginDefaults: [{type: io.kestra.plugin.scripts.pyth, values: {timeout: wrong}}]";
        assert_eq!(
            effective("{id: t}", flow, NONE).unwrap(),
            serde_json::json!({"id": "t"})
        );
        let flow = "pluginDefaults: [{type: io.kestra.plugin.scripts., values: {timeout: right}}]";
        assert_eq!(
            effective("{id: t}", flow, NONE).unwrap(),
            serde_json::json!({"timeout": "right", "id": "t"})
        );
    }

    #[test]
    fn task_beats_default_and_forced_beats_task_and_operator_beats_flow() {
        let exact = |forced, value| {
            format!("pluginDefaults: [{{type: {SCRIPT}, forced: {forced}, values: {{timeout: {value}}}}}]")
        };
        let value =
            |task: &str, flow: &str, operator: &str| effective(task, flow, operator).unwrap()["timeout"].clone();
        assert_eq!(
            value("{id: t}", &exact(false, "flow"), &exact(false, "operator")),
            "operator"
        );
        assert_eq!(
            value("{timeout: task}", &exact(false, "flow"), &exact(false, "operator")),
            "task"
        );
        assert_eq!(
            value("{timeout: task}", &exact(true, "flow"), &exact(false, "operator")),
            "flow"
        );
        assert_eq!(
            value("{timeout: task}", &exact(true, "flow"), &exact(true, "operator")),
            "operator"
        );
        let short = "pluginDefaults: [{type: io.kestra, forced: true, values: {timeout: operator}}]";
        assert_eq!(value("{timeout: task}", &exact(true, "flow"), short), "operator");
    }

    #[test]
    fn maps_merge_lists_are_replaced_and_null_unsets() {
        let flow = "pluginDefaults: [{type: io.kestra, values: {env: {A: d, B: d}, outputFiles: [d], timeout: PT1M}}]";
        let value = effective("{env: {B: t, C: t}, outputFiles: [t], timeout: }", flow, NONE).unwrap();
        let expected =
            serde_json::json!({"env": {"A": "d", "B": "t", "C": "t"}, "outputFiles": ["t"], "timeout": null});
        assert_eq!(value, expected);
    }

    #[test]
    fn config_is_one_value() {
        let operator = "pluginDefaults:
          - type: io.kestra.plugin.scripts
            forced: true
            values: {taskRunner: {namespace: jobs, config: {masterUrl: real, oauthToken: real}}}";
        let task = "{taskRunner: {pullPolicy: ALWAYS, config: {masterUrl: placeholder, clientKeyData: placeholder}}}";
        let value = effective(task, NONE, operator).unwrap();
        let expected = serde_json::json!({
            "taskRunner": {"pullPolicy": "ALWAYS", "namespace": "jobs", "config": {"masterUrl": "real", "oauthToken": "real"}}
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_default_on_the_runner_composes_with_one_that_injects_it() {
        let flow = "pluginDefaults:
          - {type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes, values: {namespace: jobs}}
          - {type: io.kestra.plugin.scripts, values: {taskRunner: {type: io.kestra.plugin.kubernetes.runner.Kubernetes, delete: false}}}";
        let value = effective("{id: t}", flow, NONE).unwrap();
        assert_eq!(value["taskRunner"]["namespace"], "jobs");
        assert_eq!(value["taskRunner"]["delete"], false);
        let runner =
            "pluginDefaults: [{type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes, values: {namespace: jobs}}]";
        assert_eq!(
            effective("{id: t}", runner, NONE).unwrap()["taskRunner"]["namespace"],
            "jobs"
        );
    }

    #[test]
    fn another_runner_type_is_a_mistake() {
        let flow = "pluginDefaults: [{type: io.kestra, forced: true, values: {taskRunner: {type: a.Docker}}}]";
        let task = "{taskRunner: {type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes}}";
        let problem = effective(task, flow, NONE).unwrap_err().to_string();
        insta::assert_snapshot!(problem, @"defaults.yaml:1:78: task runner `a.Docker` meets `io.kestra.plugin.ee.kubernetes.runner.Kubernetes` of flow.yaml:1:21: use one type, or remove one of the two");
    }
}
