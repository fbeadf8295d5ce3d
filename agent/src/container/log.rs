//! The format in which a runtime writes a container's output: `TIME STREAM TAGS CONTENT`, a line each. Pure.

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// The longest beginning of a line that is believed: a time, a stream and a tag are much shorter.
const LONGEST_HEADER: usize = 128;

/// Reads a log piece by piece, however it is cut and however long its lines are. What is not in the format is skipped.
#[derive(Debug, Default)]
pub(super) struct Parser {
    at: At,
    header: Vec<u8>,
}

/// Where in a line the next byte is.
#[derive(Debug, Default, Clone, Copy)]
enum At {
    #[default]
    Header,
    Content {
        stream: Stream,
        /// Whether the container's own line ends where this one does.
        full: bool,
    },
    Noise,
}

impl Parser {
    /// Takes the next bytes of the log, and calls back with what the container wrote.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut output: impl FnMut(Stream, &[u8])) {
        while let Some(first) = bytes.first() {
            match self.at {
                At::Header if *first == b'\n' => {
                    // No content, not even the space before it.
                    self.header.push(b' ');
                    if let Some(At::Content { stream, full: true }) = header(&self.header) {
                        output(stream, b"\n");
                    }
                    self.begin(At::Header);
                    bytes = rest(bytes, 1);
                }
                At::Header => {
                    self.header.push(*first);
                    bytes = rest(bytes, 1);
                    if let Some(next) = header(&self.header) {
                        self.begin(next);
                    }
                }
                At::Content { stream, full } => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let content = bytes.get(..end.map_or(bytes.len(), |end| end + usize::from(full)));
                    output(stream, content.unwrap_or_default());
                    bytes = rest(bytes, end.map_or(bytes.len(), |end| end + 1));
                    if end.is_some() {
                        self.begin(At::Header);
                    }
                }
                At::Noise => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    bytes = rest(bytes, end.map_or(bytes.len(), |end| end + 1));
                    if end.is_some() {
                        self.begin(At::Header);
                    }
                }
            }
        }
    }

    fn begin(&mut self, at: At) {
        self.at = at;
        self.header.clear();
    }
}

fn rest(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

/// What follows a line's beginning; nothing while more of it has to come.
fn header(header: &[u8]) -> Option<At> {
    let mut fields = header.split(|byte| *byte == b' ');
    let (_time, stream, tags) = (fields.next(), fields.next(), fields.next());
    if fields.next().is_none() {
        return (header.len() > LONGEST_HEADER).then_some(At::Noise);
    }
    let stream = match stream {
        Some(b"stdout") => Stream::Stdout,
        Some(b"stderr") => Stream::Stderr,
        _ => return Some(At::Noise),
    };
    // Later versions of the format may add tags after the first.
    match tags.and_then(|tags| tags.split(|byte| *byte == b':').next()) {
        Some(b"F") => Some(At::Content { stream, full: true }),
        Some(b"P") => Some(At::Content { stream, full: false }),
        _ => Some(At::Noise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(log: &[u8], cut: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut parser = Parser::default();
        for piece in log.chunks(cut) {
            parser.feed(piece, |stream, bytes| match stream {
                Stream::Stdout => stdout.extend_from_slice(bytes),
                Stream::Stderr => stderr.extend_from_slice(bytes),
            });
        }
        (stdout, stderr)
    }

    fn check(log: &str, stdout: &str, stderr: &str) {
        for cut in [1, 2, 7, 1000] {
            let expected = (stdout.as_bytes().to_vec(), stderr.as_bytes().to_vec());
            assert_eq!(parse(log.as_bytes(), cut), expected, "cut every {cut} bytes");
        }
    }

    const TIME: &str = "2026-11-21T06:00:00.123456789+01:00";

    #[test]
    fn lines_are_put_together_per_stream() {
        let log = format!(
            "{TIME} stdout F one\n{TIME} stdout P two \n{TIME} stderr F problem\n{TIME} stdout F  and a half\n\
             {TIME} stdout F \n{TIME} stdout F\n{TIME} stderr P no end\n"
        );
        check(&log, "one\ntwo  and a half\n\n\n", "problem\nno end");
    }

    #[test]
    fn content_is_left_as_it_is() {
        let log = format!("{TIME} stdout F {TIME} stderr F x\r\n{TIME} stdout F:new=1 \0 a  b \n");
        check(&log, &format!("{TIME} stderr F x\r\n\0 a  b \n"), "");
    }

    #[test]
    fn what_is_not_in_the_format_is_skipped() {
        let long = "x".repeat(1000);
        let log = format!(
            "\n\n nothing\n{TIME}\n{TIME} stdin F a\n{TIME} stdout X b\n{long} stdout F c\n{TIME} stdout {long}\n\
             {TIME} stdout F d\n{TIME} stdout"
        );
        check(&log, "d\n", "");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_it_is_cut(
            lines in proptest::collection::vec((any::<bool>(), any::<bool>(), "[^\n]{0,40}"), 0..20),
            cut in 1..50_usize,
        ) {
            let (mut log, mut expected) = (String::new(), (String::new(), String::new()));
            for (stdout, full, content) in lines {
                let stream = if stdout { "stdout" } else { "stderr" };
                let tag = if full { "F" } else { "P" };
                log += &format!("{TIME} {stream} {tag} {content}\n");
                let kept = if stdout { &mut expected.0 } else { &mut expected.1 };
                *kept += &content;
                *kept += if full { "\n" } else { "" };
            }
            prop_assert_eq!(parse(log.as_bytes(), cut), (expected.0.into_bytes(), expected.1.into_bytes()));
        }

        #[test]
        fn any_bytes_are_survived_and_cuts_do_not_matter(log in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(b' '), Just(b'\n')
        ], 0..300), cut in 1..50_usize) {
            prop_assert_eq!(parse(&log, cut), parse(&log, 1000));
        }
    }
}
