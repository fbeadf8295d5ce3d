//! Expressions in flow files: `{{ inputs.x }}` and what else Pebble, the template language of flows, offers.
//!
//! A text is taken apart (`template`, `lexer`, `parser`), checked (`names`), translated (`translate`) and rendered by the
//! template engine with the filters and functions of `library`. Nothing here does I/O: what expressions need from outside
//! comes through [`Sources`] and [`Files`].
//!
//! An unknown name is an error, never an empty text. Errors quote the expression and its place and no value, because a
//! value may be a credential. Comments (`{# … #}`) are turned off: `${#name}` is everyday shell. `{{` that is not meant
//! for us goes between `{% raw %}` and `{% endraw %}`.

mod ast;
mod engine;
mod lexer;
mod library;
mod names;
mod parser;
mod template;
mod translate;
mod uses;

use std::sync::Arc;

use minijinja::Environment;
use serde_json::{Map, Value};

use self::ast::Mistake;
use self::engine::Frame;
use self::template::{PieceKind, Template};
use self::translate::Translated;
use crate::document::{Node, Place, Problem};

pub(crate) use self::library::Fault;
pub(crate) use self::library::truthy;
pub(crate) use self::names::Known;
pub(crate) use self::template::is_template;
pub(crate) use self::uses::{Variables, varies, waits};

/// Text that may hold expressions, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) place: Place,
    /// What it is to the reader of an error, for example "`commands[1]` of task `hello`".
    pub(crate) what: String,
}

/// What expressions need from outside. The errors are shown to people, so they hold no value.
pub(crate) trait Sources: std::fmt::Debug + Send + Sync {
    /// The secret of that name. A missing one is an error that says how to give it.
    fn secret(&self, name: &str) -> Result<String, Fault>;
    /// The value of that key, none if there is none.
    fn kv(&self, key: &str) -> Result<Option<Value>, Fault>;
    /// A text for keeping: every secret that was used is replaced by its name.
    fn conceal(&self, text: &str) -> String {
        text.to_owned()
    }
    /// A credential that a task got, under the name that [`Sources::conceal`] replaces it by from now on.
    fn mint(&self, _name: &str, _credential: &str) {}
    /// What [`Sources::conceal`] made, with the secrets again.
    fn reveal(&self, text: &str) -> Result<String, Fault> {
        Ok(text.to_owned())
    }
    /// The time, in the time zone that is meant where none is named.
    fn now(&self) -> jiff::Zoned {
        jiff::Zoned::now()
    }
    /// 128 random bits.
    fn random(&self) -> Result<u128, Fault> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| Fault("the system has no random numbers".into()))?;
        Ok(u128::from_le_bytes(bytes))
    }
}

/// The files of an execution, for expressions that read them. The errors hold no value either.
pub(crate) trait Files: std::fmt::Debug + Send + Sync {
    /// The content of the file of that URI.
    fn read(&self, uri: &str) -> Result<Vec<u8>, Fault>;
    /// Its size, none if there is no such file.
    fn size(&self, uri: &str) -> Result<Option<u64>, Fault>;
}

/// No secrets, no values and no files.
#[derive(Debug)]
struct Nothing;

impl Sources for Nothing {
    fn secret(&self, _: &str) -> Result<String, Fault> {
        Err(Fault("secrets cannot be used here".into()))
    }

    fn kv(&self, _: &str) -> Result<Option<Value>, Fault> {
        Err(Fault("`kv` cannot be used here".into()))
    }
}

impl Files for Nothing {
    fn read(&self, _: &str) -> Result<Vec<u8>, Fault> {
        Err(Fault("files cannot be read here".into()))
    }

    fn size(&self, _: &str) -> Result<Option<u64>, Fault> {
        Err(Fault("files cannot be looked at here".into()))
    }
}

/// Renders texts. Built once; clones share the engine.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    environment: Arc<Environment<'static>>,
    sources: Arc<dyn Sources>,
    files: Arc<dyn Files>,
}

