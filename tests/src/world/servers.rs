//! The servers that all stories of a test binary share; they end with the process.

use std::time::Duration;

use anyhow::{Context, Result};
use sluice_rig::folder::Folder;
use sluice_rig::kube::Crds;
use sluice_rig::prometheus::Targets;
use sluice_rig::{
    Alertmanager, AlertmanagerOptions, ArgoRollouts, DeploymentConfigs, Inbox, Kube, Prometheus,
    PrometheusOptions,
};
use tokio::sync::OnceCell;

/// What a shared Prometheus would be asked a thousand times a day in a real cluster; stories are quick, so are scrapes.
const SCRAPE: Duration = Duration::from_millis(500);

/// One of each.
#[derive(Debug)]
pub struct Shared {
    pub kube: &'static Kube,
    pub prometheus: Prometheus,
    pub alertmanager: Alertmanager,
    /// Where Alertmanager sends its notifications.
    pub inbox: Inbox,
    /// A file of targets per namespace.
    shops: Folder,
}

impl Shared {
    /// What Prometheus scrapes in a namespace.
    pub fn targets(&self, namespace: &str) -> Targets {
        Targets::at(self.shops.path().join(format!("{namespace}.json")))
    }
}

/// Starts them with the first story that asks.
pub async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED.get_or_try_init(start).await.context("the servers that all stories share")
}

/// Argo Rollouts' controller for all stories of a test binary, with the first that asks.
pub async fn argo_rollouts() -> Result<&'static ArgoRollouts> {
    static ARGO: OnceCell<ArgoRollouts> = OnceCell::const_new();
    ARGO.get_or_try_init(|| async { ArgoRollouts::start(Kube::shared().await?).await }).await
}

/// OpenShift's kinds, and in one namespace who makes pods of its DeploymentConfigs.
pub async fn openshift(kube: &'static Kube, namespace: &str) -> Result<DeploymentConfigs> {
    kube.install(Crds::Routers).await?;
    DeploymentConfigs::play(kube, namespace).await
}

async fn start() -> Result<Shared> {
    let (inbox, shops) = (Inbox::start().await?, Folder::new("shops")?);
    let webhook = Some(inbox.url("/alerts"));
    let (kube, prometheus, alertmanager) = tokio::try_join!(
        Kube::shared(),
        prometheus(Some(&shops)),
        Alertmanager::start(AlertmanagerOptions { webhook, ..AlertmanagerOptions::default() })
    )?;
    kube.allow_everything("gitops").await?;
    Ok(Shared { kube, prometheus, alertmanager, inbox, shops })
}

/// A Prometheus that reads targets from a folder of files, or only from its own.
pub async fn prometheus(shops: Option<&Folder>) -> Result<Prometheus> {
    prometheus_every(SCRAPE, shops).await
}

/// The same with a scrape interval of one's own.
pub async fn prometheus_every(scrape_interval: Duration, shops: Option<&Folder>) -> Result<Prometheus> {
    let job = |folder: &Folder| {
        let files = folder.path().join("*.json");
        format!(
            "- job_name: shops\n  file_sd_configs: [{{files: [{:?}], refresh_interval: 1s}}]\n",
            files.display().to_string()
        )
    };
    let more = shops.map(job).unwrap_or_default();
    Prometheus::start(PrometheusOptions { scrape_interval, more, ..PrometheusOptions::default() }).await
}
