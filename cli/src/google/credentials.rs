//! Where credentials for Google come from, in the order of Google's own libraries: the key of a service account that the
//! task names, the file that GOOGLE_APPLICATION_CREDENTIALS names, the one that `gcloud auth application-default login`
//! leaves, and the metadata server of the machine.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;
use yup_oauth2::authenticator::ApplicationDefaultCredentialsTypes;
use yup_oauth2::authorized_user::AuthorizedUserSecret;
use yup_oauth2::{
    ApplicationDefaultCredentialsAuthenticator, ApplicationDefaultCredentialsFlowOpts, AuthorizedUserAuthenticator,
    ServiceAccountAuthenticator, ServiceAccountKey,
};

use super::client::{Client, check, reason, within};
use super::{Failure, Token, shown};

/// The file that is meant where a task names no key.
const FILE_VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// The metadata server's host, with a port if it needs one.
const METADATA_VARIABLE: &str = "GCE_METADATA_HOST";
const METADATA_HOST: &str = "metadata.google.internal";

/// What Google takes as proof of identity.
pub(crate) enum Credentials {
    /// The key of a service account.
    Key(Box<ServiceAccountKey>),
    /// A person's, by `gcloud`.
    User(AuthorizedUserSecret),
    /// The machine's own. The server's host.
    Machine(String),
}

impl Credentials {
    /// Those of a key's JSON.
    pub(crate) fn from_key(json: &str) -> Result<Self, Failure> {
        Self::read(json, "serviceAccount")
    }

