//! How to reach NATS, and who we are there. Secrets live in files, are read anew at every connection (so that they can
//! be changed under a running daemon), and are never kept or shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Auth, AuthError};
use nkeys::KeyPair;

use crate::{ACK_WAIT, Limits};

/// How to reach NATS.
#[derive(Clone)]
pub struct NatsConfig {
    /// `nats://host:4222` or `tls://…`; several of one cluster.
    pub urls: Vec<String>,
    /// The connection's name in the server's lists.
    pub name: String,
    /// This daemon's name: its own consumer of overrides is called after it. The same after a restart.
    pub daemon: String,
    /// Of several clusters on one bus each hears every announcement: its daemons share a consumer of their own.
    pub cluster: Option<String>,
    /// In place of `_INBOX`, where the account grants each client one of its own.
    pub inbox_prefix: Option<String>,
    pub tls: TlsFiles,
    pub auth: NatsAuth,
    /// Copies of each stream in a cluster: 1, 3 or 5.
    pub replicas: usize,
    pub limits: Limits,
    /// A delivery that is neither acknowledged nor given back comes again after this.
    pub ack_wait: Duration,
}

/// PEM files. Given any, the connection must be encrypted.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Authorities to trust; the system's if left out.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, where the server asks for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

/// Who we are.
#[derive(Debug, Clone, Default)]
pub enum NatsAuth {
    #[default]
    Nobody,
    User {
        name: String,
        password_file: PathBuf,
    },
    Token {
        file: PathBuf,
    },
    /// A file with the seed of a user's nkey (`SU…`).
    Nkey {
        seed_file: PathBuf,
    },
    /// A credentials file as `nsc` writes it: a JWT and a seed.
    Credentials {
        file: PathBuf,
    },
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".into()],
            name: "sluice".into(),
            daemon: "sluice".into(),
            cluster: None,
            inbox_prefix: None,
            tls: TlsFiles::default(),
            auth: NatsAuth::Nobody,
            replicas: 1,
            limits: Limits::default(),
            ack_wait: ACK_WAIT,
        }
    }
}

impl NatsConfig {
    /// One server, nobody in particular.
    pub fn at(url: impl Into<String>) -> Self {
        Self { urls: vec![url.into()], ..Self::default() }
    }
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| without_secrets(url)).collect();
        f.debug_struct("NatsConfig")
            .field("urls", &urls)
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .field("tls", &self.tls)
            .field("auth", &self.auth)
            .field("replicas", &self.replicas)
            .finish_non_exhaustive()
    }
}

impl TlsFiles {
    pub(super) fn any(&self) -> bool {
        self.ca.is_some() || self.certificate.is_some() || self.key.is_some()
    }
}

impl NatsAuth {
    /// What goes into the greeting, signed over the server's nonce where it takes a signature.
    pub(super) async fn greeting(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let mut auth = Auth::new();
        match self {
            NatsAuth::Nobody => {}
            NatsAuth::User { name, password_file } => {
                auth.username = Some(name.clone());
                auth.password = Some(secret(password_file).await?);
            }
            NatsAuth::Token { file } => auth.token = Some(secret(file).await?),
            NatsAuth::Nkey { seed_file } => {
                let pair = key_pair(&secret(seed_file).await?, seed_file)?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(sign(&pair, nonce, seed_file)?);
            }
            NatsAuth::Credentials { file } => {
                let text = secret(file).await?;
                let (jwt, pair) = (section(&text, "JWT", file)?, section(&text, "SEED", file)?);
                let pair = key_pair(pair, file)?;
                auth.jwt = Some(jwt.to_owned());
                auth.signature = Some(sign(&pair, nonce, file)?);
            }
        }
        Ok(auth)
    }
}

/// `nats://user:password@host` without what stands before the `@`.
pub(super) fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (None, Some((_, host))) => format!("…@{host}"),
        (_, None) => url.to_owned(),
    }
}

async fn secret(file: &Path) -> Result<String, AuthError> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| AuthError::new(format!("reading {}: {error}", file.display())))?;
    let text = text.trim();
    if text.is_empty() {
        Err(AuthError::new(format!("{} is empty", file.display())))
    } else {
        Ok(text.to_owned())
    }
}

fn key_pair(seed: &str, file: &Path) -> Result<KeyPair, AuthError> {
    KeyPair::from_seed(seed)
        .map_err(|error| AuthError::new(format!("{} has no nkey seed: {error}", file.display())))
}

fn sign(pair: &KeyPair, nonce: &[u8], file: &Path) -> Result<Vec<u8>, AuthError> {
    pair.sign(nonce).map_err(|error| AuthError::new(format!("signing with {}: {error}", file.display())))
}

/// The line below `-----BEGIN … <name>-----`.
fn section<'a>(text: &'a str, name: &str, file: &Path) -> Result<&'a str, AuthError> {
    let head = |line: &&str| line.starts_with("-----BEGIN") && line.trim_end_matches('-').ends_with(name);
    let mut lines = text.lines().map(str::trim);
    let found = lines.by_ref().find(head).and_then(|_| lines.find(|line| !line.is_empty()));
    found.filter(|line| !line.starts_with('-')).ok_or_else(|| {
        AuthError::new(format!("{} has no {name} section; is it a credentials file of nsc?", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let config = NatsConfig::at("nats://ann:geheim@host:4222");
        let shown = format!("{config:?}");
        assert!(!shown.contains("geheim") && shown.contains("host:4222"), "{shown}");
        assert_eq!(without_secrets("geheim@host"), "…@host");
    }

    #[tokio::test]
    async fn a_credentials_file_that_is_none_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n")
            .unwrap();
        let auth = NatsAuth::Credentials { file: file.path().to_owned() };
        let Err(error) = auth.greeting(b"nonce").await else { panic!("it was taken") };
        assert!(error.to_string().contains("no SEED section"), "{error}");
    }
}
