//! What an agent finds when it starts.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;

use super::records::{Stop, Task};
use super::{Error, Progress, Store, TaskId, discard, file, lenient, read};

/// A task that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which one.
    pub id: TaskId,
    /// What was asked for.
    pub task: Task,
    /// Whether it is to stop.
    pub stop: Option<Stop>,
    /// What became of it.
    pub progress: Progress,
}

/// Every task, the oldest first. A folder that cannot be understood is set aside and never stops a start.
pub(super) fn load(store: &Store) -> Result<Vec<Stored>, Error> {
    let tasks = store.tasks();
    let mut found = Vec::new();
    for entry in fs::read_dir(&tasks).map_err(Error::at("read folder", &tasks))? {
        let entry = entry.map_err(Error::at("read folder", &tasks))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(TaskId::parse) else {
            log::warn!("`{}` is not a task's folder and is left alone", entry.path().display());
            continue;
        };
        id.note();
        match one(store, &id) {
            Ok(Some(stored)) => found.push(stored),
            Ok(None) => set_aside(store, &id, "it has no `task` file"),
            Err(error @ Error::Damaged { .. }) => set_aside(store, &id, &error.to_string()),
            Err(error) if error.is_no_folder() => set_aside(store, &id, &error.to_string()),
            Err(error) => log::error!("task folder `{}` is left alone: {error}", store.folder(&id).display()),
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn one(store: &Store, id: &TaskId) -> Result<Option<Stored>, Error> {
    let folder = store.folder(id);
    let Some(task) = read::<Task>(&folder, file::TASK)? else {
        return Ok(None);
    };
    let stop = match read::<Stop>(&folder, file::STOP) {
        // Somebody wanted an end: better to stop it than to run it.
        Err(Error::Damaged { path, source }) => {
            log::warn!(
                "file `{}` is damaged ({source}): the task is stopped and kept",
                path.display()
            );
            Some(Stop {
                requested_at: task.created_at,
                grace_ms: 0,
                delete: false,
            })
        }
        other => other?,
    };
    if task.format > super::records::FORMAT {
        log::warn!(
            "task `{}` was written by a newer agent: what this one does not know is ignored",
            task.name
        );
    }
    // Damage in these has been reported, and counts as missing.
    let _: Option<serde::de::IgnoredAny> = lenient(&folder, file::STARTED)?;
    Ok(Some(Stored {
        id: id.clone(),
        task,
        stop,
        progress: store.progress(id)?,
    }))
}

/// Ends what may still run there, and moves the folder out of the way.
fn set_aside(store: &Store, id: &TaskId, reason: &str) {
    let folder = store.folder(id);
    log::error!("task folder `{}` is set aside in `damaged`: {reason}", folder.display());
    let _ = crate::supervise::channel::request_stop(&folder, false);
    let place = store.damaged();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
    let target = place.join(id.as_str());
    discard(&target);
    if let Err(error) = made.and_then(|()| fs::rename(&folder, &target)) {
        log::error!("failed to set aside `{}`: {error}; it is ignored", folder.display());
    }
}
