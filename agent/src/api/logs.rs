//! A task's output, by offset, and on request as it comes.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::answer::{Answer, Refusal};
use super::query;
use crate::aside::aside;
use crate::engine::Engine;
use crate::store::TaskId;
use crate::store::segments::Reader;

/// Where the first byte of the answer is in the stream; later than asked for if what was there is no longer kept.
const OFFSET: HeaderName = HeaderName::from_static("podrun-log-offset");

/// How much is sent at a time.
const CHUNK: usize = 32 << 10;

/// How soon is looked again where the kernel does not tell of changes.
const AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn answer(
    engine: &Arc<Engine>,
    segment: &str,
    question: Option<&str>,
) -> Result<Response<Answer>, Refusal> {
    let name = query::name(segment)?;
    let stream = match query::value(question, "stream")?.as_deref() {
        None | Some("" | "stdout") => "stdout",
        Some("stderr") => "stderr",
        Some(other) => {
            return Err(query::bad(format!(
                "`stream` is `{other}`: it must be stdout or stderr"
            )));
        }
    };
    let offset = query::number(question, "offset")?.unwrap_or(0);
    let limit = query::number(question, "limit")?.unwrap_or(u64::MAX);
    let follow = query::flag(question, "follow")?;
    let id = engine.table().named(&name).map(|entry| entry.id.clone());
    let id = id.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("task `{name}` is not known")))?;
    let folder = engine.folder(&id);
    // The watch is there before the first look, so that nothing is missed in between.
    let growth = follow.then(|| Growth::of(&folder));
    let reader = aside(move || Reader::new(&folder, stream, offset)).await;
    let reader = reader.map_err(|error| {
        let message = format!("the output of task `{name}` cannot be read: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })?;
    let start = reader.position();
    let source = Source {
        engine: Arc::clone(engine),
        id,
        reader,
        left: limit,
        version: engine.version(),
        growth,
    };
    let mut response = Response::new(Stream::Reading(Box::pin(next(source))).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(OFFSET, start.into());
    Ok(response)
}

struct Source {
    engine: Arc<Engine>,
    id: TaskId,
    reader: Reader,
    left: u64,
    version: watch::Receiver<u64>,
    /// There only while following.
    growth: Option<Growth>,
}

/// The next piece of output, and where to go on; nothing at the end.
async fn next(mut source: Source) -> Option<(Bytes, Source)> {
    loop {
        // Whether more can come is asked before the look, so that the last bytes are not missed.
        let over = source.growth.is_none()
            || source
                .engine
                .table()
                .get(&source.id)
                .is_none_or(|entry| entry.is_terminated());
        let most = usize::try_from(source.left).unwrap_or(CHUNK).min(CHUNK);
        let mut reader = source.reader;
        let read = aside(move || {
            let mut buffer = vec![0; most];
            let read = reader.read(&mut buffer)?;
            buffer.truncate(read);
            Ok((reader, buffer))
        });
        let buffer = match read.await {
            Ok((reader, buffer)) => {
                source.reader = reader;
                buffer
            }
            Err(error) => {
                log::error!("failed to read the output of task {}: {error}", source.id);
                return None;
            }
        };
        if !buffer.is_empty() {
            source.left -= buffer.len() as u64;
            return Some((buffer.into(), source));
        }
        drop(buffer);
        if over || most == 0 {
            return None;
        }
        if let Some(growth) = &mut source.growth {
            tokio::select! {
                () = growth.wait() => {}
                _ = source.version.changed() => {}
            }
        }
    }
}

/// Tells when files in a folder grow.
struct Growth(Option<AsyncFd<OwnedFd>>);

impl Growth {
    fn of(folder: &std::path::Path) -> Self {
        let watch = || -> io::Result<_> {
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
            inotify::add_watch(&watch, folder, flags)?;
            // SAFETY: an `OwnedFd` stays open and the same as long as it lives, and it lives in the `AsyncFd`.
            #[expect(unsafe_code, reason = "tokio asks for that promise")]
            let registered = unsafe { AsyncFd::register(watch) };
            Ok(registered?)
        };
        Self(watch().ok())
    }

    async fn wait(&mut self) {
        let Some(watch) = &self.0 else {
            return tokio::time::sleep(AGAIN).await;
        };
        let Ok(mut ready) = watch.readable().await else {
            return tokio::time::sleep(AGAIN).await;
        };
        let mut events = [0; 4096];
        while rustix::io::read(watch, &mut events).is_ok() {}
        ready.clear_ready();
    }
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Source)>> + Send>>;

/// The body of an answer: what [`next`] yields, one after the other.
enum Stream {
    Reading(Next),
    Over,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self::Reading(reading) = &mut *self else {
            return Poll::Ready(None);
        };
        match reading.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                *self = Self::Over;
                Poll::Ready(None)
            }
            Poll::Ready(Some((bytes, source))) => {
                *self = Self::Reading(Box::pin(next(source)));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }
}
