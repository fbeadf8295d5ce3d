//! What `podrun-agent` promises, on a real cluster, as users deploy it: with the manifests in `examples/agent/`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod alone;
mod container;
#[path = "../../../agent/tests/processes/http.rs"]
mod http;
mod install;
mod pod;
mod runtime;
mod sidecar;
