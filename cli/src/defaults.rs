//! `pluginDefaults`: values that a flow or an operator sets once for every task of a type.
//!
//! From weakest to strongest: the flow's defaults, the operator's, the task itself, the flow's forced defaults, the
//! operator's forced ones. Within one of these an exact type beats a longer prefix, which beats a shorter one, and a
//! later entry beats an earlier one. Prefixes end on dot boundaries: `io.kestra.plugin.scripts.python` covers
//! `….python.Script` and not `….pythonic.Script`.
//!
//! It is one order for defaults of the task's type and of its runner's type: what an operator forces on the one, no flow
//! can take back on the other. A beginning that covers both gives each the properties that it has.
//!
//! Mappings merge key by key. Everything else, lists included, is replaced by the stronger side, and an explicit null
//! unsets the weaker side's value. `taskRunner.config` is one value that the stronger side replaces whole, so that
//! placeholders never mix with real credentials.

use crate::document::typed;
use crate::document::{Key, Layer, Node, Problem, Value, nearest};
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
        let tasks = task_types().iter().map(|task| task.name.as_str());
        let tasks = tasks.filter(|name| specificity(&self.kind, name).is_some()).count();
        let runner = self.of_runner().is_some();
        if tasks == 0 && !runner {
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
        let mut known = self.properties_of_tasks(schemas);
        // What a runner alone gets is looked at in the tasks that have one, as is what a runner refuses with a reason.
        let (all_known, refused) = match (runner, schemas.of_runner()) {
            (false, _) => (true, Vec::new()),
            (true, Some(runner)) if tasks > 0 => {
                known.extend(runner.properties);
                (true, runner.refused)
            }
            (true, _) => (false, Vec::new()),
        };
        known.sort_unstable();
        known.dedup();
        for (key, _) in self.values.entries() {
            let name = key.name.as_str();
            if ["id", "type"].contains(&name) {
                let message = format!("a default cannot change the `{name}` of what it applies to: remove it");
                problems.push(Problem::new(&key.place, message));
            } else if all_known && !known.contains(&name) && !refused.contains(&name) {
                let covered = if runner { "tasks and runners" } else { "tasks" };
                let owner = format!("the {covered} that the default for `{}` covers", self.kind);
                problems.push(unknown_property(key, &owner, &known));
            }
        }
        problems
    }

    /// The properties of all types of tasks that this default covers.
    fn properties_of_tasks<'s>(&self, schemas: &'s Schemas) -> Vec<&'s str> {
        let covered = task_types()
            .iter()
            .filter(|task| specificity(&self.kind, &task.name).is_some());
        covered.flat_map(|task| schemas.properties(&task.name)).collect()
    }

    /// How precisely this default names the type of a task's runner; none if it does not.
    fn of_runner(&self) -> Option<usize> {
        let names = RUNNER_TYPES.iter();
        names.filter_map(|name| specificity(&self.kind, name)).max()
    }

    /// What this default says about a task of that type, its runner included; none if it is about others.
    fn share(&self, task_kind: &str, schemas: &Schemas) -> Result<Option<Share>, Problem> {
        let known = schemas.properties(task_kind);
        let of_task = specificity(&self.kind, task_kind);
        let of_runner = self.of_runner().filter(|_| known.contains(&"taskRunner"));
        let Some(specificity) = of_task.max(of_runner) else {
            return Ok(None);
        };
        let others = self.properties_of_tasks(schemas);
        let (mut own, mut runners) = (Vec::new(), Vec::new());
        for (key, value) in self.values.entries() {
            let name = key.name.as_str();
            if of_task == Some(EXACTLY) || (of_task.is_some() && known.contains(&name)) {
                own.push((key.clone(), value.clone()));
            } else if of_runner.is_some() && !others.contains(&name) {
                runners.push((key.clone(), value.clone()));
            }
        }
        let node = |entries: Vec<(Key, Node)>| Node {
            value: Value::Map(entries),
            place: self.values.place.clone(),
        };
        let mut values = node(Vec::new());
        if !runners.is_empty() {
            let key = Key {
                name: "taskRunner".to_owned(),
                place: self.values.place.clone(),
            };
            values.value = Value::Map(vec![(key, node(runners))]);
        }
        merge(&mut values, &node(own), Level::Task)?;
        Ok(Some(Share {
            rank: (self.forced, self.origin, specificity),
            values,
        }))
    }
}

/// What a default says about one task.
struct Share {
    /// Forced or not, whose it is, how precisely it names the type. Later is stronger.
    rank: (bool, Origin, usize),
    values: Node,
}

