//! Fetches output files through the sidecar: a listing, the patterns, then a tar of what was asked for. A file is written
//! under a temporary name, compared with the pod's own SHA-256, synced and renamed; a cut stream is never a success.

use crate::{
    client::Cluster,
    contract::{Error, Event, Level, OutputFile, Progress},
    exec::{Exec, ExecError, Output},
    inputs::hex,
    outputs::{Destination, Listing, ListingEnd, Selection, Wanted},
    pod::{SIDECAR, Stored},
    session::{Halt, Session},
    untar::{Item, Untar},
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

const PROBE_SCRIPT: &str = include_str!("scripts/probe.sh");
const ALIVE_SCRIPT: &str = include_str!("scripts/alive.sh");
const COLLECT_SCRIPT: &str = include_str!("scripts/collect.sh");
const ATTEMPTS: u32 = 4;
/// Longest listing that is read: some 100,000 files, which take several times as much memory while they are selected.
const LISTING: usize = 16 * 1024 * 1024;
/// Folder of unfinished downloads below the host's folder of outputs.
const UNFINISHED: &str = ".podrun-unfinished";

/// Why files did not come back.
#[derive(Debug)]
pub(crate) enum Failure {
    /// They are gone with their container.
    Lost(String),
    /// They are there, and cannot come back in any try; names the file or the field.
    Refused(String),
    /// They are perhaps still there, and did not arrive whole in several tries.
    Unreached(String),
    /// The runner could not do its part.
    Halt(Halt),
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Halt(Halt::Error(error))
    }
}

/// Brings back every file that the task asked for.
pub(crate) async fn collect(
    cluster: &Cluster<'_>,
    session: &Session<'_>,
    pod: &str,
    stored: &Stored,
) -> Result<Vec<OutputFile>, Failure> {
    let wanted = Wanted::new(&stored.outputs, stored.sync)?;
    let mut attempt = 1;
    loop {
        let error = match fetch(cluster, session, pod, &wanted, stored.output_dir).await {
            Err(Trouble::Exec(error)) => error,
            Err(Trouble::Failure(failure)) => return Err(failure),
            Ok(files) => return Ok(files),
        };
        match error {
            ExecError::Failed {
                code: Some(96),
                message,
            } => return Err(Failure::Refused(message)),
            ExecError::Failed { code: Some(_), message } if attempt > 1 => {
                return Err(Failure::Refused(format!("the output files cannot be read: {message}")));
            }
            // The container is not there any more: its files are not either.
            ExecError::Refused(Error::NotFound(m) | Error::InvalidArgument(m)) => return Err(Failure::Lost(m)),
            ExecError::Refused(error @ Error::AccessDenied(_)) => return Err(error.into()),
            error if attempt == ATTEMPTS => return Err(Failure::Unreached(error.to_string())),
            error => session.note(Level::Warn, format!("collecting output files: {error}; trying again")),
        }
        tokio::time::sleep(Duration::from_millis(200) * attempt.pow(2)).await;
        attempt += 1;
    }
}

/// What one try can meet.
enum Trouble {
    Exec(ExecError),
    Failure(Failure),
}

impl From<ExecError> for Trouble {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failure(error.into())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Error::Other(format!("failed to write the output files: {error}")).into()
    }
}

async fn fetch(
    cluster: &Cluster<'_>,
    session: &Session<'_>,
    pod: &str,
    wanted: &Wanted,
    output_dir: bool,
) -> Result<Vec<OutputFile>, Trouble> {
    let script = format!("{PROBE_SCRIPT}{ALIVE_SCRIPT}{COLLECT_SCRIPT}");
    let mut command = vec!["sh", "-c", &script, "podrun"];
    command.extend(wanted.folders(output_dir));
    let mut exec = Exec::start(cluster, pod, SIDECAR, &command).await?;
    let (listing, rest) = listing(&mut exec).await?;
    let selection = wanted.select(&listing).map_err(|e| match e {
        Error::Other(message) => Trouble::Failure(Failure::Refused(message)),
        other => other.into(),
    })?;
    if let Some(left_out) = selection.left_out() {
        session.note(Level::Warn, left_out);
    }
    let mut names = selection.files.keys().fold(String::new(), |mut all, name| {
        all.push_str(name);
        all.push('\n');
        all
    });
    names.insert_str(0, &format!("{}\n", names.len()));
    exec.write(names.as_bytes()).await?;
    exec.flush().await?;
    if selection.files.is_empty() {
        exec.finish().await?;
        return Ok(Vec::new());
    }
    let folder = session.host().outputs();
    let mut download = Download::new(&folder, session)?;
    let result = receive(&mut exec, &mut download, &rest).await;
    let files = match result {
        Ok(sums) => download.keep(&selection, &sums, &folder),
        Err(trouble) => Err(trouble),
    };
    // A failed try leaves nothing behind; its error matters more than one of cleaning up.
    let _ = fs::remove_dir_all(folder.join(UNFINISHED));
    files
}

async fn listing(exec: &mut Exec) -> Result<(Listing, Vec<u8>), Trouble> {
    let (mut bytes, mut end) = (Vec::new(), ListingEnd::default());
    loop {
        match exec.next().await? {
            Output::Stdout(data) => bytes.extend_from_slice(&data),
            Output::Stderr(_) => continue,
            Output::Done => return Err(ExecError::Broken("the listing is cut short".into()).into()),
        }
        if let Some(end) = end.find(&bytes) {
            let rest = bytes.split_off(end);
            return Ok((Listing::parse(&bytes)?, rest));
        }
        if bytes.len() > LISTING {
            return Err(Trouble::Failure(Failure::Refused(
                "there are too many files to list: narrow `outputFiles`".into(),
            )));
        }
    }
}

