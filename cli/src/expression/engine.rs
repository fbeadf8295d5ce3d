//! The template engine, with the functions that translated texts call.
//!
//! They find names, apply operators and run entries of the library. Whatever fails in them is a [`Fault`], which says
//! what is wrong without any value.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Rest, Serde, Value as Raw};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde_json::{Map, Value};

use super::library::{self, Call, Fault};
use super::names;
use super::template;
use super::translate::{self, COMMENT, PRINT, TAG};
use super::{Files, Sources};

/// What a rendering can use.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) scope: Arc<Map<String, Value>>,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) files: Arc<dyn Files>,
    /// How many calls of `render` this is inside of.
    pub(super) depth: usize,
}

/// The variable that holds the frame.
const FRAME: &str = "frame";

/// How deep calls of `render` may be nested.
const DEEPEST: usize = 5;

impl Object for Frame {}

impl Frame {
    /// The context that the engine gets.
    pub(super) fn context(self) -> Raw {
        Raw::from_pairs([(FRAME, Raw::from_object(self))])
    }
}

/// A value that is there, which `??` keeps whether it is true or not.
#[derive(Debug)]
struct Present(Raw);

impl Object for Present {
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// The engine, ready for translated texts.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::empty();
    // A missing name is found by `path`, which can say more about it.
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Errors have places in this mode only.
    environment.set_debug(true);
    environment.set_formatter(|out, _, value| {
        let text = match value.as_str() {
            Some(text) => text.to_owned(),
            None => library::show(&plain(value)?),
        };
        out.write_str(&text).map_err(Error::from)
    });
    environment.set_syntax(
        SyntaxConfig::builder()
            .variable_delimiters(PRINT.0, PRINT.1)
            .block_delimiters(TAG.0, TAG.1)
            .comment_delimiters(COMMENT.0, COMMENT.1)
            .keep_trailing_newline(true)
            .build()?,
    );
    environment.add_function("path", path);
    environment.add_function("get", get);
    environment.add_function("kept", kept);
    environment.add_function("keep", |state: &mut State, name: &str, value: Raw| {
        state.set_temp(name, value);
    });
    environment.add_function("truthy", |value: Raw| -> Result<bool, Error> {
        Ok(library::truthy(&plain(&value)?))
    });
    environment.add_function("present", |keeps_null: bool, value: Raw| {
        match value.is_undefined() || (value.is_none() && !keeps_null) {
            true => Raw::from(false),
            false => Raw::from_object(Present(value)),
        }
    });
    environment.add_function("open", |value: Raw| match value.downcast_object_ref::<Present>() {
        Some(present) => present.0.clone(),
        None => value,
    });
    environment.add_function("raise", || -> Result<Raw, Error> {
        Err(error(Fault::new("`raise` was reached: nothing before it has a value")))
    });
    environment.add_function("map", map);
    environment.add_function("each", |value: Raw| -> Result<Raw, Error> {
        raw(library::iterable(plain(&value)?))
    });
    environment.add_function("negative", |value: Raw| -> Result<Raw, Error> {
        match value.is_undefined() {
            true => Ok(value),
            false => raw(library::negative(&plain(&value)?)),
        }
    });
    environment.add_function("fold", fold);
    environment.add_function("test", |name: &str, value: Raw| -> Result<bool, Error> {
        let test = library::test(name).map_err(|message| error(Fault(message)))?;
        (test.run)(&plain(&value)?).map_err(error)
    });
    environment.add_function("call", |state: &State, name: &str, arguments: Rest<Raw>| {
        run(state, library::function(name), &arguments)
    });
    environment.add_filter(
        "filter",
        |state: &State, base: Raw, name: &str, arguments: Rest<Raw>| {
            let arguments: Vec<Raw> = std::iter::once(base).chain(arguments.iter().cloned()).collect();
            run(state, library::filter(name), &arguments)
        },
    );
    Ok(environment)
}

/// The fault that made rendering fail, if one of ours did.
pub(super) fn fault(error: &Error) -> Option<&Fault> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(fault);
        }
        cause = error.source();
    }
    None
}

fn error(fault: Fault) -> Error {
    Error::new(ErrorKind::InvalidOperation, "see the fault").with_source(fault)
}

fn raw(value: Result<Value, Fault>) -> Result<Raw, Error> {
    value.map(|value| Raw::from(Serde(value))).map_err(error)
}

/// An engine's value as JSON.
pub(super) fn plain(value: &Raw) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::Null);
    }
    serde_json::to_value(value).map_err(|_| error(Fault::new("this value has no form in JSON")))
}

fn frame(state: &State) -> Result<Arc<Frame>, Error> {
    state
        .lookup(FRAME)
        .and_then(|value| value.downcast_object::<Frame>())
        .ok_or_else(|| error(Fault::new("there is nothing to refer to")))
}

