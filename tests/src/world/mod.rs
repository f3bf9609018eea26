//! A shop in Kubernetes for one story: a namespace of its own with a stable and a canary version, a route that splits
//! the traffic between them, requests that follow the route, and a NATS server of its own. The control plane, Prometheus
//! and Alertmanager are shared by all stories of a test binary ([`servers`]).
//!
//! ```text
//!   API server ──watch──▶ router ──requests──▶ pods (fleet) ◀──scrape── Prometheus
//!       ▲                                                                   ▲
//!       └──────────── sluice run (user `sluice`, namespace rights only) ────┘──▶ Alertmanager, NATS
//! ```

mod alerts;
mod links;
mod manifests;
mod objects;
mod router;
pub mod servers;
mod shape;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sluice_rig::fleet::Place;
use sluice_rig::kube::{Watch, deployed_rights};
use sluice_rig::nats::Release;
use sluice_rig::prometheus::Targets;
use sluice_rig::service::Behaviour;
use sluice_rig::{DeploymentConfigs, Fleet, Kube, Load, Nats, NatsOptions, Prometheus};

use sluice_wire::message::Told;

use crate::{Bus, Daemon, DaemonOptions, Deaths, LIMIT, PolicyText, policy};

pub use links::Links;
pub use objects::{annotations, owners_part};
pub use router::Router;
pub use shape::Shape;

/// Requests a second, enough to settle a step within seconds and few enough for several stories at once.
pub const RATE: f64 = 150.0;

/// What a story needs beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct WorldOptions {
    pub shape: Shape,
    /// The canary's size before the rollout: 0 or more.
    pub canary_replicas: u32,
    /// More labels on the canary's pods, such as the rig's `sluice.test/ready: never`.
    pub canary_labels: Vec<(String, String)>,
    /// A Prometheus that belongs to this story alone and may be killed.
    pub own_prometheus: bool,
    /// The daemon reaches its servers through links that can be harmed.
    pub links: bool,
    pub nats: Option<Release>,
}

/// One story's world.
#[derive(Debug)]
pub struct World {
    pub kube: &'static Kube,
    pub namespace: String,
    pub shape: Shape,
    pub fleet: Fleet,
    pub nats: Nats,
    pub bus: Bus,
    pub routes: Watch,
    /// If it was asked for.
    pub prometheus: Option<Prometheus>,
    pub router: Router,
    /// Where the shape has DeploymentConfigs.
    _configs: Option<DeploymentConfigs>,
    links: Option<Links>,
    options: WorldOptions,
    prometheus_url: String,
    alertmanager_url: String,
}

impl World {
    /// Opens the usual shop.
    pub async fn open(label: &str) -> Result<World> {
        World::with(label, WorldOptions::default()).await
    }

    /// Opens a shop, and waits until stable's pods are ready and scraped.
    pub async fn with(label: &str, options: WorldOptions) -> Result<World> {
        let shared = servers::shared().await?;
        let kube = shared.kube;
        if matches!(options.shape, Shape::ArgoRollout | Shape::ArgoBlueGreen) {
            servers::argo_rollouts().await?;
        }
        let namespace = kube.namespace(label).await?;
        let shape = options.shape;
        let _configs =
            if shape == Shape::Route { Some(servers::openshift(kube, &namespace).await?) } else { None };
        let release = options.nats.unwrap_or(Release::Latest);
        let nats = Nats::start(NatsOptions { release, ..NatsOptions::default() }).await?;
        let bus = Bus::connect(&nats.url()).await?;
        let fleet = Fleet::follow(kube, &namespace, Place::Loopback).await?;
        let prometheus = if options.own_prometheus { Some(servers::prometheus(None).await?) } else { None };
        let (prometheus_url, targets) = match &prometheus {
            Some(own) => (own.url(), own.targets()),
            None => (shared.prometheus.url(), shared.targets(&namespace)),
        };
        let source = prometheus.as_ref().unwrap_or(&shared.prometheus);
        let links = if options.links { Some(Links::open(shared, &nats, source).await?) } else { None };
        let (prometheus_url, alertmanager_url) = match &links {
            Some(links) => (
                links.prometheus.through(&prometheus_url)?,
                links.alertmanager.through(&shared.alertmanager.url())?,
            ),
            None => (prometheus_url, shared.alertmanager.url()),
        };
        let routes = kube.watch(&shape.path(&namespace)).await?;
        let all = [deployed_rights()?, shape.objects(&options)].join("\n---\n");
        kube.apply(&namespace, &all).await?;
        let router = Router::follow(kube, &namespace, shape).await?;
        let world = World {
            kube,
            namespace,
            shape,
            fleet,
            nats,
            bus,
            routes,
            prometheus,
            router,
            _configs,
            links,
            options,
            prometheus_url,
            alertmanager_url,
        };
        world.settle(targets).await?;
        Ok(world)
    }

