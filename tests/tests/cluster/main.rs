//! What the runner promises, on a real cluster, through podrun-host. One program: linking wasmtime once is enough, and
//! all tests share one loaded component.

mod bad_input;
mod bytes;
mod calls;
mod config;
mod ends;
mod inputs;
mod kill;
mod logs;
mod manage;
mod options;
mod outputs;
mod reattach;
mod smoke;
