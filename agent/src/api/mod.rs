//! The HTTP API: [`openapi.yaml`](https://spec.openapis.org/oas/v3.1.0) beside the crate documents every answer.

mod answer;
mod auth;
pub(crate) use auth::token;
pub mod listen;
mod logs;
mod metrics;
mod query;
mod requests;
pub mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

use crate::engine::Engine;
use answer::{Answer, Refusal};

/// The API's description.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// What requests are answered from.
#[derive(Debug)]
pub struct Api {
    /// The tasks.
    pub engine: Arc<Engine>,
    /// The file with the token that requests must carry; none if they need none.
    pub token_file: Option<PathBuf>,
}

impl Api {
    /// Answers one request; a refusal is an answer too.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let head = request.method() == Method::HEAD;
        let mut response = match self.route(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        if head {
            // The length of what a GET would have answered stays in the header.
            let length = response.body().size_hint().exact();
            if let Some(length) = length {
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_LENGTH, length.into());
            }
            *response.body_mut() = answer::empty();
        }
        response
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
        let path = request.uri().path().to_owned();
        let method = match request.method() {
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        let known: &[Method] = match path.as_str() {
            "/health" | "/ready" => &[Method::GET],
            _ => {
                auth::check(self.token_file.as_deref(), request.headers())?;
                match path.as_str() {
                    "/tasks" => &[Method::GET, Method::POST],
                    "/setTasks" | "/drain" => &[Method::POST],
                    "/getTasks" | "/metrics" | "/openapi.yaml" => &[Method::GET],
                    path => match path.strip_prefix("/tasks/") {
                        Some(rest) if rest.ends_with("/logs") => &[Method::GET],
                        Some(_) => &[Method::GET, Method::DELETE],
                        None => {
                            return Err(Refusal::new(
                                StatusCode::NOT_FOUND,
                                format!("there is no `{path}` here"),
                            ));
                        }
                    },
                }
            }
        };
        if !known.contains(&method) {
            return Err(Refusal::method(known));
        }
        let get = method == Method::GET;
        match path.as_str() {
            "/health" => answer::json(StatusCode::OK, &Health { status: "healthy" }),
            "/ready" => self.ready(),
            "/metrics" => Ok(metrics::answer(&self.engine)),
            "/openapi.yaml" => Ok(answer::text("application/yaml", OPENAPI)),
            "/drain" => self.drain(),
            "/setTasks" => self.set_tasks(request).await,
            "/getTasks" => self.get_tasks(),
            "/tasks" if get => self.list(request.uri().query()).await,
            "/tasks" => self.create(request).await,
            path => {
                let rest = path.strip_prefix("/tasks/").unwrap_or_default();
                match rest.strip_suffix("/logs") {
                    Some(name) => logs::answer(&self.engine, name, request.uri().query()),
                    None if get => self.get(rest),
                    None => self.delete(rest).await,
                }
            }
        }
    }
}

#[derive(serde::Serialize)]
struct Health {
    status: &'static str,
}

/// Reads a request's body, within limits.
async fn body(request: Request<Incoming>) -> Result<bytes::Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is larger than {} bytes", requests::LARGEST_BODY);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let body = request.into_body();
    if body.size_hint().lower() > requests::LARGEST_BODY as u64 {
        return Err(too_large());
    }
    let collected = http_body_util::Limited::new(body, requests::LARGEST_BODY).collect();
    match tokio::time::timeout(requests::LONGEST_BODY, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the body cannot be read: {error}"),
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time".to_owned(),
        )),
    }
}
