//! A container's output: from the log that the runtime writes into the task's folder to the files of the streams.
//!
//! Whoever keeps the node's logs small, as the kubelet does, renames the log to `cri.log.TIME` now and then, has a new
//! one begun, and compresses or removes older ones. After a restart of the agent the log is read again from the
//! beginning of a file, and what the streams have already is skipped; where the streams were at that beginning is
//! noted whenever a file is begun.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::log::{Parser, Stream};
use crate::store::atomic::{self, Durability};
use crate::store::segments::Writer;

/// The log's name in the task's folder.
pub(super) const LOG: &str = "cri.log";

/// The file that notes where the streams were at the beginning of a log.
const MARK: &str = "collected";

/// How much is read before other things get their turn.
const TURN: usize = 4 << 20;

/// The most that is read at a time.
const CHUNK: usize = 64 << 10;

/// Where the streams were when a log began, which is known by the time in its first line.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    begins: String,
    stdout: u64,
    stderr: u64,
}

/// Collects a container's output.
#[derive(Debug)]
pub(super) struct Collector {
    folder: PathBuf,
    open: Option<Open>,
    parser: Parser,
    stdout: Sink,
    stderr: Sink,
}

/// The log that is being read.
#[derive(Debug)]
struct Open {
    file: File,
    position: u64,
    /// A later log was there, and nothing came since: a runtime may write a last line after it has begun the next one.
    quiet: bool,
}

/// One stream's files, and how much of the stream the log has told so far.
#[derive(Debug)]
struct Sink {
    writer: Writer,
    told: u64,
    trouble: bool,
}

impl Collector {
    /// Goes on with the output of the task in this folder, `limit` bytes of each stream being kept.
    pub(super) fn resume(folder: &Path, limit: u64) -> io::Result<Self> {
        let sink = |stream| {
            Ok::<_, io::Error>(Sink {
                writer: Writer::resume(folder, stream, limit)?,
                told: 0,
                trouble: false,
            })
        };
        Ok(Self {
            folder: folder.to_owned(),
            open: None,
            parser: Parser::default(),
            stdout: sink("stdout")?,
            stderr: sink("stderr")?,
        })
    }

    /// Takes over what the log has. The answer says how many bytes of it were read.
    pub(super) fn pump(&mut self) -> io::Result<usize> {
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        while total < TURN {
            let Some(open) = &mut self.open else {
                if !self.open_first()? {
                    break;
                }
                continue;
            };
            let read = open.file.read_at(&mut buffer, open.position)?;
            if read > 0 {
                open.position += read as u64;
                open.quiet = false;
                total += read;
                let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
                self.parser
                    .feed(buffer.get(..read).unwrap_or_default(), |stream, bytes| match stream {
                        Stream::Stdout => stdout.take(bytes),
                        Stream::Stderr => stderr.take(bytes),
                    });
            } else if !self.open_next()? {
                break;
            }
        }
        Ok(total)
    }

