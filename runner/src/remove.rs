//! Deletes pods: exactly the one that was looked at, and proven gone where that matters.

use crate::{
    client::{Action, Cluster},
    contract::Error,
    watch::Watched,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use std::time::Duration;

/// Deletes exactly this pod; that it is gone already is no error.
pub(crate) async fn delete(cluster: &Cluster<'_>, pod: &Pod, grace: Option<u32>) -> Result<(), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let params = DeleteParams {
        grace_period_seconds: grace,
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let deleted = cluster
        .try_call(Action::DELETE, async |client| {
            Api::<Pod>::namespaced(client, cluster.namespace())
                .delete(name, &params)
                .await
                .map(|_| ())
        })
        .await;
    match deleted {
        Ok(()) => Ok(()),
        // Gone, or another pod has the name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(cluster.explain(Action::DELETE, error)),
    }
}

/// Waits until exactly this pod does not exist any more.
pub(crate) async fn gone(cluster: &Cluster<'_>, pod: Pod, patience: Duration) -> Result<(), Error> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let mut watched = Watched::new(cluster, pod);
    // The version in hand may be older than the deletion.
    watched.look().await?;
    let wait = async {
        while !watched.gone() {
            watched.changed().await?;
        }
        Ok(())
    };
    tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| {
        Err(Error::Unavailable(format!(
            "pod `{name}` is still there after {} s: is its node alive?",
            patience.as_secs()
        )))
    })
}
