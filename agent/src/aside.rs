//! Work on the disk, beside the one thread that answers everybody.

use std::io;

/// Does it where it holds up nobody else, however long the disk takes.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
