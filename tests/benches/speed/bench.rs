//! What the tables of judged rollouts stand on: routes, counting pods, a Prometheus, NATS and the daemon.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sluice_rig::{Nats, NatsOptions, Prometheus, PrometheusOptions};
use sluice_tests::{Bus, Daemon, DaemonOptions, LIMIT};

use crate::counters::Counters;
use crate::routes::{self, Routes};

/// Requests that fail at once when a canary turns bad: the next scrape of it decides.
pub const FAILED: u64 = 100;

pub struct Bench {
    pub routes: Routes,
    pub counters: Counters,
    pub prometheus: Prometheus,
    pub bus: Bus,
    pub daemon: Daemon,
    nats: Nats,
}

impl Bench {
    /// A policy and two pods a name; nothing is announced yet.
    pub async fn open(names: &[String], scrape: Duration) -> Result<Bench> {
        let routes = Routes::open(names).await?;
        let pods: Vec<String> =
            names.iter().flat_map(|name| [name.clone(), format!("{name}-canary")]).collect();
        let counters = Counters::start(&pods).await?;
        let options = PrometheusOptions {
            scrape_interval: scrape,
            targets: counters.targets(),
            ..PrometheusOptions::default()
        };
        let prometheus = Prometheus::start(options).await?;
        prometheus.wait_until_up(pods.len(), LIMIT).await?;
        let nats = Nats::start(NatsOptions::default()).await?;
        let bus = Bus::connect(&nats.url()).await?;
        let policies = names
            .iter()
            .map(|name| routes::standing(name, &metrics(&prometheus, name), &json!({"pods": "ignore"}), 50))
            .collect();
        let options = DaemonOptions {
            kubeconfig: Some(routes.kube.kubeconfig("sluice")),
            log: "warn".to_owned(),
            ..DaemonOptions::nats(&nats.url(), policies)
        };
        let daemon = Daemon::start(options).await?;
        Ok(Bench { routes, counters, prometheus, bus, daemon, nats })
    }

    /// Where the bus is.
    pub fn bus_url(&self) -> String {
        self.nats.url()
    }

    /// This rollout's canary turns bad.
    pub fn turn(&self, name: &str) {
        self.counters.fail(&format!("{name}-canary"), FAILED);
    }
}

fn metrics(prometheus: &Prometheus, name: &str) -> Value {
    json!({"prometheus": {"url": prometheus.url(), "labels": {
        "by": "app", "stable": name, "canary": format!("{name}-canary"), "namespace": "",
    }}})
}
