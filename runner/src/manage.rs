//! The calls beside `run` and `attach`: kill, look, list, check, render.

use crate::{
    client::{Action, Cluster},
    config::Access,
    contract::{Diagnostic, Error, Host, Level, Outcome, Snapshot, Task, text},
    create,
    inputs::Inputs,
    options::Options,
    pod::{Handle, MAIN, Plan, Stored, selector},
    remove::{delete, gone},
    session::Session,
    status, watch,
};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use std::time::Duration;

/// The rights that every task needs, as in the Role of the README.
const RIGHTS: [(&str, &str, &str); 7] = [
    ("create", "pods", ""),
    ("get", "pods", ""),
    ("list", "pods", ""),
    ("watch", "pods", ""),
    ("delete", "pods", ""),
    ("get", "pods", "log"),
    ("get", "pods", "exec"),
];

/// What one option needs beside them.
const FOR_CREDENTIALS: (&str, &str, &str) = ("create", "secrets", "");

/// Stops a task and deletes what it left.
pub(crate) async fn kill(host: &dyn Host, config: &str, handle: &str, grace: Option<u32>) -> Result<(), Error> {
    let access = Access::parse(config)?;
    let handle: Handle = handle.parse()?;
    let session = Session::new(host);
    let cluster = Cluster::new(access, handle.namespace.clone(), &session)?;
    let Some(pod) = watch::find(&cluster, &handle).await? else {
        return Ok(());
    };
    let running = matches!(status::state(&pod, MAIN), status::State::Running(_));
    let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    delete(&cluster, &pod, grace).await?;
    let own = own.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or_default();
    let wait = if running { grace.unwrap_or(own) } else { 0 };
    gone(&cluster, pod, Duration::from_secs(u64::from(wait) + 120)).await
}

/// One task as it is now.
pub(crate) async fn look(host: &dyn Host, config: &str, handle: &str) -> Result<Snapshot, Error> {
    let access = Access::parse(config)?;
    let handle: Handle = handle.parse()?;
    let session = Session::new(host);
    let cluster = Cluster::new(access, handle.namespace.clone(), &session)?;
    let pod = watch::find(&cluster, &handle).await?;
    let pod = pod.ok_or_else(|| Error::NotFound(format!("task `{}` does not exist any more", handle.pod)))?;
    snapshot(&pod).ok_or_else(|| Error::NotFound(format!("pod `{}` is not a task of this runner", handle.pod)))
}

/// Every task that carries all of `labels`.
pub(crate) async fn list(host: &dyn Host, config: &str, labels: &[(String, String)]) -> Result<Vec<Snapshot>, Error> {
    let access = Access::parse(config)?;
    let session = Session::new(host);
    let namespace = access.namespace.clone();
    let cluster = Cluster::new(access, namespace, &session)?;
    let mut params = ListParams::default().labels(&selector(labels)).limit(500);
    let mut found = Vec::new();
    loop {
        let page = cluster
            .call(Action::LIST, async |client| {
                Api::<Pod>::namespaced(client, cluster.namespace()).list(&params).await
            })
            .await?;
        // Labels hold shortened values: the whole ones decide.
        found.extend(
            page.items
                .iter()
                .filter_map(snapshot)
                .filter(|s| labels.iter().all(|l| s.labels.contains(l))),
        );
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(found),
        }
    }
}

fn snapshot(pod: &Pod) -> Option<Snapshot> {
    let stored = Stored::of(pod)?;
    let handle = Handle::of(pod)?.to_string();
    let phase = status::phase(pod, &stored);
    let outcome: Option<Outcome> = if phase.is_none() {
        status::outcome(pod, &stored)
    } else {
        None
    };
    Some(Snapshot {
        handle,
        phase,
        outcome,
        labels: stored.labels,
    })
}

