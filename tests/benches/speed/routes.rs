//! HTTPRoutes on a real API server, their policies, and the instants at which the API server told of a weight.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_rig::kube::{Crds, Seen, Watch};
use sluice_rig::{Kube, KubeOptions, http};
use sluice_tests::{LIMIT, PolicyText, policy};

pub const NAMESPACE: &str = "bench";

pub struct Routes {
    pub kube: Kube,
    pub watch: Watch,
    client: reqwest::Client,
}

impl Routes {
    /// A control plane with these routes.
    pub async fn open(names: &[String]) -> Result<Routes> {
        let crds = vec![Crds::GatewayStandard];
        let kube = Kube::start(KubeOptions { crds, ..KubeOptions::default() }).await?;
        kube.allow_everything("sluice").await?;
        kube.kubectl(&["create", "namespace", NAMESPACE]).await?;
        let watch = kube.watch(&path("")).await?;
        let objects: Vec<String> = names.iter().map(|name| route(name)).collect();
        kube.apply(NAMESPACE, &objects.join("\n---\n")).await?;
        Ok(Routes { kube, watch, client: http::client()? })
    }

    /// How long after `since` the API server told that a route's canary has this weight (of the pair, in percent). Only
    /// what was told after the first `known` events counts.
    pub async fn told(&self, name: &str, percent: f64, known: usize, since: Instant) -> Result<Duration> {
        let find = async {
            let mut known = known;
            loop {
                let new = self.watch.events_after(known);
                known += new.len();
                let hit = |seen: &&Seen| seen.name() == name && canary_percent(&seen.object) == percent;
                if let Some(seen) = new.iter().find(hit) {
                    return seen.at.saturating_duration_since(since);
                }
                self.watch.changed(known).await;
            }
        };
        tokio::time::timeout(LIMIT, find).await.with_context(|| format!("{name} never got {percent} %"))
    }

    pub fn known(&self) -> usize {
        self.watch.events().len()
    }

    /// One bare PATCH of the two weights: until it was answered, and until the watch told of it.
    pub async fn patch(&self, name: &str, percent: f64) -> Result<(Duration, Duration)> {
        let known = self.known();
        let begun = Instant::now();
        self.patch_only(name, percent).await?;
        Ok((begun.elapsed(), self.told(name, percent, known, begun).await?))
    }

    /// One bare PATCH of the two weights, until it was answered.
    pub async fn patch_only(&self, name: &str, percent: f64) -> Result<()> {
        let weight = |index: usize, value: f64| json!({"op": "replace", "path": format!("/spec/rules/0/backendRefs/{index}/weight"), "value": value as u64});
        let body = json!([weight(0, 100.0 - percent), weight(1, percent)]);
        let request = self
            .client
            .patch(format!("{}{}", self.kube.url(), path(&format!("/{name}"))))
            .bearer_auth(self.kube.token(Kube::ADMIN))
            .header("Content-Type", "application/json-patch+json")
            .body(body.to_string());
        request.send().await?.error_for_status()?.bytes().await?;
        Ok(())
    }
}

/// `namespace/name`
pub fn rollout(name: &str) -> String {
    format!("{NAMESPACE}/{name}")
}

/// One step that nobody leaves by himself.
pub fn standing(name: &str, metrics: &Value, analysis: &Value, percent: u32) -> PolicyText {
    let spec = json!({
        "target": {"httpRoute": {"name": name, "stable": name, "canary": format!("{name}-canary")}},
        "metrics": metrics,
        "analysis": analysis,
        "steps": [{"weight": percent, "min": "10h", "max": "20h"}],
        "limits": {"step": {"min": "10h", "max": "20h"}, "troubleAfter": "10h"},
    });
    PolicyText::of(&policy::policy(NAMESPACE, name, spec))
}

pub fn canary_percent(route: &Value) -> f64 {
    let weight =
        |index: usize| route["spec"]["rules"][0]["backendRefs"][index]["weight"].as_f64().unwrap_or(1.0);
    (1000.0 * weight(1) / (weight(0) + weight(1))).round() / 10.0
}

fn path(below: &str) -> String {
    format!("/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes{below}")
}

/// With a canary that has an endpoint: one that has none is aborted at once.
fn route(name: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: \
         {{parentRefs: [{{name: gateway}}], hostnames: [{name}.example], rules: [{{backendRefs: \
         [{{name: {name}, port: 80, weight: 100}}, {{name: {name}-canary, port: 80, weight: 0}}]}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: {name}-canary-1, \
         labels: {{kubernetes.io/service-name: {name}-canary}}}}, \
         endpoints: [{{addresses: [10.244.0.7], conditions: {{ready: true}}}}]}}"
    )
}
