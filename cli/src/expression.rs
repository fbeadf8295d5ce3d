//! Expressions in flow files: `{{ inputs.x }}` and what else the template language offers.
//!
//! An unknown name is an error, never an empty text. Errors quote the expression and its place and no value, because a
//! value may be a credential. Comments (`{# … #}`) are turned off: `${#name}` is everyday shell.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use crate::document::{Place, Problem, listed, nearest};

/// Text that may hold expressions, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// What it is to the reader of an error, for example "`commands[1]` of task `hello`".
    pub(crate) what: String,
}

/// Renders texts. Built once.
pub(crate) struct Renderer {
    environment: Environment<'static>,
}

/// The names that expressions can use.
pub(crate) const ROOTS: [&str; 8] = [
    "inputs",
    "outputs",
    "flow",
    "execution",
    "task",
    "taskrun",
    "workingDir",
    "outputDir",
];

impl Renderer {
    /// A renderer in which every unknown name is an error.
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_debug(true);
        // An optional input that was not given is empty, not the word `none`.
        environment.set_formatter(|out, state, value| match value.is_none() {
            true => Ok(()),
            false => minijinja::escape_formatter(out, state, value),
        });
        // YAML text cannot hold a NUL character, so nothing is ever taken for a comment.
        let syntax = SyntaxConfig::builder()
            .comment_delimiters("\0{#", "#}\0")
            .keep_trailing_newline(true)
            .build()?;
        environment.set_syntax(syntax);
        Ok(Self { environment })
    }

    /// The text with its expressions replaced by their values.
    pub(crate) fn render(&self, text: &Text, scope: &Map<String, Value>) -> Result<String, Problem> {
        if !is_template(&text.text) {
            return Ok(text.text.clone());
        }
        self.environment
            .render_str(&text.text, minijinja::value::Serde(scope))
            .map_err(|error| self.problem(text, &error, Some(scope)))
    }

    /// The value of a text that is one single expression, with its type; of any other, the rendered text.
    pub(crate) fn evaluate(&self, text: &Text, scope: &Map<String, Value>) -> Result<Value, Problem> {
        let trimmed = text.text.trim();
        let inner = trimmed.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let Some(inner) = inner.filter(|inner| !inner.contains("{{")) else {
            return Ok(self.render(text, scope)?.into());
        };
        let value = self
            .environment
            .compile_expression(inner)
            .and_then(|expression| expression.eval(minijinja::value::Serde(scope)))
            .map_err(|error| self.problem(text, &error, Some(scope)))?;
        serde_json::to_value(value).map_err(|_| Problem::new(&text.place, format!("{} has no value", text.what)))
    }

    /// Find mistakes that need no values: syntax, names that no task, input or earlier output has.
    pub(crate) fn check(&self, text: &Text, known: &Known<'_>) -> Result<(), Problem> {
        if !is_template(&text.text) {
            return Ok(());
        }
        let template = self
            .environment
            .template_from_str(&text.text)
            .map_err(|error| self.problem(text, &error, None))?;
        let names: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        for name in names {
            let mut parts = name.split('.');
            let root = parts.next().unwrap_or_default();
            if !ROOTS.contains(&root) {
                // The template library's own functions look like variables here.
                if self.environment.globals().any(|(global, _)| global == root) {
                    continue;
                }
                return Err(missing(
                    text,
                    &expression_with(&text.text, root),
                    root,
                    "an expression",
                    &ROOTS,
                ));
            }
            let Some(child) = parts.next() else { continue };
            let children: &[&str] = match root {
                "inputs" => &known.inputs,
                "outputs" => &known.outputs,
                "flow" => &["id", "namespace"],
                "execution" | "task" => &["id"],
                "taskrun" => &["id", "attempt"],
                _ => continue,
            };
            if !children.contains(&child) {
                let owner = match root {
                    "outputs" => "`outputs` (tasks before this one)".to_owned(),
                    root => format!("`{root}`"),
                };
                return Err(missing(
                    text,
                    &expression_with(&text.text, child),
                    child,
                    &owner,
                    children,
                ));
            }
        }
        Ok(())
    }

    fn problem(&self, text: &Text, error: &minijinja::Error, scope: Option<&Map<String, Value>>) -> Problem {
        let expression = error
            .range()
            .map(|range| enclosing(&text.text, range.start))
            .unwrap_or_default();
        if error.kind() == ErrorKind::UndefinedError
            && let Some((name, owner, known)) = scope.and_then(|scope| undefined(&expression, scope))
        {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return missing(text, &expression, &name, &owner, &known);
        }
        let detail = match (error.kind(), error.detail()) {
            // Details of failed operations may quote operands; those of mistakes in the text quote the text.
            (
                ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest,
                Some(detail),
            ) => {
                format!("{}: {detail}", error.kind())
            }
            (kind, _) => kind.to_string(),
        };
        Problem::new(
            &text.place,
            format!("cannot render {} in {}: {detail}", quoted(&expression), text.what),
        )
    }
}

