//! Answers and refusals.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use serde::Serialize;

use crate::engine;
use crate::protocol::{NameError, answer, parse};

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    header: Option<(http::HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: String) -> Self {
        Self {
            status,
            message,
            header: None,
        }
    }

    /// The path is known, and the method is not.
    pub(super) fn method(known: &[Method]) -> Self {
        let known = known.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut refusal = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("only {known} are understood here"),
        );
        refusal.header = HeaderValue::try_from(known).ok().map(|known| (ALLOW, known));
        refusal
    }

    /// The token is missing or wrong.
    pub(super) fn token(message: &str) -> Self {
        let mut refusal = Self::new(StatusCode::UNAUTHORIZED, message.to_owned());
        refusal.header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        refusal
    }

    /// There is too much to do now.
    pub(super) fn busy(message: &str) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{message}: try again"));
        refusal.header = Some((RETRY_AFTER, HeaderValue::from_static("1")));
        refusal
    }

    pub(super) fn into_response(self) -> Response<Answer> {
        let refusal = answer::Refusal {
            code: self.status.canonical_reason().unwrap_or("Unknown"),
            message: &self.message,
        };
        let mut response = json(self.status, &refusal).unwrap_or_else(|_| Response::new(empty()));
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<parse::Error> for Refusal {
    fn from(error: parse::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Self {
        let status = match &error {
            engine::Error::Duplicate(_) | engine::Error::Deleting(_) => StatusCode::CONFLICT,
            engine::Error::Full(..) | engine::Error::Leaving(..) => StatusCode::TOO_MANY_REQUESTS,
            engine::Error::Draining => StatusCode::SERVICE_UNAVAILABLE,
            engine::Error::NoContainers(_) => StatusCode::BAD_REQUEST,
            engine::Error::Store(_) | engine::Error::Internal(_) => {
                log::error!("{error}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

/// An answer in JSON.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response<Answer>, Refusal> {
    let body = encode(value)?;
    Ok(encoded(status, body))
}

/// The text of a value in JSON, for where the value cannot be kept until it is answered.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// An answer from what [`encode`] made.
pub(super) fn encoded(status: StatusCode, mut body: Vec<u8>) -> Response<Answer> {
    body.push(b'\n');
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer that is text.
pub(super) fn text(kind: &'static str, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(whole(text.into()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A body with nothing in it.
pub(super) fn empty() -> Answer {
    Empty::new().boxed_unsync()
}

fn whole(body: Bytes) -> Answer {
    Full::new(body).boxed_unsync()
}
