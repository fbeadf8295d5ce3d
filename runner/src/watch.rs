//! One pod, watched: its latest state, kept current over any number of connections.

use crate::{
    client::{Action, Cluster, status},
    contract::Error,
    pod::{Handle, annotation},
};
use futures::{StreamExt as _, future::LocalBoxFuture, stream::BoxStream};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource as _,
    api::{WatchEvent, WatchParams},
    core::Request,
};
use std::time::Duration;

/// Seconds after which the server ends a watch; a silent connection is noticed by then.
const WATCH_SECONDS: u32 = 290;

/// Before a watch that ended is replaced: some servers and proxies end each at once.
const AGAIN: Duration = Duration::from_millis(200);

type Events = BoxStream<'static, kube::Result<WatchEvent<Pod>>>;

/// The pod of a task, as last seen.
pub(crate) struct Watched<'c> {
    cluster: &'c Cluster<'c>,
    pod: Pod,
    gone: bool,
    source: Source<'c>,
}

/// Where the next change comes from. Requests under way are kept here, so that a wait can be dropped and begun again
/// without beginning them again.
enum Source<'c> {
    Closed,
    Opening(LocalBoxFuture<'c, Result<Events, kube::Error>>),
    Open(Events),
    Looking(LocalBoxFuture<'c, Result<Option<Pod>, Error>>),
}

/// Reads the pod of a handle; none if it does not exist.
pub(crate) async fn read(cluster: &Cluster<'_>, name: &str) -> Result<Option<Pod>, Error> {
    let found = cluster
        .try_call(Action::GET, async |client| {
            kube::Api::<Pod>::namespaced(client, cluster.namespace())
                .get_opt(name)
                .await
        })
        .await;
    found.map_err(|e| cluster.explain(Action::GET, e))
}

/// The pod of a handle, if it is the one that the handle names.
pub(crate) async fn find(cluster: &Cluster<'_>, handle: &Handle) -> Result<Option<Pod>, Error> {
    let pod = read(cluster, &handle.pod).await?;
    Ok(pod.filter(|p| annotation(p, "digest") == Some(&handle.digest)))
}

impl<'c> Watched<'c> {
    pub(crate) fn new(cluster: &'c Cluster<'c>, pod: Pod) -> Self {
        Self {
            cluster,
            pod,
            gone: false,
            source: Source::Closed,
        }
    }

    pub(crate) fn pod(&self) -> &Pod {
        &self.pod
    }

    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether the pod does not exist any more, or another one has its name.
    pub(crate) fn gone(&self) -> bool {
        self.gone
    }

    /// Waits for the next change. Can be dropped and called again.
    pub(crate) async fn changed(&mut self) -> Result<(), Error> {
        if self.gone {
            return std::future::pending().await;
        }
        loop {
            match &mut self.source {
                Source::Closed => {
                    self.source = Source::Opening(Box::pin(open(self.cluster, self.name().to_owned(), self.version())))
                }
                Source::Opening(opening) => match opening.await {
                    Ok(events) => self.source = Source::Open(events),
                    Err(error) if status(&error) == Some(StatusCode::GONE) => self.look_again(),
                    Err(error) => {
                        self.source = Source::Closed;
                        return Err(self.cluster.explain(Action::WATCH, error));
                    }
                },
                Source::Open(events) => match events.next().await {
                    Some(Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod))) => {
                        self.take(Some(pod));
                        return Ok(());
                    }
                    Some(Ok(WatchEvent::Deleted(pod))) => {
                        self.take(Some(pod));
                        self.gone = true;
                        return Ok(());
                    }
                    Some(Ok(WatchEvent::Bookmark(_))) => {}
                    // The server gave up on this watch, or its version is too old: look, and watch again from there.
                    Some(Ok(WatchEvent::Error(_)) | Err(_)) | None => self.look_again(),
                },
                Source::Looking(looking) => {
                    let found = looking.await;
                    self.source = Source::Closed;
                    self.take(found?);
                    return Ok(());
                }
            }
        }
    }

    /// Reads the pod as it is now.
    pub(crate) async fn look(&mut self) -> Result<(), Error> {
        self.source = Source::Closed;
        let found = read(self.cluster, self.name()).await?;
        self.take(found);
        Ok(())
    }

    fn look_again(&mut self) {
        let (cluster, name) = (self.cluster, self.name().to_owned());
        self.source = Source::Looking(Box::pin(async move {
            tokio::time::sleep(AGAIN).await;
            read(cluster, &name).await
        }));
    }

    fn version(&self) -> String {
        self.pod.metadata.resource_version.clone().unwrap_or_default()
    }

    fn take(&mut self, pod: Option<Pod>) {
        match pod {
            Some(pod) if pod.metadata.uid == self.pod.metadata.uid => self.pod = pod,
            _ => self.gone = true,
        }
    }
}

async fn open(cluster: &Cluster<'_>, name: String, version: String) -> Result<Events, kube::Error> {
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(WATCH_SECONDS)
        .disable_bookmarks();
    let path = Pod::url_path(&(), Some(cluster.namespace()));
    cluster
        .try_call(Action::WATCH, async |client| {
            let request = Request::new(&path)
                .watch(&params, &version)
                .map_err(kube::Error::BuildRequest)?;
            let events: Events = Box::pin(client.request_events::<Pod>(request).await?);
            Ok(events)
        })
        .await
}