    /// Removes the logs, once everything is in the files of the streams.
    pub(super) fn finish(self) -> io::Result<()> {
        for path in logs(&self.folder, |_| true)? {
            fs::remove_file(path)?;
        }
        match fs::remove_file(self.folder.join(MARK)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens the log to begin with. The answer says whether there is one.
    fn open_first(&mut self) -> io::Result<bool> {
        let mut files = Vec::new();
        for path in logs(&self.folder, is_readable)? {
            files.extend(open(&path)?);
        }
        let mark = self.mark()?;
        let marked = mark.as_ref().and_then(|mark| {
            let index = files
                .iter()
                .position(|file| begins(file).is_some_and(|begins| begins == mark.begins));
            Some((index?, mark.stdout, mark.stderr))
        });
        let index = match (marked, mark) {
            (Some((index, stdout, stderr)), _) => {
                (self.stdout.told, self.stderr.told) = (stdout, stderr);
                index
            }
            // What was marked is compressed or gone: what lies between is lost.
            (None, Some(_)) => {
                (self.stdout.told, self.stderr.told) = (self.stdout.writer.position(), self.stderr.writer.position());
                0
            }
            (None, None) => 0,
        };
        let Some(file) = files.into_iter().nth(index) else {
            return Ok(false);
        };
        self.open = Some(Open {
            file,
            position: 0,
            quiet: false,
        });
        Ok(true)
    }

    /// At the end of a log: goes on with the next one, if there is one and this one is over.
    fn open_next(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.open else {
            return Ok(false);
        };
        let here = identity(&current.file)?;
        let mut files = Vec::new();
        for path in logs(&self.folder, is_readable)? {
            files.extend(open(&path)?);
        }
        let mut identities = Vec::with_capacity(files.len());
        for file in &files {
            identities.push(identity(file)?);
        }
        // If this one is not there any more, only later ones are.
        let next = identities
            .iter()
            .position(|other| *other == here)
            .map_or(0, |at| at + 1);
        let Some((next, begins)) = files
            .into_iter()
            .nth(next)
            .and_then(|next| begins(&next).map(|begins| (next, begins)))
        else {
            return Ok(false);
        };
        if !std::mem::replace(&mut current.quiet, true) {
            return Ok(false);
        }
        let mark = Mark {
            begins,
            stdout: self.stdout.told,
            stderr: self.stderr.told,
        };
        let folder = atomic::open_folder(&self.folder)?;
        atomic::replace(folder, MARK, &serde_json::to_vec(&mark)?, Durability::Volatile)?;
        self.parser = Parser::default();
        self.open = Some(Open {
            file: next,
            position: 0,
            quiet: false,
        });
        Ok(true)
    }

    /// A mark that cannot be read counts as missing.
    fn mark(&self) -> io::Result<Option<Mark>> {
        let content = atomic::read(atomic::open_folder(&self.folder)?, MARK, 4096)?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
    }
}

impl Sink {
    /// Writes what is not there yet. Trouble with the files loses output and stops nothing.
    fn take(&mut self, bytes: &[u8]) {
        let there = self.writer.position().saturating_sub(self.told);
        self.told += bytes.len() as u64;
        let new = usize::try_from(there).ok().and_then(|there| bytes.get(there..));
        let Err(error) = self.writer.write(new.unwrap_or_default()) else {
            return;
        };
        if !std::mem::replace(&mut self.trouble, true) {
            log::warn!("failed to keep the output of a container: {error}; what cannot be written is lost");
        }
    }
}

/// The log and those that it was before, the oldest first.
fn logs(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut former = Vec::new();
    let mut current = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        match name.to_str().and_then(|name| name.strip_prefix(LOG)) {
            Some("") => current = Some(entry.path()),
            Some(suffix) if suffix.starts_with('.') && wanted(suffix) => former.push(entry.path()),
            _ => {}
        }
    }
    // The suffix is the time of the renaming, written so that it sorts.
    former.sort_unstable();
    former.extend(current);
    Ok(former)
}

/// Whether a log of that suffix is one as it was written, and not compressed or in the making.
fn is_readable(suffix: &str) -> bool {
    suffix
        .trim_start_matches('.')
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Opens a log for reading; none if it is gone meanwhile.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    match OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
    {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other(format!("`{}` is not a file", path.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The time in a log's first line, once it is there.
fn begins(file: &File) -> Option<String> {
    let mut buffer = [0; 64];
    let read = file.read_at(&mut buffer, 0).ok()?;
    let time = buffer.get(..read)?.split(|byte| *byte == b' ');
    let mut fields = time.take(2);
    let (time, _rest) = (fields.next()?, fields.next()?);
    String::from_utf8(time.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::segments::Reader;

    struct Task(tempfile::TempDir);

    impl Task {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// Appends lines to a log as a runtime does.
        fn log(&self, file: &File, lines: std::ops::Range<u32>) {
            use std::io::Write as _;
            for line in lines {
                let stream = if line % 3 == 0 { "stderr" } else { "stdout" };
                writeln!(&*file, "2026-11-21T06:00:00.{line:09}Z {stream} F line {line}").unwrap();
            }
        }

        fn begin(&self) -> File {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.path(LOG))
                .unwrap()
        }

        fn rotate(&self, time: &str) {
            fs::rename(self.path(LOG), self.path(&format!("{LOG}.{time}"))).unwrap();
        }

        fn collector(&self) -> Collector {
            Collector::resume(self.0.path(), 1 << 20).unwrap()
        }

        fn kept(&self, stream: &'static str) -> String {
            let mut reader = Reader::new(self.0.path(), stream, 0).unwrap();
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                match reader.read(&mut buffer).unwrap() {
                    0 => return String::from_utf8(all).unwrap(),
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
        }

        #[track_caller]
        fn check(&self, lines: impl IntoIterator<Item = u32> + Clone) {
            for (stream, third) in [("stdout", false), ("stderr", true)] {
                let lines = lines.clone().into_iter().filter(|line| (line % 3 == 0) == third);
                let expected: String = lines.map(|line| format!("line {line}\n")).collect();
                assert_eq!(self.kept(stream), expected, "{stream}");
            }
        }
    }

    /// As often as it takes until nothing comes any more.
    fn drain(collector: &mut Collector) {
        for _ in 0..10 {
            collector.pump().unwrap();
        }
    }

    #[test]
    fn output_is_collected_as_it_comes_and_the_logs_go_at_the_end() {
        let task = Task::new();
        let mut collector = task.collector();
        assert_eq!(collector.pump().unwrap(), 0, "no log yet");
        let log = task.begin();
        for end in 1..20 {
            task.log(&log, end - 1..end);
            assert!(collector.pump().unwrap() > 0);
            task.check(0..end);
        }
        collector.finish().unwrap();
        task.check(0..19);
        assert!(!task.path(LOG).exists());
    }

    #[test]
    fn a_restart_repeats_and_loses_nothing() {
        let task = Task::new();
        let log = task.begin();
        task.log(&log, 0..5);
        drain(&mut task.collector());
        task.log(&log, 5..10);
        drain(&mut task.collector());
        drain(&mut task.collector());
        task.check(0..10);
        // In the middle of what was read, too.
        fs::remove_file(task.path("stdout.00000000000000000000")).unwrap();
        fs::write(task.path("stderr.00000000000000000000"), "line 0\nli").unwrap();
        drain(&mut task.collector());
        task.check(0..10);
    }

    #[test]
    fn renamed_logs_are_read_to_their_end_and_then_the_next_ones() {
        let task = Task::new();
        let mut collector = task.collector();
        let first = task.begin();
        task.log(&first, 0..3);
        drain(&mut collector);
        task.log(&first, 3..5);
        task.rotate("20261121-060000");
        task.log(&first, 5..6);
        let second = task.begin();
        collector.pump().unwrap();
        task.log(&second, 7..9);
        collector.pump().unwrap();
        // The runtime's last line for the first log comes late.
        task.log(&first, 6..7);
        drain(&mut collector);
        task.check(0..9);
        task.rotate("20261121-060010");
        let third = task.begin();
        task.log(&third, 9..12);
        // Restarts at any point: with the mark of the second log, then with that of the third.
        drain(&mut task.collector());
        task.check(0..12);
        task.log(&third, 12..14);
        fs::rename(
            task.path("cri.log.20261121-060000"),
            task.path("cri.log.20261121-060000.gz"),
        )
        .unwrap();
        fs::rename(
            task.path("cri.log.20261121-060010"),
            task.path("cri.log.20261121-060010.tmp"),
        )
        .unwrap();
        let mut last = task.collector();
        drain(&mut last);
        task.check(0..14);
        last.finish().unwrap();
        let left: Vec<_> = fs::read_dir(task.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 2, "the two streams: {left:?}");
    }

    #[test]
    fn what_was_compressed_while_nobody_read_is_lost_and_the_rest_is_there_once() {
        let task = Task::new();
        let mut collector = task.collector();
        let first = task.begin();
        task.log(&first, 0..3);
        drain(&mut collector);
        task.rotate("20261121-060000");
        let second = task.begin();
        task.log(&second, 3..6);
        drain(&mut collector);
        drop(collector);
        task.log(&second, 6..9);
        task.rotate("20261121-060010");
        fs::rename(
            task.path("cri.log.20261121-060010"),
            task.path("cri.log.20261121-060010.gz"),
        )
        .unwrap();
        let third = task.begin();
        task.log(&third, 9..12);
        fs::remove_file(task.path("cri.log.20261121-060000")).unwrap();
        drain(&mut task.collector());
        task.check((0..6).chain(9..12));
    }

    #[test]
    fn a_link_is_not_a_log() {
        let task = Task::new();
        std::os::unix::fs::symlink("/etc/hostname", task.path(LOG)).unwrap();
        assert!(task.collector().pump().is_err());
    }
}
