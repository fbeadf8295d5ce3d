//! The program as its users meet it, end to end on a cluster.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what tests share fails the test by panicking"
)]

mod credentials;
mod in_cluster;
mod json;
mod runs;
mod sandbox;
mod terminal;
mod terminals;
