//! Turns a declared task into the task that a runner gets, and the files to stage for it.
//!
//! Pure: it reads and writes no file. Whatever cannot run is refused here, before anything is created.

mod check;
mod language;
mod options;

use std::collections::BTreeSet;
use std::path::PathBuf;

use podrun_host::{Input, Origin, Outcome, OutputFile, Task};

pub(crate) use self::check::check;
use self::language::{announces, fail_fast, is_shell};

use crate::document::{Place, Problem};
use crate::expression::{Renderer, Text};
use crate::flow::model::NamespaceFiles;
use crate::flow::{Code, Flow, InputFiles, Language, ScriptStep};
use crate::namespace::Folder;
use crate::patterns::{Pattern, plain};
use crate::scope::{SCHEME, Scope};

/// The script file of a Script, without its suffix, beside the task's own input files.
const SCRIPT_FILE: &str = "podrun-script";

/// The option of a runner that names required output patterns.
const REQUIRED: &str = "requiredOutputs";

/// The line that a script writes between `beforeCommands` and what follows them.
pub(crate) const PREPARED: &str = "##kestra:log:info##";

/// Linux refuses a longer argument: 32 pages, the final NUL included.
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;

/// A task ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) task: Task,
    pub(crate) files: Vec<Staged>,
}

/// A file to place in the folder that becomes `/inputs`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Staged {
    pub(crate) path: String,
    pub(crate) content: Content,
    /// Permission bits of the file in the task.
    pub(crate) mode: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Text(String),
    /// A file of our own, which stays as it is.
    File(PathBuf),
    /// A file that others may change at any time.
    Foreign(PathBuf),
}

/// Names of one attempt of a task.
#[derive(Clone, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) execution: &'a str,
    pub(crate) task: &'a str,
    pub(crate) attempt: u32,
}

impl Names<'_> {
    /// The task run: the same for every attempt.
    pub(crate) fn task_run(&self) -> String {
        format!("{}.{}", self.execution, self.task)
    }

    /// The runner's id for this attempt. Ids of executions and tasks hold no dot, so no two attempts share one.
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.task_run(), self.attempt)
    }
}

/// Render a task. `scope` knows its directories, `folder` the files of its namespace, `schema` the runner's options.
pub(crate) fn plan(
    flow: &Flow,
    declared: ScriptStep<'_>,
    names: &Names<'_>,
    scope: &Scope,
    folder: &Folder,
    renderer: &Renderer,
    schema: &serde_json::Value,
) -> Result<Planned, Problem> {
    let renderer = &renderer.reading(scope.readable());
    let render = |text: &Text| renderer.render(text, &scope.values);
    // A script cannot open a URI, so a file that is used as text is a mistake.
    let script = |text: &Text| {
        let rendered = render(text)?;
        match scope.files.keys().find(|uri| rendered.contains(uri.as_str())) {
            None => Ok(rendered),
            Some(uri) => {
                let message = format!(
                    "{} uses the file `{uri}` as text: list it in `inputFiles`, and use its name there",
                    text.what
                );
                Err(Problem::new(&text.place, message))
            }
        }
    };
    let mut staging = Staging::default();
    for file in input_files(&declared.script.inputs, scope, renderer)? {
        let InputFile {
            path,
            value,
            name,
            text,
        } = file;
        // A block of text ends with a new line, which is no part of a file's name.
        let (content, mode) = match scope.files.get(value.trim()) {
            Some(file) => (
                Content::File(file.path.clone()),
                if file.executable { 0o755 } else { 0o644 },
            ),
            None if value.trim().starts_with(SCHEME) && !value.trim().contains(char::is_whitespace) => {
                let value = value.trim();
                let message = format!("{} names `{value}`, which is no file of this execution", text.what);
                return Err(Problem::new(&text.place, message));
            }
            None => (Content::Text(value), 0o644),
        };
        staging.add(&name.place, &name.what, path, content, mode)?;
    }
    let command = command(declared, &script, &mut staging)?;
    if let Some(wanted) = &declared.script.namespace_files {
        staging.behind(chosen(wanted, folder, &render)?);
    }
    for argument in &command {
        check_argument(declared, argument)?;
    }
    let outputs = declared.script.outputs.iter();
    let outputs = outputs
        .map(|output| render(&output.pattern))
        .collect::<Result<Vec<_>, _>>()?;
    for (pattern, output) in outputs.iter().zip(&declared.script.outputs) {
        check_pattern(pattern, &output.pattern)?;
        in_no_directory(pattern, &output.pattern, scope)?;
    }
    let outputs = outputs.iter().map(|pattern| plain(pattern).to_owned()).collect();
    let image = image(&declared.script.image, &render(&declared.script.image)?)?;
    let what = format!("`taskRunner` of task `{}`", declared.step.id);
    let options = options::options(&declared.script.options, schema, &what, renderer, &scope.values)?;
    let options = without_nulls(options);
    let labels = [
        ("namespace", flow.namespace.clone()),
        ("flow", flow.id.clone()),
        ("execution", names.execution.to_owned()),
        ("task", declared.step.id.clone()),
        ("taskrun", names.task_run()),
        ("attempt", names.attempt.to_string()),
    ];
    let task = Task {
        id: names.id(),
        image,
        command,
        env: environment(declared, &declared.script.env, &script)?,
        inputs: staging.inputs(),
        outputs,
        timeout: declared
            .step
            .timeout
            .as_ref()
            .map(|text| seconds(&render(text)?, text))
            .transpose()?,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        options: options.to_string(),
    };
    Ok(Planned {
        task,
        files: staging.files,
    })
}

