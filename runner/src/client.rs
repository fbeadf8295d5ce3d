//! The connection to one API server: TLS, identity, bounded retries, and the translation of its refusals into errors that
//! name the verb, the resource and the cure. Knows nothing about tasks.

use crate::{
    config::{self, Access, Identity},
    connector::{NoTunnel, Way},
    contract::{Error, Level},
    session::Session,
};
use http::{HeaderValue, Request, StatusCode, Uri};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, client::Body};
use std::{
    cell::{Cell, RefCell},
    error::Error as StdError,
    io,
    time::Duration,
};
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call is repeated while the server is unreachable or overloaded, as long as nothing depends on it yet.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same once a pod exists: an API server that is being upgraded is no reason to leave a script alone.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// How long before it expires a credential is replaced, if it lives long enough.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);

/// What is asked of the API server, for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    verb: &'static str,
    resource: &'static str,
}

impl Action {
    pub(crate) const CREATE: Self = Self {
        verb: "create",
        resource: "pods",
    };
    pub(crate) const CREATE_SECRET: Self = Self {
        verb: "create",
        resource: "secrets",
    };
    pub(crate) const GET: Self = Self {
        verb: "get",
        resource: "pods",
    };
    pub(crate) const LIST: Self = Self {
        verb: "list",
        resource: "pods",
    };
    pub(crate) const WATCH: Self = Self {
        verb: "watch",
        resource: "pods",
    };
    pub(crate) const DELETE: Self = Self {
        verb: "delete",
        resource: "pods",
    };
    pub(crate) const LOG: Self = Self {
        verb: "get",
        resource: "pods/log",
    };
    pub(crate) const EXEC: Self = Self {
        verb: "get",
        resource: "pods/exec",
    };
    pub(crate) const REVIEW: Self = Self {
        verb: "create",
        resource: "selfsubjectaccessreviews",
    };
    pub(crate) const VERSION: Self = Self {
        verb: "get",
        resource: "/version",
    };
}

/// One API server, one identity, one namespace.
pub(crate) struct Cluster<'s> {
    session: &'s Session<'s>,
    server: Uri,
    namespace: String,
    way: Way,
    client: RefCell<Client>,
    /// When the host is asked for another credential, if this one expires.
    renewal: Cell<Option<Timestamp>>,
    patience: Cell<Duration>,
}

