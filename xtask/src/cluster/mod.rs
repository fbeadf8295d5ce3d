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

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cargo;
use crate::image::{self, Recipe};
use crate::setup::{self, Needs};

use layout::Cluster;

pub(crate) use layout::ApiServer;

pub(crate) use binaries::{kubectl, tree_size};

/// The cluster that people use.
const DEFAULT_NAME: &str = "dev";

/// What the names of clusters of test runs begin with; the process that owns them follows.
const TEST_PREFIX: &str = "test-";

/// Which cluster a command is about.
#[derive(Clone, Debug, Args)]
pub(crate) struct Name {
    /// Name of the cluster. Clusters with different names share nothing
    #[arg(long, default_value = DEFAULT_NAME, env = "PODRUN_CLUSTER_NAME")]
    name: String,
}

/// What images take beyond what a running cluster needed.
const FOR_IMAGES: Needs = Needs {
    build: false,
    cluster: false,
    images: true,
    hosts: false,
};

/// What to do with a cluster.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// Bring it up, or repair it; prints the line that makes it the current one
    Up {
        #[command(flatten)]
        name: Name,
        /// Version of the API server; another one than the node's is built when it is first asked for
        #[arg(long, value_name = "VERSION")]
        api_server: Option<ApiServer>,
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

/// A cluster that is up.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Everything of the cluster, among it `audit.log`.
    pub(crate) folder: PathBuf,
    /// The administrator's.
    pub(crate) kubeconfig: PathBuf,
    /// That of an account with a task runner's rights only.
    pub(crate) runner_kubeconfig: PathBuf,
}

/// Brings a cluster up with every image that examples and tests use.
pub(crate) fn bring_up(name: &str) -> Result<Running> {
    bring_up_with(name, ApiServer::SameAsNode)
}

/// Brings a cluster up whose API server is of this version.
pub(crate) fn bring_up_with(name: &str, api_server: ApiServer) -> Result<Running> {
    let cluster = Cluster::named(name)?;
    up::up(&cluster, Some(api_server))?;
    push_images(&cluster)?;
    Ok(Running {
        folder: cluster.folder().to_owned(),
        kubeconfig: cluster.kubeconfig(),
        runner_kubeconfig: cluster.runner_kubeconfig(),
    })
}

/// Builds every image that examples and tests use, and pushes it.
fn push_images(cluster: &Cluster) -> Result<()> {
    let port = cluster.existing()?.ports.registry;
    image::push_agent(port, &cargo::agent()?)?;
    image::push_all(port)
}

/// Brings up the cluster that people use, without the images that take minutes; its kubeconfig.
pub(crate) fn up_for_demo() -> Result<PathBuf> {
    let cluster = Cluster::named(DEFAULT_NAME)?;
    up::up(&cluster, None)?;
    Ok(cluster.kubeconfig())
}

/// Takes a cluster down, if there is one.
pub(crate) fn take_down(name: &str) -> Result<()> {
    down::down(&Cluster::named(name)?)
}

/// The name of the cluster that this process tests on.
pub(crate) fn test_name() -> String {
    format!("{TEST_PREFIX}{}", std::process::id())
}

/// Takes down clusters of test runs that were killed before they could do it themselves.
pub(crate) fn sweep_tests() -> Result<()> {
    for cluster in Cluster::all()? {
        let owner = cluster
            .name()
            .strip_prefix(TEST_PREFIX)
            .and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid| process::Process::of(pid).is_none()) {
            down::down(&cluster)?;
        }
    }
    Ok(())
}

/// kubectl as the administrator of a cluster.
pub(crate) fn kubectl_for(name: &Name) -> Result<Command> {
    let cluster = Cluster::named(&name.name)?;
    cluster.existing()?;
    let mut command = Command::new(kubectl()?);
    command.arg("--kubeconfig").arg(cluster.kubeconfig());
    Ok(command)
}

/// Whether a cluster can be brought up without Go.
pub(crate) fn is_built() -> Result<bool> {
    binaries::are_built()
}

/// Carries out a command of `cargo xtask cluster`.
pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { name, api_server } => {
            let cluster = Cluster::named(&name.name)?;
            setup::ensure(Needs {
                build: false,
                cluster: true,
                images: false,
                hosts: false,
            })?;
            up::up(&cluster, api_server)?;
            println!("export KUBECONFIG={}", cluster.kubeconfig().display());
            Ok(())
        }
        Action::Down { all: true, .. } => Cluster::all()?.iter().try_for_each(down::down),
        Action::Down { name, all: false } => down::down(&Cluster::named(&name.name)?),
        Action::Status { name } => status::status(&Cluster::named(&name.name)?),
        Action::Logs {
            name,
            component,
            follow,
            lines,
        } => status::logs(&Cluster::named(&name.name)?, component.as_deref(), follow, lines),
        Action::Image { name, recipe } => {
            let decisions = Cluster::named(&name.name)?.existing()?;
            if recipe.is_debian() {
                setup::ensure(FOR_IMAGES)?;
            }
            image::push(&recipe, decisions.ports.registry)
        }
        Action::Images { name } => {
            let cluster = Cluster::named(&name.name)?;
            cluster.existing()?;
            setup::ensure(Needs {
                build: true,
                ..FOR_IMAGES
            })?;
            push_images(&cluster)
        }
    }
}
