//! A service in two versions behind HAProxy, with users: what a rollout happens to.
//!
//! ```text
//! users ──> HAProxy ──┬─> v1 (stable)  /metrics
//!    runtime socket ──┘└> v2 (canary)  /metrics
//! ```

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};
use sluice_rig::haproxy::WeightLog;
use sluice_rig::{Haproxy, HaproxyOptions, Load, Service, wait};
use sluice_tests::split::Tally;
use sluice_tests::{LIMIT, PolicyText};

use crate::split::{self, path};

pub const NAMESPACE: &str = "shop";
/// Requests a second.
pub const USERS: f64 = 200.0;
/// No real service is free of errors.
pub const USUAL_ERRORS: f64 = 0.005;

pub struct Shop {
    /// The policy's name.
    pub name: String,
    pub stable: Arc<Service>,
    pub canary: Arc<Service>,
    pub haproxy: Haproxy,
    /// The canary's weight and stable's, as HAProxy tells them.
    pub weights: WeightLog,
    tally: Tally,
    users: Option<Load>,
}

impl Shop {
    /// Open, with users, and both versions equally good.
    pub async fn open(name: &str) -> Result<Shop> {
        let mut shop = Shop::without_users(name).await?;
        shop.let_users_in(USERS)?;
        Ok(shop)
    }

    pub async fn without_users(name: &str) -> Result<Shop> {
        let stable = Arc::new(Service::start("v1", &format!("{name}-v1")).await?);
        let canary = Arc::new(Service::start("v2", &format!("{name}-v2")).await?);
        stable.behaviour.set_error_share(USUAL_ERRORS);
        canary.behaviour.set_error_share(USUAL_ERRORS);
        let haproxy =
            Haproxy::start(HaproxyOptions::stable_and_canary(stable.address(), canary.address())).await?;
        let weights = haproxy.log_weights(&["canary", "stable"]);
        let ours = [stable.clone(), canary.clone()];
        let tally = Tally::of(move || [0, 1].map(|arm: usize| ours[arm].counts().requests));
        Ok(Shop { name: name.to_owned(), stable, canary, haproxy, weights, tally, users: None })
    }

    pub fn let_users_in(&mut self, per_second: f64) -> Result<()> {
        self.users = Some(Load::start(&self.haproxy.url(), per_second)?);
        Ok(())
    }

    pub fn send_users_away(&mut self) {
        self.users = None;
    }

    /// The canary's shares in percent, in order and no others, as HAProxy told them. It is asked every few milliseconds,
    /// so the last one may be a moment late.
    pub async fn weights_were(&self, percent: &[f64]) -> Result<()> {
        let look = || async { Ok(path(&self.weights)) };
        wait::until_equal("the weights that HAProxy told", LIMIT, percent.to_vec(), look).await
    }

    /// Under every weight the canary got its share of the requests, as both versions counted them.
    pub fn share_was_the_weights(&self) -> Result<()> {
        split::check(&self.tally, &self.weights)
    }

    /// `namespace/name`
    pub fn rollout(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }

    /// `namespace/name@attempt`
    pub fn attempt(&self, attempt: &str) -> String {
        format!("{NAMESPACE}/{}@{attempt}", self.name)
    }

    /// As its team would write it, but in seconds instead of minutes.
    pub fn policy(&self) -> PolicyText {
        self.policy_with(|_| ())
    }

    /// The same, but at this step (from 0) it stands until somebody acts, however slow the machine is.
    pub fn policy_that_stands_at(&self, step: usize) -> PolicyText {
        self.policy_with(|spec| {
            spec["steps"][step]["min"] = json!("10m");
            spec["steps"][step]["max"] = json!("1h");
        })
    }

    /// The same with some fields of `spec` changed.
    pub fn policy_with(&self, change: impl FnOnce(&mut Value)) -> PolicyText {
        let mut policy = json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": self.name, "namespace": NAMESPACE, "labels": {"team": self.name}},
            "spec": {
                "target": {"haproxy": {
                    "socket": self.haproxy.socket(), "backend": Haproxy::BACKEND,
                    "stable": ["stable"], "canary": ["canary"],
                }},
                "metrics": {"scrape": {
                    "stable": [format!("{}/metrics", self.stable.url())],
                    "canary": [format!("{}/metrics", self.canary.url())],
                    "every": "250ms",
                }},
                "analysis": {"warmup": "0s", "risk": {"badRequests": 200, "within": "60s", "share": "2%"}},
                "steps": [{"weight": 5}, {"weight": 25}, {"weight": 50}],
                "limits": {"step": {"min": "2s", "max": "60s"}, "drain": "5s", "troubleAfter": "2s"},
                "bake": {"for": "3s", "holdback": "10%"},
            },
        });
        change(&mut policy["spec"]);
        PolicyText::of(&policy)
    }
}
