//! Checks the expressions of a flow: whether each name can be known when its text is rendered.

use super::model::{Body, Flow, Kind, Step};
use super::tasks::Unread;
use super::values::texts_below;
use crate::document::{Node, Problem};
use crate::expression::{Known, Renderer, Text};

/// Every mistake in an expression of the flow. `inputs` are declared, be it with mistakes.
pub(super) fn check(flow: &Flow, inputs: &[Node], unread: &Unread, renderer: &Renderer) -> Vec<Problem> {
    let inputs: Vec<String> = inputs.iter().filter_map(|input| input.get("id")?.text()).collect();
    let mut names = Names {
        renderer,
        inputs: Vec::new(),
        vars: flow
            .variables
            .iter()
            .flat_map(Node::entries)
            .map(|(key, _)| key.name.as_str())
            .collect(),
        labels: flow.labels.iter().map(|(name, _)| name.as_str()).collect(),
        each: false,
        parents: false,
        errors: false,
        ended: unread.ids.clone(),
        problems: Vec::new(),
    };
    // A default may use the inputs before it.
    for id in &inputs {
        if let Some(default) = flow
            .inputs
            .iter()
            .find(|input| input.id == *id)
            .and_then(|input| input.default.as_ref())
        {
            names.node(default, &format!("`defaults` of input `{id}`"));
        }
        names.inputs.push(id);
    }
    if let Some(variables) = &flow.variables {
        names.anywhere(flow, |names| names.node(variables, "`variables`"));
    }
    for (_, label) in &flow.labels {
        names.text(label);
    }
    names.list(&flow.tasks);
    names.errors(&flow.errors);
    names.list(&flow.finally);
    for output in &flow.outputs {
        names.text(&output.value);
    }
    // Where a task that could not be read stands in the flow is not known: whatever there is somewhere may be used.
    let mut elsewhere = std::mem::take(&mut names.problems);
    names.anywhere(flow, |names| unread.texts.iter().for_each(|text| names.text(text)));
    let mut said: Vec<_> = elsewhere.iter().map(|problem| problem.place().clone()).collect();
    for problem in names.problems {
        // A task inside of another one is among the texts of both.
        if !said.contains(problem.place()) {
            said.push(problem.place().clone());
            elsewhere.push(problem);
        }
    }
    elsewhere
}

struct Names<'a> {
    renderer: &'a Renderer,
    inputs: Vec<&'a str>,
    vars: Vec<&'a str>,
    labels: Vec<&'a str>,
    /// We are inside of a ForEach.
    each: bool,
    /// We are inside of a round and of something else within it.
    parents: bool,
    /// We are among the tasks of `errors`.
    errors: bool,
    /// Tasks that have ended where we are.
    ended: Vec<String>,
    problems: Vec<Problem>,
}

impl Names<'_> {
    fn text(&mut self, text: &Text) {
        let known = Known {
            inputs: self.inputs.clone(),
            outputs: self.ended.iter().map(String::as_str).collect(),
            vars: self.vars.clone(),
            labels: self.labels.clone(),
            each: self.each,
            parents: self.parents,
            errors: self.errors,
        };
        self.problems.extend(self.renderer.problems(text, &known));
    }

    /// Check texts that `render` may render at any place: they can use whatever there is somewhere.
    fn anywhere(&mut self, flow: &Flow, check: impl FnOnce(&mut Self)) {
        let before = self.ended.len();
        let steps = flow.steps().into_iter();
        self.ended.extend(steps.map(|step| step.id.clone()));
        (self.each, self.parents, self.errors) = (true, true, true);
        check(self);
        (self.each, self.parents, self.errors) = (false, false, false);
        self.ended.truncate(before);
    }

    fn node(&mut self, node: &Node, what: &str) {
        let mut texts = Vec::new();
        texts_below(node, what, &mut texts);
        texts.iter().for_each(|text| self.text(text));
    }

    /// Tasks one after the other: each sees what those before it left.
    fn list(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    /// Lists of which only one runs, or all at once: none sees what another one leaves; what follows sees all.
    fn apart(&mut self, lists: &[&[Step]]) {
        let before = self.ended.len();
        let mut all = Vec::new();
        for list in lists {
            self.list(list);
            all.extend(self.ended.drain(before..));
        }
        self.ended.extend(all);
    }

    fn step(&mut self, step: &Step) {
        if step.disabled {
            return;
        }
        for text in step.texts() {
            self.text(&text);
        }
        if let Kind::Script(script) = &step.kind
            && let Some(provider) = &script.tokens
        {
            let sample = provider.sample();
            self.problems
                .extend(self.renderer.evaluate(&provider.output, &sample).err());
        }
        let outside = (self.each, self.parents);
        match &step.kind {
            Kind::Parallel { body, .. } => {
                self.parents = self.each;
                let each: Vec<&[Step]> = body.tasks.chunks(1).collect();
                self.apart(&each);
                self.ends(body);
            }
            Kind::Sequential { body } => {
                self.parents = self.each;
                self.list(&body.tasks);
                self.ends(body);
            }
            Kind::ForEach { body, .. } => {
                (self.parents, self.each) = (self.each, true);
                self.list(&body.tasks);
                // What follows the rounds is in none of them.
                (self.each, self.parents) = outside;
                self.ends(body);
            }
            Kind::If { body, otherwise, .. } => {
                self.parents = self.each;
                self.apart(&[&body.tasks, otherwise]);
                self.ends(body);
            }
            Kind::Switch { cases, body, .. } => {
                self.parents = self.each;
                let lists: Vec<&[Step]> = cases.iter().map(|(_, list)| list.as_slice()).collect();
                let lists = [lists, vec![&body.tasks]].concat();
                self.apart(&lists);
                self.ends(body);
            }
            _ => {}
        }
        (self.each, self.parents) = outside;
        self.ended.push(step.id.clone());
    }

    fn ends(&mut self, body: &Body) {
        self.errors(&body.errors);
        self.list(&body.finally);
    }

    fn errors(&mut self, steps: &[Step]) {
        let outside = std::mem::replace(&mut self.errors, true);
        self.list(steps);
        self.errors = outside;
    }
}
