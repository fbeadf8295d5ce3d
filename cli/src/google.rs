//! What tasks ask Google Cloud: access tokens, and where a GKE cluster is.
//!
//! Credentials are looked for where Google's own libraries look (`credentials`), and nothing is kept between two
//! questions. No error holds a credential.

mod client;
mod credentials;

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::client::Client;
pub(crate) use self::credentials::Credentials;

/// What a token is for where the flow does not say.
pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where clusters are looked up.
const CONTAINER: &str = "https://container.googleapis.com";
/// The variable that names another place, as `gcloud` has it.
const CONTAINER_VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER";

/// How often a question is asked while its answer may be another one a moment later.
const TRIES: u32 = 4;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// Characters of an answer's own words that are shown.
const SHOWN: usize = 300;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    /// Another try may succeed.
    transient: bool,
}

impl Failure {
    /// An answer that stays the same.
    pub(crate) fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            transient: false,
        }
    }

    /// The network, or a server that has a bad moment.
    fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            transient: true,
        }
    }
}

/// An access token. It is not shown.
pub(crate) struct Token {
    pub(crate) value: String,
    /// None where the server did not say.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) scopes: Vec<String>,
}

impl Token {
    /// What later tasks see of it.
    pub(crate) fn outputs(&self) -> Map<String, Value> {
        let token = json!({
            "scopes": self.scopes,
            "tokenValue": self.value,
            "expirationTime": self.expires.map(|time| time.to_string()),
        });
        Map::from_iter([("accessToken".to_owned(), token)])
    }
}

/// The name of a GKE cluster.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) project: String,
    /// A zone or a region.
    pub(crate) location: String,
    pub(crate) name: String,
}

/// Google's answer, as far as tasks can use it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Found {
    name: String,
    description: String,
    location: String,
    network: String,
    subnetwork: String,
    cluster_ipv4_cidr: String,
    endpoint: String,
    create_time: String,
    node_pools: Vec<NodePool>,
    master_auth: MasterAuth,
    logging_service: String,
    monitoring_service: String,
    self_link: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodePool {
    name: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MasterAuth {
    cluster_ca_certificate: String,
    client_certificate: String,
    client_key: String,
}

impl Found {
    fn outputs(self, asked: &Cluster) -> Map<String, Value> {
        let pools: Vec<Value> = self
            .node_pools
            .iter()
            .map(|pool| json!({"name": pool.name, "status": pool.status}))
            .collect();
        let value = json!({
            "name": self.name,
            "description": self.description,
            "location": self.location,
            "zone": asked.location,
            "project": asked.project,
            "network": self.network,
            "subNetwork": self.subnetwork,
            "clusterIpv4Cidr": self.cluster_ipv4_cidr,
            "endpoint": self.endpoint,
            "createTime": self.create_time,
            "nodePoolsCount": pools.len(),
            "nodePools": pools,
            // Flows spell them either way.
            "masterAuth": {
                "clusterCertificat": self.master_auth.cluster_ca_certificate,
                "clusterCertificate": self.master_auth.cluster_ca_certificate,
                "clientCertificat": self.master_auth.client_certificate,
                "clientCertificate": self.master_auth.client_certificate,
                "clientKey": self.master_auth.client_key,
            },
            "loggingService": self.logging_service,
            "monitoringService": self.monitoring_service,
            "link": self.self_link,
        });
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// Fetch an access token.
pub(crate) async fn token(credentials: &Credentials, scopes: &[String]) -> Result<Token, Failure> {
    let client = Client::new()?;
    let scopes = match scopes {
        [] => vec![SCOPE.to_owned()],
        scopes => scopes.to_vec(),
    };
    repeated(|| credentials.token(&client, &scopes)).await
}

/// Look a cluster up.
pub(crate) async fn cluster(credentials: &Credentials, asked: &Cluster) -> Result<Map<String, Value>, Failure> {
    for (property, part) in [
        ("clusterProjectId", &asked.project),
        ("clusterZone", &asked.location),
        ("clusterId", &asked.name),
    ] {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if part.is_empty() || part.starts_with('.') || !part.chars().all(fits) {
            let part = part.escape_debug();
            return Err(Failure::lasting(format!(
                "`{property}` is `{part}`, which is no name that Google has"
            )));
        }
    }
    let base = std::env::var(CONTAINER_VARIABLE).ok().filter(|base| !base.is_empty());
    let base = base.as_deref().unwrap_or(CONTAINER).trim_end_matches('/');
    let Cluster {
        project,
        location,
        name,
    } = asked;
    let url = format!("{base}/v1/projects/{project}/locations/{location}/clusters/{name}");
    client::check(&url, CONTAINER_VARIABLE)?;
    let client = Client::new()?;
    let scopes = [SCOPE.to_owned()];
    let found: Found = repeated(|| async {
        let token = credentials.token(&client, &scopes).await?;
        client.get(&url, &token.value).await
    })
    .await?;
    if found.endpoint.is_empty() || found.master_auth.cluster_ca_certificate.is_empty() {
        let message = format!("cluster `{name}` has no address or certificate authority yet: wait until it is running");
        return Err(Failure::lasting(message));
    }
    Ok(found.outputs(asked))
}

/// Ask again, with growing pauses, while that may help.
async fn repeated<T, F: Future<Output = Result<T, Failure>>>(ask: impl Fn() -> F) -> Result<T, Failure> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match ask().await {
            Err(failure) if failure.transient => {}
            answer => return answer,
        }
        tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
        pause *= 2;
    }
    ask().await
}

/// The beginning of a server's own words, on one line.
fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = line.chars().take(SHOWN).filter(|c| !c.is_control()).collect();
    if line.chars().count() > SHOWN {
        short.push('…');
    }
    short
}
