//! The types of everything that a flow file may hold, and the JSON Schema made from them.
//!
//! The types are the one source: they read flows, their schema checks them and completes them in editors, and their
//! comments are the reference. What a task runner takes is described by its own component.

pub(crate) mod check;
pub(crate) mod common;
pub(crate) mod control;
pub(crate) mod core;
pub(crate) mod flow;
pub(crate) mod google;
pub(crate) mod inputs;
mod registry;
mod runner;
mod schema;
pub(crate) mod script;

pub(crate) use registry::{
    InputType, TaskKind, TaskType, canonical, input_type, input_type_names, near_type, task_type, task_types,
    unsupported,
};
pub(crate) use runner::PROVIDER;
pub(crate) use schema::{OutputKind, Schemas};
