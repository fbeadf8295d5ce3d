//! Tasks that ask Google Cloud.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::expression::Text;

/// How to get a Google access token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Auth {
    /// The project, for tasks that need one.
    pub(crate) project_id: Option<Text>,
    /// The JSON key of a service account, for example `{{ secret('GCP_KEY') }}`. Without one the credentials of the machine
    /// are used: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, what `gcloud auth application-default login` left, or
    /// the metadata server.
    pub(crate) service_account: Option<Text>,
    /// What the token is for.
    #[serde(default)]
    #[schemars(extend("default" = ["https://www.googleapis.com/auth/cloud-platform"]))]
    pub(crate) scopes: Vec<Text>,
}

/// `io.kestra.plugin.gcp.gke.ClusterMetadata`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    /// The cluster's name.
    pub(crate) cluster_id: Text,
    /// Its zone or region, for example `europe-west1`.
    pub(crate) cluster_zone: Text,
    /// Its project. Default: `projectId`.
    pub(crate) cluster_project_id: Option<Text>,
}
