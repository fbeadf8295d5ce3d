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

use crate::document::{Node, Problem, Value, unknown};

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

/// Read the `pluginDefaults` list of a flow or of an operator's file.
pub(crate) fn read(list: &Node, origin: Origin) -> Result<Vec<PluginDefault>, Problem> {
    let Value::List(items) = &list.value else {
        return Err(Problem::new(
            &list.place,
            format!("`pluginDefaults` must be a list, not {}", list.kind()),
        ));
    };
    items.iter().map(|item| read_one(item, origin)).collect()
}

fn read_one(item: &Node, origin: Origin) -> Result<PluginDefault, Problem> {
    if !matches!(item.value, Value::Map(_)) {
        let message = format!(
            "an entry of `pluginDefaults` must be a mapping with `type` and `values`, not {}",
            item.kind()
        );
        return Err(Problem::new(&item.place, message));
    }
    for (key, _) in item.entries() {
        if !["type", "forced", "values"].contains(&key.name.as_str()) {
            return Err(unknown(
                &key.place,
                "property of `pluginDefaults`",
                &key.name,
                &["type", "forced", "values"],
            ));
        }
    }
    let Some(kind) = item.get("type").and_then(Node::text) else {
        return Err(Problem::new(
            &item.place,
            "an entry of `pluginDefaults` needs a `type`: a task's type or a prefix of it",
        ));
    };
    let forced = match item.get("forced") {
        None => false,
        Some(Node {
            value: Value::Bool(forced),
            ..
        }) => *forced,
        Some(node) => {
            return Err(Problem::new(
                &node.place,
                format!("`forced` must be true or false, not {}", node.kind()),
            ));
        }
    };
    let values = match item.get("values") {
        Some(
            node @ Node {
                value: Value::Map(_), ..
            },
        ) => node.clone(),
        Some(node) => {
            return Err(Problem::new(
                &node.place,
                format!("`values` must be a mapping, not {}", node.kind()),
            ));
        }
        None => {
            return Err(Problem::new(
                &item.place,
                format!("the default for `{kind}` needs `values`"),
            ));
        }
    };
    if let Some(node) = values.get("type") {
        return Err(Problem::new(
            &node.place,
            "a default cannot change the `type` that it applies to; remove it",
        ));
    }
    Ok(PluginDefault {
        kind,
        forced,
        values,
        origin,
    })
}

/// A task with all defaults applied, those of its task runner included.
pub(crate) fn apply(task: &Node, task_kind: &str, defaults: &[PluginDefault]) -> Result<Node, Problem> {
    let mut task = layer(task, &[task_kind], defaults, Level::Task)?;
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
        read(node.get("pluginDefaults").unwrap(), origin).unwrap()
    }

    fn effective(task: &str, flow: &str, operator: &str) -> Result<serde_json::Value, Problem> {
        let mut all = defaults(flow, Origin::Flow);
        all.extend(defaults(operator, Origin::Operator));
        let task = parse(Path::new("flow.yaml"), task).unwrap();
        Ok(apply(&task, SCRIPT, &all)?.to_json())
    }

    const NONE: &str = "pluginDefaults: []";

    #[test]
    fn exact_beats_longer_beats_shorter_whatever_the_order() {
        let flow = "pluginDefaults:
          - {type: io.kestra.plugin.scripts.python.Script, values: {a: exact}}
          - {type: io.kestra.plugin.scripts, values: {a: short, b: short, c: short}}
          - {type: io.kestra.plugin.scripts.python, values: {a: long, b: long}}";
        let value = effective("{id: t}", flow, NONE).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": "exact", "b": "long", "c": "short", "id": "t"})
        );
    }

    #[test]
    fn prefixes_end_on_dots() {
        let flow = "pluginDefaults: [{type: io.kestra.plugin.scripts.pyth, values: {a: wrong}}]";
        assert_eq!(
            effective("{id: t}", flow, NONE).unwrap(),
            serde_json::json!({"id": "t"})
        );
        let flow = "pluginDefaults: [{type: io.kestra.plugin.scripts., values: {a: right}}]";
        assert_eq!(
            effective("{id: t}", flow, NONE).unwrap(),
            serde_json::json!({"a": "right", "id": "t"})
        );
    }

    #[test]
    fn task_beats_default_and_forced_beats_task_and_operator_beats_flow() {
        let exact =
            |forced, value| format!("pluginDefaults: [{{type: {SCRIPT}, forced: {forced}, values: {{a: {value}}}}}]");
        let value = |task: &str, flow: &str, operator: &str| effective(task, flow, operator).unwrap()["a"].clone();
        assert_eq!(
            value("{id: t}", &exact(false, "flow"), &exact(false, "operator")),
            "operator"
        );
        assert_eq!(
            value("{a: task}", &exact(false, "flow"), &exact(false, "operator")),
            "task"
        );
        assert_eq!(
            value("{a: task}", &exact(true, "flow"), &exact(false, "operator")),
            "flow"
        );
        assert_eq!(
            value("{a: task}", &exact(true, "flow"), &exact(true, "operator")),
            "operator"
        );
        let short = "pluginDefaults: [{type: io.kestra, forced: true, values: {a: operator}}]";
        assert_eq!(value("{a: task}", &exact(true, "flow"), short), "operator");
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