/// Whether tasks can run with this config.
pub(crate) async fn check(host: &dyn Host, config: &str) -> Result<Vec<Diagnostic>, Error> {
    let access = Access::parse(config)?;
    let session = Session::new(host);
    let namespace = access.namespace.clone();
    let server = access.server.to_string();
    let insecure = access.way.insecure;
    let cluster = Cluster::new(access, namespace, &session)?;
    let mut findings = Vec::new();
    let mut find = |level, message: String| findings.push(Diagnostic { level, message });
    if insecure {
        find(
            Level::Warn,
            "`trustCerts` is set: the API server's certificate is not checked".into(),
        );
    }
    let version = cluster
        .call(Action::VERSION, async |client| client.apiserver_version().await)
        .await?;
    find(
        Level::Info,
        format!("{server} is reachable and runs Kubernetes {}", version.git_version),
    );
    let minor: u32 = version
        .minor
        .trim_end_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap_or(0);
    if version.major == "1" && minor < 30 {
        find(
            Level::Error,
            "Kubernetes 1.30 or later is needed: files travel over exec protocol v5".into(),
        );
    }
    let later = (minor >= 35).then_some(("create", "pods", "exec"));
    for (verb, resource, subresource) in RIGHTS.into_iter().chain(later).chain([FOR_CREDENTIALS]) {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(cluster.namespace().to_owned()),
                    verb: Some(verb.into()),
                    resource: Some(resource.into()),
                    subresource: (!subresource.is_empty()).then(|| subresource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = cluster
            .call(Action::REVIEW, async |client| {
                Api::all(client).create(&PostParams::default(), &review).await
            })
            .await?;
        let name = if subresource.is_empty() {
            resource.to_owned()
        } else {
            format!("{resource}/{subresource}")
        };
        let namespace = cluster.namespace();
        if answer.status.is_some_and(|s| s.allowed) {
            find(Level::Info, format!("may {verb} {name} in `{namespace}`"));
        } else if resource == FOR_CREDENTIALS.1 {
            find(
                Level::Info,
                format!("may not {verb} {name} in `{namespace}`, which only the option `credentials` needs"),
            );
        } else {
            find(
                Level::Error,
                format!(
                    "may not {verb} {name} in `{namespace}`: add to the Role {{apiGroups: [\"\"], resources: [\"{name}\"], verbs: [\"{verb}\"]}}"
                ),
            );
        }
    }
    let probe = Task {
        id: "podrun-check".into(),
        image: "busybox".into(),
        command: vec!["true".into()],
        env: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        timeout: None,
        labels: Vec::new(),
        options: "{}".into(),
    };
    let inputs = Inputs::scan(host.inputs(), &[])?;
    let plan = Plan::new(&probe, cluster.namespace(), Options::default(), &inputs)?;
    match dry_run(&cluster, &plan.pod).await {
        Ok(_) => find(
            Level::Info,
            format!("`{}` would admit a task's pod", cluster.namespace()),
        ),
        Err(error) => find(Level::Error, text(&error).to_owned()),
    }
    Ok(findings)
}

/// The pod that `run` would create.
pub(crate) async fn render(host: &dyn Host, config: &str, task: &Task, server: bool) -> Result<String, Error> {
    let access = Access::parse(config)?;
    let options = Options::parse(&task.options)?;
    let inputs = Inputs::scan(host.inputs(), &task.inputs)?;
    let plan = Plan::new(task, &access.namespace, options, &inputs)?;
    let pod = if server {
        let session = Session::new(host);
        let cluster = Cluster::new(access, plan.handle.namespace.clone(), &session)?;
        dry_run(&cluster, &plan.pod).await?
    } else {
        plan.pod
    };
    serde_json::to_string_pretty(&pod).map_err(|e| Error::Other(format!("failed to write the pod: {e}")))
}

async fn dry_run(cluster: &Cluster<'_>, pod: &Pod) -> Result<Pod, Error> {
    cluster
        .call(Action::CREATE, async |client| {
            create::post(client, cluster.namespace(), pod, true).await
        })
        .await
}
