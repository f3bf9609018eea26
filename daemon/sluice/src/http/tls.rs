//! TLS for the HTTP door. Certificate and key are looked at again with every connection, so a renewed one counts at once; one
//! that cannot be used leaves the former in force, and is said once. Clients are known by their tokens, not by certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::small_file;

/// A chain of certificates is some kilobytes long.
const MOST_BYTES: u64 = 1024 * 1024;
const REMEDY: &str = "both are PEM: the certificate with those that sign it after it, and its own key";

/// Where certificate and key stand, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The daemon's own certificate first, then those between it and the authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What the door shows to those who connect.
pub struct Tls {
    files: TlsFiles,
    held: Mutex<Held>,
}

struct Held {
    config: Arc<ServerConfig>,
    /// Of the files that were looked at last, in force or not; or why they could not be read.
    looked_at: Result<Sum, String>,
}

type Sum = [u8; 32];

impl Tls {
    /// Errors name the file and say what it should be.
    pub async fn open(files: TlsFiles) -> Result<Tls, String> {
        let (certificate, key) = read(&files).await?;
        let config = config(&files, &certificate, &key)?;
        let held = Held { config, looked_at: Ok(sum(&certificate, &key)) };
        Ok(Tls { files, held: Mutex::new(held) })
    }

    /// With the files as they stand now, or as they stood when they could be used last.
    pub(super) async fn acceptor(&self) -> TlsAcceptor {
        let found = read(&self.files).await;
        let looked_at = found.as_ref().map(|(certificate, key)| sum(certificate, key)).map_err(String::clone);
        let mut held = self.held();
        if held.looked_at != looked_at {
            match found.and_then(|(certificate, key)| config(&self.files, &certificate, &key)) {
                Ok(config) => {
                    held.config = config;
                    tracing::info!(certificate = %self.files.certificate.display(), "the API's certificate was renewed");
                }
                Err(why) => {
                    tracing::error!(why, "the API's certificate cannot be used; the former one stays");
                }
            }
            held.looked_at = looked_at;
        }
        TlsAcceptor::from(held.config.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

async fn read(files: &TlsFiles) -> Result<(Vec<u8>, Vec<u8>), String> {
    Ok((read_one(&files.certificate).await?, read_one(&files.key).await?))
}

async fn read_one(file: &Path) -> Result<Vec<u8>, String> {
    let named = |why: String| format!("{}: {why}", file.display());
    small_file::check(file, MOST_BYTES, "it").await.map_err(named)?;
    tokio::fs::read(file).await.map_err(|error| named(error.to_string()))
}

/// A certificate whose key has not been renewed yet is refused here.
fn config(files: &TlsFiles, certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
    let wrong = |file: &Path, why: String| format!("{}: {why}; {REMEDY}", file.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| wrong(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| {
            let both = format!("{} and {}", files.certificate.display(), files.key.display());
            format!("{both} do not go together: {error}; {REMEDY}")
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn sum(certificate: &[u8], key: &[u8]) -> Sum {
    // Each by its own sum first: no byte of one can stand for a byte of the other.
    let parts = [Sha256::digest(certificate), Sha256::digest(key)].concat();
    Sha256::digest(parts).into()
}
