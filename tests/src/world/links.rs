//! Links between a shop's daemon and its servers, each of which can be cut, slowed down or silenced. The shop itself, its
//! team and the other stories talk to the servers directly and notice nothing.

use std::path::PathBuf;

use anyhow::{Context, Result};
use sluice_rig::folder::Folder;
use sluice_rig::toxiproxy::Link;
use sluice_rig::{Nats, Prometheus, Toxiproxy};

use super::servers::Shared;

/// One link a server.
#[derive(Debug)]
pub struct Links {
    pub nats: Link,
    pub prometheus: Link,
    pub alertmanager: Link,
    pub api: Link,
    kubeconfig: PathBuf,
    _folder: Folder,
    _proxy: Toxiproxy,
}

impl Links {
    pub(super) async fn open(shared: &Shared, nats: &Nats, prometheus: &Prometheus) -> Result<Links> {
        let (proxy, folder) = (Toxiproxy::start().await?, Folder::new("links")?);
        let api = shared.kube.url().strip_prefix("https://").context("the API server's address")?.parse()?;
        let (api, nats, prometheus, alertmanager) = tokio::try_join!(
            proxy.link("api", api),
            proxy.link("nats", nats.address()),
            proxy.link("prometheus", prometheus.address()),
            proxy.link("alertmanager", shared.alertmanager.address())
        )?;
        let config = std::fs::read_to_string(shared.kube.kubeconfig("sluice"))?;
        let kubeconfig = folder.write("sluice.kubeconfig", api.through(&config)?)?;
        Ok(Links { nats, prometheus, alertmanager, api, kubeconfig, _folder: folder, _proxy: proxy })
    }

    /// The daemon's, which leads through the link.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// All of them, with what they lead to.
    pub fn all(&self) -> [(&'static str, &Link); 4] {
        [
            ("NATS", &self.nats),
            ("Prometheus", &self.prometheus),
            ("Alertmanager", &self.alertmanager),
            ("the API server", &self.api),
        ]
    }
}
