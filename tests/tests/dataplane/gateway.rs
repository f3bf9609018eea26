//! A control plane with Contour and Envoy as its gateway, and a Prometheus that scrapes the pods.

use anyhow::Result;
use sluice_rig::folder::Folder;
use sluice_rig::kube::Crds;
use sluice_rig::prometheus::Targets;
use sluice_rig::{Contour, ContourOptions, Envoy, Kube, KubeOptions, Prometheus};
use sluice_tests::world::servers;
use sluice_tests::{Daemon, DaemonOptions};

use crate::shop::{self, Shop, Split};

pub struct Gateway {
    pub kube: Kube,
    pub envoy: Envoy,
    pub prometheus: Prometheus,
    /// A file of targets a shop.
    targets: Folder,
    _contour: Contour,
}

impl Gateway {
    /// With these shops' objects, each in a namespace of its own: Envoy's listener opens with the first route.
    pub async fn open(shops: &[(&str, Split)]) -> Result<Gateway> {
        let crds = vec![Crds::GatewayExperimental, Crds::Contour];
        let kube = Kube::start(KubeOptions { crds, ..KubeOptions::default() }).await?;
        kube.allow_everything("sluice").await?;
        for (name, split) in shops {
            kube.kubectl(&["create", "namespace", name]).await?;
            kube.apply(name, &shop::objects(name, *split)).await?;
        }
        let contour = Contour::start(&kube, ContourOptions::default()).await?;
        let envoy = Envoy::start(&contour).await?;
        let targets = Folder::new("targets")?;
        let prometheus = servers::prometheus(Some(&targets)).await?;
        Ok(Gateway { kube, envoy, prometheus, targets, _contour: contour })
    }

    /// A shop with users, whose pods Envoy reaches and Prometheus has counted.
    pub async fn shop(&self, name: &str, split: Split) -> Result<Shop> {
        Shop::open(self, name, split).await
    }

    /// What Prometheus scrapes of a shop.
    pub fn targets(&self, name: &str) -> Targets {
        Targets::at(self.targets.path().join(format!("{name}.json")))
    }

    pub async fn daemon(&self, shops: &[&Shop]) -> Result<Daemon> {
        let policies = shops.iter().map(|shop| shop.policy(&self.prometheus.url())).collect();
        let kubeconfig = Some(self.kube.kubeconfig("sluice"));
        Daemon::start(DaemonOptions { kubeconfig, ..DaemonOptions::embedded(policies) }).await
    }
}
