//! Which scripts of a flow are sure to be reached, unless something before them fails.
//!
//! What is disabled, in a branch that may not be taken, in a round that may not come or among the tasks of `errors` is not:
//! that it cannot be rendered is no reason to refuse the flow.

use serde_json::Value;

use crate::at::At;
use crate::document::Problem;
use crate::engine::names;
use crate::expression::{Renderer, Text, Variables, truthy, varies, waits};
use crate::flow::model::{Body, Kind, Step, Values};
use crate::flow::{Flow, ScriptStep};
use crate::journal::Attempt;
use crate::scope::Scope;

/// The scripts that are sure to be reached. An error is a condition that cannot be rendered.
pub(super) fn scripts<'f>(
    flow: &'f Flow,
    scope: &Scope,
    renderer: &Renderer,
    execution: &str,
) -> Result<Vec<ScriptStep<'f>>, Problem> {
    let mut walk = Walk {
        renderer,
        scope,
        execution,
        variables: flow.texts_of_variables(),
        found: Vec::new(),
    };
    walk.list(&flow.tasks)?;
    walk.list(&flow.finally)?;
    Ok(walk.found)
}

struct Walk<'a, 'f> {
    renderer: &'a Renderer,
    scope: &'a Scope,
    execution: &'a str,
    variables: Variables,
    found: Vec<ScriptStep<'f>>,
}

impl<'f> Walk<'_, 'f> {
    /// Look at tasks one after the other; whether what follows them is reached.
    fn list(&mut self, steps: &'f [Step]) -> Result<bool, Problem> {
        for step in steps {
            if !self.step(step)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn step(&mut self, step: &'f Step) -> Result<bool, Problem> {
        if step.disabled {
            return Ok(true);
        }
        if let Some(condition) = &step.run_if {
            match self.holds(step, condition)? {
                Some(true) => {}
                Some(false) => return Ok(true),
                None => return Ok(!may_end(step)),
            }
        }
        let goes_on = match &step.kind {
            Kind::Script(script) => {
                self.found.push(ScriptStep { step, script });
                true
            }
            Kind::Sequential { body } => self.body(body, &[&body.tasks])?,
            Kind::Parallel { body, .. } => {
                let each: Vec<&'f [Step]> = body.tasks.chunks(1).collect();
                self.body(body, &each)?
            }
            Kind::ForEach { values, body, .. } => match self.has_rounds(step, values)? {
                true => self.body(body, &[&body.tasks])?,
                false => self.body(body, &[])? && !body.tasks.iter().any(may_end),
            },
            Kind::If {
                condition,
                body,
                otherwise,
            } => match self.holds(step, condition)? {
                Some(true) => self.body(body, &[&body.tasks])?,
                Some(false) => self.body(body, &[otherwise])?,
                None => self.body(body, &[])? && !step.children().into_iter().any(may_end),
            },
            Kind::Switch { value, cases, body } => match self.value(step, value)? {
                Some(value) => {
                    let value = crate::at::text(&value);
                    let case = cases.iter().find(|(name, _)| *name == value);
                    let tasks = case.map_or(&body.tasks, |(_, tasks)| tasks);
                    self.body(body, &[tasks])?
                }
                None => self.body(body, &[])? && !step.children().into_iter().any(may_end),
            },
            Kind::Fail { condition, .. } => match condition {
                Some(condition) => self.holds(step, condition)? == Some(false),
                None => false,
            },
            Kind::Log { .. } | Kind::Return { .. } | Kind::GkeCluster(_) | Kind::OauthToken(_) => true,
        };
        Ok(goes_on || step.allow_failure)
    }

    /// Lists of which each is reached, and what always runs after them.
    fn body(&mut self, body: &'f Body, lists: &[&'f [Step]]) -> Result<bool, Problem> {
        let mut goes_on = true;
        for list in lists {
            goes_on &= self.list(list)?;
        }
        Ok(self.list(&body.finally)? && goes_on)
    }

    /// Whether a condition holds; none if only the run can tell.
    fn holds(&self, step: &Step, condition: &Text) -> Result<Option<bool>, Problem> {
        Ok(self.value(step, condition)?.map(|value| truthy(&value)))
    }

    /// What an expression of a task comes to; none if only the run can tell.
    fn value(&self, step: &Step, text: &Text) -> Result<Option<Value>, Problem> {
        if waits(&text.text, &self.variables) || varies(&text.text, &self.variables) {
            return Ok(None);
        }
        let attempt = Attempt {
            execution: self.execution.to_owned(),
            task: step.id.clone(),
            number: 1,
        };
        let scope = self
            .scope
            .for_task(&step.id, &names(&attempt).task_run(), 1, &At::default());
        let renderer = self.renderer.reading(scope.readable());
        renderer.evaluate(text, &scope.values).map(Some)
    }

    /// Whether a ForEach is sure to have a round.
    fn has_rounds(&self, step: &Step, values: &Values) -> Result<bool, Problem> {
        let text = match values {
            Values::List(items) => return Ok(!items.is_empty()),
            Values::Text(text) => text,
        };
        Ok(match self.value(step, text)? {
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::String(json)) => serde_json::from_str::<Vec<Value>>(&json).is_ok_and(|items| !items.is_empty()),
            _ => false,
        })
    }
}

/// Whether a task can end the flow on purpose.
fn may_end(step: &Step) -> bool {
    let ends = matches!(step.kind, Kind::Fail { .. }) || step.children().into_iter().any(may_end);
    ends && !step.disabled && !step.allow_failure
}
