//! One service behind the gateway: two Deployments, two Services, a route of its own host, and users.
//! The route is an HTTPRoute, Contour's own HTTPProxy or OpenShift's Route.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice_rig::fleet::Place;
use sluice_rig::kube::Watch;
use sluice_rig::{Fleet, Load, http, wait};
use sluice_tests::split::{Stretch, Tally};
use sluice_tests::{LIMIT, PolicyText, policy};

use crate::gateway::Gateway;

/// Requests a second, each shop.
const USERS: f64 = 250.0;
/// Contour takes its time to tell Envoy; what went wrong in between is printed, not judged.
const LATE: Duration = Duration::from_millis(600);
const PORT: u16 = 8080;
/// Requests by which a share is told.
const IN_A_ROW: u64 = 500;

/// What splits the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    HttpRoute,
    HttpProxy,
    Route,
}

pub struct Shop {
    pub name: String,
    split: Split,
    pub fleet: Arc<Fleet>,
    routes: Watch,
    tally: Tally,
    users: Load,
}

impl Shop {
    pub async fn open(gateway: &Gateway, name: &str, split: Split) -> Result<Shop> {
        let fleet = Arc::new(Fleet::follow(&gateway.kube, name, Place::PodAddress(PORT)).await?);
        fleet.wait_until_ready(("app", name), 3, LIMIT).await?;
        fleet.feed(gateway.targets(name))?;
        let routes = gateway.kube.watch(&split.path(name)).await?;
        let url = gateway.url();
        reaches(&url, name).await?;
        let users = Load::with_headers(&url, USERS, &[("Host", &host(name))])?;
        let counted = format!("sum(http_requests_total{{app={name:?}}})");
        gateway.prometheus.wait_for(&counted, LIMIT, |count| count > USERS).await?;
        let (ours, stable, canary) = (fleet.clone(), name.to_owned(), format!("{name}-canary"));
        let tally = Tally::of(move || [&stable, &canary].map(|app| ours.requests(("app", app))));
        Ok(Shop { name: name.to_owned(), split, fleet, routes, tally, users })
    }

    /// From now on all users hold this cookie.
    pub fn users_hold(&mut self, url: &str, cookie: &str) -> Result<()> {
        self.users = Load::with_headers(url, USERS, &[("Host", &host(&self.name)), ("Cookie", cookie)])?;
        Ok(())
    }

    /// `namespace/name`
    pub fn rollout(&self) -> String {
        format!("{0}/{0}", self.name)
    }

    /// With these fields of the spec in place of the usual ones.
    pub fn policy_with(&self, prometheus: &str, more: Value) -> PolicyText {
        let (stable, canary) = (&self.name, self.canary());
        let mut spec = json!({
            "target": {self.split.word(): {"name": self.name, "stable": stable, "canary": canary}},
            "workloads": {
                "stable": {"deployment": stable}, "canary": {"deployment": canary},
                "promote": "copyTemplate", "scaleDownDelay": "1s",
            },
            "metrics": {"prometheus": {"url": prometheus, "timeout": "2s"}},
        });
        policy::merge(&mut spec, more);
        PolicyText::of(&policy::policy(&self.name, &self.name, spec))
    }

    /// The canary's Deployment, Service and version.
    pub fn canary(&self) -> String {
        format!("{}-canary", self.name)
    }

    /// How many the route has.
    pub fn rules(&self) -> Option<usize> {
        let route = self.routes.latest(&self.name)?;
        let rules = ["rules", "routes"].into_iter().find_map(|field| route["spec"][field].as_array());
        rules.map(Vec::len)
    }

    /// When the API server told of each weight of the canary, in percent.
    fn written(&self) -> Vec<(Instant, f64)> {
        let events = self.routes.events();
        let ours = events.iter().filter(|seen| seen.kind != "DELETED" && seen.name() == self.name);
        let mut written: Vec<(Instant, f64)> =
            ours.map(|seen| (seen.at, self.split.percent(&seen.object))).collect();
        written.dedup_by_key(|(_, percent)| *percent);
        written
    }

    pub fn weights(&self) -> Vec<f64> {
        self.written().into_iter().map(|(_, percent)| percent).collect()
    }

    /// Waits until the API server has told of exactly these, in order: its news may be later than the rollout's end.
    pub async fn weights_were(&self, wanted: &[f64]) -> Result<()> {
        wait::until_equal("the weights", LIMIT, wanted.to_vec(), || async { Ok(self.weights()) }).await
    }

