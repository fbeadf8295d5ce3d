//! What a flow declares: the tree that reading a file makes and that an execution walks.
//!
//! Texts keep their expressions and their places. Nothing here reads, renders or runs.

use crate::document::{Node, Place};
use crate::expression::Text;

/// A flow, ready to be run.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) labels: Vec<(String, Text)>,
    pub(crate) inputs: Vec<InputDeclaration>,
    /// A mapping, whose texts may use inputs, secrets and what stands before them.
    pub(crate) variables: Option<Node>,
    pub(crate) tasks: Vec<Step>,
    /// Run when a task of `tasks` failed.
    pub(crate) errors: Vec<Step>,
    /// Run last, however the flow ended.
    pub(crate) finally: Vec<Step>,
    pub(crate) outputs: Vec<OutputDeclaration>,
    /// What the file says, without any task runner's config: what makes two flows the same flow.
    pub(crate) identity: serde_json::Value,
}

/// A value that the flow gives back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutputDeclaration {
    pub(crate) id: String,
    pub(crate) kind: InputKind,
    pub(crate) value: Text,
}

/// A value that whoever runs the flow supplies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputDeclaration {
    pub(crate) id: String,
    pub(crate) place: Place,
    pub(crate) kind: InputKind,
    pub(crate) required: bool,
    /// May hold expressions over earlier inputs. A list or mapping stands for its JSON.
    pub(crate) default: Option<Node>,
    pub(crate) rules: Rules,
}

/// What an input may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    String,
    Int,
    Float,
    Boolean,
    DateTime,
    Date,
    Time,
    Duration,
    /// ENUM and SELECT.
    Select,
    MultiSelect,
    File,
    Json,
    Yaml,
    Uri,
    Array,
}

/// What a value must fit besides its kind. Bounds are texts, because they are times for some kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    /// STRING: a regular expression that the whole value matches.
    pub(crate) validator: Option<Text>,
    pub(crate) min: Option<Text>,
    pub(crate) max: Option<Text>,
    pub(crate) after: Option<Text>,
    pub(crate) before: Option<Text>,
    /// SELECT and MULTISELECT.
    pub(crate) values: Vec<String>,
    pub(crate) allow_custom_value: bool,
    /// ARRAY: what each item is.
    pub(crate) items: Option<InputKind>,
}

/// One task of a flow, of whatever type.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) id: String,
    /// The name of today of its type.
    pub(crate) type_name: &'static str,
    pub(crate) kind: Kind,
    /// Never runs; later expressions do not see it.
    pub(crate) disabled: bool,
    /// Runs only if this renders to true.
    pub(crate) run_if: Option<Text>,
    /// A failure leaves a warning, and what follows runs.
    pub(crate) allow_failure: bool,
    pub(crate) retry: Option<Retry>,
    /// An ISO 8601 duration.
    pub(crate) timeout: Option<Text>,
}

/// What a task does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A script in a pod.
    Script(Box<Script>),
    /// All at once, at most `concurrent` of them if that is not 0.
    Parallel { concurrent: u32, body: Body },
    /// One after the other.
    Sequential { body: Body },
    /// The tasks once for each value, at most `concurrency` values at once if that is not 0.
    ForEach {
        values: Values,
        concurrency: u32,
        body: Body,
    },
    /// One of two lists. `body.tasks` is `then`.
    If {
        condition: Text,
        body: Body,
        otherwise: Vec<Step>,
    },
    /// The list whose name equals the value, or the defaults, which are `body.tasks`.
    Switch {
        value: Text,
        cases: Vec<(String, Vec<Step>)>,
        body: Body,
    },
    /// Lines in the execution's log.
    Log {
        messages: Vec<Text>,
        level: podrun_host::Level,
    },
    /// Publishes a value.
    Return { format: Text },
    /// Ends the flow as failed, if the condition holds.
    Fail {
        condition: Option<Text>,
        message: Option<Text>,
    },
    /// Looks a GKE cluster up.
    GkeCluster(Box<GkeCluster>),
    /// Fetches a Google access token.
    OauthToken(GoogleAuth),
}

/// The tasks inside a task, with what runs when one of them fails and what always runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    pub(crate) tasks: Vec<Step>,
    pub(crate) errors: Vec<Step>,
    pub(crate) finally: Vec<Step>,
}

/// What a ForEach goes over.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Renders to a JSON list.
    Text(Text),
    /// Items may hold expressions.
    List(Vec<Node>),
}

/// When a task that failed is tried again, as a new attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retry {
    pub(crate) delay: Delay,
    /// Attempts in all, the first included; 0 has no limit.
    pub(crate) max_attempts: u32,
    /// Seconds from the first attempt's begin after which none begins.
    pub(crate) max_duration: Option<u64>,
    /// Say so when an attempt fails although another follows.
    pub(crate) warning_on_retry: bool,
}

/// Milliseconds between the end of an attempt and the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delay {
    Constant {
        interval: u64,
    },
    Exponential {
        interval: u64,
        max_interval: u64,
        factor: f64,
    },
    Random {
        min_interval: u64,
        max_interval: u64,
    },
}

