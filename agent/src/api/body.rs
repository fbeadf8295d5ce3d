//! Bodies of requests: no one of them takes too much or too long, nor do all together.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::Refusal;

/// The largest body that is read.
const LARGEST: usize = 16 << 20;

/// How much of bodies is held at once.
const MOST: usize = 64 << 20;

/// What bodies are measured in.
const UNIT: usize = 1 << 10;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where all bodies are held until they are understood.
#[derive(Debug)]
pub(super) struct Room(Semaphore);

/// What arrived, and the room that it takes.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) bytes: Vec<u8>,
    place: SemaphorePermit<'a>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(MOST / UNIT))
    }

    /// Reads a request's body.
    pub(super) async fn read(&self, request: Request<Incoming>) -> Result<Body<'_>, Refusal> {
        let mut incoming = request.into_body();
        if incoming.size_hint().lower() > LARGEST as u64 {
            return Err(too_large());
        }
        let read = async {
            let mut body = Body {
                bytes: Vec::new(),
                place: self.take(0)?,
            };
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|error| {
                    let message = format!("the body cannot be read: {error}");
                    Refusal::new(StatusCode::BAD_REQUEST, message)
                })?;
                let Some(data) = frame.data_ref() else { continue };
                let length = body.bytes.len() + data.len();
                if length > LARGEST {
                    return Err(too_large());
                }
                // Who has to wait for room may hold what others wait for.
                body.place
                    .merge(self.take(length.div_ceil(UNIT) - body.place.num_permits())?);
                body.bytes.extend_from_slice(data);
            }
            Ok(body)
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
            let message = "the body did not arrive in time".to_owned();
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, message))
        })
    }

    fn take(&self, units: usize) -> Result<SemaphorePermit<'_>, Refusal> {
        let taken = self.0.try_acquire_many(units.try_into().unwrap_or(u32::MAX));
        taken.map_err(|_| Refusal::busy("too much is being sent to the agent at once"))
    }
}

fn too_large() -> Refusal {
    let message = format!("the body is larger than {LARGEST} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
}
