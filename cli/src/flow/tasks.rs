//! Reads tasks: applies defaults, checks them against their type's schema, and turns them into the model.

use serde::Deserialize;

use super::model::{Body, Code, Delay, GkeCluster, GoogleAuth, Kind, Retry, Step, Values};
use super::values::{Ids, one_or_many, owner, texts_below};
use crate::defaults::{self, PluginDefault};
use crate::document::typed::{self, named, text_of};
use crate::document::{Node, Problem, Value};
use crate::expression::Text;
use crate::types::check::check;
use crate::types::common::{Attempts, Common, RetryKind, Tasks};
use crate::types::control::{Ends, ForEach, If, Inner, Parallel, Switch};
use crate::types::{self, Schemas, TaskKind, TaskType, near_type, task_type, unsupported};

/// Reads the tasks of one flow.
pub(super) struct Reader<'a> {
    pub(super) schemas: &'a Schemas,
    pub(super) defaults: &'a [PluginDefault],
    pub(super) ids: Ids,
    pub(super) problems: Vec<Problem>,
    pub(super) unread: Unread,
    /// Every task with its defaults, in the order of the file.
    pub(super) effective: Vec<Effective>,
}

/// A task with its defaults. Each value's place says who said it.
#[derive(Clone, Debug)]
pub(crate) struct Effective {
    pub(crate) id: String,
    /// The name of today of the task's type.
    pub(crate) kind: &'static str,
    pub(crate) node: Node,
}

/// Of the tasks that could not be read.
#[derive(Default)]
pub(super) struct Unread {
    /// What refers to them is no mistake of its own.
    pub(super) ids: Vec<String>,
    /// What they say, as far as expressions may be in it.
    pub(super) texts: Vec<Text>,
}

/// Properties without expressions.
const PLAIN: [&str; 3] = ["id", "type", "description"];

/// What a task says that may have expressions of the flow's own in it. Those of a provider of tokens are about its answer.
fn texts(node: &Node, owner: &str) -> Vec<Text> {
    let (mut all, mut others) = (Vec::new(), Vec::new());
    for (key, value) in node.entries() {
        if !PLAIN.contains(&key.name.as_str()) {
            texts_below(value, &named(&key.name, owner), &mut all);
        }
    }
    let config = node.get("taskRunner").and_then(|runner| runner.get("config"));
    if let Some(provider) = config.and_then(|config| config.get("oauthTokenProvider")) {
        texts_below(provider, "", &mut others);
    }
    all.retain(|text| others.iter().all(|other| other.place != text.place));
    all
}

/// Properties that hold tasks.
const LISTS: [&str; 6] = ["tasks", "then", "else", "defaults", "errors", "finally"];

