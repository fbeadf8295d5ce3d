//! The program as its users meet it, with a runner whose cluster is a folder. Needs no network and no cluster.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a helper fails its test"
)]

#[cfg(feature = "faults")]
mod crashes;
mod describe;
mod google;
mod mistakes;
mod resume;
mod runs;
mod sandbox;
mod seeds;
#[path = "../../../tests/src/google.rs"]
#[expect(unreachable_pub, reason = "another crate takes it in too")]
mod stand_in;
mod trees;
mod usage;
