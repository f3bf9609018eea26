//! nats-server: Debian's 2.9 and the newest, with JetStream, permissions, tokens, keys, credentials and TLS.
//!
//! Stopped, killed and started again it keeps its port and its store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::binaries;
use crate::folder::Folder;
use crate::http;
use crate::nats_auth::{OperatorMode, nkey_seed};
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};
use crate::tls::Certificates;

/// Which nats-server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Release {
    /// Debian 12's, 2.9.10.
    #[default]
    Debian,
    /// The newest, from its Go module.
    Latest,
}

/// Who may connect.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    Open,
    /// Whoever knows this token.
    Token(String),
    /// One user with a password.
    User { name: String, password: String },
    /// One key pair, made at the start: see [`Nats::nkey_seed`].
    Nkey,
    /// An operator, an account with JetStream and a user with a credentials file: see [`Nats::credentials`].
    Operator,
    /// What goes between the braces of `authorization { … }`, for instance `users = [{user: …, permissions: …}]`.
    Users(String),
}

/// How to start it. The default is Debian's server, open, without TLS, with JetStream.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    pub release: Release,
    pub jetstream: bool,
    pub auth: Auth,
    /// TLS with certificates made at the start; `Some(true)` asks the client for its own too.
    pub tls: Option<bool>,
    /// The server's own, unique in a cluster.
    pub name: String,
    /// More lines of its configuration, verbatim.
    pub more: String,
}

impl Default for NatsOptions {
    fn default() -> Self {
        let (name, more) = ("rig".to_owned(), String::new());
        Self { release: Release::Debian, jetstream: true, auth: Auth::Open, tls: None, name, more }
    }
}

impl NatsOptions {
    /// The newest server instead of Debian's.
    pub fn latest() -> Self {
        Self { release: Release::Latest, ..Self::default() }
    }

    /// The same with another [`Auth`].
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }
}

/// A running nats-server.
#[derive(Debug)]
pub struct Nats {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    /// Certificates, if it was started with TLS.
    pub certificates: Option<Certificates>,
    /// The credentials file of a user, if it was started with [`Auth::Operator`].
    pub credentials: Option<PathBuf>,
    /// The seed of the one allowed key, if it was started with [`Auth::Nkey`].
    pub nkey_seed: Option<String>,
    port: Port,
    monitor: Port,
    folder: Folder,
}

impl Nats {
    /// Starts it and waits for `/healthz`.
    pub async fn start(options: NatsOptions) -> Result<Self> {
        let program = match options.release {
            Release::Debian => binaries::packaged("nats-server")?,
            Release::Latest => binaries::built("nats-server-latest")?,
        };
        let (folder, port, monitor) = (Folder::new("nats")?, Port::free()?, Port::free()?);
        let certificates = options.tls.map(|_| Certificates::make(&folder)).transpose()?;
        let access = Access::make(&options.auth, &folder)?;
        let config = [
            base(&options.name, &port, &monitor),
            if options.jetstream { jetstream(&folder) } else { String::new() },
            certificates.as_ref().map(|c| tls(c, options.tls == Some(true))).unwrap_or_default(),
            access.config,
            options.more,
        ]
        .join("\n");
        let config = folder.write("nats.conf", config)?;
        let ready = Ready::Http(format!("http://{}/healthz", monitor.address()));
        let server = Recipe::new("nats-server", program, folder.path(), ready)
            .args(["-c".to_owned(), config.display().to_string()])
            .start()
            .await?;
        let Access { credentials, nkey_seed, .. } = access;
        Ok(Self { server, certificates, credentials, nkey_seed, port, monitor, folder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `nats://127.0.0.1:<port>`, or `tls://localhost:<port>` with TLS.
    pub fn url(&self) -> String {
        match self.certificates {
            None => format!("nats://{}", self.port.address()),
            Some(_) => format!("tls://localhost:{}", self.port.number()),
        }
    }

    /// One of its monitoring pages, such as `jsz?streams=true` or `connz`.
    pub async fn monitor(&self, page: &str) -> Result<serde_json::Value> {
        http::get_json(&http::client()?, &format!("http://{}/{page}", self.monitor.address())).await
    }

    /// Puts new certificates, of another authority, into the same files, and starts the server with them.
    pub async fn renew_certificates(&mut self) -> Result<()> {
        if self.certificates.is_some() {
            self.certificates = Some(Certificates::make(&self.folder)?);
        }
        self.server.kill();
        self.server.start_again().await
    }

    /// Kills it, starts it again on the same port and store, and says how long it was away.
    pub async fn crash_and_return(&mut self) -> Result<std::time::Duration> {
        let begun = Instant::now();
        self.server.kill();
        self.server.start_again().await?;
        Ok(begun.elapsed())
    }
}

fn base(name: &str, port: &Port, monitor: &Port) -> String {
    format!("listen: \"{}\"\nhttp: \"{}\"\nserver_name: {name}", port.address(), monitor.address())
}

fn jetstream(folder: &Folder) -> String {
    let store = folder.path().join("jetstream");
    format!("jetstream {{ store_dir: \"{}\", max_mem: 256M, max_file: 4G }}", store.display())
}

fn tls(certificates: &Certificates, verify: bool) -> String {
    let Certificates { ca, server, server_key, .. } = certificates;
    let (ca, server, server_key) = (ca.display(), server.display(), server_key.display());
    format!(
        "tls {{ ca_file: \"{ca}\", cert_file: \"{server}\", key_file: \"{server_key}\", verify: {verify} }}"
    )
}

#[derive(Default)]
struct Access {
    config: String,
    credentials: Option<PathBuf>,
    nkey_seed: Option<String>,
}

impl Access {
    fn make(auth: &Auth, folder: &Folder) -> Result<Self> {
        let config = |config: String| Self { config, ..Self::default() };
        Ok(match auth {
            Auth::Open => Self::default(),
            Auth::Token(token) => config(format!("authorization {{ token: {token:?} }}")),
            Auth::User { name, password } => {
                config(format!("authorization {{ user: {name:?}, password: {password:?} }}"))
            }
            Auth::Users(text) => config(format!("authorization {{ {text} }}")),
            Auth::Nkey => {
                let (seed, public) = nkey_seed()?;
                let config = format!("authorization {{ users = [{{ nkey: {public} }}] }}");
                Self { config, nkey_seed: Some(seed), credentials: None }
            }
            Auth::Operator => {
                let mode = OperatorMode::make(folder)?;
                Self { config: mode.config, credentials: Some(mode.credentials), nkey_seed: None }
            }
        })
    }
}
