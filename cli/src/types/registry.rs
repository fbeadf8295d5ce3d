//! Which types of tasks and inputs there are, under which names.

use std::sync::LazyLock;

use crate::document::nearest;
use crate::flow::{InputKind, Language};

/// A type of task.
#[derive(Debug)]
pub(crate) struct TaskType {
    pub(crate) name: String,
    /// Names that it had before.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) kind: TaskKind,
    /// What such a task does, in a sentence.
    pub(crate) summary: String,
}

/// What a type of task is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    Commands(Language),
    Script(Language),
    Parallel,
    Sequential,
    ForEach,
    If,
    Switch,
    Log,
    Return,
    Fail,
    GkeCluster,
    OauthToken,
}

impl TaskKind {
    /// Whether there are tasks inside.
    pub(crate) fn holds_tasks(self) -> bool {
        match self {
            Self::Parallel | Self::Sequential | Self::ForEach | Self::If | Self::Switch => true,
            Self::Commands(_) | Self::Script(_) | Self::Log | Self::Return | Self::Fail => false,
            Self::GkeCluster | Self::OauthToken => false,
        }
    }
}

/// Languages: the part of the type's name, for people, what runs the script.
const LANGUAGES: [(Language, &str, &str); 9] = [
    (Language::Shell, "shell", "shell"),
    (Language::Python, "python", "Python"),
    (Language::Node, "node", "JavaScript"),
    (Language::Ruby, "ruby", "Ruby"),
    (Language::R, "r", "R"),
    (Language::Perl, "perl", "Perl"),
    (Language::PowerShell, "powershell", "PowerShell"),
    (Language::Julia, "julia", "Julia"),
    (Language::Go, "go", "Go"),
];

/// Types with one name each.
const OTHERS: [(TaskKind, &str, &[&str], &str); 10] = [
    (
        TaskKind::Parallel,
        "io.kestra.plugin.core.flow.Parallel",
        &["io.kestra.core.tasks.flows.Parallel"],
        "Runs tasks at the same time.",
    ),
    (
        TaskKind::Sequential,
        "io.kestra.plugin.core.flow.Sequential",
        &["io.kestra.core.tasks.flows.Sequential"],
        "Runs tasks one after the other.",
    ),
    (
        TaskKind::ForEach,
        "io.kestra.plugin.core.flow.ForEach",
        &["io.kestra.core.tasks.flows.ForEach"],
        "Runs tasks once for each value of a list.",
    ),
    (
        TaskKind::If,
        "io.kestra.plugin.core.flow.If",
        &["io.kestra.core.tasks.flows.If"],
        "Runs one of two lists of tasks.",
    ),
    (
        TaskKind::Switch,
        "io.kestra.plugin.core.flow.Switch",
        &["io.kestra.core.tasks.flows.Switch"],
        "Runs the list of tasks that is there for a value.",
    ),
    (
        TaskKind::Log,
        "io.kestra.plugin.core.log.Log",
        &["io.kestra.core.tasks.log.Log"],
        "Writes lines to the execution's log.",
    ),
    (
        TaskKind::Return,
        "io.kestra.plugin.core.debug.Return",
        &["io.kestra.core.tasks.debugs.Return"],
        "Publishes a value for later tasks.",
    ),
    (
        TaskKind::Fail,
        "io.kestra.plugin.core.execution.Fail",
        &["io.kestra.core.tasks.executions.Fail"],
        "Ends the flow as failed.",
    ),
    (
        TaskKind::GkeCluster,
        "io.kestra.plugin.gcp.gke.ClusterMetadata",
        &[],
        "Looks a cluster of Google Kubernetes Engine up. Later tasks see `outputs.ID.endpoint`, \
         `outputs.ID.masterAuth.clusterCertificate` and what else Google tells.",
    ),
    (
        TaskKind::OauthToken,
        "io.kestra.plugin.gcp.auth.OauthAccessToken",
        &[],
        "Fetches a Google access token. Later tasks see it as `outputs.ID.accessToken.tokenValue`; it is hidden wherever it \
         would be shown, and not kept.",
    ),
];

/// Types that other systems have, and what to use instead.
const UNSUPPORTED: [(&str, &str); 18] = [
    (
        "EachParallel",
        "use `io.kestra.plugin.core.flow.ForEach` with `concurrencyLimit: 0`",
    ),
    ("EachSequential", "use `io.kestra.plugin.core.flow.ForEach`"),
    ("ForEachItem", "use `io.kestra.plugin.core.flow.ForEach` over a list"),
    ("LoopUntil", "give the task a `retry`, or let the script wait by itself"),
    (
        "Dag",
        "use `io.kestra.plugin.core.flow.Parallel` and `io.kestra.plugin.core.flow.Sequential`",
    ),
    ("AllowFailure", "set `allowFailure: true` on the tasks themselves"),
    (
        "WorkingDirectory",
        "every task has a pod of its own: hand files on with `outputFiles` and `inputFiles`",
    ),
    ("Pause", "end the flow there and start another one after it"),
    ("Subflow", "start the other flow with `podrun run`, after this one"),
    ("Flow", "start the other flow with `podrun run`, after this one"),
    ("Sleep", "let a script wait"),
    (
        "Exit",
        "use `io.kestra.plugin.core.execution.Fail`, or `runIf` on what follows",
    ),
    ("Bash", "use `io.kestra.plugin.scripts.shell.Commands`"),
    ("Python", "use `io.kestra.plugin.scripts.python.Script`"),
    ("Node", "use `io.kestra.plugin.scripts.node.Script`"),
    (
        "PodCreate",
        "use a script task; `taskRunner.podSpec` says what the pod needs besides",
    ),
    ("Fetch", "a script can fetch it, with `inputFiles` for what it needs"),
    (
        "Download",
        "a script can download it, with `outputFiles` for what comes back",
    ),
];

