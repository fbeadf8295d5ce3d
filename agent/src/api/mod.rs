//! The HTTP API: [`openapi.yaml`](https://spec.openapis.org/oas/v3.1.0) beside the crate documents every answer.

mod answer;
mod auth;
mod body;
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
use hyper::body::{Body as _, Incoming};

use crate::engine::Engine;
use answer::{Answer, Refusal};
use body::Room;

/// The API's description.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// What is asked to learn whether the agent lives, without a token.
const PROBES: [&str; 2] = ["/health", "/ready"];

/// What requests are answered from.
#[derive(Debug)]
pub struct Api {
    engine: Arc<Engine>,
    token_file: Option<PathBuf>,
    room: Room,
}

impl Api {
    /// Answers from the tasks of an engine whoever carries the token of a file; everybody, if there is no file.
    #[must_use]
    pub fn new(engine: Arc<Engine>, token_file: Option<PathBuf>) -> Self {
        Self {
            engine,
            token_file,
            room: Room::new(),
        }
    }

    /// Answers one request; a refusal is an answer too. In a crowd there is time for probes alone.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, crowded: bool) -> Response<Answer> {
        let head = request.method() == Method::HEAD;
        let answered = if crowded && !PROBES.contains(&request.uri().path()) {
            Err(Refusal::busy("all of the agent's connections are in use"))
        } else {
            self.route(request).await
        };
        let mut response = match answered {
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
            path if PROBES.contains(&path) => &[Method::GET],
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
                    Some(name) => logs::answer(&self.engine, name, request.uri().query()).await,
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