/// Whether a condition holds: everything but false, 0, nothing, and the texts of these.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim(), "" | "false" | "0" | "-0" | "null"),
        _ => true,
    }
}

/// The names that can be known before anything has run.
pub(crate) struct Known<'a> {
    pub(crate) inputs: Vec<&'a str>,
    /// Tasks that have ended when the text is rendered.
    pub(crate) outputs: Vec<&'a str>,
}

/// True if the text needs rendering at all.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn quoted(expression: &str) -> String {
    if expression.is_empty() {
        "an expression".to_owned()
    } else {
        format!("`{expression}`")
    }
}

fn missing(text: &Text, expression: &str, name: &str, owner: &str, known: &[&str]) -> Problem {
    let cure = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none to refer to".to_owned(),
        None => format!("known are {}", listed(known)),
    };
    let message = format!(
        "cannot render {} in {}: {owner} has no `{name}`: {cure}",
        quoted(expression),
        text.what
    );
    Problem::new(&text.place, message)
}

/// The `{{ … }}` or `{% … %}` around a position.
fn enclosing(text: &str, position: usize) -> String {
    let before = text.get(..position).unwrap_or(text);
    let start = before
        .rfind("{{")
        .max(before.rfind("{%"))
        .or_else(|| text.find("{{"))
        .unwrap_or(0);
    let rest = text.get(start..).unwrap_or_default();
    let end = rest
        .find("}}")
        .or_else(|| rest.find("%}"))
        .map_or(rest.len(), |end| end + 2);
    shortened(rest.get(..end).unwrap_or(rest))
}

/// The expression that mentions a name.
fn expression_with(text: &str, name: &str) -> String {
    let mut offset = 0;
    while let Some(found) = text
        .get(offset..)
        .and_then(|rest| rest.find("{{").or_else(|| rest.find("{%")))
    {
        let expression = enclosing(text, offset + found + 2);
        if expression.contains(name) {
            return expression;
        }
        offset += found + 2;
    }
    String::new()
}

fn shortened(expression: &str) -> String {
    let line = expression.lines().next().unwrap_or_default();
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line)),
        None => line.to_owned(),
    }
}

/// The first name on the expression's leading path that the scope does not have, its owner, and what that has instead.
fn undefined(expression: &str, scope: &Map<String, Value>) -> Option<(String, String, Vec<String>)> {
    let inner = expression.strip_prefix("{{")?.trim_start_matches('-').trim_start();
    let mut value: Option<&Value> = None;
    let mut owner = String::new();
    let mut rest = inner;
    loop {
        let (name, after) = step(rest, value.is_none())?;
        let map = match value {
            None => scope,
            Some(Value::Object(map)) => map,
            Some(_) => return None,
        };
        let Some(next) = map.get(&name) else {
            let owner = if owner.is_empty() {
                "an expression".to_owned()
            } else {
                format!("`{owner}`")
            };
            return Some((name, owner, map.keys().cloned().collect()));
        };
        owner = if owner.is_empty() {
            name
        } else {
            format!("{owner}.{name}")
        };
        value = Some(next);
        rest = after;
    }
}