impl Reader<'_> {
    /// The tasks of a list, without those that are mistakes.
    pub(super) fn list(&mut self, nodes: &[Node]) -> Vec<Step> {
        nodes.iter().filter_map(|node| self.task(node)).collect()
    }

    fn task(&mut self, node: &Node) -> Option<Step> {
        if !matches!(node.value, Value::Map(_)) {
            let message = format!("a task must be a mapping with `id` and `type`, not {}", node.kind());
            self.problems.push(Problem::new(&node.place, message));
            return None;
        }
        let before = self.problems.len();
        self.problems.extend(self.ids.add(node, "task"));
        let owner = owner(node, "task");
        let kind = self.kind(node, &owner);
        let effective = kind.and_then(|kind| self.effective(node, kind, &owner));
        let sound = self.problems.len() == before;
        let step = match (kind, &effective) {
            // One mistake does not hide another: a task without tasks inside is read as far as it can be.
            (Some(kind), Some(effective)) if sound || !kind.kind.holds_tasks() => {
                let read = self.read(effective, kind, &owner);
                // What reading stumbles over has been said if there are mistakes already.
                read.map_err(|problem| self.problems.extend(sound.then_some(problem)))
                    .ok()
            }
            _ => {
                self.inner(effective.as_ref().unwrap_or(node));
                None
            }
        };
        if step.is_none() {
            self.unread.ids.extend(node.get("id").and_then(Node::text));
            // Nobody knows what expressions mean to a type that nobody knows.
            self.unread
                .texts
                .extend(effective.iter().flat_map(|node| texts(node, &owner)));
        }
        step
    }

    /// The type of a task.
    fn kind(&mut self, node: &Node, owner: &str) -> Option<&'static TaskType> {
        let Some(name) = node.get("type") else {
            let message =
                format!("{owner} needs `type`: what it does, for example `io.kestra.plugin.scripts.shell.Commands`");
            self.problems.push(Problem::new(&node.place, message));
            return None;
        };
        let text = name.text().unwrap_or_default();
        let kind = task_type(&text);
        if kind.is_none() {
            let cure = match (near_type(&text), unsupported(&text)) {
                (_, Some(instead)) => format!("it is not supported: {instead}"),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => "`podrun schema` lists those that there are".to_owned(),
            };
            let message = format!("unknown type of {owner}: `{}`: {cure}", text.escape_debug());
            self.problems.push(Problem::new(&name.place, message));
        }
        kind
    }

    /// The task with its defaults.
    fn effective(&mut self, node: &Node, kind: &'static TaskType, owner: &str) -> Option<Node> {
        match defaults::apply(node, &kind.name, self.defaults, self.schemas) {
            Ok(effective) => {
                if let Some(schema) = self.schemas.definition(&kind.name) {
                    self.problems.extend(check(&effective, schema, self.schemas, owner));
                }
                self.effective.push(Effective {
                    id: node.get("id").and_then(Node::text).unwrap_or_default(),
                    kind: &kind.name,
                    node: effective.clone(),
                });
                Some(effective)
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// The tasks inside one that cannot be read, for their own mistakes.
    fn inner(&mut self, node: &Node) {
        let cases = node.get("cases").map(Node::entries).unwrap_or_default();
        let lists = LISTS.iter().filter_map(|name| node.get(name));
        for list in lists.chain(cases.iter().map(|(_, list)| list)) {
            if let Value::List(nodes) = &list.value {
                let read = self.list(nodes);
                self.unread.ids.extend(ids(&read));
            }
        }
    }

    fn read(&mut self, node: &Node, task: &'static TaskType, owner: &str) -> Result<Step, Problem> {
        let common: Common = typed::read(node, owner)?;
        let kind = match task.kind {
            TaskKind::Commands(language) => {
                let code = part::<types::script::Commands>(node, owner)?.commands;
                Kind::Script(Box::new(self.script(node, owner, language, Code::Commands(code))?))
            }
            TaskKind::Script(language) => {
                let code = part::<types::script::Script>(node, owner)?.script;
                Kind::Script(Box::new(self.script(node, owner, language, Code::Script(code))?))
            }
            TaskKind::Parallel => Kind::Parallel {
                concurrent: part::<Parallel>(node, owner)?.concurrent,
                body: self.body(node, owner)?,
            },
            TaskKind::Sequential => Kind::Sequential {
                body: self.body(node, owner)?,
            },
            TaskKind::ForEach => {
                let ForEach {
                    values,
                    concurrency_limit,
                } = part(node, owner)?;
                Kind::ForEach {
                    values: match &values.value {
                        Value::List(items) => Values::List(items.clone()),
                        _ => Values::Text(required_text(&values, "values", owner)?),
                    },
                    concurrency: concurrency_limit,
                    body: self.body(node, owner)?,
                }
            }
            TaskKind::If => {
                let If {
                    condition,
                    then,
                    otherwise,
                } = part(node, owner)?;
                Kind::If {
                    condition,
                    body: self.body_of(&then, node, owner)?,
                    otherwise: self.list(&otherwise.0),
                }
            }
            TaskKind::Switch => {
                let Switch { value, cases, defaults } = part(node, owner)?;
                let mut read = Vec::new();
                for (key, tasks) in cases.iter().flat_map(Node::entries) {
                    let tasks: Tasks = typed::read(tasks, owner)?;
                    read.push((key.name.clone(), self.list(&tasks.0)));
                }
                Kind::Switch {
                    value,
                    cases: read,
                    body: self.body_of(&defaults, node, owner)?,
                }
            }
            TaskKind::Log => {
                let log: types::core::Log = part(node, owner)?;
                Kind::Log {
                    messages: one_or_many(&log.message, "message", owner),
                    level: log.level.into(),
                }
            }
            TaskKind::Return => Kind::Return {
                format: part::<types::core::Return>(node, owner)?.format,
            },
            TaskKind::Fail => {
                let fail: types::core::Fail = part(node, owner)?;
                Kind::Fail {
                    condition: fail.condition,
                    message: fail.error_message,
                }
            }
            TaskKind::GkeCluster => {
                let cluster: types::google::Cluster = part(node, owner)?;
                let auth = google_auth(node, owner)?;
                let Some(project) = cluster.cluster_project_id.or_else(|| auth.project.clone()) else {
                    let message = format!("{owner} needs `clusterProjectId`: the Google project of the cluster");
                    return Err(Problem::new(&node.place, message));
                };
                Kind::GkeCluster(Box::new(GkeCluster {
                    auth,
                    cluster: cluster.cluster_id,
                    zone: cluster.cluster_zone,
                    project,
                }))
            }
            TaskKind::OauthToken => Kind::OauthToken(google_auth(node, owner)?),
        };
        let Attempts { retry, timeout } = part(node, owner)?;
        let retry = retry.map(|retry| read_retry(node, owner, &retry)).transpose()?;
        Ok(Step {
            id: common.id,
            type_name: &task.name,
            kind,
            disabled: common.disabled,
            run_if: common.run_if,
            allow_failure: common.allow_failure,
            retry,
            timeout,
        })
    }

    fn body(&mut self, node: &Node, owner: &str) -> Result<Body, Problem> {
        let inner: Inner = part(node, owner)?;
        self.body_of(&inner.tasks, node, owner)
    }

    fn body_of(&mut self, tasks: &Tasks, node: &Node, owner: &str) -> Result<Body, Problem> {
        let ends: Ends = part(node, owner)?;
        Ok(Body {
            tasks: self.list(&tasks.0),
            errors: self.list(&ends.errors.0),
            finally: self.list(&ends.finally.0),
        })
    }
}

/// The ids of tasks, and of those inside them.
fn ids(steps: &[Step]) -> Vec<String> {
    let mut all = Vec::new();
    for step in steps {
        all.push(step.id.clone());
        all.extend(
            step.children()
                .into_iter()
                .flat_map(|child| ids(std::slice::from_ref(child))),
        );
    }
    all
}

/// What one of the parts of a type says.
pub(super) fn part<'a, T: Deserialize<'a>>(node: &'a Node, owner: &'a str) -> Result<T, Problem> {
    typed::read(node, owner)
}

pub(super) fn required_text(node: &Node, path: &str, owner: &str) -> Result<Text, Problem> {
    let what = named(path, owner);
    let message = format!("{what} must be text, not {}", node.kind());
    text_of(node, what).ok_or_else(|| Problem::new(&node.place, message))
}

pub(super) fn google_auth(node: &Node, owner: &str) -> Result<GoogleAuth, Problem> {
    let auth: types::google::Auth = part(node, owner)?;
    Ok(GoogleAuth {
        project: auth.project_id,
        service_account: auth.service_account,
        scopes: auth.scopes,
    })
}

fn read_retry(task: &Node, owner: &str, retry: &types::common::Retry) -> Result<Retry, Problem> {
    let place = task.get("retry").map_or(&task.place, |node| &node.place);
    let needed = |value: Option<types::common::Duration>, name: &str, kind: &str| {
        value.map(|duration| duration.0).ok_or_else(|| {
            let message = format!("`retry` of {owner} is {kind} and needs `{name}`, for example `{name}: PT10S`");
            Problem::new(place, message)
        })
    };
    let delay = match retry.kind {
        RetryKind::Constant => Delay::Constant {
            interval: needed(retry.interval, "interval", "constant")?,
        },
        RetryKind::Exponential => Delay::Exponential {
            interval: needed(retry.interval, "interval", "exponential")?,
            max_interval: needed(retry.max_interval, "maxInterval", "exponential")?,
            factor: retry.delay_factor,
        },
        RetryKind::Random => Delay::Random {
            min_interval: needed(retry.min_interval, "minInterval", "random")?,
            max_interval: needed(retry.max_interval, "maxInterval", "random")?,
        },
    };
    let turned_round = match delay {
        Delay::Constant { .. } => false,
        Delay::Exponential {
            interval, max_interval, ..
        } => interval > max_interval,
        Delay::Random {
            min_interval,
            max_interval,
        } => min_interval > max_interval,
    };
    if turned_round {
        let message = format!("`retry.maxInterval` of {owner} is shorter than the shortest wait: make it longer");
        return Err(Problem::new(place, message));
    }
    Ok(Retry {
        delay,
        max_attempts: retry.max_attempts.or(retry.max_attempt).unwrap_or(0),
        max_duration: retry.max_duration.map(|duration| duration.0.div_ceil(1000)),
        warning_on_retry: retry.warning_on_retry,
    })
}
