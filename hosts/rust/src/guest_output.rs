//! A runner's standard output and error, which go to `tracing` at debug level, line by line and bounded.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes of one stream of one call that are passed on; the rest is dropped.
const TOTAL: usize = 256 << 10;
/// Bytes after which a line is passed on without its end.
const LINE: usize = 4 << 10;
/// Bytes that one write may bring.
const WRITE: usize = 64 << 10;

/// One of a call's two streams. Clones write to the same stream.
#[derive(Clone, Debug)]
pub(crate) struct GuestOutput {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug)]
struct Lines {
    call: &'static str,
    stream: &'static str,
    left: usize,
    line: Vec<u8>,
    panicked_at: Option<String>,
}

impl GuestOutput {
    pub(crate) fn new(call: &'static str, stream: &'static str) -> Self {
        let lines = Lines {
            call,
            stream,
            left: TOTAL,
            line: Vec::new(),
            panicked_at: None,
        };
        Self {
            lines: Arc::new(Mutex::new(lines)),
        }
    }

    /// Where the runner's code panicked, if it wrote so. Not what it said there: that may hold anything.
    pub(crate) fn panicked_at(&self) -> Option<String> {
        self.lock().panicked_at.clone()
    }

    /// Text is all there is to a stream's state, so a panic elsewhere cannot have broken it.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(end) => {
                    self.append(end);
                    self.pass_on();
                }
                None => self.append(part),
            }
        }
    }

    fn append(&mut self, mut part: &[u8]) {
        while let Some((now, later)) = part.split_at_checked(LINE - self.line.len()) {
            self.line.extend_from_slice(now);
            self.pass_on();
            part = later;
        }
        self.line.extend_from_slice(part);
    }

    fn pass_on(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        if let Some((_, place)) = line.split_once(" panicked at ") {
            self.panicked_at = Some(place.trim_end_matches(':').to_owned());
        }
        if self.left == 0 || bytes.is_empty() {
            return;
        }
        tracing::debug!(target: "podrun_host::guest", call = self.call, stream = self.stream, "{line}");
        self.left = self.left.saturating_sub(bytes.len());
        if self.left == 0 {
            tracing::debug!(target: "podrun_host::guest", call = self.call, stream = self.stream, "the rest is dropped");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.pass_on();
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.lock().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lock().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_a_panic_is_kept_without_its_message() {
        let output = GuestOutput::new("run", "stderr");
        output.lock().write(b"thread 'main' (1) panicked at src/pod.rs:1");
        output.lock().write(b"0:5:\nthe token is hunter2\n");
        assert_eq!(output.panicked_at().as_deref(), Some("src/pod.rs:10:5"));
    }

    #[test]
    fn endless_output_is_bounded() {
        let output = GuestOutput::new("run", "stdout");
        for _ in 0..100 {
            output.lock().write(&[b'x'; 10_000]);
            assert!(output.lock().line.len() < LINE);
        }
        assert_eq!(output.lock().left, 0);
    }
}
