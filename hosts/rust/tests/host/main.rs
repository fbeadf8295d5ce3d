//! What podrun-host promises, tried with a runner that misbehaves on request (`tests/guest`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod cache;
mod calls;
mod credentials;
mod guest;
mod limits;
mod runs;
mod sandbox;
