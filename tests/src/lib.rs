//! What the cluster tests share: the cluster that the environment names, tasks that are made, run and looked at in one
//! line each, and the API server's audit log as the oracle.
//!
//! Tests drive the component through podrun-host as the service account that may do no more than the runner's Role says.
//! What the runner did is judged from outside: by kubectl as the cluster's administrator, and by the audit log.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness fails its test by panicking, and says on standard error what went wrong beside it"
)]

mod audit;
mod cases;
mod cluster;
pub mod conformance;
mod doors;
pub mod faults;
pub mod google;
mod group;
mod skips;
mod trial;

pub use audit::{Audit, Entry};
pub use cases::{Expected, check};
pub use cluster::{Cluster, cluster, next_cluster};
pub use doors::Door;
pub use group::Group;
pub use skips::{full, skip};
pub use trial::{Following, Ran, Seen, Trial, sha256};

/// The image of scripts that need nothing but a shell.
pub const BUSYBOX: &str = "busybox";
/// Debian without `tar` and `base64`.
pub const FEW_TOOLS: &str = "podrun.dev/test/few-tools";
/// The same with `USER 1000`.
pub const BUSYBOX_USER: &str = "podrun.dev/test/busybox-user";
/// An image without a shell: `/hello` prints its arguments and environment.
pub const HELLO: &str = "podrun.dev/test/hello";
/// An image with Python and the package `kestra`.
pub const PYDATA: &str = "ghcr.io/kestra-io/pydata:latest";
