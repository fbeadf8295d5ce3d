//! `podrun explain`.

use std::io::Write;

use crate::args;
use crate::commands::schema::{describe, schemas};
use crate::document::nearest;
use crate::error::{Ended, Error, named};
use crate::explain::explain as values_of;
use crate::flow::{self, Effective};
use crate::session;
use crate::ui::table;

/// Show what each property of each task is, and who said so.
pub(crate) async fn explain(arguments: &args::Explain, json: bool) -> Result<Ended, Error> {
    let runner = session::load_runner(arguments.runner.as_deref()).await?;
    let schemas = schemas(&describe(&runner).await?)?;
    let renderer = session::renderer()?;
    let operator = session::read_defaults(arguments.defaults.as_deref())?;
    let text = std::fs::read_to_string(&arguments.flow).map_err(named("read", &arguments.flow))?;
    let (_, tasks) = flow::read_with(&schemas, &arguments.flow, &text, &operator, &renderer)?.sound(&arguments.flow)?;
    let mut out = crate::out::out();
    for (index, task) in chosen(&tasks, arguments.task.as_deref())?.into_iter().enumerate() {
        let values = values_of(task, &schemas);
        if json {
            for value in values {
                let _ = writeln!(out, "{}", value.json(&task.id));
            }
            continue;
        }
        if index > 0 {
            let _ = writeln!(out);
        }
        let _ = writeln!(out, "task `{}`, {}", task.id, task.kind);
        let rows: Vec<Vec<String>> = values
            .iter()
            .map(|value| vec![format!("  {}", value.property), value.shown(), value.source()])
            .collect();
        let _ = write!(out, "{}", table(&rows));
    }
    Ok(Ended::Succeeded)
}

/// The task of that id, or all.
pub(crate) fn chosen<'a>(tasks: &'a [Effective], id: Option<&str>) -> Result<Vec<&'a Effective>, Error> {
    let Some(id) = id else {
        return Ok(tasks.iter().collect());
    };
    match tasks.iter().find(|task| task.id == id) {
        Some(task) => Ok(vec![task]),
        None => {
            let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
            Err(no_such_task(id, &ids))
        }
    }
}

/// The flow has no task of that id.
pub(crate) fn no_such_task(id: &str, ids: &[&str]) -> Error {
    let cure = match nearest(id, ids) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", crate::document::listed(ids)),
    };
    Error::Usage(format!("the flow has no task `{id}`: {cure}"))
}
