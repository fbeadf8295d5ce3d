//! A task executor inside the pod that never loses a process or its result.
//!
//! The library is what the one program `podrun-agent` is made of. `protocol` is what is said on the wire, `store` what
//! lies on the disk, `supervise` the process above every task, `engine` the decisions, `api` the server, and `serve`
//! puts them together. `init` is what the program is as PID 1.

pub mod api;
mod aside;
pub mod container;
mod descriptors;
pub mod engine;
pub mod init;
pub mod install;
pub mod journal;
pub mod options;
pub mod protocol;
pub mod serve;
pub mod sidecar;
pub mod store;
pub mod supervise;

/// The exit code for a failure of the agent itself.
pub const FAILURE: u8 = 64;
