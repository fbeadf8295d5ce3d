//! One module a command.

pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod kill;
pub(crate) mod logs;
mod preflight;
pub(crate) mod ps;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod validate;
