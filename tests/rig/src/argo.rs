//! Argo Rollouts' controller on a [`Kube`]: it runs the pods of Rollouts and writes their router.

use anyhow::Result;

use crate::binaries;
use crate::folder::Folder;
use crate::kube::{Crds, Kube};
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};

/// A running controller for all namespaces.
#[derive(Debug)]
pub struct ArgoRollouts {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    _ports: [Port; 2],
    _folder: Folder,
}

impl ArgoRollouts {
    /// Installs its CRDs, starts it and waits for `/healthz`. Rollouts with Istio need the CRDs `Istio`.
    pub async fn start(kube: &Kube) -> Result<Self> {
        kube.install(Crds::ArgoRollouts).await?;
        let (folder, metrics, health) = (Folder::new("argo-rollouts")?, Port::free()?, Port::free()?);
        let ready = Ready::Http(format!("http://{}/healthz", health.address()));
        let program = binaries::built("rollouts-controller")?;
        let server = Recipe::new("rollouts-controller", program, folder.path(), ready)
            .args(["--leader-elect=false", "--loglevel=info"])
            .args([format!("--kubeconfig={}", kube.kubeconfig(Kube::ADMIN).display())])
            .args([
                format!("--metricsPort={}", metrics.number()),
                format!("--healthzPort={}", health.number()),
            ])
            .start()
            .await?;
        Ok(Self { server, _ports: [metrics, health], _folder: folder })
    }
}
