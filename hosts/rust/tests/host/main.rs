//! What podrun-host promises, tried with a runner that misbehaves on request (`tests/guest`).

mod cache;
mod calls;
mod credentials;
mod guest;
mod limits;
mod runs;
mod sandbox;
