//! What the runner is compared with: a pod of the same shape, made and watched by a native client that moves no file.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde_json::json;

use crate::cluster::{Cluster, RUN, SESSION, ended, runs};

/// The container whose end counts.
const MAIN: &str = "main";

/// The container that has the whole volume, at the runner's path.
pub(crate) const SIDECAR: &str = "out-files";

/// An init container, `main` and a sidecar on one volume in memory, all from the image that the runner's helpers use by
/// default. The sidecar ends when it is told to, as the runner's does.
fn pod(cluster: &Cluster, run: &str, init: &str, main: &str) -> Result<Pod> {
    let container = |name: &str, script: &str| {
        json!({
            "name": name,
            "image": "busybox",
            "command": ["sh", "-c", script],
            "volumeMounts": [{ "name": "files", "mountPath": "/podrun" }],
        })
    };
    let keep = "mkdir -p /podrun/work; trap 'exit 0' TERM; sleep 86400 & wait";
    let pod = json!({
        "metadata": {
            "name": format!("bench-{}-{run}", cluster.session),
            "labels": { SESSION: cluster.session, RUN: run },
        },
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": false,
            "initContainers": [container("init-files", init)],
            "containers": [container(MAIN, main), container(SIDECAR, keep)],
            "volumes": [{ "name": "files", "emptyDir": { "medium": "Memory", "sizeLimit": "1Gi" } }],
        },
    });
    serde_json::from_value(pod).context("failed to draw up the bare pod")
}

/// Seconds from the request that creates the pod until `main` is terminated in its status.
pub(crate) async fn run(cluster: &Cluster, run: &str) -> Result<f64> {
    let init = "mkdir -p /podrun/work && echo input >/podrun/work/in.txt";
    let pod = pod(cluster, run, init, "cat /podrun/work/in.txt >/podrun/work/out.txt")?;
    let begun = Instant::now();
    let code = until(cluster, &pod, |pod| ended(pod, MAIN)).await?;
    let elapsed = begun.elapsed();
    if code != 0 {
        bail!("`main` of the bare pod ended with exit code {code}");
    }
    cluster.delete(pod.metadata.name.as_deref().unwrap_or_default()).await?;
    Ok(elapsed.as_secs_f64())
}

/// A pod that waits for files in its sidecar; its name, once it runs.
pub(crate) async fn hold(cluster: &Cluster, run: &str) -> Result<String> {
    let wait = "trap 'exit 0' TERM; sleep 86400 & wait";
    let pod = pod(cluster, run, "true", wait)?;
    until(cluster, &pod, |pod| {
        (runs(pod, MAIN) && runs(pod, SIDECAR)).then_some(())
    })
    .await?;
    pod.metadata.name.context("the bare pod has no name")
}

/// Creates a pod and watches it until something is so.
async fn until<T>(cluster: &Cluster, pod: &Pod, seen: impl Fn(&Pod) -> Option<T>) -> Result<T> {
    let patience = Duration::from_secs(120);
    let wait = async {
        let created = cluster.pods.create(&PostParams::default(), pod).await?;
        let name = created.metadata.name.unwrap_or_default();
        let version = created.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = cluster.pods.watch(&params, &version).await?.boxed();
        while let Some(event) = events.next().await {
            match event? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    if let Some(found) = seen(&pod) {
                        return Ok(found);
                    }
                }
                WatchEvent::Deleted(_) => bail!("bare pod `{name}` was deleted"),
                WatchEvent::Error(status) => bail!("the watch of bare pod `{name}` failed: {}", status.message),
                WatchEvent::Bookmark(_) => {}
            }
        }
        bail!("the watch of bare pod `{name}` ended")
    };
    tokio::time::timeout(patience, wait)
        .await
        .with_context(|| format!("the bare pod is not there after {} s", patience.as_secs()))?
}
