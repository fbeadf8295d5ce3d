//! One module a command.

pub(crate) mod doctor;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod run;
