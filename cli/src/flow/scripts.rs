//! Reads what tasks that run a script have: the script, its files, its task runner.

use super::model::{Code, InputFiles, NamespaceFiles, OutputPattern, Provided, Script, TokenProvider};
use super::tasks::{Reader, google_auth, part, required_text};
use super::values::{one_or_many, pairs};
use crate::document::typed::{self, named};
use crate::document::{Node, Problem, Value, listed};
use crate::expression::{Text, is_template};
use crate::patterns::Pattern;
use crate::types::check::check;
use crate::types::script::PROVIDERS;
use crate::types::{self, PROVIDER, TaskKind, task_type};

/// Milliseconds for which a provider's token is used where the flow does not say.
const DEFAULT_CACHE: u64 = 5 * 60 * 1000;

impl Reader<'_> {
    /// A script, its pod and its files.
    pub(super) fn script(
        &mut self,
        node: &Node,
        owner: &str,
        language: super::Language,
        code: Code,
    ) -> Result<Script, Problem> {
        let pod: types::script::Pod = part(node, owner)?;
        let Some(image) = pod.container_image.filter(|image| !image.text.trim().is_empty()) else {
            let message = format!("{owner} needs `containerImage`, for example `containerImage: debian:stable-slim`");
            return Err(Problem::new(&node.place, message));
        };
        let (options, mut config) = runner(pod.task_runner);
        let tokens = match config.as_mut().and_then(|config| config.take(PROVIDER)) {
            Some(provider) => Some(self.provider(&provider, config.as_ref(), owner)?),
            None => None,
        };
        let inputs = match &pod.input_files {
            Some(node) if !matches!(node.value, Value::Map(_)) => {
                InputFiles::Expression(required_text(node, "inputFiles", owner)?)
            }
            Some(node) => InputFiles::Map(pairs(node, "inputFiles", owner)),
            None => InputFiles::Map(Vec::new()),
        };
        let patterns = pod.output_files.iter().enumerate();
        let outputs = patterns.map(|(index, item)| read_pattern(item, &format!("outputFiles[{index}]"), owner));
        let outputs: Vec<OutputPattern> = outputs.collect::<Result<_, _>>()?;
        let wrong = outputs.iter().map(|output| valid(&output.pattern, Pattern::new));
        self.problems.extend(wrong.filter_map(Result::err));
        let many = |node: &Option<Node>, path: &str| {
            node.as_ref()
                .map(|node| one_or_many(node, path, owner))
                .unwrap_or_default()
        };
        let namespace_files = pod.namespace_files.filter(|files| files.enabled);
        let namespace_files = namespace_files.map(|files| NamespaceFiles {
            include: many(&files.include, "namespaceFiles.include"),
            exclude: many(&files.exclude, "namespaceFiles.exclude"),
        });
        let wrong = namespace_files
            .iter()
            .flat_map(|files| files.include.iter().chain(&files.exclude))
            .map(|pattern| valid(pattern, Pattern::anywhere));
        self.problems.extend(wrong.filter_map(Result::err));
        Ok(Script {
            language,
            code,
            image,
            before: pod.before_commands,
            interpreter: pod.interpreter,
            fail_fast: pod.fail_fast,
            warning_on_std_err: pod.warning_on_std_err == Some(true),
            env: pod
                .env
                .iter()
                .flat_map(|env| pairs(env, "env", owner))
                .map(|(name, value)| (name.text, value))
                .collect(),
            inputs,
            namespace_files,
            outputs,
            options,
            config,
            tokens,
        })
    }

    /// Where the tokens for a cluster come from.
    fn provider(&mut self, node: &Node, config: Option<&Node>, owner: &str) -> Result<TokenProvider, Problem> {
        let whose = format!("`taskRunner.config.{PROVIDER}` of {owner}");
        if let Some(token) = config.and_then(|config| config.get("oauthToken")) {
            let message =
                format!("`taskRunner.config` of {owner} has `oauthToken` and `{PROVIDER}`: keep one of the two");
            return Err(Problem::new(&token.place, message));
        }
        let provider: types::script::TokenProvider = typed::read(node, &whose)?;
        let task = provider.task.with("id", PROVIDER);
        let name = task.get("type").and_then(Node::text).unwrap_or_default();
        let kind = task_type(&name).filter(|kind| PROVIDERS.contains(&kind.name.as_str()));
        let Some(kind) = kind else {
            let place = task.get("type").map_or(&task.place, |name| &name.place);
            let message = format!(
                "the `task` of {whose} gives no tokens: its type is one of {}",
                listed(&PROVIDERS)
            );
            return Err(Problem::new(place, message));
        };
        let whose_task = format!("the `task` of {whose}");
        if let Some(schema) = self.schemas.definition(&kind.name) {
            self.problems.extend(check(&task, schema, self.schemas, &whose_task));
        }
        Ok(TokenProvider {
            task: match kind.kind {
                TaskKind::OauthToken => Provided::Google(google_auth(&task, &whose_task)?),
                _ => Provided::Expression(part::<types::core::Return>(&task, &whose_task)?.format),
            },
            output: provider.output,
            cache: provider.cache.map_or(DEFAULT_CACHE, |cache| cache.0),
        })
    }
}

/// A problem with a pattern that needs no values to be wrong.
fn valid(pattern: &Text, read: impl Fn(&str) -> Result<Pattern, String>) -> Result<(), Problem> {
    if is_template(&pattern.text) {
        return Ok(());
    }
    read(&pattern.text).map(|_| ()).map_err(|reason| {
        let message = format!("{}: pattern `{}` {reason}", pattern.what, pattern.text.escape_debug());
        Problem::new(&pattern.place, message)
    })
}

fn read_pattern(item: &Node, path: &str, owner: &str) -> Result<OutputPattern, Problem> {
    if !matches!(item.value, Value::Map(_)) {
        return Ok(OutputPattern {
            pattern: required_text(item, path, owner)?,
            required: false,
        });
    }
    let what = named(path, owner);
    let mut file: types::script::OutputFile = typed::read(item, &what)?;
    file.pattern.what = what.clone();
    Ok(OutputPattern {
        pattern: file.pattern,
        required: file.required,
    })
}

/// The task runner's options and its config.
fn runner(node: Option<Node>) -> (Node, Option<Node>) {
    let Some(node) = node else {
        return (Node::built_in(Value::Map(Vec::new())), None);
    };
    let config = node.get("config").cloned();
    let options = node
        .entries()
        .iter()
        .filter(|(key, value)| key.name != "type" && key.name != "config" && !value.is_null())
        .cloned()
        .collect();
    let options = Node {
        value: Value::Map(options),
        place: node.place,
    };
    (options, config)
}