    /// Those of the environment.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = variable(FILE_VARIABLE).map(PathBuf::from);
        let gcloud = match variable("CLOUDSDK_CONFIG") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => etcetera::home_dir().ok().map(|home| home.join(".config/gcloud")),
        };
        let gcloud = gcloud.map(|folder| folder.join("application_default_credentials.json"));
        if let Some(file) = file.or(gcloud.filter(|file| file.exists())) {
            let json = std::fs::read_to_string(&file)
                .map_err(|error| Failure::lasting(format!("failed to read `{}`: {error}", file.display())))?;
            return Self::read(&json, &file.display().to_string());
        }
        let host = variable(METADATA_VARIABLE).and_then(|host| host.into_string().ok());
        Ok(Self::Machine(host.unwrap_or_else(|| METADATA_HOST.to_owned())))
    }

    /// `name` is where the JSON comes from.
    fn read(json: &str, name: &str) -> Result<Self, Failure> {
        // The parser's own words may quote what it could not read.
        let value: Value = serde_json::from_str(json).map_err(|_| {
            Failure::lasting(format!(
                "`{name}` is not JSON: give the whole file of a service account's key"
            ))
        })?;
        let incomplete =
            |what: &str| Failure::lasting(format!("`{name}` is not {what}: give the whole file as Google made it"));
        match value.get("type").and_then(Value::as_str) {
            Some("service_account") => {
                let key: ServiceAccountKey =
                    serde_json::from_value(value).map_err(|_| incomplete("the whole key of a service account"))?;
                check(&key.token_uri, &format!("{name}: token_uri"))?;
                Ok(Self::Key(Box::new(key)))
            }
            Some("authorized_user") => serde_json::from_value(value)
                .map(Self::User)
                .map_err(|_| incomplete("what `gcloud auth application-default login` leaves")),
            _ => Err(Failure::lasting(format!(
                "`{name}` holds credentials of another type: `service_account` and `authorized_user` are supported"
            ))),
        }
    }

    /// Ask for a token, once.
    pub(super) async fn token(&self, client: &Client, scopes: &[String]) -> Result<Token, Failure> {
        if let Self::Machine(host) = self
            && format!("{}?scopes={}", metadata(host), scopes.join(","))
                .parse::<http::Uri>()
                .is_err()
        {
            let message = format!("{METADATA_VARIABLE} is no host, or a scope holds what no scope has");
            return Err(Failure::lasting(message));
        }
        let fetch = async {
            let built = match self {
                Self::Key(key) => {
                    ServiceAccountAuthenticator::with_client((**key).clone(), client.for_tokens())
                        .build()
                        .await
                }
                Self::User(user) => {
                    AuthorizedUserAuthenticator::with_client(user.clone(), client.for_tokens())
                        .build()
                        .await
                }
                Self::Machine(host) => {
                    let options = ApplicationDefaultCredentialsFlowOpts {
                        metadata_url: Some(metadata(host)),
                    };
                    match ApplicationDefaultCredentialsAuthenticator::with_client(options, client.for_tokens()).await {
                        ApplicationDefaultCredentialsTypes::InstanceMetadata(builder) => builder.build().await,
                        ApplicationDefaultCredentialsTypes::ServiceAccount(builder) => builder.build().await,
                    }
                }
            };
            let authenticator = match built {
                Ok(authenticator) => authenticator,
                Err(_) => return Ok(Err(self.failure("the private key is not an RSA key in PEM", false))),
            };
            Ok(authenticator.token(scopes).await.map_err(|error| self.explain(&error)))
        };
        let token = within(fetch).await.map_err(|why| self.failure(&why, true))??;
        let Some(value) = token.token().filter(|value| !value.is_empty()) else {
            return Err(self.failure("the answer holds none", false));
        };
        let expires = token.expiration_time().map(|time| time.unix_timestamp());
        Ok(Token {
            value: value.to_owned(),
            expires: expires.and_then(|seconds| Timestamp::from_second(seconds).ok()),
            scopes: scopes.to_vec(),
        })
    }

    fn explain(&self, error: &yup_oauth2::Error) -> Failure {
        use yup_oauth2::Error;
        match error {
            Error::AuthError(said) => self.failure(&shown(&said.to_string()), false),
            Error::HttpError(_) | Error::HttpClientError(_) | Error::LowLevelError(_) => {
                self.failure(&reason(error), true)
            }
            // An answer that is no JSON comes from a server that has a bad moment, or from something on the way.
            Error::JSONError(_) => self.failure("the answer is none of Google's", true),
            _ => self.failure("the answer is none of Google's", false),
        }
    }

    fn failure(&self, why: &str, transient: bool) -> Failure {
        let from = match self {
            Self::Key(key) => format!("`{}`", key.token_uri),
            Self::User(_) => "Google".to_owned(),
            Self::Machine(host) => {
                let cure = format!(
                    "the metadata server `{host}` gave no token ({why}): set `serviceAccount`, or {FILE_VARIABLE} to \
                     the file of a key, or run where there is such a server"
                );
                return Failure {
                    message: cure,
                    transient,
                };
            }
        };
        let message = format!("{from} gave no token: {why}");
        Failure { message, transient }
    }
}

/// Where the metadata server of that host gives tokens.
fn metadata(host: &str) -> String {
    format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        let refusal = |json: &str| Credentials::from_key(json).err().unwrap().to_string();
        insta::assert_snapshot!(refusal("s3cret"), @"`serviceAccount` is not JSON: give the whole file of a service account's key");
        insta::assert_snapshot!(refusal("\"s3cret\""), @"`serviceAccount` holds credentials of another type: `service_account` and `authorized_user` are supported");
        insta::assert_snapshot!(refusal(r#"{"type": "external_account"}"#), @"`serviceAccount` holds credentials of another type: `service_account` and `authorized_user` are supported");
        insta::assert_snapshot!(refusal(r#"{"type": "service_account", "private_key": ["s3cret"]}"#), @"`serviceAccount` is not the whole key of a service account: give the whole file as Google made it");
        insta::assert_snapshot!(refusal(r#"{"type": "service_account", "private_key": "s3cret", "client_email": "a@b", "token_uri": "http://evil.example"}"#), @"`serviceAccount: token_uri` is not encrypted, so a credential would travel in clear text: use https");
    }
}