    async fn settle(&self, targets: Targets) -> Result<()> {
        let (stable, canary) = (self.shape.stable_label(), self.shape.canary_label());
        self.fleet.wait_until_ready(stable, 3, LIMIT).await?;
        if self.options.canary_labels.is_empty() {
            self.fleet.wait_until_ready(canary, self.options.canary_replicas as usize, LIMIT).await?;
        }
        self.fleet.feed(targets)?;
        let up = format!("count(up{{namespace={:?}}} == 1)", self.namespace);
        let least = 3.0 + f64::from(self.options.canary_replicas);
        self.query_until(&up, |count| count >= least).await
    }

    async fn query_until(&self, promql: &str, holds: impl Fn(f64) -> bool) -> Result<()> {
        match &self.prometheus {
            Some(own) => own.wait_for(promql, LIMIT, holds).await.map(drop),
            None => servers::shared().await?.prometheus.wait_for(promql, LIMIT, holds).await.map(drop),
        }
    }

    /// How all pods of a version behave: stable's is `v1`, the canary's `v2`.
    pub fn behaviour(&self, version: &str) -> std::sync::Arc<Behaviour> {
        self.fleet.behaviour(version)
    }

    /// Sends requests that go where the route says, at the usual rate, and waits until Prometheus has counted some.
    pub async fn load(&self) -> Result<Load> {
        let load = self.router.load(&self.fleet, RATE)?;
        let total = format!("sum(http_requests_total{{namespace={:?}}})", self.namespace);
        self.query_until(&total, |count| count > RATE).await?;
        Ok(load)
    }

    /// Requests that go to stable's pods whatever the route says: a canary that nobody uses.
    pub async fn load_of_stable_alone(&self) -> Result<Load> {
        router::load_of(&self.fleet, self.shape.stable_label(), RATE)
    }

    /// Requests that go to the canary's pods whatever the route says: clients that hold on to them. Prometheus has counted some.
    pub async fn load_of_canary_alone(&self) -> Result<Load> {
        let (name, value) = self.shape.canary_label();
        let load = router::load_of(&self.fleet, (name, value), RATE)?;
        let total = format!("sum(http_requests_total{{namespace={:?},{name}={value:?}}})", self.namespace);
        self.query_until(&total, |count| count > RATE).await?;
        Ok(load)
    }

    /// `namespace/checkout`: the policy's name on every door.
    pub fn rollout(&self) -> String {
        format!("{}/checkout", self.namespace)
    }

    /// The usual policy of this shop; `spec` is merged over it.
    pub fn policy(&self, spec: Value) -> PolicyText {
        PolicyText::of(&self.policy_value(spec))
    }

    /// The same as JSON.
    pub fn policy_value(&self, spec: Value) -> Value {
        let mut ours = json!({
            "target": self.shape.target(),
            "workloads": self.shape.workloads(),
            "metrics": {"prometheus": {"url": self.prometheus_url, "timeout": "2s"}},
            // An alert ends by itself four repeats after its last post: none does while a busy machine starts its daemon anew.
            "alerts": [{"alertmanager": {"url": self.alertmanager_url, "repeat": "15s", "atLeast": "2s"}}],
        });
        policy::merge(&mut ours, self.shape.spec());
        policy::merge(&mut ours, spec);
        policy::policy(&self.namespace, "checkout", ours)
    }

    /// A daemon on this shop's NATS with the usual policy, changed by `spec`.
    pub async fn daemon(&self, spec: Value) -> Result<Daemon> {
        self.daemon_with(vec![self.policy(spec)]).await
    }

    /// A daemon on this shop's NATS with these policies, as a user with rights in this namespace only.
    pub async fn daemon_with(&self, policies: Vec<PolicyText>) -> Result<Daemon> {
        self.daemon_of(Vec::new(), policies).await
    }

