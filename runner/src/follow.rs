//! Follows the log of a running task and its pod until the end of `main`: every line once, over any number of connections.
//! Other containers' logs are read in the same way.

use crate::{
    client::{Action, Cluster, brief, status},
    contract::{Error, Level, Phase},
    logs::{Cursor, Step, Tracker, events, init_events, pod_mark},
    pod::{MAIN, Stored},
    session::{Halt, Session},
    status::{self as pod_status, State},
    watch::Watched,
};
use futures::{AsyncBufRead, AsyncBufReadExt as _, future::LocalBoxFuture};
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{api::LogParams, core::Request};
use std::{pin::Pin, time::Duration};
use tokio::time::Instant;

/// A followed log that says nothing for so long is asked for again: a connection can die without a word.
const SILENCE: Duration = Duration::from_secs(600);
const AGAIN: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 4;
const BROKE_OFF: &str = "the log broke off before its end; reading on from the last line";

type Stream = Pin<Box<dyn AsyncBufRead>>;

/// Where in the logs of a pod a call begins.
pub(crate) struct Start {
    mark: String,
    pub(crate) cursor: Option<Cursor>,
}

impl Start {
    /// After `after`, if that is of this pod.
    pub(crate) fn new(session: &Session<'_>, pod: &Pod, after: Option<Cursor>) -> Self {
        let mark = pod_mark(pod.metadata.uid.as_deref().unwrap_or_default());
        let cursor = after.filter(|cursor| {
            let same = cursor.pod == mark;
            if !same {
                session.note(
                    Level::Warn,
                    "the cursor belongs to an earlier pod of this task and is ignored: the log starts anew",
                );
            }
            same
        });
        Self { mark, cursor }
    }
}

/// The log of one container of a pod.
pub(crate) struct Follower<'c> {
    cluster: &'c Cluster<'c>,
    session: &'c Session<'c>,
    /// An init container; the script's if there is none.
    container: Option<String>,
    tracker: Tracker,
    source: Source<'c>,
}

/// Where the next bytes come from. A request under way is kept here, so that a wait can be dropped and begun again.
enum Source<'c> {
    /// Not before this moment.
    Closed(Instant),
    Opening(LocalBoxFuture<'c, kube::Result<Stream>>),
    /// With the moment from which its silence is suspicious.
    Open(Stream, Instant),
}

/// Why following ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Followed {
    /// Main ended, or the pod is gone or over.
    Ended,
    /// Main outlived its timeout.
    Overdue,
}

impl<'c> Follower<'c> {
    /// The log of an init container, or of the script.
    pub(crate) fn new(
        cluster: &'c Cluster<'c>,
        session: &'c Session<'c>,
        start: &Start,
        container: Option<&str>,
    ) -> Self {
        let container = container.map(str::to_owned);
        let cursor = start.cursor.clone().filter(|cursor| cursor.container == container);
        Self {
            cluster,
            session,
            tracker: Tracker::new(start.mark.clone(), container.clone(), cursor),
            container,
            source: Source::Closed(Instant::now()),
        }
    }

    /// Waits for the next lines and hands them over. Can be dropped and called again.
    pub(crate) async fn step(&mut self, pod: &str) -> Result<(), Halt> {
        let steps = self.read(pod).await?;
        self.emit(steps)
    }

    /// Follows until main ended. Can be dropped and called again.
    pub(crate) async fn follow(&mut self, watched: &mut Watched<'_>, stored: &Stored) -> Result<Followed, Halt> {
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        let name = watched.name().to_owned();
        loop {
            let over = watched.gone() || pod_status::outcome(watched.pod(), stored).is_some();
            if over || pod_status::forsaken(watched.pod(), now()) {
                return Ok(Followed::Ended);
            }
            if pod_status::overdue(watched.pod(), stored, now()) {
                return Ok(Followed::Overdue);
            }
            if pod_status::deleting(watched.pod()) {
                self.session.phase(Phase::Terminating);
            } else if let State::Running(_) = pod_status::state(watched.pod(), MAIN) {
                self.session.phase(Phase::Running);
            }
            self.session.flush_news()?;
            tokio::select! {
                biased;
                changed = watched.changed() => changed?,
                steps = self.read(&name) => {
                    let steps = steps?;
                    self.emit(steps)?;
                }
                _ = clock.tick() => {}
            }
        }
    }