    /// Waits until the API server has told that it was opened, and last that it is shut.
    pub async fn was_put_back(&self) -> Result<()> {
        wait::until("weight 0 after others", LIMIT, || async {
            let weights = self.weights();
            ensure!(weights.starts_with(&[0.0, 10.0]) && weights.ends_with(&[0.0]), "{weights:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until a good number of requests in a row were divided as this weight says, as the pods counted them.
    pub async fn is_divided(&self, percent: f64) -> Result<()> {
        let count = || [self.name.clone(), self.canary()].map(|app| self.fleet.requests(("app", &app)));
        let mut before = count();
        wait::until(&format!("requests to be divided at {percent} %"), LIMIT, || {
            let now = count();
            let [stable, canary] = [0, 1].map(|arm: usize| now[arm].saturating_sub(before[arm]));
            let enough = stable + canary >= IN_A_ROW;
            if enough {
                before = now;
            }
            let divided = Stretch { percent, stable, canary }.check();
            std::future::ready(if enough { divided.map(Some) } else { Ok(None) })
        })
        .await
    }

    /// Under every weight the canary got its share of the requests, as the pods counted them.
    pub fn share_was_the_weights(&self) -> Result<()> {
        self.stretches().iter().try_for_each(|stretch| stretch.check())
    }

    /// All but the last one at 0: after a promotion pods go, and take their counts along.
    fn stretches(&self) -> Vec<Stretch> {
        let written = self.written();
        let ends_shut = written.len() > 1 && written.last().is_some_and(|(_, percent)| *percent == 0.0);
        let mut stretches = self.tally.stretches(&written, LATE);
        if ends_shut {
            stretches.pop_if(|stretch| stretch.percent == 0.0);
        }
        stretches
    }

    /// For people: what each weight came to.
    pub fn account(&self) -> String {
        let mut text =
            format!("{}: weight, requests to stable and canary, share, in effect after\n", self.rollout());
        let written = self.written();
        for stretch in self.stretches() {
            let (stable, canary) = (stretch.stable, stretch.canary);
            let share = 100.0 * canary as f64 / (stable + canary).max(1) as f64;
            let _ = writeln!(text, "  {:>4} %  {stable:>6} {canary:>6}  {share:>6.2} %", stretch.percent);
        }
        for pair in written.windows(2) {
            let [(_, former), (at, new)] = pair else { continue };
            let after = self.tally.in_effect_after(*at, *former, *new);
            let _ = writeln!(text, "  {former:>4} % to {new:>4} %: {after:?}");
        }
        let _ = writeln!(text, "  users: {:?}", self.users.report());
        text
    }
}

/// Waits until the data plane knows the route and stable's pods.
async fn reaches(url: &str, name: &str) -> Result<()> {
    let client = http::client()?;
    wait::until(&format!("{name} to answer through the gateway"), LIMIT, || async {
        let answer = client.get(url).header("Host", host(name)).send().await?;
        Ok(answer.status().is_success().then_some(()))
    })
    .await
}

pub fn host(name: &str) -> String {
    format!("{name}.example")
}

impl Split {
    fn word(self) -> &'static str {
        match self {
            Split::HttpRoute => "httpRoute",
            Split::HttpProxy => "httpProxy",
            Split::Route => "openShiftRoute",
        }
    }

    fn path(self, namespace: &str) -> String {
        match self {
            Split::HttpRoute => {
                format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes")
            }
            Split::HttpProxy => format!("/apis/projectcontour.io/v1/namespaces/{namespace}/httpproxies"),
            Split::Route => format!("/apis/route.openshift.io/v1/namespaces/{namespace}/routes"),
        }
    }

    fn percent(self, route: &Value) -> f64 {
        let spec = &route["spec"];
        let [stable, canary] = match self {
            Split::HttpRoute => [0, 1].map(|index| &spec["rules"][0]["backendRefs"][index]),
            Split::HttpProxy => [0, 1].map(|index| &spec["routes"][0]["services"][index]),
            Split::Route => [&spec["to"], &spec["alternateBackends"][0]],
        }
        .map(|backend| backend["weight"].as_f64().unwrap_or(1.0));
        (1000.0 * canary / (stable + canary)).round() / 10.0
    }

    fn object(self, name: &str) -> String {
        let host = host(name);
        match self {
            Split::HttpRoute => format!(
                "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: gateway, namespace: default}}]
  hostnames: [{host}]
  rules:
  - backendRefs:
    - {{name: {name}, port: 80, weight: 100}}
    - {{name: {name}-canary, port: 80, weight: 0}}
"
            ),
            Split::HttpProxy => format!(
                "apiVersion: projectcontour.io/v1
kind: HTTPProxy
metadata: {{name: {name}}}
spec:
  virtualhost: {{fqdn: {host}}}
  routes:
  - services:
    - {{name: {name}, port: 80, weight: 100}}
    - {{name: {name}-canary, port: 80, weight: 0}}
"
            ),
            Split::Route => format!(
                "apiVersion: route.openshift.io/v1
kind: Route
metadata: {{name: {name}}}
spec:
  host: {host}
  to: {{kind: Service, name: {name}, weight: 100}}
  alternateBackends:
  - {{kind: Service, name: {name}-canary, weight: 0}}
"
            ),
        }
    }
}

/// Everything in the cluster that belongs to a shop; the canary has no pods yet.
pub fn objects(name: &str, split: Split) -> String {
    let version = |app: &str, replicas: u32| {
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec: {{containers: [{{name: app, image: 'registry.example/{app}'}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {app}}}
spec: {{selector: {{app: {app}}}, ports: [{{port: 80, targetPort: {PORT}}}]}}
---
"
        )
    };
    let canary = format!("{name}-canary");
    version(name, 3) + &version(&canary, 0) + &split.object(name)
}
