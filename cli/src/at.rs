//! Where in a flow's tree a task runs: inside which rounds of which ForEach tasks.

use serde_json::Value;

/// One round of a ForEach.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    pub(crate) index: usize,
    pub(crate) value: Value,
}

impl Round {
    /// The value as expressions name it in `outputs.<task>[<value>]`.
    pub(crate) fn key(&self) -> String {
        text(&self.value)
    }
}

/// A place in the tree. Tasks outside of every ForEach are at the default one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct At {
    /// The outermost first.
    pub(crate) rounds: Vec<Round>,
    /// What failed, for tasks under `errors`.
    pub(crate) error: Option<Value>,
    /// The errors that were logged until then.
    pub(crate) error_logs: Option<Value>,
}

impl At {
    /// The place inside one more round.
    pub(crate) fn inside(&self, round: Round) -> Self {
        let mut inner = self.clone();
        inner.rounds.push(round);
        inner
    }

    /// The place of the tasks that run because of `error`.
    pub(crate) fn after(&self, error: Value, logs: Value) -> Self {
        Self {
            error: Some(error),
            error_logs: Some(logs),
            ..self.clone()
        }
    }

    /// The name of a task's run here: unique in the execution, stable over resumes, and fit for a file. Ids of tasks
    /// hold no dot, so it cannot be the name of another task.
    pub(crate) fn name(&self, task: &str) -> String {
        if self.rounds.is_empty() {
            return task.to_owned();
        }
        let rounds: Vec<String> = self.rounds.iter().map(|round| round.index.to_string()).collect();
        format!("{task}.{}", rounds.join("-"))
    }
}

/// The task that a run's name belongs to.
pub(crate) fn task_of(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// A value as it appears in text.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back_to_the_task() {
        let outer = At::default().inside(Round {
            index: 2,
            value: "b".into(),
        });
        let inner = outer.inside(Round {
            index: 0,
            value: serde_json::json!({"k": 1}),
        });
        assert_eq!(At::default().name("t-1"), "t-1");
        assert_eq!(outer.name("t-1"), "t-1.2");
        assert_eq!(inner.name("t-1"), "t-1.2-0");
        assert_eq!(task_of("t-1.2-0"), "t-1");
        assert_eq!(inner.rounds[1].key(), r#"{"k":1}"#);
    }
}
