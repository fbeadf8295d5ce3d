//! Creates the pod of a task, whose name is the lock: the one that is there already is taken up, or replaced.
//!
//! A pull secret is created after its pod, which owns it: whoever dies in between leaves a pod that the next call gives its
//! secret, and never a secret that nothing owns.

use crate::{
    client::{Action, Cluster},
    contract::{Error, Level},
    credentials::{self, Credentials},
    pod::{Handle, MAIN, Plan},
    remove::{delete, gone},
    session::{Halt, Session},
    status::{self, State},
    watch,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client, Resource as _, api::PostParams};
use std::{
    cell::Cell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Creates the pod, or takes up the one that is there. `posting` tells while the server may be creating it.
pub(crate) async fn begin(
    cluster: &Cluster<'_>,
    session: &Session<'_>,
    plan: &Plan,
    image: &str,
    posting: &Cell<bool>,
) -> Result<Pod, Halt> {
    let mut resume = plan.options.resume;
    let credentials = plan.options.credentials.as_ref();
    loop {
        let mut wanted = plan.pod.clone();
        if let Some(credentials) = credentials {
            credentials::claim(&mut wanted, moment());
            if watch::read(cluster, &plan.handle.pod).await?.is_none() {
                // A pod without its secret is of no use: whether that may be made is known before.
                let name = credentials::claimed(&wanted).unwrap_or_default();
                let secret = credentials.secret(name, cluster.namespace(), image, None);
                keep_secret(cluster, &secret, true).await?;
            }
        }
        posting.set(true);
        let created = cluster
            .try_call(Action::CREATE, async |client| {
                post(client, cluster.namespace(), &wanted, false).await
            })
            .await;
        posting.set(false);
        let error = match created {
            Ok(pod) => {
                give_secret(cluster, credentials, &pod, image).await?;
                return Ok(pod);
            }
            Err(error) => error,
        };
        let exists = matches!(&error, kube::Error::Api(s) if s.code == 409 && s.reason == "AlreadyExists");
        if !exists {
            return Err(cluster.explain(Action::CREATE, error).into());
        }
        let Some(pod) = watch::read(cluster, &plan.handle.pod).await? else {
            continue;
        };
        let found = Handle::of(&pod);
        if found.as_ref() != Some(&plan.handle) {
            return Err(Error::Conflict(found.map_or_else(|| plan.handle.pod.clone(), |h| h.to_string())).into());
        }
        if status::deleting(&pod) {
            session.note(
                Level::Info,
                "an earlier pod of this task is being deleted: waiting until it is gone",
            );
        } else if resume {
            session.note(
                Level::Info,
                format!("taking up pod `{}`, which is already there", plan.handle.pod),
            );
            if matches!(status::state(&pod, MAIN), State::Waiting { .. }) {
                give_secret(cluster, credentials, &pod, image).await?;
            }
            return Ok(pod);
        } else {
            session.note(
                Level::Info,
                "`resume` is false: deleting the earlier pod of this task first",
            );
            delete(cluster, &pod, None).await?;
            // Once is enough: what is there afterwards is this call's own.
            resume = true;
        }
        gone(cluster, pod, Duration::from_secs(600)).await?;
    }
}

/// Creates a pod, or has the API server only try it. A field that the API server does not know is an error, where it would
/// leave it out in silence: its version may be older than the types here.
pub(crate) async fn post(client: Client, namespace: &str, pod: &Pod, dry_run: bool) -> kube::Result<Pod> {
    let path = Pod::url_path(&(), Some(namespace));
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
    let request = http::Request::post(format!("{path}?fieldValidation=Strict{dry_run}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// Creates the pull secret that a pod names, unless that is done already.
async fn give_secret(
    cluster: &Cluster<'_>,
    credentials: Option<&Credentials>,
    pod: &Pod,
    image: &str,
) -> Result<(), Error> {
    let (Some(credentials), Some(name)) = (credentials, credentials::claimed(pod)) else {
        return Ok(());
    };
    let secret = credentials.secret(name, cluster.namespace(), image, Some(pod));
    keep_secret(cluster, &secret, false).await
}

async fn keep_secret(cluster: &Cluster<'_>, secret: &Secret, dry_run: bool) -> Result<(), Error> {
    let params = PostParams {
        dry_run,
        ..PostParams::default()
    };
    let created = cluster
        .try_call(Action::CREATE_SECRET, async |client| {
            let api = Api::<Secret>::namespaced(client, cluster.namespace());
            api.create(&params, secret).await.map(|_| ())
        })
        .await;
    match created {
        // Its name is this pod's alone.
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        other => other.map_err(|e| cluster.explain(Action::CREATE_SECRET, e)),
    }
}

fn moment() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}
