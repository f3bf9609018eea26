//! Pods that answer: for each running pod of a namespace a [`Service`], started when the API server says that the pod
//! runs and stopped when it says that it goes. So a Deployment that is scaled or rolled by anybody gains and loses
//! real endpoints with real metrics.
//!
//! Outside a network of one's own the services listen on loopback ports; inside ([`crate::netns`]) at the pods' own
//! addresses, where a data plane finds them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::kube::{Kube, Seen, Watch};
use crate::prometheus::{Target, Targets};
use crate::service::{Behaviour, Service};
use crate::{netns, wait};

/// Where the services listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// 127.0.0.1, a free port each.
    Loopback,
    /// The pod's address and this port. Refused outside of [`crate::netns`].
    PodAddress(u16),
}

/// Services that follow the pods of one namespace.
#[derive(Debug)]
pub struct Fleet {
    pods: Arc<Mutex<Pods>>,
    namespace: String,
    task: JoinHandle<()>,
}

/// The version of a pod of an Argo Rollout; Prometheus has it with underscores.
const ARGO_HASH: &str = "rollouts-pod-template-hash";

/// A label that pods are chosen by, such as `("app", "checkout")`: a Service's selector.
pub type Label<'a> = (&'a str, &'a str);

#[derive(Debug, Default)]
struct Pods {
    running: BTreeMap<String, Running>,
    /// Requests that pods with these labels had counted when they went.
    gone: BTreeMap<BTreeMap<String, String>, u64>,
    behaviours: BTreeMap<String, Arc<Behaviour>>,
    /// The Prometheus that is fed, and what it was told last.
    fed: Option<(Targets, Vec<Target>)>,
    failure: Option<String>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    /// The pod's own, `version` always among them.
    labels: BTreeMap<String, String>,
    ready: bool,
}

