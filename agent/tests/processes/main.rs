//! The real program, with real processes: what it promises, and what it keeps when it is killed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod agent;
mod api;
mod bench;
mod containers;
mod crash;
mod description;
mod durable;
mod http;
mod init;
mod limits;
mod logs;
mod run;
mod secure;
mod sidecar;
mod stop;