static TYPES: LazyLock<Vec<TaskType>> = LazyLock::new(|| {
    let scripts = LANGUAGES.into_iter().flat_map(|(language, part, people)| {
        let one = |form: &str, kind, summary| TaskType {
            name: format!("io.kestra.plugin.scripts.{part}.{form}"),
            aliases: &[],
            kind,
            summary,
        };
        let commands = match language {
            Language::Shell => "Runs shell commands in a pod.".to_owned(),
            _ => format!("Runs shell commands in a pod, for programs in {people}."),
        };
        [
            one("Commands", TaskKind::Commands(language), commands),
            one(
                "Script",
                TaskKind::Script(language),
                format!("Runs a script in {people} in a pod."),
            ),
        ]
    });
    let others = OTHERS.into_iter().map(|(kind, name, aliases, summary)| TaskType {
        name: name.to_owned(),
        aliases,
        kind,
        summary: summary.to_owned(),
    });
    scripts.chain(others).collect()
});

/// All types of tasks.
pub(crate) fn task_types() -> &'static [TaskType] {
    &TYPES
}

/// The type of that name, or with that old name.
pub(crate) fn task_type(name: &str) -> Option<&'static TaskType> {
    TYPES
        .iter()
        .find(|task| task.name == name || task.aliases.contains(&name))
}

/// A type's name of today.
pub(crate) fn canonical(name: &str) -> &str {
    match task_type(name) {
        Some(task) => &task.name,
        None => name,
    }
}

/// The type that an unknown name was probably meant to be.
pub(crate) fn near_type(name: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let names: Vec<&'static str> = TYPES.iter().map(|task| task.name.as_str()).collect();
    // Many types share a long beginning: those whose last parts are alike come first.
    let same: Vec<&'static str> = names
        .iter()
        .copied()
        .filter(|known| last(known).eq_ignore_ascii_case(&last(name)))
        .collect();
    nearest(name, &same).or_else(|| nearest(name, &names))
}

/// What to use instead of a type that there is not.
pub(crate) fn unsupported(name: &str) -> Option<&'static str> {
    let last = name.strip_prefix("io.kestra.")?.rsplit('.').next()?;
    UNSUPPORTED
        .iter()
        .find(|(other, _)| *other == last)
        .map(|(_, instead)| *instead)
}

/// A type of input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputType {
    pub(crate) name: &'static str,
    pub(crate) kind: InputKind,
    /// What such a value is, in a sentence.
    pub(crate) summary: &'static str,
}

/// All types of inputs, each under its first name.
const INPUTS: [InputType; 17] = [
    input("STRING", InputKind::String, "Text."),
    input("INT", InputKind::Int, "A whole number."),
    input("FLOAT", InputKind::Float, "A number."),
    input("BOOLEAN", InputKind::Boolean, "`true` or `false`."),
    input("BOOL", InputKind::Boolean, "As BOOLEAN."),
    input("DATETIME", InputKind::DateTime, "A moment: `2026-01-31T12:00:00Z`."),
    input("DATE", InputKind::Date, "A day: `2026-01-31`."),
    input("TIME", InputKind::Time, "A time of day: `12:00:00`."),
    input("DURATION", InputKind::Duration, "An ISO 8601 duration: `PT5M`."),
    input("SELECT", InputKind::Select, "One of `values`."),
    input("ENUM", InputKind::Select, "As SELECT."),
    input(
        "MULTISELECT",
        InputKind::MultiSelect,
        "Several of `values`, as a JSON list.",
    ),
    input("FILE", InputKind::File, "A file: `-i NAME=@PATH`."),
    input("JSON", InputKind::Json, "Any JSON."),
    input("YAML", InputKind::Yaml, "Any YAML."),
    input("URI", InputKind::Uri, "A URI."),
    input("ARRAY", InputKind::Array, "A JSON list."),
];

const fn input(name: &'static str, kind: InputKind, summary: &'static str) -> InputType {
    InputType { name, kind, summary }
}

/// The type of input of that name.
pub(crate) fn input_type(name: &str) -> Option<InputType> {
    INPUTS.into_iter().find(|input| input.name == name)
}

/// The names of all types of inputs.
pub(crate) fn input_type_names() -> [&'static str; 17] {
    INPUTS.map(|input| input.name)
}
