//! Files on this machine: what a task is given, and where its outputs go.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use podrun_host::{Origin, Outcome, OutputFile, origin_folder};

use crate::error::{Error, named, state};
use crate::expression::{Fault, Files};
use crate::faults::{Point, reach};
use crate::plan::{Content, Staged};
use crate::state::private_folder;

/// The largest file that an expression may read.
const LARGEST_TEXT: u64 = 16 << 20;

/// The files of an execution by their URIs, for expressions.
#[derive(Debug)]
pub(crate) struct Readable(BTreeMap<String, PathBuf>);

impl Readable {
    pub(crate) fn new(files: BTreeMap<String, PathBuf>) -> Self {
        Self(files)
    }
}

impl Files for Readable {
    fn read(&self, uri: &str) -> Result<Vec<u8>, Fault> {
        let (Some(path), Some(size)) = (self.0.get(uri), self.size(uri)?) else {
            let cure = "`read` takes the URI of an input or output of this execution";
            return Err(Fault(format!("there is no such file: {cure}")));
        };
        if size > LARGEST_TEXT {
            let message = "the file is larger than 16 MiB, which is too much for an expression: give it to the task by \
                           `inputFiles`";
            return Err(Fault(message.to_owned()));
        }
        fs::read(path).map_err(|error| Fault(format!("the file cannot be read: {}", error.kind())))
    }

    fn size(&self, uri: &str) -> Result<Option<u64>, Fault> {
        let Some(path) = self.0.get(uri) else { return Ok(None) };
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault(format!("the file cannot be looked at: {}", error.kind()))),
        }
    }
}

/// Fill the folder that becomes the task's `/inputs`. What an interrupted call left there is replaced.
pub(crate) fn stage(files: &[Staged], folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(state("empty", folder)(error)),
        _ => {}
    }
    private_folder(folder)?;
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            private_folder(parent)?;
        }
        match &file.content {
            Content::Text(text) => write(&path, text.as_bytes()).map_err(state("write", &path))?,
            Content::Foreign(source) => {
                fs::copy(source, &path).map_err(named("copy", source))?;
            }
            // Nobody writes to stored files, so a second name does as well as a copy.
            Content::File(source) => {
                if fs::hard_link(source, &path).is_err() {
                    fs::copy(source, &path).map_err(state("copy", source))?;
                }
            }
        }
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Copy the output files of a task to the folder that `--outputs` names, each complete or not at all. Files that are
/// there already are replaced. `execution` names the temporary file, so that a resumed call finds and replaces what a
/// killed one left, and two executions do not meet.
pub(crate) fn publish(outcome: &Outcome, from: &Path, to: &Path, execution: &str) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(state("create", to))?;
    let part = to.join(format!(".podrun-{execution}.part"));
    for file in outcome.files.iter().filter(|file| !is_hidden(outcome, file)) {
        let source = from.join(origin_folder(file.origin)).join(&file.path);
        publish_one(&source, &part, &to.join(&file.path), file.mode)?;
    }
    Ok(())
}

/// Whether a file of the output directory has the name of one that `outputFiles` asked for, which is the one that is meant.
pub(crate) fn is_hidden(outcome: &Outcome, file: &OutputFile) -> bool {
    let wanted = |other: &OutputFile| matches!(other.origin, Origin::WorkingDir) && other.path == file.path;
    matches!(file.origin, Origin::OutputDir) && outcome.files.iter().any(wanted)
}

/// Remove what an earlier attempt left where its files went, unless this one has a file of that name. Other files in the
/// folder are not ours.
pub(crate) fn withdraw(earlier: &Outcome, outcome: &Outcome, to: &Path) -> Result<(), Error> {
    let stays = |file: &&OutputFile| outcome.files.iter().all(|other| other.path != file.path);
    for file in earlier.files.iter().filter(stays) {
        let path = to.join(&file.path);
        match fs::remove_file(&path) {
            // A folder may have taken its place.
            Err(error)
                if ![
                    io::ErrorKind::NotFound,
                    io::ErrorKind::NotADirectory,
                    io::ErrorKind::IsADirectory,
                ]
                .contains(&error.kind()) =>
            {
                return Err(state("remove", &path)(error));
            }
            _ => {}
        }
        // Folders that are empty now were there for it.
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != to);
        for folder in folders {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    Ok(())
}

fn publish_one(source: &Path, part: &Path, target: &Path, mode: u32) -> Result<(), Error> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(state("create", folder))?;
    }
    // What was left may not be writable.
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(state("remove", part)(error)),
        _ => {}
    }
    let mut from = File::open(source).map_err(state("read", source))?;
    let mut file = File::create_new(part).map_err(state("create", part))?;
    let permissions = fs::Permissions::from_mode(mode & 0o777);
    io::copy(&mut from, &mut file)
        .and_then(|_| file.set_permissions(permissions))
        .and_then(|()| file.sync_all())
        .map_err(state("write", part))?;
    reach(Point::AmidPublished);
    fs::rename(part, target).map_err(state("write", target))
}

/// The folder of `--outputs` for one task.
pub(crate) fn published(outputs: &Path, task: &str) -> PathBuf {
    outputs.join(task)
}
