//! The way to Google's servers: TLS with the machine's certificate authorities, through the proxy that HTTPS_PROXY names.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tower_service::Service;
use yup_oauth2::CustomHyperClientBuilder;

use super::{Failure, shown};

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read. A cluster with many node pools has some hundred KiB.
const LARGEST: usize = 8 << 20;

/// Sends requests.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<Connector>, String>,
}

impl Client {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let connector = Connector {
            http,
            proxies: Matcher::from_env().into(),
        };
        let builder = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| {
                Failure::lasting(format!(
                    "the certificate authorities of this machine cannot be read ({error}): install them, or name a \
                     file of them in SSL_CERT_FILE"
                ))
            })?;
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        Ok(Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// The same for whoever fetches tokens.
    pub(super) fn for_tokens(&self) -> CustomHyperClientBuilder<HttpsConnector<Connector>> {
        CustomHyperClientBuilder::from(self.http.clone())
    }

    /// Read an object.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str, token: &str) -> Result<T, Failure> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Failure::lasting("the access token holds characters that no token has"))?;
        authorization.set_sensitive(true);
        let request = Request::get(url)
            .header(AUTHORIZATION, authorization)
            .body(String::new())
            .map_err(|_| Failure::lasting(format!("`{url}` is not a URL")))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| reason(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            Ok((status, body.map_err(|error| reason(error.as_ref()))?.to_bytes()))
        };
        let (status, body) = within(exchange)
            .await
            .map_err(|why| Failure::transient(format!("no answer from `{url}`: {why}")))?;
        if status != StatusCode::OK {
            let message = format!("`{url}` answered {status}{}", words(&body));
            let transient = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            return Err(Failure { message, transient });
        }
        // Its own words may quote the answer, which may hold a key.
        serde_json::from_slice(&body).map_err(|_| Failure::lasting(format!("`{url}` answered with something else")))
    }
}

/// Wait for an answer, but not for ever.
pub(super) async fn within<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("none within {} s", PATIENCE.as_secs())),
    }
}

/// The innermost cause, which is what a person can act on.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    deepest.to_string()
}

/// What Google's errors say, if this is one.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => format!(": {}", shown(&answer.error.message)),
        Err(_) => String::new(),
    }
}

/// Fail unless a credential may be sent to a URL that `name` gave.
pub(super) fn check(url: &str, name: &str) -> Result<(), Failure> {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match uri.as_ref().and_then(Uri::scheme_str) {
        Some("https") if !host.is_empty() => Ok(()),
        Some("http") if here => Ok(()),
        Some("http") => Err(Failure::lasting(format!(
            "`{name}` is not encrypted, so a credential would travel in clear text: use https"
        ))),
        _ => Err(Failure::lasting(format!(
            "`{name}` is not a URL: write it as https://HOST"
        ))),
    }
}

/// Connects to a server, or to it through a proxy.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    proxies: std::sync::Arc<Matcher>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let mut http = self.http.clone();
        // What is not encrypted is on this machine or its network.
        let encrypted = server.scheme_str() == Some("https");
        match self.proxies.intercept(&server).filter(|_| encrypted) {
            None => Box::pin(async move { Ok(http.call(server).await?) }),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), http);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                Box::pin(async move { Ok(tunnel.call(server).await?) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_encrypted_or_to_this_machine() {
        let refusal = |url: &str| check(url, "token_uri").err().map(|failure| failure.to_string());
        for fine in [
            "https://oauth2.googleapis.com/token",
            "http://127.0.0.1:1/token",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert_eq!(refusal(fine), None, "{fine}");
        }
        insta::assert_snapshot!(refusal("http://evil.example/token").unwrap(), @"`token_uri` is not encrypted, so a credential would travel in clear text: use https");
        insta::assert_snapshot!(refusal("ftp://x").unwrap(), @"`token_uri` is not a URL: write it as https://HOST");
        insta::assert_snapshot!(refusal("").unwrap(), @"`token_uri` is not a URL: write it as https://HOST");
    }

    #[test]
    fn a_servers_words_are_short_and_on_one_line() {
        assert_eq!(
            words(br#"{"error": {"code": 404, "message": "Not\nfound"}}"#),
            ": Not found"
        );
        assert_eq!(words(b"<html>"), "");
        assert!(words(format!(r#"{{"error": {{"message": "{}"}}}}"#, "x".repeat(999)).as_bytes()).len() < 310);
    }
}