impl<'s> Cluster<'s> {
    /// Builds the client; nothing is sent yet.
    pub(crate) fn new(access: Access, namespace: String, session: &'s Session<'s>) -> Result<Self, Error> {
        let (identity, expires) = match access.identity {
            Identity::None => ask(session, false)?,
            identity => (identity, None),
        };
        let client = client(&access.server, &access.way, identity, &namespace)?;
        if access.way.insecure {
            session.note(
                Level::Warn,
                "`trustCerts` is set: the API server's certificate is not checked",
            );
        }
        let client = RefCell::new(client);
        Ok(Self {
            session,
            server: access.server,
            namespace,
            way: access.way,
            client,
            renewal: Cell::new(renewal(expires, Timestamp::now())),
            patience: Cell::new(PATIENCE),
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Makes one call, repeated while the server is unreachable or overloaded, with a fresh credential if this one is
    /// refused. Every call of the runner can be repeated: pods have names of their own and deletes carry a UID.
    pub(crate) async fn call<T>(
        &self,
        action: Action,
        call: impl AsyncFn(Client) -> kube::Result<T>,
    ) -> Result<T, Error> {
        self.try_call(action, call).await.map_err(|e| self.explain(action, e))
    }

    /// Like `call`, for callers that want the server's own answer.
    pub(crate) async fn try_call<T>(
        &self,
        action: Action,
        call: impl AsyncFn(Client) -> kube::Result<T>,
    ) -> Result<T, kube::Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(200);
        let mut renewed = false;
        let mut tries: u32 = 0;
        loop {
            if self.renewal.get().is_some_and(|time| time <= Timestamp::now()) {
                // Without another one this one is used until it is refused.
                self.renewal.set(None);
                self.renew(false);
            }
            let error = match tokio::time::timeout(RESPONSE_TIMEOUT, call(self.client())).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => kube::Error::Service(BoxError::from(io::Error::from(io::ErrorKind::TimedOut))),
            };
            if status(&error) == Some(StatusCode::UNAUTHORIZED) && !renewed {
                renewed = true;
                if self.renew(true) {
                    continue;
                }
            }
            // An internal error may be one of this very request: the caller can do better than to wait for long.
            let patience = match status(&error) {
                Some(StatusCode::INTERNAL_SERVER_ERROR) => PATIENCE,
                _ => self.patience.get(),
            };
            if !transient(&error) || begun.elapsed() + pause > patience {
                return Err(error);
            }
            tries += 1;
            // Said ever more rarely: a long outage is one piece of news.
            if u32::is_power_of_two(tries) {
                let (Action { verb, resource }, seconds) = (action, patience.as_secs());
                let why = brief(&error);
                self.session.note(
                    Level::Warn,
                    format!("{verb} {resource}: {why}; trying again for up to {seconds} s"),
                );
            }
            tokio::time::sleep(jitter(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// From here on a pod depends on this connection.
    pub(crate) fn insist(&self) {
        self.patience.set(LONG_PATIENCE);
    }

    /// Asks the host for another credential; false if it has none that works.
    fn renew(&self, refused: bool) -> bool {
        let Ok((identity, expires)) = ask(self.session, refused) else {
            return false;
        };
        if matches!(identity, Identity::None) {
            return false;
        }
        let Ok(client) = client(&self.server, &self.way, identity, &self.namespace) else {
            return false;
        };
        *self.client.borrow_mut() = client;
        self.renewal.set(renewal(expires, Timestamp::now()));
        true
    }

    /// Turns a refusal into an error for people.
    pub(crate) fn explain(&self, action: Action, error: kube::Error) -> Error {
        let Action { mut verb, resource } = action;
        let namespace = &self.namespace;
        if let kube::Error::Api(status) = &error {
            let said = status.message.as_str();
            // Kubernetes 1.35 checks WebSockets as `create` as well, and does not say so when it refuses.
            if resource == "pods/exec" && !said.contains("cannot get resource") {
                verb = "create";
            }
            return match status.code {
                401 => Error::AccessDenied(
                    "the API server refused the credential (expired, revoked or for another cluster): renew the token or certificate in `config`".into(),
                ),
                403 if said.contains("exceeded quota") => {
                    Error::Unavailable(format!("quota of namespace `{namespace}` is exceeded: free some of it or ask for less in `options.resources` ({said})"))
                }
                403 if resource == "pods" && verb == "create" && !said.contains("cannot create resource") => {
                    Error::InvalidArgument(format!("namespace `{namespace}` does not admit the pod: {said}"))
                }
                403 => Error::AccessDenied(format!(
                    "{verb} {resource} is forbidden in `{namespace}`, or it does not exist: add to the Role the rule \
                     {{apiGroups: [\"\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]}} ({said})"
                )),
                404 if said.contains("namespaces") => {
                    Error::InvalidArgument(format!("namespace `{namespace}` does not exist: create it or set `namespace` to another one"))
                }
                404 => Error::NotFound(said.to_owned()),
                413 => Error::InvalidArgument(format!(
                    "the pod is larger than the API server takes: shorten `command` and `env`, or lower `options.inlineLimit` ({said})"
                )),
                400 | 422 if resource == "secrets" => {
                    Error::InvalidArgument(format!("the API server refused the pull secret of `options.credentials`: {said}"))
                }
                400 | 422 => Error::InvalidArgument(format!("the API server refused the pod: {said}")),
                429 | 500..=599 => Error::Unavailable(format!("the API server is overloaded or failing ({}): {said}", status.code)),
                _ => Error::Other(format!("failed to {verb} {resource}: {said}")),
            };
        }
        let server = format!("{}:{}", config::host(&self.server), config::port(&self.server));
        if let Some(tls) = cause::<rustls::Error>(&error) {
            return match tls {
                rustls::Error::InvalidCertificate(why) => Error::InvalidArgument(format!(
                    "the certificate of `{server}` is not accepted with `config.caCertData` ({}): use the cluster's own certificate authority and the name or address that its certificate carries",
                    certificate_problem(why)
                )),
                rustls::Error::AlertReceived(alert) => Error::AccessDenied(format!(
                    "`{server}` ended the TLS handshake ({alert:?}): check `clientCertData`"
                )),
                other => Error::Unavailable(format!("TLS with `{server}` failed: {other}")),
            };
        }
        if let (Some(_), Some(proxy)) = (cause::<NoTunnel>(&error), &self.way.proxy) {
            return Error::Unavailable(format!(
                "the proxy `{}:{}` does not lead to the API server `{server}` ({}): check `config.proxyUrl` (http://USER:PASSWORD@HOST:PORT if it asks for a password), HTTPS_PROXY, NO_PROXY, and what the proxy allows",
                config::host(&proxy.address),
                config::port(&proxy.address),
                brief(&error)
            ));
        }
        match &error {
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
                Error::Unavailable(format!(
                    "cannot reach the API server `{server}` ({}): check `config.masterUrl` and the network",
                    brief(&error)
                ))
            }
            kube::Error::SerdeError(_) => Error::Other(format!(
                "`{server}` answered {verb} {resource} with something that is not a Kubernetes object: is `config.masterUrl` an API server?"
            )),
            other => Error::Other(format!("failed to {verb} {resource}: {other}")),
        }
    }
}

fn ask(session: &Session<'_>, refused: bool) -> Result<(Identity, Option<Timestamp>), Error> {
    match session.host().authenticate(refused) {
        Some(credential) => config::from_credential(credential),
        None => Ok((Identity::None, None)),
    }
}

/// When to replace a credential: some time before it expires. None if it does not, or has.
fn renewal(expires: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let expires = expires?;
    let left = expires.duration_since(now);
    left.is_positive().then(|| expires - MARGIN.min(left / 2))
}

fn certificate_problem(error: &rustls::CertificateError) -> &'static str {
    match error {
        rustls::CertificateError::UnknownIssuer => "signed by another authority",
        rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. } => "expired",
        rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. } => {
            "issued for another name"
        }
        _ => "not valid",
    }
}

/// The HTTP status of an answer.
pub(crate) fn status(error: &kube::Error) -> Option<StatusCode> {
    match error {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    }
}

/// Whether the same call may succeed a moment later.
pub(crate) fn transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500 | 502..=504),
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => {
            cause::<rustls::Error>(error).is_none()
        }
        kube::Error::UpgradeConnection(_) => true,
        _ => false,
    }
}

