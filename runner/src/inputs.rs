//! The input files on the host's side: checks their names, hashes them, and cuts them into what travels: one small
//! archive inside the pod, or units that are streamed into the waiting init container.

use crate::contract::{Error, Input};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// Files below this size share a unit.
const SMALL: u64 = 512 * 1024;
/// A unit of small files is closed when it holds this much.
const PACK: u64 = 8 * 1024 * 1024;

/// One input file, as it was when the call began.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct InputFile {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// The input files of a task.
#[derive(Debug)]
pub(crate) struct Inputs {
    folder: PathBuf,
    pub(crate) files: Vec<InputFile>,
}

/// What one stream carries.
#[derive(Debug)]
pub(crate) struct Unit<'i> {
    /// Name of the unit inside the init container, the same whenever the same task is staged.
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) sha256: String,
    pub(crate) content: Content<'i>,
}

/// Where a unit's bytes come from.
#[derive(Debug)]
pub(crate) enum Content<'i> {
    /// An archive of small files, in memory.
    Pack(Vec<u8>),
    /// One large file.
    File(&'i InputFile),
}

impl Inputs {
    /// Checks names and modes, and reads every file once for its size and hash.
    pub(crate) fn scan(folder: PathBuf, inputs: &[Input]) -> Result<Self, Error> {
        let mut seen = BTreeSet::new();
        for input in inputs {
            check_name(&input.path)?;
            if input.mode > 0o777 {
                return Err(Error::InvalidArgument(format!(
                    "the mode {:o} of input `{}` is not between 0 and 777",
                    input.mode, input.path
                )));
            }
            if !seen.insert(input.path.as_str()) {
                return Err(Error::InvalidArgument(format!("input `{}` is named twice", input.path)));
            }
        }
        for path in &seen {
            let folder = format!("{path}/");
            if let Some(below) = seen.range(folder.as_str()..).next().filter(|b| b.starts_with(&folder)) {
                return Err(Error::InvalidArgument(format!(
                    "input `{path}` is a file and `{below}` needs it to be a folder"
                )));
            }
        }
        let mut files = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (size, sha256) = hash(&folder.join(&input.path)).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => Error::InvalidArgument(format!(
                    "input `{}` is missing from the folder of input files",
                    input.path
                )),
                _ => Error::InvalidArgument(format!("input `{}` cannot be read: {e}", input.path)),
            })?;
            files.push(InputFile {
                path: input.path.clone(),
                mode: input.mode,
                size,
                sha256,
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { folder, files })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn total(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// The gzipped archive of all files, if it is no larger than `limit`.
    pub(crate) fn inline(&self, limit: u32) -> Result<Option<Vec<u8>>, Error> {
        let limit = limit as usize;
        // Even runs of zeros shrink by no more than a factor of about a thousand.
        if limit == 0 || self.total() / 1000 > limit as u64 {
            return Ok(None);
        }
        let mut encoder = flate2::write::GzEncoder::new(
            Bounded {
                bytes: Vec::new(),
                limit,
            },
            flate2::Compression::new(6),
        );
        let written =
            pack(&self.folder, self.files.iter(), &mut encoder).and_then(|()| encoder.finish().map_err(failed));
        match written {
            Ok(bounded) => Ok(Some(bounded.bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// How the files are cut into units, in the order in which they are sent.
    pub(crate) fn groups(&self) -> Vec<Vec<&InputFile>> {
        let mut groups: Vec<Vec<&InputFile>> = Vec::new();
        let mut held = PACK;
        for file in self.files.iter().filter(|f| f.size < SMALL) {
            if held >= PACK {
                groups.push(Vec::new());
                held = 0;
            }
            held += file.size + 512;
            groups.last_mut().into_iter().for_each(|group| group.push(file));
        }
        groups.extend(self.files.iter().filter(|f| f.size >= SMALL).map(|file| vec![file]));
        groups
    }

    /// Makes the unit of a group; only one archive is in memory at a time.
    pub(crate) fn unit<'i>(&self, index: usize, group: &[&'i InputFile]) -> Result<Unit<'i>, Error> {
        let (length, sha256, content) = match group {
            [file] if file.size >= SMALL => (file.size, file.sha256.clone(), Content::File(file)),
            files => {
                let mut bytes = Vec::new();
                pack(&self.folder, files.iter().copied(), &mut bytes).map_err(|e| unreadable(&e))?;
                (bytes.len() as u64, hex(&Sha256::digest(&bytes)), Content::Pack(bytes))
            }
        };
        let name = format!("{index}-{}", sha256.get(..16).unwrap_or_default());
        Ok(Unit {
            name,
            length,
            sha256,
            content,
        })
    }

    /// Opens a unit's bytes from `offset` on.
    pub(crate) fn open<'u>(&'u self, unit: &'u Unit<'_>, offset: u64) -> Result<Box<dyn Read + 'u>, Error> {
        match &unit.content {
            Content::Pack(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Box::new(bytes.get(start..).unwrap_or_default()))
            }
            Content::File(InputFile { path, .. }) => {
                let open = || {
                    let mut file = File::open(self.folder.join(path))?;
                    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
                    Ok(file.take(unit.length - offset.min(unit.length)))
                };
                open()
                    .map(|f| Box::new(f) as Box<dyn Read>)
                    .map_err(|e: io::Error| unreadable(&e))
            }
        }
    }
}

