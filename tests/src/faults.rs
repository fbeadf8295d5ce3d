//! Killing the host: a proxy that stops at a chosen request, a task to run through it, and the audit of what came of it.
//!
//! The program under test is the real `podrun` on a real cluster. Nothing here knows how it works inside, apart from the
//! journal's tables, which are read as evidence.

mod audit;
mod place;
mod proxy;
mod scenario;

pub use audit::{Audit, Created, Deleted};
pub use place::{Place, Podrun, variable};
pub use proxy::{Harm, Moment, Proxy, Target, Trap};
pub use scenario::{Ending, Kill, LINES, Scenario, Way};