/// Reads the archive to its end; returns the pod's own sums.
async fn receive(exec: &mut Exec, download: &mut Download<'_>, rest: &[u8]) -> Result<Vec<String>, Trouble> {
    let mut untar = Untar::default();
    let mut said = Vec::new();
    let damaged = |e: io::Error| {
        if e.kind() == io::ErrorKind::InvalidData {
            Trouble::Exec(ExecError::Broken(e.to_string()))
        } else {
            e.into()
        }
    };
    download.take(untar.feed(rest).map_err(damaged)?).map_err(damaged)?;
    loop {
        match exec.next().await? {
            Output::Stdout(data) => download.take(untar.feed(&data).map_err(damaged)?).map_err(damaged)?,
            Output::Stderr(data) => said.extend_from_slice(&data),
            Output::Done if untar.ended() => break,
            Output::Done => return Err(ExecError::Broken("the archive is cut short".into()).into()),
        }
    }
    let said = String::from_utf8_lossy(&said);
    let (_, sums) = said
        .split_once("podrun:sums\n")
        .ok_or_else(|| ExecError::Broken("the sums are missing".into()))?;
    Ok(sums
        .lines()
        .map(|l| l.get(..64).unwrap_or_default().to_owned())
        .collect())
}

/// Files on their way.
struct Download<'s> {
    session: &'s Session<'s>,
    folder: PathBuf,
    files: Vec<Received>,
    open: Option<(File, Sha256)>,
    done: u64,
    reported: u64,
}

/// A file that arrived.
#[derive(Clone)]
struct Received {
    name: String,
    size: u64,
    mode: u32,
    sha256: String,
    part: PathBuf,
}

impl<'s> Download<'s> {
    fn new(outputs: &Path, session: &'s Session<'s>) -> io::Result<Self> {
        let folder = outputs.join(UNFINISHED);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&folder)?,
        }
        Ok(Self {
            session,
            folder,
            files: Vec::new(),
            open: None,
            done: 0,
            reported: 0,
        })
    }

    fn take(&mut self, items: Vec<Item>) -> io::Result<()> {
        for item in items {
            match item {
                Item::File { path, size, mode } => {
                    let part = self.folder.join(self.files.len().to_string());
                    self.open = Some((File::create(&part)?, Sha256::new()));
                    self.files.push(Received {
                        name: path,
                        size,
                        mode,
                        sha256: String::new(),
                        part,
                    });
                }
                Item::Link { path, target } => {
                    let part = self.folder.join(self.files.len().to_string());
                    let earlier = self.files.iter().rev().find(|file| file.name == target);
                    let earlier = earlier.ok_or_else(|| {
                        io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("`{path}` is another name of `{target}`, which did not come before it"),
                        )
                    })?;
                    fs::copy(&earlier.part, &part)?;
                    self.done += earlier.size;
                    let received = Received {
                        name: path,
                        part,
                        ..earlier.clone()
                    };
                    self.files.push(received);
                }
                Item::Data(data) => {
                    if let Some((file, hash)) = &mut self.open {
                        file.write_all(&data)?;
                        hash.update(&data);
                    }
                    self.done += data.len() as u64;
                    if self.done >= self.reported + (1 << 20) {
                        self.report();
                    }
                }
                Item::Complete => {
                    if let (Some((_, hash)), Some(received)) = (self.open.take(), self.files.last_mut()) {
                        received.sha256 = hex(&hash.finalize());
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&mut self) {
        self.reported = self.done;
        self.session.push(Event::Progress(Progress {
            what: "outputs".into(),
            done: self.done,
            total: None,
        }));
    }

    /// Compares every file with what the pod says of it, then gives all of them their names.
    fn keep(mut self, selection: &Selection, sums: &[String], folder: &Path) -> Result<Vec<OutputFile>, Trouble> {
        let broken = |why: String| Trouble::Exec(ExecError::Broken(why));
        if self.files.len() != selection.files.len() || sums.len() != selection.files.len() {
            return Err(broken(format!(
                "{} files of {} arrived",
                self.files.len(),
                selection.files.len()
            )));
        }
        for ((file, wanted), sum) in self.files.iter().zip(selection.files.keys()).zip(sums) {
            if file.name != *wanted || file.sha256 != *sum {
                return Err(broken(format!("`{wanted}` arrived damaged")));
            }
        }
        let (mut outputs, mut folders) = (Vec::new(), HashSet::new());
        for (file, destinations) in self.files.iter().zip(selection.files.values()) {
            let mut rest = destinations.iter();
            let Some(first) = rest.next() else { continue };
            for destination in rest {
                let copy = self.folder.join("copy");
                fs::copy(&file.part, &copy)?;
                place(&copy, folder, destination, &mut folders)?;
                outputs.push(output(file, destination));
            }
            place(&file.part, folder, first, &mut folders)?;
            outputs.push(output(file, first));
        }
        self.report();
        outputs.sort_by(|a, b| (a.origin as u8, &a.path).cmp(&(b.origin as u8, &b.path)));
        Ok(outputs)
    }
}

/// Renames a complete file to its final name. `made` are the folders that are there already.
fn place(part: &Path, folder: &Path, destination: &Destination, made: &mut HashSet<PathBuf>) -> io::Result<()> {
    let path = folder.join(destination.relative());
    if let Some(parent) = path.parent().filter(|parent| !made.contains(*parent)) {
        fs::create_dir_all(parent)?;
        made.insert(parent.to_owned());
    }
    fs::rename(part, &path)
}

fn output(file: &Received, destination: &Destination) -> OutputFile {
    OutputFile {
        origin: destination.origin,
        path: destination.path.clone(),
        size: file.size,
        mode: file.mode,
        sha256: file.sha256.clone(),
    }
}
