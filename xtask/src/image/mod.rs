//! Container images made here: from a folder or from packages, pushed to a cluster's registry, which serves them under
//! whatever name a pod asks for.

mod catalogue;
mod debian;
mod layer;
mod reference;
mod registry;
mod store;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

pub(crate) use catalogue::{push_agent, push_all, push_small};

use layer::Layer;
use reference::Reference;
use registry::{Defaults, Image, Registry};
use store::Store;

use crate::progress::{Size, Step};

/// An image to build and push.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recipe {
    /// Its name, as a pod's `image` will have it: `app`, `me/app:2`, `ghcr.io/me/app`
    image: Reference,
    /// Take the files of this folder as the image's root
    #[arg(long, required_unless_present = "debian", conflicts_with = "debian")]
    folder: Option<PathBuf>,
    /// Take Debian's essential packages and these, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "PACKAGE")]
    debian: Option<Vec<String>>,
    /// Program and first arguments, separated by spaces
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// The user that containers run as
    #[arg(long, default_value = "")]
    user: String,
    /// A variable of containers, as NAME=value
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A further name; may be repeated
    #[arg(long, value_name = "NAME")]
    alias: Vec<Reference>,
}

impl Recipe {
    /// Whether it takes Debian's packages.
    pub(crate) fn is_debian(&self) -> bool {
        self.debian.is_some()
    }
}

/// Builds the image that `recipe` describes and pushes it to the registry on `port`.
pub(crate) fn push(recipe: &Recipe, port: u16) -> Result<()> {
    let step = Step::start(format!("pushing {}", recipe.image));
    let store = Store::open()?;
    let layer = match (&recipe.folder, &recipe.debian) {
        (Some(folder), _) => store.add(|path| {
            let mut layer = Layer::create(path)?;
            layer.tree(folder, "")?;
            layer.finish()
        })?,
        (None, Some(packages)) => {
            let packages: Vec<String> = packages.iter().filter(|name| !name.is_empty()).cloned().collect();
            debian::system(&store, &packages)?
        }
        (None, None) => bail!("say what to build from: --folder or --debian"),
    };
    let command = if recipe.debian.is_some() && recipe.entrypoint.is_empty() {
        vec!["bash".to_owned()]
    } else {
        Vec::new()
    };
    let defaults = Defaults {
        entrypoint: recipe.entrypoint.clone(),
        command,
        user: recipe.user.clone(),
        environment: recipe.env.clone(),
    };
    let image = Image::new(vec![layer], &defaults);
    let mut names = vec![recipe.image.clone()];
    names.extend_from_slice(&recipe.alias);
    let pushed = Registry::on(port).push(&image, &names)?;
    step.done(&format!(
        "{}{}",
        Size(image.size()),
        if pushed { "" } else { ", was there" }
    ));
    Ok(())
}
