//! `cargo xtask cluster`: a real one-node Kubernetes for development and tests.
//!
//! Everything of a cluster is under one folder, plus a bridge, control groups and the sockets of its shims, all named by
//! its slot or name. No command here touches anything that another cluster or the machine itself owns.

mod binaries;
mod cgroup;
mod config;
mod down;
mod kubectl;
mod layout;
mod mounts;
mod network;
mod pki;
mod process;
mod slot;
mod status;
mod up;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::image::{self, Recipe};
use crate::setup::{self, Needs};

pub(crate) use binaries::tree_size;

/// Which cluster a command is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct Name {
    /// Name of the cluster. Clusters with different names share nothing
    #[arg(long, default_value = "dev", env = "PODRUN_CLUSTER_NAME")]
    name: String,
}

/// What to do with a cluster.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// Bring it up, or repair it; prints the line that makes it the current one
    Up {
        #[command(flatten)]
        name: Name,
    },
    /// Take it down and remove everything that it left on the machine
    Down {
        #[command(flatten)]
        name: Name,
        /// Take down every cluster of this user
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Show its components, addresses and kubeconfigs; fails unless all of it is up
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Show the end of a component's log, or where all of them are
    Logs {
        #[command(flatten)]
        name: Name,
        /// Such as kubelet, kube-apiserver, containerd, registry
        component: Option<String>,
        /// Go on as the log grows
        #[arg(short, long)]
        follow: bool,
        /// How many lines
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: u32,
    },
    /// Build an image from a folder or from Debian packages and push it to the cluster's registry
    Image {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        recipe: Recipe,
    },
    /// Build and push every image that examples and tests use
    Images {
        #[command(flatten)]
        name: Name,
    },
}

/// Whether a cluster can be brought up without Go.
pub(crate) fn is_built() -> Result<bool> {
    binaries::are_built()
}

/// Carries out a command of `cargo xtask cluster`.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { name } => {
            let cluster = layout::Cluster::named(&name.name)?;
            setup::ensure(Needs {
                build: false,
                cluster: true,
                hosts: false,
            })?;
            up::up(&cluster)?;
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            Ok(())
        }
        Action::Down { all: true, .. } => layout::Cluster::all()?.iter().try_for_each(down::down),
        Action::Down { name, all: false } => down::down(&layout::Cluster::named(&name.name)?),
        Action::Status { name } => status::status(&layout::Cluster::named(&name.name)?),
        Action::Logs {
            name,
            component,
            follow,
            lines,
        } => status::logs(
            &layout::Cluster::named(&name.name)?,
            component.as_deref(),
            follow,
            lines,
        ),
        Action::Image { name, recipe } => {
            let decisions = layout::Cluster::named(&name.name)?.existing()?;
            image::push(&recipe, decisions.ports.registry)
        }
        Action::Images { name } => {
            let decisions = layout::Cluster::named(&name.name)?.existing()?;
            image::push_all(decisions.ports.registry)
        }
    }
}
