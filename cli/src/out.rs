//! Standard output that remembers its failures: what was not written must not look like success.

use std::io::{self, ErrorKind, Stdout, Write};
use std::sync::OnceLock;

static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Standard output.
#[derive(Debug)]
pub(crate) struct Out(Stdout);

pub(crate) fn out() -> Out {
    Out(io::stdout())
}

/// Writes what is left. Why something could not be written, if that was not because nobody reads any more.
pub(crate) fn failure() -> Option<&'static io::Error> {
    let _ = out().flush();
    FAILURE.get()
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(self.0.flush())
    }
}

fn noted<T>(result: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &result
        && !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted)
    {
        let _ = FAILURE.set(io::Error::new(error.kind(), error.to_string()));
    }
    result
}