/// The files of the namespace that a task wants.
fn chosen(wanted: &NamespaceFiles, folder: &Folder, render: &Render<'_>) -> Result<Vec<Staged>, Problem> {
    let patterns = |texts: &[Text]| -> Result<Vec<Pattern>, Problem> {
        let pattern = |text: &Text| {
            let pattern = render(text)?;
            Pattern::anywhere(&pattern).map_err(|reason| {
                let message = format!("{}: pattern `{}` {reason}", text.what, pattern.escape_debug());
                Problem::new(&text.place, message)
            })
        };
        texts.iter().map(pattern).collect()
    };
    let (include, exclude) = (patterns(&wanted.include)?, patterns(&wanted.exclude)?);
    let matches = |patterns: &[Pattern], path: &str| patterns.iter().any(|pattern| pattern.matches(path));
    let files = folder
        .files
        .iter()
        .filter(|file| (include.is_empty() || matches(&include, &file.path)) && !matches(&exclude, &file.path));
    let staged = files.map(|file| Staged {
        path: file.path.clone(),
        content: Content::Foreign(file.source.clone()),
        mode: if file.executable { 0o755 } else { 0o644 },
    });
    Ok(staged.collect())
}

/// A file that a task asks for, and the texts that ask for it.
struct InputFile<'a> {
    path: String,
    value: String,
    name: &'a Text,
    text: &'a Text,
}

/// The files of `inputFiles`, rendered.
fn input_files<'a>(files: &'a InputFiles, scope: &Scope, renderer: &Renderer) -> Result<Vec<InputFile<'a>>, Problem> {
    match files {
        InputFiles::Map(pairs) => pairs
            .iter()
            .map(|(name, text)| {
                Ok(InputFile {
                    path: renderer.render(name, &scope.values)?,
                    value: renderer.render(text, &scope.values)?,
                    name,
                    text,
                })
            })
            .collect(),
        InputFiles::Expression(text) => {
            let value = match renderer.evaluate(text, &scope.values)? {
                serde_json::Value::String(json) => serde_json::from_str(&json).unwrap_or_default(),
                other => other,
            };
            let serde_json::Value::Object(map) = value else {
                let message = format!("{} must render to a JSON mapping of file names to contents", text.what);
                return Err(Problem::new(&text.place, message));
            };
            let files = map.into_iter().filter(|(_, value)| !value.is_null());
            let files = files.map(|(path, value)| InputFile {
                path,
                value: crate::at::text(&value),
                name: text,
                text,
            });
            Ok(files.collect())
        }
    }
}

