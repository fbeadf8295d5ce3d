//! Tasks that hold tasks: which of them run, in which order, and what their ends make of the whole.

use futures::StreamExt;
use futures::future::LocalBoxFuture;
use podrun_host::{Outcome, OutputFile};
use serde_json::{Value, json};

use super::core::outcome;
use super::kept::concealed;
use super::{Engine, Failure};
use crate::at::{At, Round, text};
use crate::error::{Ended, Error};
use crate::expression::{Text, truthy};
use crate::flow::model::{Body, Kind, ScriptStep, Step, Values};
use crate::journal::now;
use crate::report::{self, Report};

impl Engine<'_> {
    /// The whole flow.
    pub(super) async fn tasks(&self) -> Result<Ended, Error> {
        let at = At::default();
        let (errors, finally) = (&self.flow.errors, &self.flow.finally);
        let tasks = &self.flow.tasks;
        self.guarded(self.list(tasks, &at), tasks, errors, finally, &at).await
    }

    /// One task after the other, up to one that fails.
    fn list<'f>(&'f self, steps: &'f [Step], at: &'f At) -> LocalBoxFuture<'f, Result<Ended, Error>> {
        Box::pin(async move {
            let mut ended = Ended::Succeeded;
            for step in steps {
                match self.step(step, at).await? {
                    end @ (Ended::Succeeded | Ended::Warned) => ended = ended.max(end),
                    end => return Ok(end),
                }
            }
            Ok(ended)
        })
    }

    /// `tasks` run `steps`, with what runs when one of them fails and what runs in any case. Whoever stops or leaves the
    /// execution wants nothing more to begin, and an error that a later call may cure is no end yet.
    async fn guarded(
        &self,
        tasks: impl Future<Output = Result<Ended, Error>>,
        steps: &[Step],
        errors: &[Step],
        finally: &[Step],
        at: &At,
    ) -> Result<Ended, Error> {
        let mut result = tasks.await;
        let cause = || self.cause(steps, at);
        let error = match &result {
            Ok(Ended::Failed) => {
                let cause = cause();
                let message = cause.as_ref().map(|failure| failure.said.clone());
                Some(json!({"message": message, "taskId": cause.map(|failure| failure.task().to_owned())}))
            }
            Err(error) if error.is_flows_fault() => {
                let task = cause().map(|failure| failure.task().to_owned());
                Some(json!({"message": crate::error::message(error), "taskId": task}))
            }
            Ok(Ended::Cancelled | Ended::Detached) | Err(_) => return result,
            Ok(Ended::Succeeded | Ended::Warned) => None,
        };
        if let Some(error) = error {
            let logs = self.journal.borrow().errors(&self.execution.id)?;
            let end = self.list(errors, &at.after(error, logs)).await?;
            result = result.map(|ended| ended.max(end));
        }
        if matches!(result, Ok(Ended::Cancelled | Ended::Detached)) {
            return result;
        }
        let end = self.list(finally, at).await?;
        result.map(|ended| ended.max(end))
    }

    /// One task of whatever kind.
    async fn step(&self, step: &Step, at: &At) -> Result<Ended, Error> {
        if step.disabled {
            return Ok(Ended::Succeeded);
        }
        if let Some(condition) = &step.run_if {
            let decided = self.decide(step, at, "runIf", |value| Ok(truthy(&value).into()), condition);
            if let Err(error) = &decided
                && error.is_flows_fault()
            {
                self.note_error(step, at, error)?;
            }
            match decided? {
                Decided::Closing(ended) => return Ok(ended),
                Decided::Value(Value::Bool(false)) => {
                    self.show(Report::Skipped {
                        task: at.name(&step.id),
                    });
                    self.scope.borrow_mut().add_state(&step.id, at, "SKIPPED");
                    return Ok(Ended::Succeeded);
                }
                Decided::Value(_) => {}
            }
        }
        let mut ended = self.kind(step, at).await;
        if let Err(error) = &ended
            && error.is_flows_fault()
        {
            self.note_error(step, at, error)?;
        }
        if step.allow_failure {
            ended = self.allow(step, at, ended)?;
        }
        let state = match &ended {
            Ok(Ended::Succeeded) => Some("SUCCESS"),
            Ok(Ended::Warned) => Some("WARNING"),
            Ok(Ended::Failed) => Some("FAILED"),
            Err(error) if error.is_flows_fault() => Some("FAILED"),
            Ok(Ended::Cancelled | Ended::Detached) | Err(_) => None,
        };
        if let Some(state) = state {
            self.scope.borrow_mut().add_state(&step.id, at, state);
        }
        ended
    }

    /// What became of a task that may fail: a failure is a warning, also one that came before anything was created. What may
    /// run in the cluster is not given up.
    fn allow(&self, step: &Step, at: &At, ended: Result<Ended, Error>) -> Result<Result<Ended, Error>, Error> {
        match &ended {
            Ok(Ended::Failed) => {}
            Err(error) if error.is_flows_fault() && !self.goes_on(step, at)? => {
                let message = format!(
                    "task `{}` failed, as it may: {}",
                    at.name(&step.id),
                    crate::error::message(error)
                );
                self.warn(&message);
            }
            _ => return Ok(ended),
        }
        let inside = |failure: &&mut Failure| at.holds(&failure.run, |task| holds(std::slice::from_ref(step), task));
        let mut failed = self.failed.borrow_mut();
        failed
            .iter_mut()
            .filter(inside)
            .for_each(|failure| failure.allowed = true);
        Ok(Ok(Ended::Warned))
    }

    /// Whether a task, or one inside of it, may be in the cluster and has not ended.
    fn goes_on(&self, step: &Step, at: &At) -> Result<bool, Error> {
        let runs = self.journal.borrow().going_on(&self.execution.id)?;
        let inside = |run: &String| at.holds(run, |task| holds(std::slice::from_ref(step), task));
        Ok(runs.iter().any(inside))
    }

    /// Note which task an error is of, the innermost one that has it, and tell that it ended unless it may be in the cluster.
    fn note_error(&self, step: &Step, at: &At, error: &Error) -> Result<(), Error> {
        if self.cause(std::slice::from_ref(step), at).is_some() {
            return Ok(());
        }
        let run = at.name(&step.id);
        let message = self.said(error);
        let said = format!("{run} ({})", message.lines().next().unwrap_or_default());
        self.count(Some(Failure::new(run, said)));
        if self.goes_on(step, at)? {
            return Ok(());
        }
        let mut attempt = self.attempt_of(&step.id, at, 1);
        // The journal knows the attempts before, and forgot the one that came to nothing.
        while self.journal.borrow().task_run(&attempt)?.is_some() {
            attempt.number += 1;
        }
        let outcome = Outcome {
            started: None,
            ..outcome(Some(message), u64::try_from(now()).unwrap_or_default())
        };
        let place = |_: &OutputFile| std::path::PathBuf::new();
        self.show(report::of_outcome(
            &attempt.task,
            attempt.number,
            false,
            &outcome,
            &[],
            &place,
        ));
        Ok(())
    }

    /// What failed first of these tasks, or of those inside of them, that may not fail.
    fn cause(&self, steps: &[Step], at: &At) -> Option<Failure> {
        let failed = self.failed.borrow();
        let mut inside = failed
            .iter()
            .filter(|failure| !failure.allowed && at.holds(&failure.run, |task| holds(steps, task)));
        inside.next().cloned()
    }

    async fn kind(&self, step: &Step, at: &At) -> Result<Ended, Error> {
        let inner = &at.inside_group();
        match &step.kind {
            Kind::Script(script) => self.script(ScriptStep { step, script }, at).await,
            Kind::Sequential { body } => self.body(body, &body.tasks, inner).await,
            Kind::Parallel { concurrent, body } => {
                let all = body.tasks.iter().map(|task| self.step(task, inner));
                let all = self.together(all, *concurrent, false);
                self.guarded(all, &body.tasks, &body.errors, &body.finally, inner).await
            }
            Kind::ForEach {
                values,
                concurrency,
                body,
            } => self.rounds(step, values, *concurrency, body, at).await,
            Kind::If {
                condition,
                body,
                otherwise,
            } => {
                let decided = self.decide(step, at, "condition", |value| Ok(truthy(&value).into()), condition)?;
                let tasks = match decided {
                    Decided::Closing(ended) => return Ok(ended),
                    Decided::Value(Value::Bool(true)) => &body.tasks,
                    Decided::Value(_) => otherwise,
                };
                self.body(body, tasks, inner).await
            }
            Kind::Switch { value, cases, body } => {
                let decided = self.decide(step, at, "value", |value| Ok(text(&value).into()), value)?;
                let tasks = match decided {
                    Decided::Closing(ended) => return Ok(ended),
                    Decided::Value(value) => {
                        let case = cases.iter().find(|(name, _)| value == *name.as_str());
                        case.map_or(&body.tasks, |(_, tasks)| tasks)
                    }
                };
                self.body(body, tasks, inner).await
            }
            Kind::Log { .. } | Kind::Return { .. } | Kind::Fail { .. } => self.core(step, at),
            Kind::GkeCluster(_) | Kind::OauthToken(_) => self.google(step, at).await,
        }
    }

    async fn body(&self, body: &Body, tasks: &[Step], at: &At) -> Result<Ended, Error> {
        self.guarded(self.list(tasks, at), tasks, &body.errors, &body.finally, at)
            .await
    }

    /// Several parts at once, at most `limit` of them if that is not 0. Each is brought to its end: one that fails must not
    /// make us lose sight of the others. With `strict` none begins after one that failed.
    async fn together(
        &self,
        parts: impl Iterator<Item = impl Future<Output = Result<Ended, Error>>>,
        limit: u32,
        strict: bool,
    ) -> Result<Ended, Error> {
        let limit = match limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
        let mut parts = parts.fuse();
        let mut running = futures::stream::FuturesUnordered::new();
        let (mut ended, mut error) = (Ended::Succeeded, None);
        loop {
            let begins = !strict || (ended <= Ended::Warned && error.is_none());
            while begins && running.len() < limit {
                let Some(part) = parts.next() else { break };
                running.push(part);
            }
            match running.next().await {
                Some(Ok(end)) => ended = ended.max(end),
                Some(Err(other)) => error = error.or(Some(other)),
                None => break,
            }
        }
        match error {
            // Whoever leaves, or whose execution was stopped, hears that first.
            Some(error) if ended < Ended::Cancelled => Err(error),
            _ => Ok(ended),
        }
    }

    async fn rounds(&self, step: &Step, values: &Values, limit: u32, body: &Body, at: &At) -> Result<Ended, Error> {
        let what = || format!("`values` of task `{}`", step.id);
        let decided = match values {
            Values::Text(text) => self.decide(step, at, "values", |value| items(value, text), text)?,
            Values::List(nodes) => {
                let list = |scope: &crate::scope::Scope| {
                    let renderer = self.renderer.reading(scope.readable());
                    let items = nodes
                        .iter()
                        .map(|node| renderer.node_with(node, &what(), &scope.values, |_| true));
                    Ok(Value::Array(items.collect::<Result<_, _>>()?))
                };
                self.decide_by(step, at, "values", list)?
            }
        };
        let values = match decided {
            Decided::Closing(ended) => return Ok(ended),
            Decided::Value(Value::Array(values)) => values,
            Decided::Value(_) => return Err(Error::Internal(format!("{} are not a list", what()))),
        };
        let places: Vec<At> = values
            .into_iter()
            .enumerate()
            .map(|(index, value)| at.inside(Round::new(index, value)))
            .collect();
        let rounds = places.iter().map(|place| self.list(&body.tasks, place));
        let all = self.together(rounds, limit, true);
        self.guarded(all, &body.tasks, &body.errors, &body.finally, at).await
    }

    /// What an expression of a task decided when it was first reached.
    fn decide(
        &self,
        step: &Step,
        at: &At,
        name: &str,
        understand: impl FnOnce(Value) -> Result<Value, Error>,
        expression: &Text,
    ) -> Result<Decided, Error> {
        self.decide_by(step, at, name, |scope| {
            let renderer = self.renderer.reading(scope.readable());
            understand(renderer.evaluate(expression, &scope.values)?)
        })
    }

    fn decide_by(
        &self,
        step: &Step,
        at: &At,
        name: &str,
        value: impl FnOnce(&crate::scope::Scope) -> Result<Value, Error>,
    ) -> Result<Decided, Error> {
        let attempt = self.attempt_of(&step.id, at, 1);
        let (execution, run) = (&attempt.execution, &attempt.task);
        if let Some(value) = self.journal.borrow().decision(execution, run, name)? {
            return Ok(Decided::Value(self.revealed(value, &step.id)?));
        }
        if let Some(ended) = self.closing()? {
            return Ok(Decided::Closing(ended));
        }
        let value = value(&self.view(&attempt, &step.id, at))?;
        let kept = concealed(value.clone(), self.renderer);
        self.journal.borrow_mut().decide(execution, run, name, &kept)?;
        Ok(Decided::Value(value))
    }
}

/// True if one of the tasks, or one inside of them, has that id.
fn holds(steps: &[Step], task: &str) -> bool {
    let is = |step: &Step| {
        step.id == task
            || step
                .children()
                .into_iter()
                .any(|child| holds(std::slice::from_ref(child), task))
    };
    steps.iter().any(is)
}

/// A decision, or the end of an execution in which none is made any more.
enum Decided {
    Value(Value),
    Closing(Ended),
}

/// The list that a text stands for.
fn items(value: Value, text: &Text) -> Result<Value, Error> {
    let value = match value {
        Value::String(json) => serde_json::from_str(&json).unwrap_or(Value::String(json)),
        other => other,
    };
    if value.is_array() {
        return Ok(value);
    }
    let message = format!("{} must be a list, for example `[\"a\", \"b\"]`", text.what);
    Err(crate::document::Problem::new(&text.place, message).into())
}
