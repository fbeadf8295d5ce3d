//! The config of a target: parses what an operator wrote into what a connection needs. Opens no socket, and no error
//! or debug output of it shows a secret.

mod proxy;
mod refused;

pub(crate) use proxy::Proxy;

use crate::{
    connector::Way,
    contract::{Connection, Credential, Endpoint, Error},
};
use base64::Engine as _;
use http::Uri;
use jiff::Timestamp;
use kube::config::{ExecConfig, Kubeconfig};
use proxy::Environment;
pub(crate) use refused::REFUSED;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::Deserialize;

/// Access to one cluster: either the fields of a kubeconfig entry, or a whole kubeconfig with a context.
#[derive(Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[cfg_attr(test, schemars(title = "Kubernetes task runner config"))]
pub(crate) struct Config {
    /// The API server, for example `https://cluster.example:6443`.
    master_url: Option<String>,
    /// Certificate authorities of the API server: PEM, as it is or in base64 (a kubeconfig's `certificate-authority-data`).
    /// It may hold several, such as the one of a company's network beside the cluster's own.
    ca_cert_data: Option<String>,
    /// Client certificate: PEM, as it is or in base64 (`client-certificate-data`).
    client_cert_data: Option<String>,
    /// Key of the client certificate: RSA or EC, PEM, as it is or in base64 (`client-key-data`).
    client_key_data: Option<String>,
    /// Bearer token.
    oauth_token: Option<String>,
    /// Accepted for compatibility and never sent: certificates and tokens carry the user's name.
    username: Option<String>,
    /// Namespace of pods whose task names none.
    namespace: Option<String>,
    /// Accept any certificate of the API server. Only for experiments.
    trust_certs: bool,
    /// The name that the API server's certificate carries, when it is reached by another one (`tls-server-name`).
    tls_server_name: Option<String>,
    /// HTTP proxy that leads to the API server: `http://HOST:PORT`, or with `USER:PASSWORD@` before the host
    /// (`proxy-url`). Default: the kubeconfig's, else that of HTTPS_PROXY and NO_PROXY if the host passes these on.
    proxy_url: Option<String>,
    /// The text of a kubeconfig file, with all data inside (`kubectl config view --flatten`).
    kubeconfig: Option<String>,
    /// The kubeconfig's context. Default: its current one.
    context: Option<String>,
}

impl Config {
    /// The name that the certificate must carry: the config's, else the kubeconfig's.
    fn server_name(&self, kubeconfig: Option<&str>) -> Result<Option<ServerName<'static>>, Error> {
        let (field, name) = match (self.tls_server_name.as_deref(), kubeconfig) {
            (Some(name), _) => ("config.tlsServerName", name),
            (None, Some(name)) => ("config.kubeconfig: tls-server-name", name),
            (None, None) => return Ok(None),
        };
        let name = name.trim().to_owned();
        ServerName::try_from(name).map(Some).map_err(|_| {
            Error::InvalidArgument(format!(
                "`{field}` is not a host's name or address: write it without a port"
            ))
        })
    }

    /// The proxy to the server: the config's, else the kubeconfig's, else the environment's.
    fn proxy(&self, kubeconfig: Option<&str>, server: &Uri) -> Result<Option<Proxy>, Error> {
        match (self.proxy_url.as_deref(), kubeconfig) {
            (Some(url), _) => Proxy::new("config.proxyUrl", url, server),
            (None, Some(url)) => Proxy::new("config.kubeconfig: proxy-url", url, server),
            (None, None) => Environment::read().proxy(server),
        }
    }
}

/// What a connection needs, checked.
pub(crate) struct Access {
    /// The API server.
    pub(crate) server: Uri,
    /// The way to it.
    pub(crate) way: Way,
    /// What the config holds as proof of identity.
    pub(crate) identity: Identity,
    /// Namespace of pods whose task names none.
    pub(crate) namespace: String,
    exec: Option<ExecConfig>,
}