/// Tell a runner whose options have a place for it which patterns are required, so that it knows of a failure before it
/// deletes what ran. For others, [`missing_output`] comes after that.
pub(crate) fn require(
    task: &mut Task,
    declared: ScriptStep<'_>,
    scope: &Scope,
    renderer: &Renderer,
    schema: &serde_json::Value,
) -> Result<(), Problem> {
    let mut options: serde_json::Value = serde_json::from_str(&task.options).unwrap_or_default();
    let required = declared.script.outputs.iter().filter(|output| output.required);
    let required = required
        .map(|output| Ok(plain(&renderer.render(&output.pattern, &scope.values)?).to_owned()))
        .collect::<Result<Vec<_>, Problem>>()?;
    if let Some(options) = options.as_object_mut()
        && schema.pointer(&format!("/properties/{REQUIRED}")).is_some()
        && !required.is_empty()
    {
        options.insert(REQUIRED.to_owned(), required.into());
        task.options = serde_json::Value::from(options.clone()).to_string();
    }
    Ok(())
}

/// The first required pattern that no file of the working directory matches.
pub(crate) fn missing_output(
    declared: ScriptStep<'_>,
    outcome: &Outcome,
    scope: &Scope,
    renderer: &Renderer,
) -> Result<Option<String>, Problem> {
    let from_work = |file: &&OutputFile| file.origin == Origin::WorkingDir;
    for output in declared.script.outputs.iter().filter(|output| output.required) {
        let pattern = renderer.render(&output.pattern, &scope.values)?;
        let matcher = check_pattern(&pattern, &output.pattern)?;
        if !outcome
            .files
            .iter()
            .filter(from_work)
            .any(|file| matcher.matches(&file.path))
        {
            return Ok(Some(pattern));
        }
    }
    Ok(None)
}

/// The config of a task's runner, rendered; none if neither the flow nor a default has one.
pub(crate) fn config(
    declared: ScriptStep<'_>,
    scope: &Scope,
    renderer: &Renderer,
) -> Result<Option<serde_json::Value>, Problem> {
    let Some(config) = &declared.script.config else {
        return Ok(None);
    };
    let renderer = renderer.reading(scope.readable());
    let what = format!("`taskRunner.config` of task `{}`", declared.step.id);
    let rendered = renderer.node_with(config, &what, &scope.values, serde_json::Value::is_boolean)?;
    Ok(Some(without_nulls(rendered)))
}

/// The option that holds a registry's password. It is given to the runner and kept nowhere.
const CREDENTIALS: &str = "credentials";

/// A task without its registry's credentials, for the journal.
pub(crate) fn without_credentials(task: &Task) -> Task {
    let mut options: serde_json::Value = serde_json::from_str(&task.options).unwrap_or_default();
    match options.as_object_mut().and_then(|options| options.remove(CREDENTIALS)) {
        Some(_) => Task {
            options: options.to_string(),
            ..task.clone()
        },
        None => task.clone(),
    }
}

/// The same task with them, rendered anew.
pub(crate) fn with_credentials(
    task: Task,
    declared: ScriptStep<'_>,
    scope: &Scope,
    renderer: &Renderer,
) -> Result<Task, Problem> {
    let Some(node) = declared.script.options.get(CREDENTIALS) else {
        return Ok(task);
    };
    let renderer = renderer.reading(scope.readable());
    let what = format!("`taskRunner.{CREDENTIALS}` of task `{}`", declared.step.id);
    let credentials = renderer.node(node, &what, &scope.values)?;
    let mut options: serde_json::Value = serde_json::from_str(&task.options).unwrap_or_default();
    if let Some(options) = options.as_object_mut() {
        options.insert(CREDENTIALS.to_owned(), credentials);
    }
    Ok(Task {
        options: options.to_string(),
        ..task
    })
}

/// The namespace that a task names, rendered; none if it leaves that to the config.
pub(crate) fn namespace(
    declared: ScriptStep<'_>,
    scope: &Scope,
    renderer: &Renderer,
) -> Result<Option<String>, Problem> {
    let Some(node) = declared.script.options.get("namespace") else {
        return Ok(None);
    };
    let renderer = &renderer.reading(scope.readable());
    let what = format!("`taskRunner.namespace` of task `{}`", declared.step.id);
    let place = node.place.clone();
    node.text()
        .map(|text| renderer.render(&Text { text, place, what }, &scope.values))
        .transpose()
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        value => value,
    }
}

/// Files to stage.
#[derive(Default)]
struct Staging {
    files: Vec<Staged>,
    names: BTreeSet<String>,
}