fn unreadable(error: &io::Error) -> Error {
    Error::InvalidArgument(format!("the input files changed or cannot be read: {error}"))
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    match error.into().downcast::<io::Error>() {
        Ok(io) => *io,
        Err(other) => io::Error::other(other),
    }
}

/// Refuses names that leave the working directory, or that a shell's list of lines cannot carry.
pub(crate) fn check_name(path: &str) -> Result<(), Error> {
    let why = if path.is_empty() {
        "is empty"
    } else if path.starts_with('/') {
        "is absolute: name it relative to the working directory"
    } else if path.split('/').any(|s| s == "..") {
        "climbs out of the working directory"
    } else if path.split('/').any(|s| s.is_empty() || s == ".") {
        "has an empty or `.` segment"
    } else if path.contains(['\n', '\r', '\0']) {
        "holds a line break or a zero byte"
    } else if path.len() > 1024 || path.split('/').any(|s| s.len() > 255) {
        "is longer than file systems allow (255 bytes a segment)"
    } else {
        return Ok(());
    };
    Err(Error::InvalidArgument(format!(
        "input `{}` {why}",
        path.escape_default()
    )))
}

/// Writes a tar of the files. The same files give the same bytes, so that a broken stream can go on where it ended.
fn pack<'i>(folder: &Path, files: impl Iterator<Item = &'i InputFile>, writer: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(writer);
    let mut folders = BTreeSet::new();
    for file in files {
        for (end, _) in file.path.match_indices('/') {
            let parent = file.path.get(..end).unwrap_or_default();
            if folders.insert(parent) {
                let mut header = header(tar::EntryType::Directory, 0o777, 0);
                append(&mut tar, &mut header, &format!("{parent}/"), io::empty())?;
            }
        }
        let mut header = header(tar::EntryType::Regular, file.mode, file.size);
        let mut source = Exactly {
            inner: File::open(folder.join(&file.path))?,
            left: file.size,
        };
        append(&mut tar, &mut header, &file.path, &mut source)?;
    }
    tar.into_inner()?.flush()
}

/// Appends an entry with its name byte for byte: built for WebAssembly, the crate takes a backslash for a separator.
fn append(tar: &mut tar::Builder<impl Write>, header: &mut tar::Header, name: &str, data: impl Read) -> io::Result<()> {
    let field = header.as_old().name.len();
    if name.len() > field {
        let mut long = self::header(tar::EntryType::GNULongName, 0o644, name.len() as u64 + 1);
        set_name(&mut long, b"././@LongLink");
        tar.append(&long, name.as_bytes().chain(&b"\0"[..]))?;
    }
    set_name(header, name.as_bytes());
    tar.append(header, data)
}

