//! The files that hold a task's output: named after the stream and the position of their first byte in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The name of the file that begins at a position of a stream.
#[must_use]
pub fn name(stream: &str, start: u64) -> String {
    format!("{stream}.{start:020}")
}

/// The position at which a file of a stream begins, if it is one.
#[must_use]
pub fn start(stream: &str, file: &str) -> Option<u64> {
    let digits = file.strip_prefix(stream)?.strip_prefix('.')?;
    let valid = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().ok())?
}

/// A place in a stream to read from. Output that is no longer kept is skipped.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    stream: &'static str,
    position: u64,
    open: Option<(u64, File)>,
}

impl Reader {
    /// Reads from a position on, or from the first byte after it that is kept.
    pub fn new(folder: &Path, stream: &'static str, position: u64) -> io::Result<Self> {
        let mut reader = Self {
            folder: folder.to_owned(),
            stream,
            position,
            open: None,
        };
        if let Some(oldest) = starts(folder, stream)?.into_iter().next() {
            reader.position = position.max(oldest);
        }
        Ok(reader)
    }

    /// Where the next byte comes from.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads what is there, at most the buffer's length; 0 bytes if nothing more is there now.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((start, file)) = &self.open {
                let read = file.read_at(buffer, self.position - start)?;
                if read > 0 {
                    self.position += read as u64;
                    return Ok(read);
                }
            }
            // At the end of a file another one may follow, and that is where this one ended for good.
            let starts = starts(&self.folder, self.stream)?;
            let current = self.open.as_ref().map(|(start, _)| *start);
            let holder = starts
                .iter()
                .rev()
                .find(|start| **start <= self.position)
                .or(starts.first());
            let Some(next) = holder.copied().filter(|next| Some(*next) != current) else {
                return Ok(0);
            };
            match File::open(self.folder.join(name(self.stream, next))) {
                Ok(file) => {
                    self.position = self.position.max(next);
                    self.open = Some((next, file));
                }
                // It was removed just now: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The end of a stream, to write on from. Of what was written, at least the last half of the limit is kept.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    stream: &'static str,
    segment_size: u64,
    current: Option<Segment>,
    /// Where the file before this one begins. It stays until the next one does.
    previous: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    length: u64,
    file: File,
}

impl Writer {
    /// Goes on where the stream ends, keeping `limit` bytes of it.
    pub fn resume(folder: &Path, stream: &'static str, limit: u64) -> io::Result<Self> {
        let mut writer = Self {
            folder: folder.to_owned(),
            stream,
            segment_size: (limit / 2).max(1),
            current: None,
            previous: None,
        };
        let mut starts = starts(folder, stream)?;
        if let Some(start) = starts.pop() {
            let file = writer.open(start, false)?;
            let length = file.metadata()?.len();
            writer.current = Some(Segment { start, length, file });
            writer.previous = starts.pop();
        }
        for old in starts {
            writer.remove(old);
        }
        Ok(writer)
    }

    /// Where the next byte goes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.current
            .as_ref()
            .map_or(0, |segment| segment.start + segment.length)
    }

    /// Writes all of it. What could not be written after an error is not there, and may be tried again.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let segment_size = self.segment_size;
        while !bytes.is_empty() {
            let segment = match &mut self.current {
                Some(segment) if segment.length < segment_size => segment,
                _ => self.begin()?,
            };
            let room = usize::try_from(segment_size - segment.length).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let written = segment.file.write_at(now, segment.length)?;
            segment.length += written as u64;
            bytes = match now.get(written..) {
                Some([]) => later,
                _ => bytes.get(written..).unwrap_or_default(),
            };
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<&mut Segment> {
        let start = self.position();
        let file = self.open(start, true)?;
        let full = self.current.take();
        if let Some(oldest) = std::mem::replace(&mut self.previous, full.map(|segment| segment.start)) {
            self.remove(oldest);
        }
        Ok(self.current.insert(Segment { start, length: 0, file }))
    }

    fn open(&self, start: u64, new: bool) -> io::Result<File> {
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new()
            .write(true)
            .create(new)
            .truncate(new)
            .mode(0o600)
            .custom_flags(no_links)
            .open(self.folder.join(name(self.stream, start)))
    }

    fn remove(&self, start: u64) {
        let _ = fs::remove_file(self.folder.join(name(self.stream, start)));
    }
}

/// Where a stream's files begin, in order.
fn starts(folder: &Path, stream: &str) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut starts = Vec::new();
    for entry in entries {
        starts.extend(entry?.file_name().to_str().and_then(|file| start(stream, file)));
    }
    starts.sort_unstable();
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(reader: &mut Reader) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 3];
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return all,
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn streams_are_read_across_files_and_gaps() {
        let place = tempfile::tempdir().unwrap();
        let put = |start, content: &str| fs::write(place.path().join(name("stdout", start)), content).unwrap();
        let mut early = Reader::new(place.path(), "stdout", 0).unwrap();
        assert_eq!(rest(&mut early), b"");
        put(0, "0123");
        assert_eq!(rest(&mut early), b"0123");
        put(0, "01234567");
        put(8, "89");
        fs::write(place.path().join("stderr.00000000000000000000"), "x").unwrap();
        assert_eq!(rest(&mut early), b"456789");
        let mut late = Reader::new(place.path(), "stdout", 7).unwrap();
        assert_eq!((late.position(), rest(&mut late)), (7, b"789".to_vec()));
        fs::remove_file(place.path().join(name("stdout", 0))).unwrap();
        let mut skipped = Reader::new(place.path(), "stdout", 3).unwrap();
        assert_eq!((skipped.position(), rest(&mut skipped)), (8, b"89".to_vec()));
        let mut beyond = Reader::new(place.path(), "stdout", 99).unwrap();
        assert_eq!(rest(&mut beyond), b"");
        assert_eq!(beyond.position(), 99);
    }

    #[test]
    fn writing_goes_on_where_it_ended_and_keeps_the_last_bytes() {
        let place = tempfile::tempdir().unwrap();
        let kept = || {
            let mut reader = Reader::new(place.path(), "stdout", 0).unwrap();
            let start = reader.position();
            (start, String::from_utf8(rest(&mut reader)).unwrap())
        };
        for (position, text) in [(0, "01"), (2, "234"), (5, ""), (5, "678901234"), (14, "5")] {
            let mut writer = Writer::resume(place.path(), "stdout", 8).unwrap();
            assert_eq!(writer.position(), position);
            assert_eq!(starts(place.path(), "stdout").unwrap().is_empty(), position == 0);
            writer.write(text.as_bytes()).unwrap();
        }
        assert_eq!(starts(place.path(), "stdout").unwrap(), [8, 12]);
        assert_eq!(kept(), (8, "9012345".to_owned()));
    }

    #[test]
    fn a_link_is_not_written_through() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        std::os::unix::fs::symlink(&outside, place.path().join(name("stdout", 0))).unwrap();
        assert!(Writer::resume(place.path(), "stdout", 8).is_err());
        assert!(!outside.exists());
    }

    #[test]
    fn other_files_are_not_streams() {
        for other in [
            "stdout",
            "stdout.",
            "stdout.1",
            "stdoutx.00000000000000000000",
            "stdout.+0000000000000000000",
        ] {
            assert_eq!(start("stdout", other), None);
        }
        assert_eq!(start("stdout", &name("stdout", u64::MAX)), Some(u64::MAX));
    }
}
