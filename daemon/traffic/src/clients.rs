//! The clients that targets share. Making one is cheap and never fails for a cluster that is not there: the kube client is
//! made at its first use, so that a daemon without Kubernetes needs no kubeconfig.
//!
//! Nothing here retries. kube's own retry (15 times on 429, 503 and 504, in between silent) is off, because an abort must not
//! hang in one; whoever calls decides what is tried again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::OnceCell;

use crate::TargetError;

/// One attempt against the API server.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A dead connection under a watch is noticed by this; watches are renewed more often than that.
const SILENCE: Duration = Duration::from_secs(45);

/// Shared by all targets and workloads of a daemon; clones share what was made.
#[derive(Clone)]
pub struct Clients {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    kube: Arc<OnceCell<kube::Client>>,
    http: reqwest::Client,
    attempt: Duration,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients")
            .field("kubeconfig", &self.kubeconfig)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Clients {
    /// `kubeconfig`: a file; without one `KUBECONFIG`, `~/.kube/config` or the pod's service account, in this order.
    /// The process must have installed a rustls crypto provider.
    pub fn new(kubeconfig: Option<PathBuf>) -> Result<Clients, TargetError> {
        Ok(Clients { kubeconfig, context: None, kube: Arc::default(), http: http()?, attempt: ATTEMPT })
    }

    /// A context of the kubeconfig in place of its current one.
    pub fn with_context(self, context: Option<String>) -> Clients {
        Clients { context, ..self }
    }

    /// How long one attempt against the API server may take (2 s if not set).
    pub fn with_attempt(self, attempt: Duration) -> Clients {
        Clients { attempt, ..self }
    }

    pub(crate) fn attempt(&self) -> Duration {
        self.attempt
    }

    /// Follows no redirects and connects to no link-local address.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) async fn kube(&self) -> Result<kube::Client, TargetError> {
        self.kube.get_or_try_init(|| self.connect()).await.cloned()
    }

    async fn connect(&self) -> Result<kube::Client, TargetError> {
        let mut config = self.config().await?;
        config.default_retry = false;
        // Longer than an attempt, so that it is always our own limit that ends one.
        config.connect_timeout = Some(self.attempt * 2);
        config.read_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        kube::Client::try_from(config)
            .map_err(|error| TargetError::NotAsNeeded(format!("no client for the cluster: {error}")))
    }

    async fn config(&self) -> Result<kube::Config, TargetError> {
        const USUAL: &str = "KUBECONFIG, ~/.kube/config and the pod's service account";
        let (place, file) = match (&self.kubeconfig, &self.context) {
            (None, None) => return kube::Config::infer().await.map_err(|error| no_cluster(USUAL, &error)),
            (None, Some(_)) => (USUAL.to_owned(), Kubeconfig::read()),
            (Some(path), _) => (path.display().to_string(), Kubeconfig::read_from(path)),
        };
        let file = file.map_err(|error| no_cluster(&place, &error))?;
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| no_cluster(&place, &error))
    }
}

fn no_cluster(place: &str, error: &dyn std::error::Error) -> TargetError {
    TargetError::NotAsNeeded(format!(
        "no access to a cluster by {place}: {error}; name a kubeconfig that works with kubectl"
    ))
}

fn http() -> Result<reqwest::Client, TargetError> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Guarded))
        .connect_timeout(ATTEMPT)
        .build()
        .map_err(|error| TargetError::NotAsNeeded(format!("no HTTP client: {error}")))
}

/// Link-local addresses (169.254.0.0/16, fe80::/10) carry the clouds' metadata services, which hand out credentials; so do two
/// fixed others. A policy must not make the daemon talk to them.
pub(crate) fn is_forbidden(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_unspecified() || v4 == Ipv4Addr::new(100, 100, 100, 200)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_forbidden(IpAddr::V4(v4)),
            None => {
                v6.is_unicast_link_local() || v6.is_unspecified() || v6.segments()[..2] == [0xfd00, 0x0ec2]
            }
        },
    }
}

/// The system's resolver without forbidden addresses, so that a name cannot lead where an address may not.
struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err(format!("{} leads to no allowed address (found {found:?})", name.as_str()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_out_of_bounds_in_every_spelling() {
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_forbidden(bad.parse().unwrap()), "{bad} was allowed");
        }
        for good in ["127.0.0.1", "10.0.0.7", "::1", "192.168.1.1", "fd12::1"] {
            assert!(!is_forbidden(good.parse().unwrap()), "{good} was refused");
        }
    }
}
