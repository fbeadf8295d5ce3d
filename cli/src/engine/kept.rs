//! Values on their way into the journal and out of it again: it has the names of secrets in their place.

use std::convert::Infallible;

use serde_json::{Map, Value};

use super::Engine;
use crate::error::Error;
use crate::expression::{Fault, Renderer};
use crate::secrets::deep;

/// A value for the journal.
pub(super) fn concealed(value: Value, renderer: &Renderer) -> Value {
    let Ok(concealed) = deep(value, &|text| Ok::<_, Infallible>(renderer.sources().conceal(text)));
    concealed
}

/// A value from the journal. Fails where a secret is not known any more.
pub(super) fn revealed(value: Value, renderer: &Renderer) -> Result<Value, Fault> {
    deep(value, &|text| renderer.sources().reveal(text))
}

/// What a task gave back, from the journal; with the names of secrets where these are not known.
pub(super) fn or_as_it_is(outputs: Map<String, Value>, renderer: &Renderer) -> Map<String, Value> {
    match revealed(outputs.clone().into(), renderer) {
        Ok(Value::Object(revealed)) => revealed,
        _ => outputs,
    }
}

impl Engine<'_> {
    /// A value from the journal that task `task` needs.
    pub(super) fn revealed(&self, value: Value, task: &str) -> Result<Value, Error> {
        revealed(value, self.renderer)
            .map_err(|fault| Error::Usage(format!("cannot go on with task `{task}`: {fault}")))
    }
}
