//! TLS from files, which may be replaced while the agent runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate with its key.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    changed: Stamps,
}

/// When the files were last changed.
type Stamps = [Option<SystemTime>; 2];

impl std::fmt::Debug for Loaded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Loaded").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files. The error names the one that cannot be used.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, String> {
        let changed = stamps(&certificate, &key);
        let config = read(&certificate, &key)?;
        Ok(Self {
            certificate,
            key,
            loaded: Mutex::new(Loaded { config, changed }),
        })
    }

    /// What the next connection is greeted with. A pair of files that cannot be used leaves the one before in force.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = stamps(&self.certificate, &self.key);
        if changed != loaded.changed {
            match read(&self.certificate, &self.key) {
                Ok(config) => *loaded = Loaded { config, changed },
                Err(message) => log::warn!("{message}; the certificate before stays in force"),
            }
        }
        Arc::clone(&loaded.config).into()
    }
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let wrong =
        |path: &Path, reason: &dyn std::fmt::Display| format!("TLS file `{}` cannot be used: {reason}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