fn set_name(header: &mut tar::Header, name: &[u8]) {
    for (to, from) in header.as_old_mut().name.iter_mut().zip(name) {
        *to = *from;
    }
    header.set_cksum();
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    // A fixed time keeps the archive the same; zero would make tar warn of an implausible date.
    header.set_mtime(1_000_000_000);
    header
}

/// Yields exactly as many bytes as the header promised, or fails.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = self.inner.read(buffer.get_mut(..room).unwrap_or_default())?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// A buffer that refuses to grow beyond a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + data.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hash(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, hex(&hasher.finalize())));
        }
        size += read as u64;
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str) -> Input {
        Input {
            path: path.to_owned(),
            mode: 0o644,
        }
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn names_that_leave_the_folder_or_break_a_list_are_refused() {
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a\nb",
            "a\0b",
            "a/..",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "a b", "-rf", "..a", "ü/ö", "'\"$(x)"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn a_missing_a_double_and_a_clashing_input_are_named() {
        let dir = folder(&[("a", b"1")]);
        let refusal = |names: &[&str]| {
            let inputs: Vec<_> = names.iter().map(|n| input(n)).collect();
            Inputs::scan(dir.path().into(), &inputs).unwrap_err().to_string()
        };
        assert!(refusal(&["b"]).contains("`b` is missing"));
        assert!(refusal(&["a", "a"]).contains("twice"));
        assert!(refusal(&["a", "a/b"]).contains("`a` is a file"));
    }

    #[test]
    fn the_inline_archive_holds_every_file_with_its_mode_or_is_refused_whole() {
        let long = format!("l\\{}", "n".repeat(200));
        let dir = folder(&[("a b/c", b"hello"), ("-d", b""), (&long, b"x")]);
        let inputs = Inputs::scan(
            dir.path().into(),
            &[
                Input {
                    path: "a b/c".into(),
                    mode: 0o755,
                },
                input("-d"),
                input(&long),
            ],
        )
        .unwrap();
        let packed = inputs.inline(65_536).unwrap().unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| {
                (
                    e.path().unwrap().to_string_lossy().into_owned(),
                    e.header().mode().unwrap(),
                    e.header().size().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            entries,
            [
                ("-d".into(), 0o644, 0),
                ("a b/".into(), 0o777, 0),
                ("a b/c".into(), 0o755, 5),
                (long, 0o644, 1)
            ]
        );
        assert!(inputs.inline(10).unwrap().is_none());
        assert!(inputs.inline(0).unwrap().is_none());
    }

    #[test]
    fn units_are_the_same_each_time_and_can_be_opened_anywhere() {
        let large = vec![7; 600 * 1024];
        let dir = folder(&[("large", &large), ("s1", b"one"), ("s2", b"two")]);
        let inputs = Inputs::scan(dir.path().into(), &[input("large"), input("s1"), input("s2")]).unwrap();
        let groups = inputs.groups();
        let units = || -> Vec<Unit<'_>> {
            groups
                .iter()
                .enumerate()
                .map(|(i, group)| inputs.unit(i, group).unwrap())
                .collect()
        };
        let (first, second) = (units(), units());
        assert_eq!(first.len(), 2);
        for (a, b) in first.iter().zip(&second) {
            assert_eq!((&a.name, &a.sha256, a.length), (&b.name, &b.sha256, b.length));
            let mut whole = Vec::new();
            inputs.open(a, 0).unwrap().read_to_end(&mut whole).unwrap();
            assert_eq!(
                (whole.len() as u64, hex(&Sha256::digest(&whole))),
                (a.length, a.sha256.clone())
            );
            let mut tail = Vec::new();
            inputs.open(a, a.length - 3).unwrap().read_to_end(&mut tail).unwrap();
            assert_eq!(tail, whole[whole.len() - 3..]);
        }
    }
}
