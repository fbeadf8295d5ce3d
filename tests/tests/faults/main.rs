//! What may break and must not: the host is killed, answers of the API server are lost, cut or damaged. One pod, every line
//! once, the same bytes, nothing left behind.

#![expect(clippy::unwrap_used, reason = "what tests share fails the test by panicking")]

mod harms;
mod kills;
mod trials;
