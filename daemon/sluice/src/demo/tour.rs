//! Four releases at once: a good one is promoted, one with errors and one that is slow are put back, and one is aborted
//! by a person's message. Each must come out as it should.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::{StreamExt, future::try_join_all};
use serde::Serialize;
use serde_json::json;
use sluice_bus::{Doors, Embedded};
use sluice_outbound::Outbound;
use sluice_rollout::Outcome;
use sluice_wire::{
    cloudevent::CloudEvent,
    message::{ANNOUNCED, Answer},
    subject,
    view::RolloutView,
};

use super::release::{Kind, World};
use crate::{
    control::Control,
    runtime::{Daemon, Setup, clock::now},
};

/// How the demo can be played.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The least time of a step.
    pub step: Duration,
    /// Requests a second that each service gets.
    pub requests: u32,
}

/// One release of the demo: what it is, and how it must come out.
#[derive(Debug, Clone, Copy)]
pub struct Act {
    pub name: &'static str,
    pub about: &'static str,
    kind: Kind,
    expected: Outcome,
    /// Aborted by a person's message once it has traffic.
    person: bool,
}

pub const ACTS: [Act; 4] = [
    Act {
        name: "good",
        about: "a good release",
        kind: Kind::Good,
        expected: Outcome::Promoted,
        person: false,
    },
    Act {
        name: "errors",
        about: "1 in 10 requests fails",
        kind: Kind::Errors(0.1),
        expected: Outcome::Reverted,
        person: false,
    },
    Act {
        name: "slow",
        about: "eight times as slow",
        kind: Kind::Slow(8.0),
        expected: Outcome::Reverted,
        person: false,
    },
    Act {
        name: "overridden",
        about: "good, but a person says stop",
        kind: Kind::Good,
        expected: Outcome::Reverted,
        person: true,
    },
];

/// How one release came out: one line of `demo -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ending {
    pub rollout: String,
    pub outcome: Outcome,
    pub weight: f64,
    pub seconds: f64,
    pub reason: String,
    #[serde(skip)]
    pub expected: Outcome,
    /// What the users of this service saw.
    #[serde(skip)]
    pub requests: u64,
    #[serde(skip)]
    pub errors: u64,
}

impl Ending {
    pub fn is_as_expected(&self) -> bool {
        let weight = if self.outcome == Outcome::Promoted { 100.0 } else { 0.0 };
        self.outcome == self.expected && self.weight == weight
    }
}

/// A demo under way.
pub struct Tour {
    daemon: Arc<Daemon>,
    bus: Embedded,
    worlds: Vec<World>,
    pace: Pace,
}

impl Tour {
    /// Starts services, proxies, traffic and the daemon.
    pub async fn start(pace: Pace) -> anyhow::Result<Tour> {
        let worlds = try_join_all(ACTS.map(|act| World::with_load(act.kind, pace.requests)))
            .await
            .context("the demo's services need free ports on 127.0.0.1")?;
        let bus = Embedded::in_memory()?;
        let setup = Setup {
            bus: Arc::new(bus.clone()),
            store: Arc::new(bus.clone()),
            doors: Arc::new(bus.clone()),
            daemon: "demo".into(),
            incarnation: now().millis().to_string(),
            cluster: None,
            policies: Vec::new(),
            cluster_policies: None,
            cluster_rights: crate::cluster_rights::Rights::default(),
            alone: true,
            kubeconfig: None,
            kube_context: None,
            signers: None,
            outbound: Outbound::default(),
        };
        let daemon = Daemon::start(setup).await?;
        Ok(Tour { daemon, bus, worlds, pace })
    }

    pub fn control(&self) -> Arc<dyn Control> {
        self.daemon.clone()
    }