/// Proof of identity.
pub(crate) enum Identity {
    /// The host must be asked.
    None,
    /// Sent with each request.
    Token(String),
    /// Shown in the TLS handshake.
    Certificate(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
}

impl Access {
    /// Parses and checks a config.
    pub(crate) fn parse(config: &str) -> Result<Self, Error> {
        let config: Config = crate::settings::parse("config", config, &REFUSED)?;
        if let Some(namespace) = &config.namespace {
            crate::options::check_dns_label("config.namespace", namespace)?;
        }
        match &config.kubeconfig {
            Some(text) => Self::from_kubeconfig(&config, text),
            None => Self::from_fields(&config),
        }
    }

    fn from_fields(config: &Config) -> Result<Self, Error> {
        if config.context.is_some() {
            return Err(Error::InvalidArgument(
                "`config.context` needs `config.kubeconfig`".into(),
            ));
        }
        let url = config.master_url.as_deref().unwrap_or_default();
        if url.is_empty() {
            return Err(Error::InvalidArgument(
                "`config.masterUrl` is missing: set it to the API server's address (the `server` of your kubeconfig)"
                    .into(),
            ));
        }
        let certificate = match (&config.client_cert_data, &config.client_key_data) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(certificate("config.clientCertData", cert, "config.clientKeyData", key)?),
            (Some(_), None) => {
                return Err(Error::InvalidArgument(
                    "`config.clientKeyData` is missing: `clientCertData` needs its key".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(Error::InvalidArgument(
                    "`config.clientCertData` is missing: `clientKeyData` needs its certificate".into(),
                ));
            }
        };
        let token = config
            .oauth_token
            .as_deref()
            .map(|t| token("config.oauthToken", t))
            .transpose()?;
        let server = server("config.masterUrl", url)?;
        let way = Way {
            roots: config
                .ca_cert_data
                .as_deref()
                .map_or(Ok(vec![]), |data| certificates("config.caCertData", data))?,
            insecure: config.trust_certs,
            server_name: config.server_name(None)?,
            proxy: config.proxy(None, &server)?,
        };
        Self {
            server,
            way,
            identity: identity(token, certificate),
            namespace: config.namespace.clone().unwrap_or_else(|| "default".into()),
            exec: None,
        }
        .checked("config.caCertData")
    }

    fn from_kubeconfig(config: &Config, text: &str) -> Result<Self, Error> {
        let invalid = |message: String| Error::InvalidArgument(format!("`config.kubeconfig`: {message}"));
        for (name, set) in [
            ("masterUrl", config.master_url.is_some()),
            ("caCertData", config.ca_cert_data.is_some()),
            ("clientCertData", config.client_cert_data.is_some()),
            ("clientKeyData", config.client_key_data.is_some()),
            ("oauthToken", config.oauth_token.is_some()),
        ] {
            if set {
                return Err(invalid(format!(
                    "cannot be combined with `config.{name}`: keep one of the two"
                )));
            }
        }
        let file = Kubeconfig::from_yaml(text).map_err(|_| invalid("is not a kubeconfig file".into()))?;
        let name = config
            .context
            .as_ref()
            .or(file.current_context.as_ref())
            .filter(|c| !c.is_empty());
        let name = name.ok_or_else(|| invalid("has no current context: set `config.context`".into()))?;
        let context = file
            .contexts
            .iter()
            .find(|c| c.name == *name)
            .and_then(|c| c.context.as_ref());
        let context = context.ok_or_else(|| invalid(format!("has no context `{name}`")))?;
        let cluster = file
            .clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .and_then(|c| c.cluster.as_ref());
        let cluster = cluster.ok_or_else(|| invalid(format!("has no cluster `{}`", context.cluster)))?;
        let user = file
            .auth_infos
            .iter()
            .find(|u| Some(&u.name) == context.user.as_ref())
            .and_then(|u| u.auth_info.clone());
        let user = user.unwrap_or_default();
        for (field, set) in [
            ("certificate-authority", cluster.certificate_authority.is_some()),
            ("client-certificate", user.client_certificate.is_some()),
            ("client-key", user.client_key.is_some()),
            ("tokenFile", user.token_file.is_some() && user.token.is_none()),
        ] {
            if set {
                return Err(invalid(format!(
                    "`{field}` names a file: pass the output of `kubectl config view --minify --flatten`"
                )));
            }
        }
        for (field, set) in [
            ("auth-provider", user.auth_provider.is_some()),
            ("as", user.impersonate.is_some()),
            ("username and password", user.password.is_some()),
        ] {
            if set {
                return Err(invalid(format!(
                    "`{field}` is not supported: use a client certificate, a token or an exec plugin without it"
                )));
            }
        }
        let secret = |s: &secrecy::SecretString| secrecy::ExposeSecret::expose_secret(s).to_owned();
        let certificate = match (&user.client_certificate_data, user.client_key_data.as_ref().map(secret)) {
            (Some(cert), Some(key)) => Some(certificate("client-certificate-data", cert, "client-key-data", &key)?),
            (None, None) => None,
            _ => {
                return Err(invalid(
                    "`client-certificate-data` and `client-key-data` need each other".into(),
                ));
            }
        };
        let token = user
            .token
            .as_ref()
            .map(secret)
            .map(|t| token("token", &t))
            .transpose()?;
        let server = server(
            "config.kubeconfig: server",
            cluster.server.as_deref().unwrap_or_default(),
        )?;
        let way = Way {
            roots: cluster
                .certificate_authority_data
                .as_deref()
                .map_or(Ok(vec![]), |data| certificates("certificate-authority-data", data))?,
            insecure: config.trust_certs || cluster.insecure_skip_tls_verify.unwrap_or(false),
            server_name: config.server_name(cluster.tls_server_name.as_deref())?,
            proxy: config.proxy(cluster.proxy_url.as_deref(), &server)?,
        };
        Self {
            server,
            way,
            identity: identity(token, certificate),
            namespace: config
                .namespace
                .clone()
                .or_else(|| context.namespace.clone())
                .unwrap_or_else(|| "default".into()),
            exec: user.exec,
        }
        .checked("certificate-authority-data")
    }

    fn checked(self, ca: &str) -> Result<Self, Error> {
        let tls = self.server.scheme_str() == Some("https");
        if tls && self.way.roots.is_empty() && !self.way.insecure {
            return Err(Error::InvalidArgument(format!(
                "`{ca}` is missing: set it to the API server's certificate authority (the machine's own list is not read)"
            )));
        }
        if !tls && !loopback(&host(&self.server)) {
            return Err(Error::InvalidArgument(format!(
                "`{}` is not encrypted, so credentials and files would travel in clear text: use https (http is only for this machine, such as `kubectl proxy`)",
                self.server
            )));
        }
        Ok(self)
    }

    /// What a host must grant.
    pub(crate) fn connection(&self) -> Connection {
        // Behind a proxy it is the proxy that looks the server's name up and connects to it.
        let first = self.way.proxy.as_ref().map_or(&self.server, |proxy| &proxy.address);
        Connection {
            endpoints: vec![Endpoint {
                host: host(first),
                port: port(first),
            }],
            credential_command: self.exec.as_ref().and_then(command),
        }
    }
}

fn identity(
    token: Option<String>,
    certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Identity {
    match (certificate, token) {
        (Some((chain, key)), _) => Identity::Certificate(chain, key),
        (None, Some(token)) => Identity::Token(token),
        (None, None) => Identity::None,
    }
}

/// Turns what a host answered into an identity, and the time at which it expires if that is said.
pub(crate) fn from_credential(credential: Credential) -> Result<(Identity, Option<Timestamp>), Error> {
    #[derive(Deserialize)]
    struct ExecCredential {
        status: Option<ExecStatus>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ExecStatus {
        token: Option<String>,
        client_certificate_data: Option<String>,
        client_key_data: Option<String>,
        expiration_timestamp: Option<Timestamp>,
    }
    match credential {
        Credential::BearerToken(t) => Ok((Identity::Token(token("bearer token", &t)?), None)),
        Credential::ClientCertificate((cert, key)) => {
            let (chain, key) = certificate("client certificate", &cert, "client key", &key)?;
            Ok((Identity::Certificate(chain, key), None))
        }
        Credential::ExecCredential(text) => {
            let refuse = |why| {
                Error::AccessDenied(format!(
                    "the credential command's output {why}: expected an ExecCredential with a status"
                ))
            };
            let parsed: ExecCredential = serde_json::from_str(&text).map_err(|_| refuse("is not JSON of that kind"))?;
            let status = parsed.status.ok_or_else(|| refuse("has no status"))?;
            let identity = match (status.client_certificate_data, status.client_key_data, status.token) {
                (Some(cert), Some(key), _) => certificate("clientCertificateData", &cert, "clientKeyData", &key)
                    .map(|(c, k)| Identity::Certificate(c, k))?,
                (_, _, Some(t)) => Identity::Token(token("token", &t)?),
                _ => return Err(refuse("has neither a token nor a certificate with its key")),
            };
            Ok((identity, status.expiration_timestamp))
        }
    }
}

/// Arguments and environment.
type Command = (Vec<String>, Vec<(String, String)>);

/// The command of an exec plugin, with what Kubernetes promises it in its environment.
fn command(exec: &ExecConfig) -> Option<Command> {
    let mut argv = vec![exec.command.clone()?];
    argv.extend(exec.args.iter().flatten().cloned());
    let api_version = exec.api_version.as_deref().unwrap_or("client.authentication.k8s.io/v1");
    let info = serde_json::json!({"apiVersion": api_version, "kind": "ExecCredential", "spec": {"interactive": false}});
    let mut env = vec![("KUBERNETES_EXEC_INFO".to_owned(), info.to_string())];
    for entry in exec.env.iter().flatten() {
        if let (Some(name), Some(value)) = (entry.get("name"), entry.get("value")) {
            env.push((name.clone(), value.clone()));
        }
    }
    Some((argv, env))
}

fn server(field: &str, url: &str) -> Result<Uri, Error> {
    let refuse = |why: &str| Error::InvalidArgument(format!("`{field}` {why}: write it as https://HOST:PORT"));
    let uri: Uri = url
        .trim()
        .trim_end_matches('/')
        .parse()
        .map_err(|_| refuse("is not a URL"))?;
    match uri.scheme_str() {
        Some("https" | "http") => {}
        Some(_) => return Err(refuse("has a scheme that is not https or http")),
        None => return Err(refuse("has no scheme")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refuse("names no host"));
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(refuse("holds a user name"));
    }
    Ok(uri)
}

/// The server's host without the brackets of an IPv6 address.
pub(crate) fn host(server: &Uri) -> String {
    let host = server.host().unwrap_or_default();
    host.strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host)
        .to_owned()
}

fn loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The server's port, by default that of its scheme.
pub(crate) fn port(server: &Uri) -> u16 {
    server
        .port_u16()
        .unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 })
}

fn token(field: &str, value: &str) -> Result<String, Error> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Error::InvalidArgument(format!("`{field}` is empty")));
    }
    if http::HeaderValue::from_str(value).is_err() {
        return Err(Error::InvalidArgument(format!(
            "`{field}` holds characters that no token has: line breaks or control characters"
        )));
    }
    Ok(value.to_owned())
}