impl Renderer {
    /// A renderer in which every unknown name is an error, and whose expressions get nothing from outside.
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        Ok(Self {
            environment: Arc::new(engine::environment()?),
            sources: Arc::new(Nothing),
            files: Arc::new(Nothing),
        })
    }

    /// The same with secrets and values.
    pub(crate) fn with(&self, sources: Arc<dyn Sources>) -> Self {
        Self {
            sources,
            ..self.clone()
        }
    }

    /// The same with files to read.
    pub(crate) fn reading(&self, files: Arc<dyn Files>) -> Self {
        Self { files, ..self.clone() }
    }

    /// What the expressions get secrets and values from.
    pub(crate) fn sources(&self) -> &dyn Sources {
        self.sources.as_ref()
    }

    /// A value with the expressions of its texts replaced by text. `what` it is to the reader of an error.
    pub(crate) fn node(&self, node: &Node, what: &str, scope: &Map<String, Value>) -> Result<Value, Problem> {
        self.node_with(node, what, scope, |_| false)
    }

    /// The same, where an expression that stands alone keeps its type if that is one to keep.
    pub(crate) fn node_with(
        &self,
        node: &Node,
        what: &str,
        scope: &Map<String, Value>,
        keep: impl Fn(&Value) -> bool,
    ) -> Result<Value, Problem> {
        node.to_json_with(&mut |text, place| {
            let text = Text {
                text: text.to_owned(),
                place: place.clone(),
                what: what.to_owned(),
            };
            match self.evaluate(&text, scope)? {
                value if keep(&value) => Ok(value),
                value => Ok(library::show(&value).into()),
            }
        })
    }

    /// The text with its expressions replaced by their values.
    pub(crate) fn render(&self, text: &Text, scope: &Map<String, Value>) -> Result<String, Problem> {
        if !is_template(&text.text) {
            return Ok(text.text.clone());
        }
        let translated = translate::template(&understood(text)?);
        first(text, &translated.mistakes)?;
        self.environment
            .render_str(&translated.source, self.frame(scope).context())
            .map_err(|error| failure(text, &translated, &error))
    }

    /// The value of a text that is one expression and nothing else, with its type; else the rendered text.
    pub(crate) fn evaluate(&self, text: &Text, scope: &Map<String, Value>) -> Result<Value, Problem> {
        if !is_template(&text.text) {
            return Ok(text.text.clone().into());
        }
        let template = understood(text)?;
        let [piece] = template.pieces.as_slice() else {
            return self.render(text, scope).map(Value::from);
        };
        let PieceKind::Print(expr) = &piece.kind else {
            return self.render(text, scope).map(Value::from);
        };
        let translated = translate::single(expr, piece.at);
        first(text, &translated.mistakes)?;
        self.environment
            .compile_expression(&translated.source)
            .and_then(|compiled| compiled.eval(self.frame(scope).context()))
            .and_then(|value| engine::plain(&value))
            .map_err(|error| failure(text, &translated, &error))
    }

    /// All mistakes that need no values: syntax, filters, functions and their arguments, names that no task, input or earlier
    /// output has.
    pub(crate) fn problems(&self, text: &Text, known: &Known<'_>) -> Vec<Problem> {
        if !is_template(&text.text) {
            return Vec::new();
        }
        let template = template::parse(&text.text);
        let translated = translate::template(&template);
        let mut mistakes = template.mistakes.clone();
        mistakes.extend(names::problems(&template, known));
        mistakes.extend_from_slice(&translated.mistakes);
        mistakes.sort_by_key(|mistake| mistake.at);
        if mistakes.is_empty()
            && let Err(error) = self.environment.template_from_str(&translated.source)
        {
            return vec![failure(text, &translated, &error)];
        }
        mistakes.iter().map(|mistake| problem(text, mistake)).collect()
    }

    fn frame(&self, scope: &Map<String, Value>) -> Frame {
        Frame {
            scope: Arc::new(scope.clone()),
            sources: self.sources.clone(),
            files: self.files.clone(),
            depth: 0,
        }
    }
}

/// A text taken apart, or its first mistake.
fn understood(text: &Text) -> Result<Template, Problem> {
    let template = template::parse(&text.text);
    first(text, &template.mistakes)?;
    Ok(template)
}

fn first(text: &Text, mistakes: &[Mistake]) -> Result<(), Problem> {
    match mistakes.first() {
        Some(mistake) => Err(problem(text, mistake)),
        None => Ok(()),
    }
}

/// Why the engine could not render a text. Its own words may quote values, ours do not.
fn failure(text: &Text, translated: &Translated, error: &minijinja::Error) -> Problem {
    let message = match engine::fault(error) {
        Some(fault) => fault.0.clone(),
        None => error.kind().to_string(),
    };
    let at = error.range().and_then(|range| translated.origin(range.start));
    problem(text, &Mistake::new(at.unwrap_or(0), message))
}

fn problem(text: &Text, mistake: &Mistake) -> Problem {
    let begin = template::openers(&text.text)
        .take_while(|opener| *opener <= mistake.at)
        .last();
    let expression = begin.map(|begin| enclosing(&text.text, begin)).unwrap_or_default();
    let quoted = match expression.is_empty() {
        true => "an expression".to_owned(),
        false => format!("`{expression}`"),
    };
    let place = text.place.within(&text.text, begin.unwrap_or(0));
    Problem::new(
        &place,
        format!("cannot render {quoted} in {}: {}", text.what, mistake.message),
    )
}

/// How many characters of an expression an error shows.
const LONGEST_SHOWN: usize = 120;

/// The `{{ … }}` or `{% … %}` that begins at a byte, shortened to a line.
fn enclosing(text: &str, begin: usize) -> String {
    let rest = text.get(begin..).unwrap_or_default();
    let close = if rest.starts_with("{{") {
        lexer::Close::Print
    } else {
        lexer::Close::Tag
    };
    let end = match lexer::run(text, begin + 2, close) {
        Ok(run) => run.end - begin,
        Err(_) => rest.find(['\n']).unwrap_or(rest.len()),
    };
    let expression = rest.get(..end).unwrap_or(rest);
    let line = expression.lines().next().unwrap_or_default();
    let mut shown = String::new();
    for c in line.chars().take(LONGEST_SHOWN) {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    if line.chars().nth(LONGEST_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