/// One step of a path: `name`, `.name`, `['name']`.
fn step(text: &str, first: bool) -> Option<(String, &str)> {
    let bare = |text: &str| {
        text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(text.len())
    };
    let dotted = if first { Some(text) } else { text.strip_prefix('.') };
    if let Some(rest) = dotted {
        let (name, after) = rest.split_at(bare(rest));
        return (!name.is_empty()).then(|| (name.to_owned(), after));
    }
    let rest = text.strip_prefix('[')?;
    let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    let (name, after) = rest.get(1..)?.split_once(quote)?;
    Some((name.to_owned(), after.strip_prefix(']')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text {
            text: text.into(),
            place: Place::built_in(),
            what: "`commands[0]` of task `t`".into(),
        }
    }

    fn scope() -> Map<String, Value> {
        let scope = serde_json::json!({
            "inputs": {"file": "podrun:///inputs/file", "count": 3},
            "outputs": {"first": {"vars": {"x": "1"}, "outputFiles": {"out.txt": "podrun:///f"}}, "with-dash": {"vars": {}}},
            "workingDir": "/podrun/work",
        });
        let Value::Object(map) = scope else {
            panic!("a scope is an object")
        };
        map
    }

    fn render(source: &str) -> Result<String, String> {
        Renderer::new()
            .unwrap()
            .render(&text(source), &scope())
            .map_err(|problem| problem.to_string())
    }

    fn check(source: &str) -> String {
        let known = Known {
            inputs: vec!["file", "count"],
            outputs: vec!["first"],
        };
        Renderer::new()
            .unwrap()
            .check(&text(source), &known)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn values_are_rendered() {
        assert_eq!(
            render("cp {{ inputs.file }} {{workingDir}}/x\n").unwrap(),
            "cp podrun:///inputs/file /podrun/work/x\n"
        );
        assert_eq!(
            render("{{ outputs.first.outputFiles['out.txt'] }}").unwrap(),
            "podrun:///f"
        );
        assert_eq!(render("{{ inputs.count * 2 }}Gi").unwrap(), "6Gi");
        assert_eq!(render("a & b < {{ inputs.count }}").unwrap(), "a & b < 3");
    }

    #[test]
    fn shell_is_left_alone() {
        let shell = "echo ${#name} $((1 + 2)) ${x%%.*} '{#' }} {\n";
        assert_eq!(render(shell).unwrap(), shell);
        assert_eq!(
            render("echo ${#name} {{ inputs.count }}\n").unwrap(),
            "echo ${#name} 3\n"
        );
    }

    #[test]
    fn unknown_names_show_the_expression_and_what_there_is() {
        insta::assert_snapshot!(render("a {{ inputs.count }} {{ inputs.fil }}").unwrap_err(), @"built-in: cannot render `{{ inputs.fil }}` in `commands[0]` of task `t`: `inputs` has no `fil`: did you mean `file`?");
        insta::assert_snapshot!(render("{{ outputs.first.outputFiles['o.txt'] }}").unwrap_err(), @"built-in: cannot render `{{ outputs.first.outputFiles['o.txt'] }}` in `commands[0]` of task `t`: `outputs.first.outputFiles` has no `o.txt`: did you mean `out.txt`?");
        insta::assert_snapshot!(render("{{ outputs.first.vars.y.z }}").unwrap_err(), @"built-in: cannot render `{{ outputs.first.vars.y.z }}` in `commands[0]` of task `t`: `outputs.first.vars` has no `y`: did you mean `x`?");
        insta::assert_snapshot!(render("{{ 'a' + 1 }}").unwrap_err(), @"built-in: cannot render `{{ 'a' + 1 }}` in `commands[0]` of task `t`: invalid operation");
        insta::assert_snapshot!(render("{{ inputs.file | nosuch }}").unwrap_err(), @"built-in: cannot render `{{ inputs.file | nosuch }}` in `commands[0]` of task `t`: unknown filter: filter nosuch is unknown");
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        insta::assert_snapshot!(check("{{ inputs.fil }}"), @"built-in: cannot render `{{ inputs.fil }}` in `commands[0]` of task `t`: `inputs` has no `fil`: did you mean `file`?");
        insta::assert_snapshot!(check("{{ outputs.second.vars.x }}"), @"built-in: cannot render `{{ outputs.second.vars.x }}` in `commands[0]` of task `t`: `outputs` (tasks before this one) has no `second`: known are `first`");
        insta::assert_snapshot!(check("{{ workingdir }}"), @"built-in: cannot render `{{ workingdir }}` in `commands[0]` of task `t`: an expression has no `workingdir`: did you mean `workingDir`?");
        insta::assert_snapshot!(check("{{ inputs.file "), @"built-in: cannot render `{{ inputs.file ` in `commands[0]` of task `t`: syntax error: unexpected end of input, expected end of variable block");
        let known = Known {
            inputs: vec!["file"],
            outputs: vec!["a-b"],
        };
        Renderer::new()
            .unwrap()
            .check(&text("{{ outputs['a-b'].vars.x }} {{ range(3) }}"), &known)
            .unwrap();
    }
}
