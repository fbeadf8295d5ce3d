//! Where in a flow's tree a task runs: inside which rounds of which ForEach tasks.

use serde_json::Value;

/// One round of a ForEach.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    pub(crate) index: usize,
    pub(crate) value: Value,
    /// How many tasks that hold tasks are around, within this round and outside of the next one.
    groups: usize,
}

impl Round {
    pub(crate) fn new(index: usize, value: Value) -> Self {
        Self {
            index,
            value,
            groups: 0,
        }
    }

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

    /// The place inside a task that holds tasks and makes no rounds.
    pub(crate) fn inside_group(&self) -> Self {
        let mut inner = self.clone();
        if let Some(round) = inner.rounds.last_mut() {
            round.groups += 1;
        }
        inner
    }

    /// The rounds of what is around a task here, the nearest first: each task around that lies in a round itself.
    pub(crate) fn around(&self) -> Vec<&Round> {
        let mut around = Vec::new();
        for (index, round) in self.rounds.iter().rev().enumerate() {
            // A ForEach lies in the round outside of its own.
            let each = usize::from(index > 0);
            around.extend(std::iter::repeat_n(round, each + round.groups));
        }
        around
    }

    /// True if the run of that name is one of the tasks for which `inside` holds, here or in rounds within.
    pub(crate) fn holds(&self, name: &str, inside: impl Fn(&str) -> bool) -> bool {
        let (task, rounds) = name.split_once('.').unwrap_or((name, ""));
        let mut rounds = rounds.split('-');
        let same = |round: &Round| rounds.next() == Some(round.index.to_string().as_str());
        inside(task) && self.rounds.iter().all(same)
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
    fn each_task_around_has_the_value_of_its_round() {
        let around = |at: &At| at.around().iter().map(|round| round.index).collect::<Vec<_>>();
        let outer = At::default().inside_group().inside(Round::new(1, "a".into()));
        assert_eq!(around(&outer), Vec::<usize>::new());
        let inside = outer.inside_group();
        assert_eq!(around(&inside), [1]);
        let inner = inside.inside(Round::new(2, "b".into())).inside_group();
        assert_eq!(around(&inner), [2, 1, 1]);
        assert_eq!(inner.name("t"), "t.1-2");
    }

    #[test]
    fn names_are_unique_and_lead_back_to_the_task() {
        let outer = At::default().inside(Round::new(2, "b".into()));
        let inner = outer.inside(Round::new(0, serde_json::json!({"k": 1})));
        assert_eq!(At::default().name("t-1"), "t-1");
        assert_eq!(outer.name("t-1"), "t-1.2");
        assert_eq!(inner.name("t-1"), "t-1.2-0");
        assert_eq!(task_of("t-1.2-0"), "t-1");
        assert_eq!(inner.rounds[1].key(), r#"{"k":1}"#);
        let is_t = |task: &str| task == "t-1";
        assert!(outer.holds("t-1.2", is_t) && outer.holds("t-1.2-0", is_t) && At::default().holds("t-1.2", is_t));
        assert!(!outer.holds("t-1.1", is_t) && !outer.holds("u.2", is_t) && !inner.holds("t-1.2", is_t));
    }
}