    /// Reads what follows the last line, to the end of the log, which may pause for `pause` seconds; only called when nothing
    /// more will be written.
    pub(crate) async fn rest(&mut self, pod: &str, pause: u32) -> Result<(), Halt> {
        let pause = Duration::from_secs(u64::from(pause));
        for _ in 0..ATTEMPTS {
            self.source = Source::Closed(Instant::now());
            let since = self.tracker.connect();
            let opening = open(self.cluster, pod.to_owned(), self.container.clone(), false, since);
            // An answer that does not begin is silence, too.
            let Ok(opened) = tokio::time::timeout(pause, opening).await else {
                self.session.note(Level::Warn, BROKE_OFF);
                continue;
            };
            let mut stream = match opened {
                Ok(stream) => stream,
                // The log is still there for whoever gets the right: the pod must not go.
                Err(error) if status(&error) == Some(StatusCode::FORBIDDEN) => {
                    return Err(self.cluster.explain(Action::LOG, error).into());
                }
                // The node does not have it any more.
                Err(error @ kube::Error::Api(_)) => {
                    self.session.note(
                        Level::Warn,
                        format!(
                            "the end of the log cannot be read, lines may be missing: {}",
                            brief(&error)
                        ),
                    );
                    return Ok(());
                }
                Err(error) => return Err(self.cluster.explain(Action::LOG, error).into()),
            };
            if self.drain(&mut stream, pause).await? {
                let last = self.tracker.finish();
                return self.emit(last);
            }
            self.session.note(Level::Warn, BROKE_OFF);
        }
        Err(Error::Unavailable(
            "the end of the log did not arrive, it breaks off or stalls each time: call `run` or `attach` again".into(),
        )
        .into())
    }

    /// Reads a stream to its end; false if it broke off.
    async fn drain(&mut self, stream: &mut Stream, pause: Duration) -> Result<bool, Halt> {
        loop {
            let Ok(Ok(data)) = tokio::time::timeout(pause, stream.fill_buf()).await else {
                return Ok(false);
            };
            let (steps, length) = (self.tracker.feed(data), data.len());
            stream.consume_unpin(length);
            self.emit(steps)?;
            if length == 0 {
                return Ok(true);
            }
        }
    }

    /// Waits for the next bytes, opening the log when needed.
    async fn read(&mut self, pod: &str) -> Result<Vec<Step>, Error> {
        loop {
            match &mut self.source {
                Source::Closed(until) => {
                    tokio::time::sleep_until(*until).await;
                    let since = self.tracker.connect();
                    let opening = open(self.cluster, pod.to_owned(), self.container.clone(), true, since);
                    self.source = Source::Opening(Box::pin(opening));
                }
                Source::Opening(opening) => match opening.await {
                    Ok(stream) => self.source = Source::Open(stream, Instant::now() + SILENCE),
                    Err(error) if status(&error) == Some(StatusCode::FORBIDDEN) => {
                        self.source = Source::Closed(Instant::now() + AGAIN);
                        return Err(self.cluster.explain(Action::LOG, error));
                    }
                    // Gone, or its node is: the watch tells.
                    Err(_) => self.source = Source::Closed(Instant::now() + AGAIN),
                },
                Source::Open(stream, silent) => match tokio::time::timeout_at(*silent, stream.fill_buf()).await {
                    Ok(Ok(data)) if !data.is_empty() => {
                        let length = data.len();
                        let steps = self.tracker.feed(data);
                        stream.consume_unpin(length);
                        *silent = Instant::now() + SILENCE;
                        return Ok(steps);
                    }
                    // An empty log is not its end: before the pod is bound to a node the API answers 200 with nothing.
                    _ => self.source = Source::Closed(Instant::now() + AGAIN),
                },
            }
        }
    }

    /// Hands over what was read. The tracker counts it as told, so a host that wants the script stopped in the middle of it
    /// gets the rest all the same; one that leaves has a cursor and reads on from there.
    fn emit(&mut self, steps: Vec<Step>) -> Result<(), Halt> {
        let mut cancelled = Ok(());
        for step in steps {
            match step {
                Step::Emit(part, cursor) => {
                    let events = match &self.container {
                        Some(container) => init_events(container, &part),
                        None => events(&part),
                    };
                    match self.session.push_covered(events, cursor.to_string()) {
                        Err(Halt::Cancel) => cancelled = Err(Halt::Cancel),
                        pushed => pushed?,
                    }
                }
                Step::Note(text) => self.session.note(Level::Warn, format!("the node says: {text}")),
                Step::Gap => self.session.note(
                    Level::Warn,
                    "the log was rotated on its node: lines may be missing here",
                ),
            }
        }
        cancelled
    }
}

async fn open(
    cluster: &Cluster<'_>,
    pod: String,
    container: Option<String>,
    follow: bool,
    since: Option<Timestamp>,
) -> kube::Result<Stream> {
    let params = LogParams {
        container: Some(container.unwrap_or_else(|| MAIN.into())),
        follow,
        timestamps: true,
        since_time: since,
        ..LogParams::default()
    };
    let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace());
    cluster
        .try_call(Action::LOG, async |client| {
            let request = Request::new(&path)
                .logs(&pod, &params)
                .map_err(kube::Error::BuildRequest)?;
            Ok(Box::pin(client.request_stream(request).await?) as Stream)
        })
        .await
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
