//! `podrun schema` and the pages made from it.

use std::io::Write;

use podrun_host::{Descriptor, Runner};

use crate::args;
use crate::error::{Ended, Error, state};
use crate::reference;
use crate::session;
use crate::types::Schemas;

/// Print the JSON Schema of flows.
pub(crate) async fn schema(arguments: &args::Schema) -> Result<Ended, Error> {
    let runner = session::load_runner(arguments.runner.as_deref()).await?;
    let described = describe(&runner).await?;
    let schemas = schemas(&described)?;
    if let Some(folder) = &arguments.reference {
        std::fs::create_dir_all(folder).map_err(state("create", folder))?;
        for page in reference::pages(&schemas, &described) {
            let path = folder.join(&page.name);
            std::fs::write(&path, page.text).map_err(state("write", &path))?;
        }
        return Ok(Ended::Succeeded);
    }
    let schema = match arguments.defaults {
        true => schemas.of_defaults(),
        false => schemas.flow().clone(),
    };
    let mut out = crate::out::out();
    // A reader that has enough is no error.
    let _ = writeln!(out, "{schema:#}");
    Ok(Ended::Succeeded)
}

/// What the runner says about itself.
pub(crate) async fn describe(runner: &Runner) -> Result<Descriptor, Error> {
    let described = runner.describe().await;
    described.map_err(|source| Error::Runner { task: None, source })
}

/// The schemas of flows for a runner.
pub(crate) fn schemas(described: &Descriptor) -> Result<Schemas, Error> {
    Schemas::with_runner(described)
        .map_err(|error| Error::Internal(format!("the runner's schemas are not JSON: {error}")))
}