impl Staging {
    fn add(&mut self, place: &Place, what: &str, path: String, content: Content, mode: u32) -> Result<(), Problem> {
        if let Some(reason) = refused_name(&path) {
            let message = format!("{what}: file name `{}` {reason}", path.escape_debug());
            return Err(Problem::new(place, message));
        }
        if let Some(other) = self.in_the_way(&path) {
            let message = format!("{what}: file `{path}` is in the way of `{other}`: rename one of the two");
            return Err(Problem::new(place, message));
        }
        self.names.insert(path.clone());
        self.files.push(Staged { path, content, mode });
        Ok(())
    }

    /// Add files of the namespace, except where the task has one of its own at that place.
    fn behind(&mut self, files: Vec<Staged>) {
        for file in files {
            if self.in_the_way(&file.path).is_none() {
                self.names.insert(file.path.clone());
                self.files.push(file);
            }
        }
    }

    /// A file that cannot lie beside another one of that path.
    fn in_the_way(&self, path: &str) -> Option<&String> {
        let inside = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'));
        let beside = |other: &&String| *other == path || inside(other, path) || inside(path, other);
        self.names.iter().find(beside)
    }

    /// What the contract says about them.
    fn inputs(&self) -> Vec<Input> {
        let input = |file: &Staged| Input {
            path: file.path.clone(),
            mode: file.mode,
        };
        self.files.iter().map(input).collect()
    }
}

/// Why a name cannot be the name of an input file.
fn refused_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("is empty: name a file in the working directory");
    }
    if name.starts_with('/') {
        return Some("is absolute: write it relative to the working directory");
    }
    if name.contains(['\0', '\n', '\r']) {
        return Some("holds a line end or NUL: remove it");
    }
    if name.len() > 1024 || name.split('/').any(|part| part.len() > 255) {
        return Some("is longer than file systems allow: shorten it");
    }
    name.split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
        .then_some("has an empty, `.` or `..` part: write it without")
}

/// The pattern that a text renders to.
fn check_pattern(pattern: &str, text: &Text) -> Result<Pattern, Problem> {
    Pattern::new(pattern).map_err(|reason| {
        let message = format!("{}: pattern `{}` {reason}", text.what, pattern.escape_debug());
        Problem::new(&text.place, message)
    })
}

/// The root of a pattern is the working directory, so a path below a directory's own path means nothing.
fn in_no_directory(pattern: &str, text: &Text, scope: &Scope) -> Result<(), Problem> {
    for name in ["workingDir", "outputDir"] {
        let directory = scope.values.get(name).and_then(serde_json::Value::as_str);
        if directory
            .is_some_and(|directory| plain(pattern).starts_with(plain(directory)) && pattern.contains(directory))
        {
            let message = format!(
                "{} names the {name} itself: write it relative to the working directory",
                text.what
            );
            return Err(Problem::new(&text.place, message));
        }
    }
    Ok(())
}

fn check_argument(declared: ScriptStep<'_>, argument: &str) -> Result<(), Problem> {
    let (place, what) = match &declared.script.code {
        Code::Script(text) => (&text.place, "script"),
        Code::Commands(texts) => match texts.first() {
            Some(text) => (&text.place, "commands"),
            None => return Ok(()),
        },
    };
    let reason = if argument.contains('\0') {
        "hold a NUL character: remove it".to_owned()
    } else if argument.len() > LONGEST_ARGUMENT {
        format!(
            "are {} bytes, and Linux allows {LONGEST_ARGUMENT}: put the script in a file with `inputFiles`",
            argument.len()
        )
    } else {
        return Ok(());
    };
    Err(Problem::new(
        place,
        format!("the `{what}` of task `{}` {reason}", declared.step.id),
    ))
}

type Render<'a> = dyn Fn(&Text) -> Result<String, Problem> + 'a;

