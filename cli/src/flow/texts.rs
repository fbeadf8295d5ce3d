//! Every text of a task that may hold expressions.

use super::model::{Code, Flow, GoogleAuth, InputFiles, Kind, Provided, Script, ScriptStep, Step, Values};
use super::values::texts_below;
use crate::document::{Key, Node};
use crate::expression::{Text, Variables, waits};

impl Flow {
    /// What `render` may find in the flow's variables.
    pub(crate) fn texts_of_variables(&self) -> Variables {
        let variables = self.variables.iter().flat_map(Node::entries);
        let texts = |(key, value): &(Key, Node)| {
            let mut texts = Vec::new();
            texts_below(value, "", &mut texts);
            (key.name.clone(), texts.into_iter().map(|text| text.text).collect())
        };
        variables.map(texts).collect()
    }
}

impl ScriptStep<'_> {
    /// True if the script can be rendered only while the flow runs: it uses what other tasks leave, or a round's value.
    pub(crate) fn waits(&self, variables: &Variables) -> bool {
        let texts = self.script.texts(&self.step.id);
        texts
            .iter()
            .chain(&self.step.timeout)
            .any(|text| waits(&text.text, variables))
    }
}

impl Script {
    /// Every text of the script of task `id`, its runner's options and config included.
    pub(crate) fn texts(&self, id: &str) -> Vec<Text> {
        let mut all = vec![self.image.clone()];
        match &self.code {
            Code::Commands(commands) => all.extend_from_slice(commands),
            Code::Script(script) => all.push(script.clone()),
        }
        all.extend_from_slice(&self.before);
        all.extend_from_slice(&self.interpreter);
        all.extend(self.outputs.iter().map(|output| output.pattern.clone()));
        all.extend(self.env.iter().map(|(_, value)| value.clone()));
        match &self.inputs {
            InputFiles::Map(files) => all.extend(files.iter().flat_map(|(name, value)| [name.clone(), value.clone()])),
            InputFiles::Expression(text) => all.push(text.clone()),
        }
        if let Some(files) = &self.namespace_files {
            all.extend(files.include.iter().chain(&files.exclude).cloned());
        }
        let mut nested = |node: &Node, what: &str| texts_below(node, &format!("`{what}` of task `{id}`"), &mut all);
        nested(&self.options, "taskRunner");
        if let Some(config) = &self.config {
            nested(config, "taskRunner.config");
        }
        match self.tokens.as_ref().map(|provider| &provider.task) {
            Some(Provided::Google(google)) => auth(google, &mut all),
            Some(Provided::Expression(text)) => all.push(text.clone()),
            None => {}
        }
        all
    }
}

impl Step {
    /// Every text of the task itself. The tasks inside it have their own.
    pub(crate) fn texts(&self) -> Vec<Text> {
        let mut all: Vec<Text> = self.run_if.iter().chain(&self.timeout).cloned().collect();
        match &self.kind {
            Kind::Script(script) => all.extend(script.texts(&self.id)),
            Kind::Parallel { .. } | Kind::Sequential { .. } => {}
            Kind::ForEach { values, .. } => match values {
                Values::Text(text) => all.push(text.clone()),
                Values::List(items) => {
                    let what = format!("`values` of task `{}`", self.id);
                    items.iter().for_each(|item| texts_below(item, &what, &mut all));
                }
            },
            Kind::If { condition, .. } => all.push(condition.clone()),
            Kind::Switch { value, .. } => all.push(value.clone()),
            Kind::Log { messages, .. } => all.extend_from_slice(messages),
            Kind::Return { format } => all.push(format.clone()),
            Kind::Fail { condition, message } => all.extend(condition.iter().chain(message).cloned()),
            Kind::GkeCluster(cluster) => {
                all.extend([&cluster.cluster, &cluster.zone, &cluster.project].map(Text::clone));
                auth(&cluster.auth, &mut all);
            }
            Kind::OauthToken(google) => auth(google, &mut all),
        }
        all
    }
}

fn auth(google: &GoogleAuth, all: &mut Vec<Text>) {
    all.extend(google.project.iter().chain(&google.service_account).cloned());
    all.extend_from_slice(&google.scopes);
}
