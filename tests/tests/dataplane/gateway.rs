//! A control plane with a data plane as its gateway (Contour and Envoy, or OpenShift's router over HAProxy), and a Prometheus
//! that scrapes the pods.

use std::time::Duration;

use anyhow::Result;
use sluice_rig::folder::Folder;
use sluice_rig::kube::Crds;
use sluice_rig::prometheus::Targets;
use sluice_rig::{Contour, ContourOptions, Envoy, Kube, KubeOptions, OpenShiftRouter, Prometheus};
use sluice_tests::world::servers;
use sluice_tests::{Daemon, DaemonOptions, PolicyText};

use crate::shop::{self, Shop, Split};

/// How often OpenShift's router may take up changes: 5 s in a cluster.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// How often pods are scraped.
const QUICK: Duration = Duration::from_millis(500);
/// Where a busy machine's pause of half a second must not look like a canary that has drained.
const STEADY: Duration = Duration::from_secs(2);

pub struct Gateway {
    pub kube: Kube,
    pub prometheus: Prometheus,
    plane: Plane,
    /// A file of targets a shop.
    targets: Folder,
}

/// What carries the requests.
enum Plane {
    Envoy { envoy: Envoy, _contour: Box<Contour> },
    OpenShift(OpenShiftRouter),
}

impl Gateway {
    /// Contour and Envoy, with these shops' objects, each in a namespace of its own: Envoy's listener opens with the first route.
    pub async fn contour(shops: &[(&str, Split)]) -> Result<Gateway> {
        let kube = cluster(vec![Crds::GatewayExperimental, Crds::Contour], shops).await?;
        let contour = Contour::start(&kube, ContourOptions::default()).await?;
        let envoy = Envoy::start(&contour).await?;
        Gateway::with(kube, QUICK, Plane::Envoy { envoy, _contour: Box::new(contour) }).await
    }

    /// OpenShift's router, with a Route for each of these shops.
    pub async fn open_shift(shops: &[&str]) -> Result<Gateway> {
        let shops: Vec<(&str, Split)> = shops.iter().map(|name| (*name, Split::Route)).collect();
        let kube = cluster(vec![Crds::Routers], &shops).await?;
        let router = OpenShiftRouter::start(&kube, RELOAD_INTERVAL).await?;
        Gateway::with(kube, STEADY, Plane::OpenShift(router)).await
    }

    async fn with(kube: Kube, scrape: Duration, plane: Plane) -> Result<Gateway> {
        let targets = Folder::new("targets")?;
        let prometheus = servers::prometheus_every(scrape, Some(&targets)).await?;
        Ok(Gateway { kube, prometheus, plane, targets })
    }

    /// Where requests go in; the header `Host` says whose they are.
    pub fn url(&self) -> String {
        match &self.plane {
            Plane::Envoy { envoy, .. } => envoy.url(),
            Plane::OpenShift(router) => router.url(),
        }
    }

    /// A shop with users, whose pods the gateway reaches and Prometheus has counted.
    pub async fn shop(&self, name: &str, split: Split) -> Result<Shop> {
        Shop::open(self, name, split).await
    }

    /// What Prometheus scrapes of a shop.
    pub fn targets(&self, name: &str) -> Targets {
        Targets::at(self.targets.path().join(format!("{name}.json")))
    }

    pub async fn daemon(&self, policies: Vec<PolicyText>) -> Result<Daemon> {
        let kubeconfig = Some(self.kube.kubeconfig("sluice"));
        Daemon::start(DaemonOptions { kubeconfig, ..DaemonOptions::embedded(policies) }).await
    }
}

async fn cluster(crds: Vec<Crds>, shops: &[(&str, Split)]) -> Result<Kube> {
    let kube = Kube::start(KubeOptions { crds, ..KubeOptions::default() }).await?;
    kube.allow_everything("sluice").await?;
    for (name, split) in shops {
        kube.kubectl(&["create", "namespace", name]).await?;
        kube.apply(name, &shop::objects(name, *split)).await?;
    }
    Ok(kube)
}