/// PEM as it is, or in base64 with any white space.
fn pem(field: &str, data: &str) -> Result<Vec<u8>, Error> {
    if data.contains("-----BEGIN") {
        return Ok(data.as_bytes().to_vec());
    }
    let compact: String = data.chars().filter(|c| !c.is_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(compact).map_err(|_| {
        Error::InvalidArgument(format!(
            "`{field}` is not base64: copy the kubeconfig's value whole, or paste the PEM text"
        ))
    })
}

fn certificates(field: &str, data: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = pem(field, data)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::InvalidArgument(format!(
            "`{field}` holds no PEM certificate (-----BEGIN CERTIFICATE-----)"
        ))),
    }
}

fn certificate(
    cert_field: &str,
    cert: &str,
    key_field: &str,
    key: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(cert_field, cert)?;
    let pem = pem(key_field, key)?;
    if String::from_utf8_lossy(&pem).contains("ENCRYPTED") {
        return Err(Error::InvalidArgument(format!(
            "`{key_field}` is protected by a passphrase: remove it with `openssl pkey`"
        )));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        Error::InvalidArgument(format!(
            "`{key_field}` holds no PEM private key (PKCS#8, PKCS#1 or SEC1)"
        ))
    })?;
    rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| {
        Error::InvalidArgument(format!("`{key_field}` is not an RSA, EC (P-256, P-384) or Ed25519 key"))
    })?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &str) -> String {
        match Access::parse(config) {
            Err(Error::InvalidArgument(message)) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{config} was accepted"),
        }
    }

    #[test]
    fn every_bad_field_is_named() {
        for (config, field) in [
            ("{}", "config.masterUrl"),
            (
                r#"{"masterUrl": "server e.g. https://docker-for-desktop:6443"}"#,
                "config.masterUrl",
            ),
            (r#"{"masterUrl": "docker-for-desktop:6443"}"#, "config.masterUrl"),
            (r#"{"masterUrl": "http://a"}"#, "not encrypted"),
            (r#"{"masterUrl": "https://a"}"#, "config.caCertData"),
            (
                r#"{"masterUrl": "https://a", "caCertData": "certificate-authority-data"}"#,
                "config.caCertData",
            ),
            (
                r#"{"masterUrl": "https://a", "caCertData": "aGVsbG8="}"#,
                "config.caCertData",
            ),
            (
                r#"{"masterUrl": "https://a", "trustCerts": true, "clientCertData": "aGVsbG8="}"#,
                "config.clientKeyData",
            ),
            (
                r#"{"masterUrl": "https://a", "trustCerts": true, "oauthToken": "c2VjcmV0\nb"}"#,
                "config.oauthToken",
            ),
            (
                r#"{"masterUrl": "https://a", "trustCerts": true, "context": "x"}"#,
                "config.context",
            ),
            (r#"{"kubeconfig": "[1", "context": "x"}"#, "config.kubeconfig"),
            (
                r#"{"masterUrl": "https://a", "trustCerts": true, "tlsServerName": "a b"}"#,
                "config.tlsServerName",
            ),
            (
                r#"{"masterUrl": "https://a", "trustCerts": true, "proxyUrl": "socks5://c2VjcmV0@p"}"#,
                "config.proxyUrl",
            ),
        ] {
            let message = refusal(config);
            assert!(message.contains(field), "{config}: {message}");
            for secret in ["aGVsbG8", "c2VjcmV0"] {
                assert!(!message.contains(secret), "{message}");
            }
        }
    }

    #[test]
    fn servers_by_name_and_by_address_are_named_to_the_host() {
        for (url, host, port) in [
            ("https://k8s.example:6443/", "k8s.example", 6443),
            ("https://k8s.example", "k8s.example", 443),
            ("https://192.0.2.10:6443", "192.0.2.10", 6443),
            ("https://[2001:db8::1]:6443", "2001:db8::1", 6443),
        ] {
            let access = Access::parse(&format!(r#"{{"masterUrl": "{url}", "trustCerts": true}}"#)).unwrap();
            let endpoint = access.connection().endpoints.remove(0);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port));
        }
    }

    #[test]
    fn an_exec_plugin_becomes_the_hosts_command() {
        let kubeconfig = r#"
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u, namespace: team}}]
clusters: [{name: k, cluster: {server: "https://k8s.example:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: get-token, args: [--region, x], env: [{name: A, value: b}]}}}]
"#;
        let access = Access::parse(&serde_json::json!({"kubeconfig": kubeconfig}).to_string()).unwrap();
        let (argv, env) = access.connection().credential_command.unwrap();
        assert_eq!(argv, ["get-token", "--region", "x"]);
        assert_eq!(env[1], ("A".to_owned(), "b".to_owned()));
        assert!(env[0].1.contains("ExecCredential"));
        assert_eq!(access.namespace, "team");
        assert!(matches!(access.identity, Identity::None));
    }

    #[test]
    fn an_exec_credential_yields_a_token() {
        let credential = |s: &str| from_credential(Credential::ExecCredential(s.to_owned()));
        let token = credential(r#"{"status": {"token": "t"}}"#).unwrap();
        assert!(matches!(token, (Identity::Token(t), None) if t == "t"));
        let expires = r#"{"status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}}"#;
        let expires = credential(expires).unwrap().1.unwrap();
        assert_eq!(expires.to_string(), "2026-01-01T00:00:00Z");
        assert!(credential("oops").is_err_and(|e| e.to_string().contains("ExecCredential")));
        assert!(credential("{}").is_err());
    }

    #[test]
    fn fields_of_other_runners_are_refused_with_what_to_use_instead() {
        for (field, instead) in [
            ("apiVersion", "leave it out"),
            ("caCertFile", "`caCertData`"),
            ("clientCertFile", "`clientCertData`"),
            ("clientKeyFile", "`clientKeyData`"),
            ("clientKeyAlgo", "leave it out"),
            ("clientKeyPassphrase", "openssl pkey"),
            ("keyStoreFile", "`clientCertData`"),
            ("trustStoreFile", "`caCertData`"),
            ("disableHostnameVerification", "`tlsServerName`"),
            ("maxConcurrentRequests", "leave it out"),
            ("watchReconnectInterval", "leave it out"),
            ("inheritClusterConfig", "leave `config` out"),
            ("oauthTokenProvider", "other hosts leave `oauthToken` out"),
            ("password", "basic authentication"),
        ] {
            let message = refusal(&serde_json::json!({"masterUrl": "https://a", field: "c2VjcmV0"}).to_string());
            assert!(
                message.contains(&format!("`config.{field}` is not supported")),
                "{message}"
            );
            assert!(message.contains(instead) && !message.contains("c2VjcmV0"), "{message}");
        }
        // What is left empty harms nobody, and a name alone is never sent.
        let config = r#"{"masterUrl": "https://a", "trustCerts": true, "password": null, "username": "me"}"#;
        assert!(matches!(Access::parse(config).unwrap().identity, Identity::None));
    }

    #[test]
    fn a_proxy_and_a_servers_name_are_the_configs_else_the_kubeconfigs() {
        let kubeconfig = r#"
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://k8s.example:6443", insecure-skip-tls-verify: true, proxy-url: "http://one:3128", tls-server-name: kubernetes}}]
users: [{name: u, user: {}}]
"#;
        let access = |more: serde_json::Value| {
            let mut config = serde_json::json!({ "kubeconfig": kubeconfig });
            config
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            Access::parse(&config.to_string()).unwrap()
        };
        let theirs = access(serde_json::json!({}));
        let endpoints = theirs.connection().endpoints;
        assert_eq!(
            (endpoints.len(), endpoints[0].host.as_str(), endpoints[0].port),
            (1, "one", 3128)
        );
        assert_eq!(theirs.way.server_name.unwrap().to_str(), "kubernetes");
        let ours = access(serde_json::json!({"proxyUrl": "http://two", "tlsServerName": "192.0.2.1"}));
        assert_eq!(ours.connection().endpoints[0].host, "two");
        assert_eq!(ours.connection().endpoints[0].port, 80);
        assert_eq!(ours.way.server_name.unwrap().to_str(), "192.0.2.1");
    }
}