/// The innermost cause, which is what a person can act on.
pub(crate) fn brief(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut deepest: &dyn StdError = error;
    while let Some(next) = inner(deepest) {
        deepest = next;
    }
    deepest.to_string()
}

/// The first error of type `E` in a chain of causes.
fn cause<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        current = inner(error);
    }
    None
}

/// An `io::Error` hides what it wraps from `source`.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// Spreads repeats by a quarter, from the clock: nothing here needs secret randomness.
fn jitter(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.subsec_nanos());
    pause + pause.mul_f64(f64::from(nanos % 1000) / 4000.0)
}

fn client(server: &Uri, way: &Way, identity: Identity, namespace: &str) -> Result<Client, Error> {
    let (https, token) = way.connector(identity)?;
    let http =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build::<_, Body>(https);
    let authorization = token.map(|t| {
        let mut value = HeaderValue::from_str(&format!("Bearer {t}")).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    });
    let service = ServiceBuilder::new()
        .layer(kube::client::middleware::BaseUriLayer::new(server.clone()))
        .service(
            http.map_request(move |mut request: Request<Body>| {
                if let Some(value) = &authorization {
                    request.headers_mut().insert(http::header::AUTHORIZATION, value.clone());
                }
                request
            })
            .map_err(BoxError::from),
        );
    Ok(Client::new(service, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_replaced_before_it_expires() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let renewal = |seconds: i64| {
            let at = renewal(Some(now + SignedDuration::from_secs(seconds)), now)?;
            Some(at.duration_since(now).as_secs())
        };
        assert_eq!(super::renewal(None, now), None);
        assert_eq!(renewal(3600), Some(3540));
        assert_eq!(renewal(20), Some(10));
        assert_eq!(renewal(0), None);
        assert_eq!(renewal(-5), None);
    }
}
