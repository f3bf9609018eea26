//! The clients that targets share. Making one is cheap and never fails for a cluster that is not there: the kube client is
//! made at its first use, so that a daemon without Kubernetes needs no kubeconfig.
//!
//! Nothing here retries. kube's own retry (15 times on 429, 503 and 504, in between silent) is off, because an abort must not
//! hang in one; whoever calls decides what is tried again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use sluice_outbound::{Client, Outbound};
use tokio::sync::OnceCell;

use crate::TargetError;
use crate::turns::Turns;
use crate::watches::Watches;

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
    http: Client,
    attempt: Duration,
    watches: Arc<Watches>,
    turns: Arc<Turns>,
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
        Ok(Clients {
            kubeconfig,
            context: None,
            kube: Arc::default(),
            http: http(&Outbound::default())?,
            attempt: ATTEMPT,
            watches: Arc::default(),
            turns: Arc::default(),
        })
    }

    /// A context of the kubeconfig in place of its current one.
    pub fn with_context(self, context: Option<String>) -> Clients {
        Clients { context, ..self }
    }

    /// How long one attempt against the API server may take (2 s if not set).
    pub fn with_attempt(self, attempt: Duration) -> Clients {
        Clients { attempt, ..self }
    }

    pub(crate) fn watches(&self) -> Arc<Watches> {
        self.watches.clone()
    }

    pub(crate) fn turns(&self) -> Arc<Turns> {
        self.turns.clone()
    }

    pub(crate) fn attempt(&self) -> Duration {
        self.attempt
    }

    /// What a webhook may reach.
    pub fn with_outbound(self, outbound: &Outbound) -> Result<Clients, TargetError> {
        Ok(Clients { http: http(outbound)?, ..self })
    }

    pub(crate) fn http(&self) -> &Client {
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

fn http(outbound: &Outbound) -> Result<Client, TargetError> {
    outbound.client(|| reqwest::Client::builder().no_proxy().connect_timeout(ATTEMPT)).map_err(|error| {
        TargetError::NotAsNeeded(format!("no HTTP client can be made: {}", crate::error::chain(&error)))
    })
}
