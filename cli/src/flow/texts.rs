//! Every text of a task that may hold expressions.

use super::model::{Code, GoogleAuth, InputFiles, Kind, Provided, Script, Step, Values};
use super::values::texts_below;
use crate::document::Node;
use crate::expression::{Text, is_template};

impl Script {
    /// True if the script can only be rendered once the flow runs: it uses what other tasks leave, or a round's value.
    pub(crate) fn uses_outputs(&self, id: &str) -> bool {
        const LATER: [&str; 5] = ["outputs", "taskrun.value", "taskrun.iteration", "parent", "error"];
        let later = |text: &Text| LATER.iter().any(|name| text.text.contains(name));
        self.texts(id).iter().any(|text| is_template(&text.text) && later(text))
    }

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
