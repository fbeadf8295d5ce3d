//! Tasks that run a script in a pod.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{Duration, RunnerReference};
use crate::document::Node;
use crate::expression::Text;

/// What every script task has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pod {
    /// The image that the script runs in, for example `debian:stable-slim`. Needed, from the task or a default.
    pub(crate) container_image: Option<Text>,
    /// Where and how the pod runs.
    #[schemars(with = "Option<RunnerReference>")]
    pub(crate) task_runner: Option<Node>,
    /// Commands to run before the script, in the same shell. What they write is logged as debug, where the interpreter is a shell.
    #[serde(default)]
    pub(crate) before_commands: Vec<Text>,
    /// The program that gets the commands as its last argument.
    #[serde(default)]
    #[schemars(extend("default" = ["/bin/sh", "-c"]))]
    pub(crate) interpreter: Vec<Text>,
    /// The first command that fails ends the script, as `set -e` does. Without effect where the interpreter is no shell.
    #[serde(default = "yes")]
    pub(crate) fail_fast: bool,
    /// Environment variables. `WORKING_DIR` and `OUTPUT_DIR` are set by the runner and win.
    #[schemars(with = "Option<BTreeMap<String, Option<Text>>>")]
    pub(crate) env: Option<Node>,
    /// Files for the working directory: a mapping of names to contents, or an expression that renders to such a mapping as
    /// JSON. A value that is exactly the expression of a FILE input or of another task's output file stands for that file;
    /// every other value is the content.
    #[schemars(with = "Option<InputFiles>")]
    pub(crate) input_files: Option<Node>,
    /// Files of the flow's namespace for the working directory: those below `NAMESPACE` in the folder of `--namespace-files`, links
    /// aside. `inputFiles` of the same name win.
    pub(crate) namespace_files: Option<NamespaceFiles>,
    /// Patterns of files in the working directory that come back: `*`, `**`, `?`, `[..]`, `{a,b}`, also after `glob:`, or `regex:`
    /// and a regular expression for the whole path, which is relative. A `/` at the beginning is the working directory. What
    /// matches nothing is left out, unless it is written as `{pattern: ..., required: true}`.
    #[serde(default)]
    #[schemars(with = "Vec<OutputFileItem>")]
    pub(crate) output_files: Vec<Node>,
    /// Without effect: every script has an output directory. `taskRunner.outputDir` decides whether its files come back.
    #[expect(dead_code, reason = "there always is one")]
    #[schemars(extend("deprecated" = true))]
    pub(crate) output_directory: Option<bool>,
    /// The operating system of the image.
    #[serde(default, rename = "targetOS")]
    #[expect(dead_code, reason = "there is one")]
    pub(crate) target_os: TargetOs,
    /// Without effect, which a run says: Kubernetes does not tell the two streams of a script apart.
    pub(crate) warning_on_std_err: Option<bool>,
}

fn yes() -> bool {
    true
}

/// A task of one of the types `Commands`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Commands {
    /// Commands, run one after the other in one shell.
    #[schemars(length(min = 1))]
    pub(crate) commands: Vec<Text>,
}

/// A task of one of the types `Script`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct Script {
    /// The script.
    pub(crate) script: Text,
}

/// Names and contents of files, or an expression for them.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum InputFiles {
    /// Names, relative to the working directory, and contents.
    Map(BTreeMap<String, Option<Text>>),
    /// Renders to JSON.
    Expression(String),
}

/// Files of the namespace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NamespaceFiles {
    /// Whether they are wanted.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// Patterns of files to bring, as in `outputFiles`; one without `/` means that name in any folder. Default: all.
    #[schemars(with = "Option<OneOrMany>")]
    pub(crate) include: Option<Node>,
    /// Patterns of files to leave out.
    #[schemars(with = "Option<OneOrMany>")]
    pub(crate) exclude: Option<Node>,
}

/// A text or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum OneOrMany {
    /// Several.
    Many(Vec<Text>),
    /// One.
    One(Text),
}

/// A pattern, or a pattern with conditions.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum OutputFileItem {
    /// A pattern that may match nothing.
    Pattern(Text),
    /// A pattern with conditions.
    File(OutputFile),
}

/// A pattern with conditions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputFile {
    /// The pattern.
    pub(crate) pattern: Text,
    /// The task fails if nothing matches.
    #[serde(default)]
    pub(crate) required: bool,
}

/// Operating systems.
#[derive(Clone, Copy, Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TargetOs {
    /// LINUX.
    #[default]
    Auto,
    /// Linux.
    Linux,
}

/// A task that is asked for a token whenever the cluster needs one: a token that expires is replaced before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TokenProvider {
    /// The task, which needs no `id`.
    #[schemars(with = "ProviderTask")]
    pub(crate) task: Node,
    /// An expression over what the task gives back, for example `{{ accessToken.tokenValue }}`.
    pub(crate) output: Text,
    /// How long a token is used before the task is asked again; less, if it expires earlier. `PT0S` asks each time.
    #[schemars(extend("default" = "PT5M"))]
    pub(crate) cache: Option<Duration>,
}

/// The task of a token provider.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ProviderTask {
    /// What gives tokens. `io.kestra.plugin.core.debug.Return` renders its `format` anew each time.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = PROVIDERS))]
    kind: String,
}

/// Types of tasks that can give tokens.
pub(crate) const PROVIDERS: [&str; 2] = [
    "io.kestra.plugin.gcp.auth.OauthAccessToken",
    "io.kestra.plugin.core.debug.Return",
];

/// A task runner. Its other properties are those that the runner itself describes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct TaskRunner {
    /// The runner.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = crate::defaults::RUNNER_TYPES))]
    kind: Option<String>,
    /// How to reach the cluster, as one value: the strongest level that has one replaces it whole. Without one the command
    /// line and environment of `podrun` decide.
    config: Option<BTreeMap<String, Node>>,
}
