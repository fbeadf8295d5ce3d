//! The cluster as a native client sees it: what the benchmark compares with, and how it cleans up after itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::client::{Body, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tower::{BoxError, ServiceBuilder};

/// The label that every pod of one benchmark carries.
pub(crate) const SESSION: &str = "bench-session";

/// The label that the pods of one measurement carry.
pub(crate) const RUN: &str = "bench-run";

/// How long pods may take to go.
const GOING: Duration = Duration::from_secs(300);

/// One cluster, seen natively.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// The pods of the kubeconfig's namespace.
    pub(crate) pods: Api<Pod>,
    /// The kubeconfig, for kubectl.
    pub(crate) kubeconfig: PathBuf,
    /// Its text, for the runner.
    pub(crate) text: String,
    /// The API server.
    pub(crate) server: http::Uri,
    /// Value of the label [`SESSION`].
    pub(crate) session: String,
}

impl Cluster {
    /// Reads a kubeconfig. Opens no connection yet.
    pub(crate) async fn open(kubeconfig: &Path, session: String) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)
            .with_context(|| format!("failed to read kubeconfig `{}`", kubeconfig.display()))?;
        let parsed = Kubeconfig::from_yaml(&text)
            .with_context(|| format!("failed to parse kubeconfig `{}`", kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("failed to use kubeconfig `{}`", kubeconfig.display()))?;
        Ok(Self {
            pods: Api::default_namespaced(client(&config)?),
            kubeconfig: kubeconfig.to_owned(),
            text,
            server: config.cluster_url,
            session,
        })
    }

    /// The runner's config.
    pub(crate) fn config(&self) -> String {
        serde_json::json!({ "kubeconfig": self.text }).to_string()
    }

    /// Selects the pods of one measurement.
    pub(crate) fn selector(&self, run: &str) -> String {
        format!("{SESSION}={},{RUN}={run}", self.session)
    }

    /// Every change of the pods that `selector` selects, from now on. The watch is open when this returns.
    pub(crate) async fn watch(&self, selector: &str) -> Result<BoxStream<'static, Result<WatchEvent<Pod>>>> {
        let now = self.pods.list(&ListParams::default().labels(selector)).await?;
        let version = now.metadata.resource_version.unwrap_or_default();
        let stream = self
            .pods
            .watch(&WatchParams::default().labels(selector), &version)
            .await?;
        Ok(stream.map_err(anyhow::Error::from).boxed())
    }

    /// Waits until no pod of a measurement exists any more, so that its deletion does not disturb the next one.
    pub(crate) async fn gone(&self, selector: &str) -> Result<()> {
        let wait = async {
            loop {
                let list = self.pods.list(&ListParams::default().labels(selector)).await?;
                if list.items.is_empty() {
                    return Ok(());
                }
                let version = list.metadata.resource_version.unwrap_or_default();
                let params = WatchParams::default().labels(selector);
                let mut events = self.pods.watch(&params, &version).await?.boxed();
                while let Some(event) = events.next().await {
                    if matches!(event?, WatchEvent::Deleted(_) | WatchEvent::Error(_)) {
                        break;
                    }
                }
            }
        };
        tokio::time::timeout(GOING, wait)
            .await
            .with_context(|| format!("pods `{selector}` are still there after {} s", GOING.as_secs()))?
    }

    /// Deletes every pod of a selection and waits until they are gone.
    pub(crate) async fn sweep(&self, selector: &str) -> Result<()> {
        let list = self.pods.list(&ListParams::default().labels(selector)).await?;
        let names = list.items.into_iter().filter_map(|pod| pod.metadata.name);
        futures::stream::iter(names)
            .map(|name| async move { self.delete(&name).await })
            .buffer_unordered(8)
            .try_collect::<Vec<()>>()
            .await?;
        self.gone(selector).await
    }

    /// Deletes a pod, if it is there.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self.pods.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("failed to delete pod `{name}`")),
        }
    }

    /// Selects every pod of this benchmark.
    pub(crate) fn everything(&self) -> String {
        format!("{SESSION}={}", self.session)
    }
}

/// The status of a container or an init container, once the kubelet reported one.
pub(crate) fn container<'p>(pod: &'p Pod, name: &str) -> Option<&'p ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|container| container.name == name)
}

/// Whether a container runs.
pub(crate) fn runs(pod: &Pod, name: &str) -> bool {
    container(pod, name).is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// The exit code of a container that ended.
pub(crate) fn ended(pod: &Pod, name: &str) -> Option<i32> {
    let state = container(pod, name)?.state.as_ref()?;
    Some(state.terminated.as_ref()?.exit_code)
}

/// Built from the parts that the runner uses as well, so that both are compiled once and the comparison is fair: ring, TLS
/// 1.3, HTTP/1.1, no delay.
fn client(config: &Config) -> Result<Client> {
    let mut roots = RootCertStore::empty();
    for root in config.root_cert.iter().flatten() {
        roots.add(CertificateDer::from(root.clone()))?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let tls = match certificate(config)? {
        Some((chain, key)) => tls.with_client_auth_cert(chain, key)?,
        None => tls.with_no_client_auth(),
    };
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The client certificate that a kubeconfig holds, if it holds one.
fn certificate(config: &Config) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
    let user = &config.auth_info;
    let (chain, key) = match (&user.client_certificate_data, &user.client_key_data) {
        (Some(chain), Some(key)) => (STANDARD.decode(chain)?, STANDARD.decode(key.expose_secret())?),
        (None, None) => return Ok(None),
        _ => bail!("the kubeconfig holds a client certificate without its key, or a key without its certificate"),
    };
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
    Ok(Some((chain, PrivateKeyDer::from_pem_slice(&key)?)))
}