    /// Announces every release on the bus and waits for the end of all. `seen` is told every change.
    pub async fn play(&self, mut seen: impl FnMut(&RolloutView)) -> anyhow::Result<Vec<Ending>> {
        let began = Instant::now();
        let mut changes = self.daemon.changes();
        for (act, world) in ACTS.iter().zip(&self.worlds) {
            self.announce(act, world).await?;
        }
        let mut endings: Vec<Option<Ending>> = vec![None; ACTS.len()];
        let mut said = false;
        let limit = tokio::time::sleep(Duration::from_secs(120));
        tokio::pin!(limit);
        while endings.iter().any(Option::is_none) {
            let view = tokio::select! {
                view = changes.next() => view.context("the daemon stopped")?,
                () = &mut limit => bail!("the demo did not come to its end within two minutes; is this machine very busy?"),
            };
            seen(&view);
            let Some(index) = ACTS.iter().position(|act| act.name == view.rollout.name()) else { continue };
            if ACTS[index].person && !said && view.phase == "observing" && view.step >= Some(2) {
                said = true;
                self.say_abort(&view).await?;
            }
            if let (Some(outcome), None) = (view.outcome, &endings[index]) {
                endings[index] = Some(self.ending(index, &view, outcome, began));
            }
        }
        Ok(endings.into_iter().flatten().collect())
    }

    fn ending(&self, index: usize, view: &RolloutView, outcome: Outcome, began: Instant) -> Ending {
        let sent = self.worlds[index].sent();
        Ending {
            rollout: format!("{}/{}", view.rollout.namespace(), view.rollout.name()),
            outcome,
            weight: view.weight.percent(),
            seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            reason: view.reason.clone(),
            expected: ACTS[index].expected,
            requests: sent.well + sent.failed,
            errors: sent.failed,
        }
    }

    async fn announce(&self, act: &Act, world: &World) -> anyhow::Result<()> {
        let data = json!({"version": "v2", "attempt": "v2", "policy": self.policy(act, world)});
        let place = format!("demo/{}", act.name);
        let event =
            CloudEvent::new(format!("demo-{}", act.name), "ci/pipeline", ANNOUNCED, &place, now(), data);
        let subject = subject::event("demo", act.name, "announced");
        let headers = [("Content-Type".to_owned(), "application/cloudevents+json".to_owned())];
        self.bus.publish_event(&subject, &headers, Bytes::from(event.to_bytes())).await?;
        Ok(())
    }

    /// A person's message on the bus, answered at once.
    async fn say_abort(&self, view: &RolloutView) -> anyhow::Result<()> {
        let subject = subject::person(subject::REQUEST, "ann", "demo", view.rollout.name(), "abort");
        let body = Bytes::from(json!({"reason": "customers report an empty basket"}).to_string());
        let answer = self.bus.request(&subject, &[], body, Duration::from_secs(5)).await?;
        let answer: Answer = serde_json::from_slice(&answer)?;
        if !answer.accepted {
            bail!("the person's abort was refused: {}", answer.message);
        }
        Ok(())
    }

    /// The policy as a team would write it, but in seconds instead of minutes.
    fn policy(&self, act: &Act, world: &World) -> serde_json::Value {
        let urls = world.urls();
        let of_a_step = |share: f64| format!("{}ms", self.pace.step.mul_f64(share).as_millis());
        json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": act.name, "namespace": "demo"},
            "spec": {
                "target": {"webhook": {"url": urls.weights}},
                "metrics": {"scrape": {
                    "stable": [urls.stable_metrics], "canary": [urls.canary_metrics], "every": of_a_step(1.0 / 6.0),
                }},
                "analysis": {
                    "warmup": "0s",
                    "risk": {"badRequests": 200, "within": "60s", "share": "2%"},
                },
                "steps": [{"weight": 5}, {"weight": 25}, {"weight": 50}],
                "limits": {"step": {"min": of_a_step(1.0), "max": "60s"}, "drain": "5s"},
                "bake": {"for": of_a_step(4.0 / 3.0), "holdback": "10%"},
            },
        })
    }

    pub async fn stop(self) {
        self.daemon.shutdown().await;
        for world in self.worlds {
            world.stop().await;
        }
    }
}
