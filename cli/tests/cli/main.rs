//! The program as its users meet it, with a runner whose cluster is a folder. Needs no network and no cluster.

#[cfg(feature = "faults")]
mod crashes;
mod resume;
mod runs;
mod sandbox;
mod usage;