impl Fleet {
    /// Follows the pods of a namespace. A pod's version is its label `version`, or else its label `app`.
    pub async fn follow(kube: &Kube, namespace: &str, place: Place) -> Result<Self> {
        if let Place::PodAddress(_) = place
            && !netns::is_enclosed()
        {
            bail!("pods have their own addresses only inside a network of one's own (netns::enclosed)");
        }
        let watch = kube.watch(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
        let pods = Arc::new(Mutex::new(Pods::default()));
        let task = tokio::spawn(follow(watch, namespace.to_owned(), place, pods.clone()));
        Ok(Self { pods, namespace: namespace.to_owned(), task })
    }

    /// How all pods of a version behave, those to come included.
    pub fn behaviour(&self, version: &str) -> Arc<Behaviour> {
        lock(&self.pods).behaviour(version)
    }

    /// Name and address of the pods with a label that are ready.
    pub fn ready(&self, label: Label<'_>) -> Vec<(String, SocketAddr)> {
        let pods = lock(&self.pods);
        pods.ready(label).map(|(name, pod)| (name.clone(), pod.service.address())).collect()
    }

    /// The URL of one of the ready pods with a label, in turns; see [`Picker::pick`].
    pub fn pick(&self, label: Label<'_>, number: u64) -> Option<String> {
        self.picker().pick(label, number)
    }

    /// What [`crate::Load::choosing`] can keep, where the test plays the router.
    pub fn picker(&self) -> Picker {
        Picker(self.pods.clone())
    }

    /// All running pods as Prometheus would discover them, with `namespace`, `app`, `pod` and `version`.
    pub fn targets(&self) -> Vec<Target> {
        lock(&self.pods).targets(&self.namespace)
    }

    /// Keeps a Prometheus scraping the running pods, whatever comes and goes.
    pub fn feed(&self, targets: Targets) -> Result<()> {
        let mut pods = lock(&self.pods);
        let now = pods.targets(&self.namespace);
        targets.set(&now)?;
        pods.fed = Some((targets, now));
        Ok(())
    }

    /// Requests that the pods with a label have counted, those that are gone included.
    pub fn requests(&self, (name, value): Label<'_>) -> u64 {
        let pods = lock(&self.pods);
        let running = pods.running.values().filter(|pod| pod.has((name, value)));
        let gone =
            pods.gone.iter().filter(|(labels, _)| labels.get(name).is_some_and(|label| label == value));
        running.map(|pod| pod.service.counts().requests).chain(gone.map(|(_, requests)| *requests)).sum()
    }

    /// Waits until exactly this many pods with a label are ready and listen.
    pub async fn wait_until_ready(&self, label: Label<'_>, count: usize, limit: Duration) -> Result<()> {
        wait::until_equal(&format!("ready pods with {label:?}"), limit, count, || async {
            let failure = lock(&self.pods).failure.clone();
            failure.map_or_else(|| Ok(self.ready(label).len()), |failure| bail!(failure))
        })
        .await
    }
}

/// Chooses pods for requests; outlives nothing: without its [`Fleet`] the pods stay as they were.
#[derive(Debug, Clone)]
pub struct Picker(Arc<Mutex<Pods>>);

impl Picker {
    /// The URL of one of the ready pods with a label, in turns. `None` if no pod is ready.
    pub fn pick(&self, label: Label<'_>, number: u64) -> Option<String> {
        let pods = lock(&self.0);
        let count = pods.ready(label).count() as u64;
        let turn = number.checked_rem(count)?;
        pods.ready(label).nth(usize::try_from(turn).ok()?).map(|(_, pod)| pod.service.url())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(pods: &Mutex<Pods>) -> MutexGuard<'_, Pods> {
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pods {
    fn remove(&mut self, name: &str) {
        if let Some(pod) = self.running.remove(name) {
            *self.gone.entry(pod.labels).or_default() += pod.service.counts().requests;
        }
    }

    fn behaviour(&mut self, version: &str) -> Arc<Behaviour> {
        let seed = self.behaviours.len() as u64 + 1;
        self.behaviours.entry(version.to_owned()).or_insert_with(|| Behaviour::healthy(seed)).clone()
    }

    fn ready(&self, label: Label<'_>) -> impl Iterator<Item = (&String, &Running)> {
        self.running.iter().filter(move |(_, pod)| pod.ready && pod.has(label))
    }

    fn targets(&self, namespace: &str) -> Vec<Target> {
        let target = |(name, pod): (&String, &Running)| {
            let label = |name: &str| pod.labels.get(name).map_or("", String::as_str);
            let mut target = Target::pod(pod.service.address(), namespace, label("app"), name);
            target.labels.push(("version".to_owned(), label("version").to_owned()));
            if pod.labels.contains_key(ARGO_HASH) {
                target.labels.push((ARGO_HASH.replace('-', "_"), label(ARGO_HASH).to_owned()));
            }
            target
        };
        self.running.iter().map(target).collect()
    }

    /// Tells the Prometheus that is fed, if there is one.
    fn feed(&mut self, namespace: &str) {
        let now = self.targets(namespace);
        let Some((targets, told)) = &mut self.fed else { return };
        if *told == now {
            return;
        }
        if let Err(error) = targets.set(&now) {
            self.failure = Some(format!("{error:#}"));
        }
        *told = now;
    }
}

impl Running {
    fn has(&self, (name, value): Label<'_>) -> bool {
        self.labels.get(name).is_some_and(|label| label == value)
    }
}

async fn follow(watch: Watch, namespace: String, place: Place, pods: Arc<Mutex<Pods>>) {
    let mut known = 0;
    loop {
        let new = watch.events_after(known);
        known += new.len();
        for seen in &new {
            if let Err(error) = take(seen, place, &pods).await {
                lock(&pods).failure = Some(format!("pod {}: {error:#}", seen.name()));
            }
        }
        lock(&pods).feed(&namespace);
        watch.changed(known).await;
    }
}

async fn take(seen: &Seen, place: Place, pods: &Mutex<Pods>) -> Result<()> {
    let name = seen.name();
    let Some(ip) = running_at(seen) else {
        lock(pods).remove(name);
        return Ok(());
    };
    let ready = is_ready(&seen.object);
    let mut labels = labels(&seen.object);
    let app = labels.get("app").cloned().unwrap_or_default();
    let version = labels.entry("version".to_owned()).or_insert(app).clone();
    if let Some(pod) = lock(pods).running.get_mut(name) {
        (pod.ready, pod.labels) = (ready, labels);
        return Ok(());
    }
    let address = match place {
        Place::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
        Place::PodAddress(port) => (ip, port).into(),
    };
    let behaviour = lock(pods).behaviour(&version);
    let service = Service::start_at(address, &version, name, behaviour).await?;
    lock(pods).running.insert(name.to_owned(), Running { service, labels, ready });
    Ok(())
}

/// The address of a pod that runs and is not on its way out.
fn running_at(seen: &Seen) -> Option<IpAddr> {
    let pod = &seen.object;
    let goes = seen.kind == "DELETED" || !pod["metadata"]["deletionTimestamp"].is_null();
    let runs = pod["status"]["phase"] == "Running" && !goes;
    pod["status"]["podIP"].as_str().filter(|_| runs)?.parse().ok()
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
