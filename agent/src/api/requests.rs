//! What each request does.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use super::answer::{self, Answer, Refusal};
use super::{Api, query};
use crate::engine::Table;
use crate::options;
use crate::protocol::answer::Listing;
use crate::protocol::parse;

/// The longest wait of a long poll.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct Ready {
    ready: bool,
    draining: bool,
}

#[derive(Serialize)]
struct Draining {
    draining: bool,
    active: usize,
}

impl Api {
    pub(super) fn ready(&self) -> Result<Response<Answer>, Refusal> {
        let draining = self.engine.is_draining();
        let status = if draining {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        answer::json(
            status,
            &Ready {
                ready: !draining,
                draining,
            },
        )
    }

    pub(super) fn drain(&self) -> Result<Response<Answer>, Refusal> {
        self.engine.drain();
        let active = self.engine.table().active();
        answer::json(StatusCode::OK, &Draining { draining: true, active })
    }

    pub(super) async fn create(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
        let task = parse::task(&self.room.read(request).await?.bytes)?;
        let created = self
            .engine
            .create(task, |entry| entry.show(|task| answer::encode(&task)))
            .await?;
        Ok(answer::encoded(StatusCode::CREATED, created?))
    }

    pub(super) async fn set_tasks(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer>, Refusal> {
        let desired = parse::set(&self.room.read(request).await?.bytes)?;
        let tasks = self
            .engine
            .set(desired, |table| all(table, |tasks| answer::encode(&tasks)))
            .await?;
        Ok(answer::encoded(StatusCode::OK, tasks?))
    }

    pub(super) fn get_tasks(&self) -> Result<Response<Answer>, Refusal> {
        let tasks = all(&self.engine.table(), |tasks| answer::encode(&tasks))?;
        Ok(answer::encoded(StatusCode::OK, tasks))
    }

    pub(super) fn get(&self, segment: &str) -> Result<Response<Answer>, Refusal> {
        let name = query::name(segment)?;
        let task = self
            .engine
            .table()
            .named(&name)
            .map(|entry| entry.show(|task| answer::encode(&task)));
        let task = task.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, format!("task `{name}` is not known")))?;
        Ok(answer::encoded(StatusCode::OK, task?))
    }

    pub(super) async fn delete(self: &Arc<Self>, segment: &str) -> Result<Response<Answer>, Refusal> {
        self.engine.delete(query::name(segment)?).await?;
        let mut response = Response::new(answer::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// Answers at once, or when something is newer than what the client knows, or when it has waited long enough.
    pub(super) async fn list(&self, question: Option<&str>) -> Result<Response<Answer>, Refusal> {
        let wait = query::value(question, "wait")?.map(|wait| {
            let seconds = wait.parse().map(Duration::from_secs);
            seconds.or_else(|_| options::duration(&wait)).map_err(query::bad)
        });
        let wait = wait.transpose()?.unwrap_or_default().min(LONGEST_WAIT);
        let mut version = self.engine.version();
        if let Some(since) = query::number(question, "since")? {
            // A version from another life of the agent tells nothing: such a client is answered at once.
            let newer = version.wait_for(|version| *version != since);
            let _ = tokio::time::timeout(wait, newer).await;
        }
        let version = *version.borrow_and_update();
        let tasks = all(&self.engine.table(), |tasks| {
            answer::encode(&Listing { version, tasks })
        })?;
        Ok(answer::encoded(StatusCode::OK, tasks))
    }
}

/// Calls back with all tasks that names mean, as clients see them.
fn all<T>(table: &Table, show: impl FnOnce(Vec<crate::protocol::answer::Task<'_>>) -> T) -> T {
    let entries: Vec<_> = table.named_all().map(|entry| (entry, entry.state())).collect();
    let tasks = entries.iter().map(|(entry, state)| {
        crate::protocol::answer::Task::new(&entry.name, &entry.spec, state, entry.created_at, entry.deleting())
    });
    show(tasks.collect())
}
