//! The API server's audit log: who did what to which object, and how it was answered.

use crate::Cluster;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
    time::Duration,
};

/// The audit log from one moment on.
#[derive(Debug)]
pub struct Audit {
    cluster: &'static Cluster,
    path: PathBuf,
    start: u64,
}

/// One request, as it was answered.
#[derive(Debug)]
pub struct Entry(Value);

impl Audit {
    /// What will be written from now on.
    pub(crate) fn now(cluster: &'static Cluster, path: PathBuf) -> Self {
        let start = path.metadata().unwrap().len();
        Self { cluster, path, start }
    }

    /// The log from its beginning.
    pub fn whole(mut self) -> Self {
        self.start = 0;
        self
    }

    /// Every request that was answered, up to and including all that this process got an answer to before.
    pub async fn entries(&self) -> Vec<Entry> {
        // A request of our own marks the end: entries are written in the order in which requests end.
        let mark =
            format!("audit-mark-{:?}", std::time::Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "");
        let path = format!("/api/v1/namespaces/default/configmaps/{}", mark.to_lowercase());
        self.cluster.try_kubectl(&["get", "--raw", &path], "").await;
        loop {
            let entries = self.read();
            if entries.iter().any(|e| e.uri().starts_with(&path)) {
                return entries;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn read(&self) -> Vec<Entry> {
        let mut file = std::fs::File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.start)).unwrap();
        BufReader::new(file)
            .lines()
            // The last line may be half written.
            .filter_map(|line| serde_json::from_str(&line.unwrap()).ok())
            .map(Entry)
            .collect()
    }

    /// The pods that were created for a task.
    pub async fn created(&self, id: &str) -> usize {
        let entries = self.entries().await;
        entries.iter().filter(|e| e.creates(id) && e.code() == 201).count()
    }
}

impl Entry {
    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Who asked.
    pub fn user(&self) -> &str {
        self.text("/user/username")
    }

    /// `create`, `get`, `watch` and so on.
    pub fn verb(&self) -> &str {
        self.text("/verb")
    }

    /// The resource with its subresource, as a Role names it; empty for paths that are none.
    pub fn resource(&self) -> String {
        match self.text("/objectRef/subresource") {
            "" => self.text("/objectRef/resource").to_owned(),
            sub => format!("{}/{sub}", self.text("/objectRef/resource")),
        }
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        self.text("/objectRef/name")
    }

    /// Path and query.
    pub fn uri(&self) -> &str {
        self.text("/requestURI")
    }

    /// `RequestReceived` is not logged; streams have a `ResponseStarted` beside their `ResponseComplete`.
    pub fn stage(&self) -> &str {
        self.text("/stage")
    }

    /// HTTP status of the answer.
    pub fn code(&self) -> u64 {
        self.0
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// Whether this asks for the pod of a task; dry runs do not.
    pub fn creates(&self, id: &str) -> bool {
        self.verb() == "create"
            && self.resource() == "pods"
            && !self.uri().contains("dryRun")
            && self.text("/requestObject/metadata/annotations/podrun.dev~1id") == id
    }

    /// All of it, to search for what must not be there.
    pub fn json(&self) -> String {
        self.0.to_string()
    }
}
