//! Opens connections to the API server: TCP, the tunnel through a proxy, TLS. Knows nothing about requests.

use crate::{
    config::{self, Identity, Proxy},
    contract::Error,
};
use http::Uri;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector};
use hyper_util::{client::legacy::connect::proxy::Tunnel, rt::TokioIo};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    future::Future,
    io,
    net::ToSocketAddrs,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The way to a server and what is expected there.
pub(crate) struct Way {
    /// Its certificate authorities; none means that the server speaks plain HTTP or that `insecure` is set.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// Accept any certificate.
    pub(crate) insecure: bool,
    /// The name that its certificate carries, if it is not the one that it is reached by.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// The proxy that leads to it.
    pub(crate) proxy: Option<Proxy>,
}

impl Way {
    /// Opens connections as `identity`; with the token to send, if that is what the identity is.
    pub(crate) fn connector(&self, identity: Identity) -> Result<(HttpsConnector<Connector>, Option<String>), Error> {
        let (tls, token) = self.tls(identity)?;
        let builder = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let builder = match &self.server_name {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone())),
            None => builder,
        };
        Ok((
            builder
                .enable_http1()
                .wrap_connector(Connector::new(self.proxy.as_ref())),
            token,
        ))
    }

    fn tls(&self, identity: Identity) -> Result<(ClientConfig, Option<String>), Error> {
        let provider = Arc::new(provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::Other(format!("TLS cannot be set up: {e}")))?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            let mut roots = RootCertStore::empty();
            for root in &self.roots {
                roots.add(root.clone()).map_err(|e| {
                    Error::InvalidArgument(format!(
                        "`config.caCertData` holds a certificate that cannot be used: {e}"
                    ))
                })?;
            }
            builder.with_root_certificates(roots)
        };
        match identity {
            Identity::Certificate(chain, key) => {
                builder
                    .with_client_auth_cert(chain, key)
                    .map(|c| (c, None))
                    .map_err(|e| {
                        Error::InvalidArgument(format!(
                            "`config.clientCertData` and `clientKeyData` do not fit together: {e}"
                        ))
                    })
            }
            Identity::Token(token) => Ok((builder.with_no_client_auth(), Some(token))),
            Identity::None => Ok((builder.with_no_client_auth(), None)),
        }
    }
}

/// ring has no AES instructions in WebAssembly, where ChaCha20-Poly1305 is six times as fast; servers follow the client's order.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if cfg!(target_family = "wasm") {
        provider
            .cipher_suites
            .sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("CHACHA20"));
    }
    provider
}

/// Accepts every certificate, for `trustCerts`.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Opens what TLS runs over: a connection, or a tunnel through a proxy.
#[derive(Clone)]
pub(crate) enum Connector {
    /// Nothing is in between.
    Direct(Tcp),
    /// A proxy is.
    Through(Tunnel<Tcp>),
}

impl Connector {
    fn new(proxy: Option<&Proxy>) -> Self {
        let Some(proxy) = proxy else { return Self::Direct(Tcp) };
        let tunnel = Tunnel::new(proxy.address.clone(), Tcp);
        Self::Through(match &proxy.authorization {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async { Ok(connecting.await?) })
            }
            Self::Through(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async { Ok(connecting.await.map_err(|error| NoTunnel(error.into()))?) })
            }
        }
    }
}

/// The proxy did not open a tunnel.
#[derive(Debug, thiserror::Error)]
#[error("no tunnel through the proxy")]
pub(crate) struct NoTunnel(#[source] BoxError);

/// Opens TCP connections; the guest has no threads, so names are looked up in place.
#[derive(Clone)]
pub(crate) struct Tcp;

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in (config::host(&uri).as_str(), config::port(&uri)).to_socket_addrs()? {
                match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                    Ok(Ok(stream)) => {
                        stream.set_nodelay(true)?;
                        return Ok(TokioIo::new(stream));
                    }
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s"),
                }
            }
            Err(last)
        })
    }
}