    /// A daemon on this shop's NATS with these policies and more arguments of `sluice run`.
    pub async fn daemon_of(&self, more: Vec<String>, policies: Vec<PolicyText>) -> Result<Daemon> {
        let name = format!("{}-daemon", self.namespace);
        Daemon::start(DaemonOptions { more, ..self.daemon_options(&name, policies)? }).await
    }

    /// One of several daemons on this shop's NATS, under a name of its own.
    pub async fn daemon_named(&self, name: &str, policies: Vec<PolicyText>) -> Result<Daemon> {
        Daemon::start(self.daemon_options(name, policies)?).await
    }

    /// A daemon on this shop's NATS with the usual policy, changed by `spec`, that dies as `deaths` says.
    pub async fn mortal(&self, deaths: &Deaths, spec: Value) -> Result<Daemon> {
        let name = format!("{}-daemon", self.namespace);
        let options = self.daemon_options(&name, vec![self.policy(spec)])?;
        Daemon::start(DaemonOptions { environment: deaths.environment(), ..options }).await
    }

    fn daemon_options(&self, name: &str, policies: Vec<PolicyText>) -> Result<DaemonOptions> {
        let (nats, kubeconfig) = match &self.links {
            Some(links) => (links.nats.through(&self.nats.url())?, links.kubeconfig()),
            None => (self.nats.url(), self.kube.kubeconfig("sluice")),
        };
        let options = DaemonOptions::nats(&nats, policies);
        Ok(DaemonOptions { kubeconfig: Some(kubeconfig), name: name.to_owned(), ..options })
    }

    /// Those that were asked for.
    pub fn links(&self) -> Result<&Links> {
        self.links.as_ref().context("this world was opened without links")
    }

    /// One of several daemons, in one of several clusters that share this shop's NATS.
    pub async fn daemon_in(&self, cluster: &str, name: &str, policies: Vec<PolicyText>) -> Result<Daemon> {
        Daemon::start(DaemonOptions {
            kubeconfig: Some(self.kube.kubeconfig("sluice")),
            name: name.to_owned(),
            more: vec!["--cluster".to_owned(), cluster.to_owned()],
            ..DaemonOptions::nats(&self.nats.url(), policies)
        })
        .await
    }

    /// The usual policy for the objects that [`World::also`] makes under another name.
    pub fn policy_for(&self, name: &str, spec: Value) -> PolicyText {
        let text = self.policy_value(spec).to_string().replace("checkout", name);
        PolicyText::of(&serde_json::from_str(&text).unwrap_or_default())
    }

