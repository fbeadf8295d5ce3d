//! The real program, with real processes: what it promises, and what it keeps when it is killed.

mod agent;
mod api;
mod bench;
mod crash;
mod http;
mod init;
mod logs;
mod run;
mod secure;
mod stop;