/// A script to run in a pod.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) language: Language,
    pub(crate) code: Code,
    pub(crate) image: Text,
    pub(crate) before: Vec<Text>,
    pub(crate) interpreter: Vec<Text>,
    pub(crate) fail_fast: bool,
    /// Asked for, and not to be had.
    pub(crate) warning_on_std_err: bool,
    pub(crate) env: Vec<(String, Text)>,
    pub(crate) inputs: InputFiles,
    pub(crate) namespace_files: Option<NamespaceFiles>,
    pub(crate) outputs: Vec<OutputPattern>,
    /// The task runner's properties other than its type and config.
    pub(crate) options: Node,
    /// How to reach the cluster, if the flow or a default says so.
    pub(crate) config: Option<Node>,
    /// Where the tokens for that cluster come from, if not from the config.
    pub(crate) tokens: Option<TokenProvider>,
}

/// A task that is asked for a token whenever the cluster needs one.
#[derive(Clone, Debug)]
pub(crate) struct TokenProvider {
    pub(crate) task: Provided,
    /// An expression over what the task gives back.
    pub(crate) output: Text,
    /// Milliseconds for which a token is used.
    pub(crate) cache: u64,
}

/// What gives tokens.
#[derive(Clone, Debug)]
pub(crate) enum Provided {
    Google(GoogleAuth),
    /// Rendered each time.
    Expression(Text),
}

/// What the script is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Shell,
    Python,
    Node,
    Ruby,
    R,
    Perl,
    PowerShell,
    Julia,
    Go,
}

/// The script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Code {
    Commands(Vec<Text>),
    Script(Text),
}

/// Files that go into the working directory.
#[derive(Clone, Debug)]
pub(crate) enum InputFiles {
    /// Name, and content or a file's URI.
    Map(Vec<(Text, Text)>),
    /// Renders to a JSON mapping of names to contents or URIs.
    Expression(Text),
}

/// Files of the namespace that go into the working directory, before `inputFiles`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceFiles {
    pub(crate) include: Vec<Text>,
    pub(crate) exclude: Vec<Text>,
}

/// Files that come back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutputPattern {
    pub(crate) pattern: Text,
    /// That nothing matches is a failure.
    pub(crate) required: bool,
}

/// `io.kestra.plugin.gcp.gke.ClusterMetadata`.
#[derive(Clone, Debug)]
pub(crate) struct GkeCluster {
    pub(crate) auth: GoogleAuth,
    pub(crate) cluster: Text,
    /// A zone or a region.
    pub(crate) zone: Text,
    pub(crate) project: Text,
}

/// How to get a Google access token.
#[derive(Clone, Debug)]
pub(crate) struct GoogleAuth {
    pub(crate) project: Option<Text>,
    /// The JSON key of a service account; without one those of the machine are used.
    pub(crate) service_account: Option<Text>,
    pub(crate) scopes: Vec<Text>,
}

/// A step that runs a script, with that script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScriptStep<'a> {
    pub(crate) step: &'a Step,
    pub(crate) script: &'a Script,
}

impl TokenProvider {
    /// What the task gives back, with other values.
    pub(crate) fn sample(&self) -> serde_json::Map<String, serde_json::Value> {
        let token = crate::google::Token {
            value: "token".to_owned(),
            expires: None,
            scopes: Vec::new(),
        };
        match &self.task {
            Provided::Google(_) => token.outputs(),
            Provided::Expression(_) => serde_json::Map::from_iter([("value".to_owned(), "token".into())]),
        }
    }
}

impl Kind {
    /// True for what is asked of Google Cloud.
    pub(crate) fn is_google(&self) -> bool {
        matches!(self, Self::GkeCluster(_) | Self::OauthToken(_))
    }
}

impl Flow {
    /// Every task of the flow, at whatever depth, in the order in which the file lists them.
    pub(crate) fn steps(&self) -> Vec<&Step> {
        fn below<'a>(step: &'a Step, found: &mut Vec<&'a Step>) {
            found.push(step);
            step.children().into_iter().for_each(|step| below(step, found));
        }
        let mut found = Vec::new();
        let lists = [&self.tasks, &self.errors, &self.finally];
        lists.into_iter().flatten().for_each(|step| below(step, &mut found));
        found
    }

    /// Every script of the flow, at whatever depth, in the order in which the file lists them.
    pub(crate) fn scripts(&self) -> Vec<ScriptStep<'_>> {
        let scripts = self.steps().into_iter().filter_map(|step| match &step.kind {
            Kind::Script(script) => Some(ScriptStep { step, script }),
            _ => None,
        });
        scripts.collect()
    }
}

impl Step {
    /// The tasks directly inside this one.
    pub(crate) fn children(&self) -> Vec<&Step> {
        fn body(body: &Body) -> [&[Step]; 3] {
            [&body.tasks, &body.errors, &body.finally]
        }
        let lists: Vec<&[Step]> = match &self.kind {
            Kind::Parallel { body: inner, .. }
            | Kind::Sequential { body: inner }
            | Kind::ForEach { body: inner, .. } => body(inner).to_vec(),
            Kind::If {
                body: inner, otherwise, ..
            } => {
                let [tasks, errors, finally] = body(inner);
                vec![tasks, otherwise, errors, finally]
            }
            Kind::Switch { cases, body: inner, .. } => {
                let [tasks, errors, finally] = body(inner);
                let cases = cases.iter().map(|(_, list)| list.as_slice());
                cases.chain([tasks, errors, finally]).collect()
            }
            _ => Vec::new(),
        };
        lists.into_iter().flatten().collect()
    }
}