    /// A daemon whose first step lasts until somebody ends it, and a rollout announced as `v2` that stands there, at 10 %.
    pub async fn standing_at_ten(&self, spec: Value) -> Result<Daemon> {
        let mut long = json!({"steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 50}]});
        policy::merge(&mut long, spec);
        let daemon = self.daemon(long).await?;
        self.bus.announce(&self.rollout(), "v2").await?;
        daemon.wait_for(&self.rollout(), "to stand at 10 %", |view| view.phase == "observing").await?;
        Ok(daemon)
    }

    /// The canary's weight in percent, each value once, in the order in which the API server told them.
    pub fn weights(&self) -> Vec<f64> {
        let mut weights: Vec<f64> = self
            .routes
            .events()
            .iter()
            .filter(|seen| seen.kind != "DELETED" && seen.name() == "checkout")
            .filter_map(|seen| self.shape.canary_percent(&seen.object))
            .collect();
        weights.dedup();
        weights
    }

    /// Waits until the API server has told of exactly these weights, in this order.
    pub async fn wait_weights(&self, wanted: &[f64]) -> Result<()> {
        let look = || async { Ok(self.weights()) };
        sluice_rig::wait::until_equal("the weights written", LIMIT, wanted.to_vec(), look).await
    }

    /// Waits until the API server has told of weight 0 after others, and gives all of them.
    pub async fn wait_shut(&self) -> Result<Vec<f64>> {
        sluice_rig::wait::until("weight 0 after others", LIMIT, || async {
            let weights = self.weights();
            Ok((weights.len() > 1 && weights.last() == Some(&0.0)).then_some(weights))
        })
        .await
    }

    /// Waits until the API server has told of this weight.
    pub async fn wait_weight(&self, percent: f64) -> Result<()> {
        let shape = self.shape;
        let is = |seen: &sluice_rig::kube::Seen| shape.canary_percent(&seen.object) == Some(percent);
        self.routes.wait_for(&format!("weight {percent} %"), LIMIT, is).await.map(drop)
    }

    /// Waits until the object carries this weight now.
    pub async fn wait_now(&self, percent: f64) -> Result<()> {
        sluice_rig::wait::until_equal("the canary's weight now", LIMIT, Some(percent), || async {
            Ok(self.shape.canary_percent(&self.route().await?))
        })
        .await
    }

    /// The weights that another tool (user `gitops`) thinks are right, written as a JSON Patch as server-side apply would.
    pub async fn gitops_writes(&self, canary: u32, stable: u32) -> Result<()> {
        let patch = self.shape.weights_patch(canary, stable).to_string();
        let object = format!("{}/checkout", self.shape.resource());
        let args = ["patch", &object, "--namespace", &self.namespace, "--type=json", "--patch", &patch];
        self.kube.kubectl_as("gitops", &args, None).await.map(drop)
    }

    /// The object that carries the traffic, as it stands.
    pub async fn route(&self) -> Result<Value> {
        self.get(&format!("{}/checkout", self.shape.resource())).await
    }

    /// Waits until the object is its owner's again, as it was, with no abort of ours marked on it.
    pub async fn wait_as_before(&self, before: &Value) -> Result<()> {
        sluice_rig::wait::until_equal("the owner's part", LIMIT, owners_part(before), || async {
            let now = self.route().await?;
            ensure!(!annotations(&now).contains_key("sluice.dev/abort"), "an abort mark stands");
            Ok(owners_part(&now))
        })
        .await
    }

    /// An object of the namespace; `what` is like `deployment/checkout`.
    pub async fn get(&self, what: &str) -> Result<Value> {
        self.kube.get(&self.namespace, what).await
    }

    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.kube.apply(&self.namespace, yaml).await
    }

    /// The same objects once more under another name than `checkout`, for stories with several rollouts. No requests go there.
    pub async fn also(&self, name: &str) -> Result<()> {
        self.apply(&self.shape.objects(&self.options).replace("checkout", name)).await
    }

    /// The daemon's rights in the namespace, again after a story has taken them away.
    pub async fn give_rights(&self) -> Result<()> {
        self.apply(&deployed_rights()?).await
    }

    /// Everything told of a rollout's end, once there are so many; a late one too many shows at the story's end.
    pub async fn finished(&self, count: usize) -> Result<Vec<Told>> {
        sluice_rig::wait::until(&format!("{count} terminal events"), LIMIT, || async {
            let told = self.bus.told(&self.rollout(), "finished")?;
            Ok((told.len() >= count).then_some(told))
        })
        .await
    }

    /// Runs kubectl as `admin` in the namespace.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kube.kubectl(&[args, &["--namespace", self.namespace.as_str()]].concat()).await
    }

    /// Waits until a field of an object has a value.
    pub async fn wait_field(&self, what: &str, pointer: &str, wanted: Value) -> Result<()> {
        let name = format!("{what} {pointer}");
        sluice_rig::wait::until_equal(&name, LIMIT, wanted, || async {
            Ok(self.get(what).await?.pointer(pointer).cloned().unwrap_or_default())
        })
        .await
    }

    /// How long a story that must show that nothing happens watches: some scrapes, reads and windows.
    pub const A_WHILE: Duration = Duration::from_secs(5);

    /// All is as it was before the rollout: stable's template and size, and no canary.
    pub async fn wait_put_back(&self) -> Result<()> {
        let (stable, canary) = (self.shape.stable_name(), self.shape.canary_name());
        let stable = format!("deployment/{stable}");
        self.wait_field(&stable, IMAGE, json!("registry.example/checkout:v1")).await?;
        self.wait_field(&stable, "/spec/replicas", json!(3)).await?;
        let before = json!(self.options.canary_replicas);
        self.wait_field(&format!("deployment/{canary}"), "/spec/replicas", before).await
    }
}

/// The image in a Deployment's template.
pub const IMAGE: &str = "/spec/template/spec/containers/0/image";
