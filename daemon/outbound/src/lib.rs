//! HTTP to addresses that a policy names. A policy is written by many hands and may come inside a message, so a URL in one
//! must not reach what only this host may (server-side request forgery):
//!
//! - No link-local addresses and no clouds' metadata services, which hand out credentials, and not this daemon's own API,
//!   where what comes from this host is trusted. [`Outbound::new`] takes the networks that are allowed all the same.
//! - An address in the URL is checked before anything is sent, a name when it is looked up, and what was checked is
//!   connected to: a name that changes between the two leads nowhere else.
//! - No redirects: an answer cannot send us elsewhere, nor to another port.
//! - A secret that goes with a request is a file below the daemon's folders of secrets: see [`SecretError`].
//!
//! Through a proxy the proxy resolves names: it has to keep to this itself. Nothing here sets a time limit.

mod secret;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{ClientBuilder, Method, RequestBuilder};
use secrecy::SecretString;
use url::{Host, Url};

use secret::Folders;
pub use secret::SecretError;

/// Metadata services outside the link-local range: Alibaba Cloud's and Amazon's over IPv6.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What may be reached, and sent along. Cheap to clone; the default knows no API of our own, allows nothing more, and reads
/// no secret.
#[derive(Debug, Clone, Default)]
pub struct Outbound(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    own: Vec<SocketAddr>,
    allowed: Vec<IpNet>,
    secrets: Folders,
}

/// Why an address is not asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("only http and https are spoken")]
    Scheme,
    #[error("it names no host")]
    NoHost,
    #[error(
        "{0} is a link-local or metadata address, which a policy may not reach unless `sluice run --allow-address {0}` says so"
    )]
    Special(IpAddr),
    #[error(
        "{0} is this daemon's own API, which a policy may not reach unless `sluice run --allow-address {ip}` says so",
        ip = .0.ip()
    )]
    Own(SocketAddr),
}

impl Outbound {
    /// `own`: where this daemon listens. `allowed`: networks to which none of the rules applies.
    pub fn new(own: Vec<SocketAddr>, allowed: Vec<IpNet>) -> Outbound {
        Outbound(Arc::new(Rules { own, allowed, secrets: Folders::default() }))
    }

    /// The same, with the folders below which a policy's secrets stand.
    pub fn with_secrets(self, folders: Vec<PathBuf>) -> Outbound {
        let Rules { own, allowed, .. } = &*self.0;
        let (own, allowed) = (own.clone(), allowed.clone());
        Outbound(Arc::new(Rules { own, allowed, secrets: Folders(Some(folders)) }))
    }

    /// Whether a secret may stand there, as far as that goes without looking at files. Without folders nothing is known.
    pub fn check_secret(&self, file: &str) -> Result<(), SecretError> {
        self.0.secrets.check(file)
    }

    /// The file's text without surrounding space, read now.
    pub async fn secret(&self, file: &str) -> Result<SecretString, SecretError> {
        self.0.secrets.read(file).await
    }

    /// As far as that goes without asking DNS.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Forbidden::Scheme);
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(Forbidden::NoHost),
        };
        self.0.check(address, url.port_or_known_default().unwrap_or_default())
    }

    /// A client with this module's promises. `make` begins it: the place for time limits, a private CA or a proxy.
    pub fn client(
        &self,
        make: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Client, reqwest::Error> {
        let build = move |resolver: Resolver| make().redirect(Policy::none()).dns_resolver(resolver).build();
        let elsewhere = build(Resolver { outbound: self.clone(), port: 0 })?;
        Ok(Client { outbound: self.clone(), elsewhere, own_port: Arc::default(), build: Arc::new(build) })
    }
}

impl Rules {
    fn check(&self, address: IpAddr, port: u16) -> Result<(), Forbidden> {
        let address = address.to_canonical();
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        if is_special(address) {
            return Err(Forbidden::Special(address));
        }
        let is_ours = |own: &SocketAddr| own.port() == port && leads_to(own.ip(), address);
        if self.own.iter().any(is_ours) {
            Err(Forbidden::Own(SocketAddr::new(address, port)))
        } else {
            Ok(())
        }
    }

    fn is_own_port(&self, port: u16) -> bool {
        self.own.iter().any(|own| own.port() == port)
    }
}

fn is_special(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    special || address.is_multicast() || METADATA.contains(&address)
}

/// Whether who listens on `listening` is reached by `address`.
fn leads_to(listening: IpAddr, address: IpAddr) -> bool {
    let listening = listening.to_canonical();
    listening == address || (listening.is_unspecified() && is_this_host(address))
}

/// Only an address of this host can be bound to.
fn is_this_host(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// A client for what a policy names. Clones share connections.
#[derive(Clone)]
pub struct Client {
    outbound: Outbound,
    elsewhere: reqwest::Client,
    /// For the ports of our own API, of which a resolver knows nothing: made at the first need.
    own_port: Arc<OnceLock<Option<reqwest::Client>>>,
    build: Arc<dyn Fn(Resolver) -> Result<reqwest::Client, reqwest::Error> + Send + Sync>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("outbound", &self.outbound).finish_non_exhaustive()
    }
}

impl Client {
    /// As [`Outbound::check`].
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        self.outbound.check(url)
    }

    /// As [`Outbound::check_secret`].
    pub fn check_secret(&self, file: &str) -> Result<(), SecretError> {
        self.outbound.check_secret(file)
    }

    /// As [`Outbound::secret`].
    pub async fn secret(&self, file: &str) -> Result<SecretString, SecretError> {
        self.outbound.secret(file).await
    }

    pub fn get(&self, url: Url) -> Result<RequestBuilder, Forbidden> {
        self.request(Method::GET, url)
    }

    pub fn post(&self, url: Url) -> Result<RequestBuilder, Forbidden> {
        self.request(Method::POST, url)
    }

    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Forbidden> {
        self.outbound.check(&url)?;
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.outbound.0.is_own_port(port) {
            return Ok(self.elsewhere.request(method, url));
        }
        let guarded = || (self.build)(Resolver { outbound: self.outbound.clone(), port }).ok();
        match self.own_port.get_or_init(guarded) {
            Some(client) => Ok(client.request(method, url)),
            // Unable to tell, it is not asked.
            None => Err(Forbidden::Own(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        }
    }
}

/// The system's resolver, less the addresses that are not to be reached. `port`: one of our own API's, or 0.
struct Resolver {
    outbound: Outbound,
    port: u16,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (outbound, port) = (self.outbound.clone(), self.port);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let checked = found.iter().map(|address| outbound.0.check(address.ip(), port).map(|()| *address));
            let (allowed, refused): (Vec<_>, Vec<_>) = checked.partition(Result::is_ok);
            let allowed: Vec<SocketAddr> = allowed.into_iter().flatten().collect();
            match refused.into_iter().find_map(Result::err) {
                Some(why) if allowed.is_empty() => Err(format!("{}: {why}", name.as_str()).into()),
                Some(_) | None => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests;
