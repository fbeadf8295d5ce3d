//! What the runner promises, on a real cluster, through podrun-host. One program: linking wasmtime once is enough, and
//! all tests share one loaded component.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what tests share fails the test by panicking"
)]

mod bad_input;
mod bytes;
mod calls;
mod config;
mod ends;
mod inputs;
mod kill;
mod logs;
mod manage;
mod next;
mod options;
mod outputs;
mod pod_specs;
mod proxies;
mod reattach;
mod registries;
mod smoke;