/// A name of the scope, and what lies under it.
fn path(state: &State, name: &str, lenient: bool, shown: &str, keys: Vec<Raw>) -> Result<Raw, Error> {
    let frame = frame(state)?;
    let Some(value) = frame.scope.get(name) else {
        return match names::root(name) {
            // A name that exists somewhere may be missing here; one that exists nowhere is a mistake.
            Ok(()) if lenient => Ok(Raw::UNDEFINED),
            Ok(()) => Err(error(Fault(names::absent(name)))),
            Err(message) => Err(error(Fault(message))),
        };
    };
    walk(name, value, lenient, shown, &keys)
}

/// What lies under a value that has no name of its own.
fn get(value: Raw, name: &str, lenient: bool, shown: &str, keys: Vec<Raw>) -> Result<Raw, Error> {
    if value.is_undefined() || keys.is_empty() {
        return Ok(value);
    }
    walk(name, &plain(&value)?, lenient, shown, &keys)
}

/// What lies under a variable of `set`.
fn kept(state: &State, name: &str, lenient: bool, shown: &str, keys: Vec<Raw>) -> Result<Raw, Error> {
    match state.get_temp(name) {
        Some(value) => get(value, name, lenient, shown, keys),
        None if lenient => Ok(Raw::UNDEFINED),
        None => Err(error(Fault(format!("`{name}` was not set before")))),
    }
}

fn walk(name: &str, value: &Value, lenient: bool, shown: &str, keys: &[Raw]) -> Result<Raw, Error> {
    let mut value = value;
    let mut owner = name.to_owned();
    for (key, shown) in keys.iter().zip(shown.chars()) {
        if key.is_undefined() {
            return Ok(Raw::UNDEFINED);
        }
        let key = plain(key)?;
        let found = match (value, &key) {
            (Value::Array(items), Value::Number(index)) => index
                .as_u64()
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| items.get(index)),
            (Value::Object(map), key) => map.get(&library::show(key)),
            _ => None,
        };
        let shown = shown == 's';
        match found {
            Some(found) => value = found,
            None if lenient => return Ok(Raw::UNDEFINED),
            None => {
                let key = shown.then(|| library::show(&key));
                return Err(error(Fault(names::missing(&owner, value, key.as_deref()))));
            }
        }
        owner = names::below(&owner, shown.then_some(&key));
    }
    Ok(Raw::from(Serde(value)))
}

fn map(entries: Vec<Raw>) -> Result<Raw, Error> {
    let mut map = Map::new();
    for entry in entries.chunks(2) {
        if let [key, value] = entry {
            map.insert(library::show(&plain(key)?), plain(value)?);
        }
    }
    raw(Ok(map.into()))
}

fn fold(operators: &str, operands: Vec<Raw>) -> Result<Raw, Error> {
    if operands.iter().any(Raw::is_undefined) {
        return Ok(Raw::UNDEFINED);
    }
    let mut operands = operands.iter();
    let mut result = match operands.next() {
        Some(first) => plain(first)?,
        None => Value::Null,
    };
    for (operator, operand) in operators.split(' ').zip(operands) {
        result = library::compute(operator, &result, &plain(operand)?).map_err(error)?;
    }
    raw(Ok(result))
}

fn run(state: &State, entry: Result<&'static library::Entry, String>, arguments: &[Raw]) -> Result<Raw, Error> {
    let entry = entry.map_err(|message| error(Fault(message)))?;
    let frame = frame(state)?;
    let missing = arguments.first().is_some_and(Raw::is_undefined);
    if arguments.iter().skip(1).any(Raw::is_undefined) || (missing && entry.name != "default") {
        return Ok(Raw::UNDEFINED);
    }
    let arguments = arguments.iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    if !entry.takes_null && arguments.first().is_some_and(Value::is_null) {
        return Ok(Raw::from(()));
    }
    let call = Call {
        name: entry.name,
        arguments: &arguments,
        frame: &frame,
        environment: state.env(),
    };
    raw((entry.run)(&call))
}

/// Render a text that came out of an expression.
pub(super) fn render_again(call: &Call<'_>, text: &str) -> Result<String, Fault> {
    if call.frame.depth == DEEPEST {
        return Err(Fault::new("`render` is nested too deeply"));
    }
    // A variable is written in the flow. Any other text is a value, of which an error must show nothing.
    let shown = call.frame.scope.get("vars").is_some_and(|vars| holds(vars, text));
    let inside = |message: &str| {
        let message = if shown {
            message
        } else {
            "an expression cannot be rendered"
        };
        Fault(format!("in the text given to `render`: {message}"))
    };
    let template = template::parse(text);
    let translated = translate::template(&template);
    if let Some(mistake) = template.mistakes.first().or(translated.mistakes.first()) {
        return Err(inside(&mistake.message));
    }
    let frame = Frame {
        depth: call.frame.depth + 1,
        ..call.frame.clone()
    };
    let rendered = call.environment.render_str(&translated.source, frame.context());
    rendered.map_err(|error| match fault(&error) {
        Some(fault) => inside(&fault.0),
        None => inside(&error.kind().to_string()),
    })
}

/// True if a value is that text, or has it somewhere.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Array(items) => items.iter().any(|item| holds(item, text)),
        Value::Object(map) => map.values().any(|value| holds(value, text)),
        _ => false,
    }
}