/// A task with all defaults applied, those of its task runner included. Of defaults for several types, a task gets the
/// properties that its own type has, and its runner those that none of the types of tasks has.
pub(crate) fn apply(
    task: &Node,
    task_kind: &str,
    defaults: &[PluginDefault],
    schemas: &Schemas,
) -> Result<Node, Problem> {
    let shares = defaults
        .iter()
        .filter_map(|default| default.share(task_kind, schemas).transpose());
    let mut shares: Vec<Share> = shares.collect::<Result<_, _>>()?;
    // The sort is stable: of equals the later entry stays the stronger one.
    shares.sort_by_key(|share| share.rank);
    let (forced, weaker): (Vec<Share>, Vec<Share>) = shares.into_iter().partition(|share| share.rank.0);
    let mut merged = Node {
        value: Value::Map(Vec::new()),
        place: task.place.clone(),
    };
    for share in &weaker {
        merge(&mut merged, &share.values, Level::Task)?;
    }
    merge(&mut merged, task, Level::Task)?;
    for share in &forced {
        merge(&mut merged, &share.values, Level::Task)?;
    }
    merged.place = task.place.clone();
    // What is wrong with a runner as a whole is said where the task has it.
    if let (Value::Map(entries), Some(own)) = (&mut merged.value, task.get("taskRunner"))
        && let Some((_, runner)) = entries.iter_mut().find(|(key, _)| key.name == "taskRunner")
    {
        runner.place = own.place.clone();
    }
    Ok(merged)
}

/// What is being merged decides which keys are special.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Task,
    Runner,
    Value,
}

/// How precisely a type names itself.
const EXACTLY: usize = usize::MAX;

/// How precisely a default's type names `kind`; none if it does not.
fn specificity(default: &str, kind: &str) -> Option<usize> {
    if default == kind {
        return Some(EXACTLY);
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

    const RUNNER: &str = "io.kestra.plugin.ee.kubernetes.runner.Kubernetes";

    /// A list with one default that sets a property of the task runner, by the type of tasks or by that of the runner.
    fn on(kind: &str, forced: bool, who: &str) -> String {
        let values = match kind {
            RUNNER => format!("{{namespace: {who}, config: {{masterUrl: {who}}}}}"),
            _ => format!("{{taskRunner: {{namespace: {who}, config: {{masterUrl: {who}}}}}}}"),
        };
        format!("pluginDefaults: [{{type: {kind}, forced: {forced}, values: {values}}}]")
    }

    #[test]
    fn nothing_that_a_flow_forces_on_one_type_beats_what_the_operator_forces_on_another() {
        let scripts = "io.kestra.plugin.scripts";
        for (flow, operator) in [
            (RUNNER, scripts),
            (scripts, RUNNER),
            (SCRIPT, RUNNER),
            (RUNNER, "io.kestra"),
        ] {
            let value = effective("{id: t}", &on(flow, true, "flow"), &on(operator, true, "operator")).unwrap();
            let expected = serde_json::json!({"namespace": "operator", "config": {"masterUrl": "operator"}});
            assert_eq!(value["taskRunner"], expected, "{flow} {operator}");
        }
    }

    #[test]
    fn defaults_on_the_task_and_on_its_runner_are_in_one_order() {
        let scripts = "io.kestra.plugin.scripts";
        let task = "{taskRunner: {namespace: task}}";
        let namespace = |task: &str, flow: &str, operator: &str| {
            effective(task, flow, operator).unwrap()["taskRunner"]["namespace"].clone()
        };
        for (one, other) in [(scripts, RUNNER), (RUNNER, scripts), (SCRIPT, RUNNER)] {
            let (flow, operator) = (on(one, false, "flow"), on(other, false, "operator"));
            assert_eq!(namespace("{id: t}", &flow, &operator), "operator", "{one} {other}");
            assert_eq!(namespace(task, &flow, &operator), "task", "{one} {other}");
            let flow = on(one, true, "flow");
            assert_eq!(namespace(task, &flow, &operator), "flow", "{one} {other}");
        }
        // Within a level the exact type of the runner beats a beginning of the task's.
        let both =
            on(RUNNER, false, "runner").replace(']', ", ") + on(scripts, false, "scripts").split('[').nth(1).unwrap();
        assert_eq!(namespace("{id: t}", &both, NONE), "runner");
    }

    #[test]
    fn a_beginning_of_both_types_gives_each_what_it_has() {
        let flow =
            "pluginDefaults: [{type: io.kestra.plugin, values: {pullPolicy: ALWAYS, timeout: PT1M, level: WARN}}]";
        let value = effective("{id: t}", flow, NONE).unwrap();
        let expected = serde_json::json!({"taskRunner": {"pullPolicy": "ALWAYS"}, "timeout": "PT1M", "id": "t"});
        assert_eq!(value, expected);
    }

    #[test]
    fn another_runner_type_is_a_mistake() {
        let flow = "pluginDefaults: [{type: io.kestra, forced: true, values: {taskRunner: {type: a.Docker}}}]";
        let task = "{taskRunner: {type: io.kestra.plugin.ee.kubernetes.runner.Kubernetes}}";
        let problem = effective(task, flow, NONE).unwrap_err().to_string();
        insta::assert_snapshot!(problem, @"defaults.yaml:1:78: task runner `a.Docker` meets `io.kestra.plugin.ee.kubernetes.runner.Kubernetes` of flow.yaml:1:21: use one type, or remove one of the two");
    }
}