/// Program and arguments.
fn command(declared: ScriptStep<'_>, render: &Render<'_>, staging: &mut Staging) -> Result<Vec<String>, Problem> {
    let script = declared.script;
    let mut interpreter = script.interpreter.iter().map(render).collect::<Result<Vec<_>, _>>()?;
    if interpreter.is_empty() {
        // A script file is started by a shell, whatever it is written in.
        let language = match script.code {
            Code::Commands(_) => script.language,
            Code::Script(_) => Language::Shell,
        };
        interpreter = language.interpreter().iter().map(|part| (*part).to_owned()).collect();
    }
    let program = interpreter.first().map(String::as_str).unwrap_or_default();
    let mut lines = Vec::new();
    if script.fail_fast {
        lines.extend(fail_fast(program).map(str::to_owned));
    }
    for text in &script.before {
        lines.push(render(text)?);
    }
    if !script.before.is_empty() {
        lines.extend(announces(program).then(|| format!("echo '{PREPARED}'")));
    }
    match &script.code {
        Code::Commands(commands) => {
            for text in commands {
                lines.push(render(text)?);
            }
        }
        Code::Script(text) if script.language == Language::Shell => lines.push(render(text)?),
        Code::Script(text) => {
            let traits = script.language.traits();
            let file = format!("{SCRIPT_FILE}.{}", traits.suffix);
            let content = Content::Text(render(text)?);
            staging.add(&text.place, &text.what, file.clone(), content, 0o644)?;
            if !is_shell(program) {
                if let Some(text) = script.before.first() {
                    let message = format!("{} needs a shell: remove it or `interpreter`", text.what);
                    return Err(Problem::new(&text.place, message));
                }
                interpreter.push(file);
                return Ok(interpreter);
            }
            // Images name it one way or the other; `exec` lets signals reach the script.
            let names = traits.programs.iter().map(|name| format!("command -v {name}"));
            let names = names.collect::<Vec<_>>().join(" || ");
            let first = traits.programs.first().copied().unwrap_or_default();
            let arguments: String = traits.arguments.iter().map(|argument| format!(" {argument}")).collect();
            lines.push(format!(
                "exec \"$({names} || echo {first})\"{arguments} \"$WORKING_DIR/{file}\""
            ));
        }
    }
    interpreter.push(lines.join("\n"));
    Ok(interpreter)
}

/// The image that a text renders to.
fn image(text: &Text, rendered: &str) -> Result<String, Problem> {
    let image = rendered.trim();
    if image.is_empty() || image.contains(char::is_whitespace) {
        let message = format!(
            "{} is `{image}`: name one image, for example `debian:stable-slim`",
            text.what
        );
        return Err(Problem::new(&text.place, message));
    }
    Ok(image.to_owned())
}

fn environment(
    declared: ScriptStep<'_>,
    pairs: &[(String, Text)],
    render: &Render<'_>,
) -> Result<Vec<(String, String)>, Problem> {
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value) in declared.script.language.traits().environment {
        env.push(((*name).to_owned(), (*value).to_owned()));
    }
    for (name, text) in pairs {
        if name.is_empty() || name.contains(['=', '\0', '\n']) {
            let message = format!(
                "{}: `{}` cannot name an environment variable",
                text.what,
                name.escape_debug()
            );
            return Err(Problem::new(&text.place, message));
        }
        let value = render(text)?;
        if value.contains('\0') {
            return Err(Problem::new(
                &text.place,
                format!("{} holds a NUL character: remove it", text.what),
            ));
        }
        match env.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => env.push((name.clone(), value)),
        }
    }
    Ok(env)
}

/// Seconds of an ISO 8601 duration, rounded up.
pub(crate) fn seconds(duration: &str, text: &Text) -> Result<u32, Problem> {
    let wrong = |reason: &str| {
        Problem::new(
            &text.place,
            format!(
                "{} is `{duration}`, {reason}: write for example `PT5M` or `PT1H30M`",
                text.what
            ),
        )
    };
    // The parser also knows a form for people, `5 min`; other readers of flows do not.
    let iso = Some(duration.trim()).filter(|text| text.starts_with('P'));
    let span: Option<jiff::Span> = iso.and_then(|text| text.parse().ok());
    let span = span.ok_or_else(|| wrong("which is no ISO 8601 duration"))?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let seconds = span
        .total((jiff::Unit::Second, relative))
        .map_err(|_| wrong("which has no fixed length"))?
        .ceil();
    if seconds < 1.0 || seconds > f64::from(u32::MAX) {
        return Err(wrong("which is not between one second and 136 years"));
    }
    Ok(seconds as u32)
}

#[cfg(test)]
mod tests;
