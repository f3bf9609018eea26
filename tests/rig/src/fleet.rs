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
use crate::prometheus::Target;
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

#[derive(Debug, Default)]
struct Pods {
    running: BTreeMap<String, Running>,
    behaviours: BTreeMap<String, Arc<Behaviour>>,
    failure: Option<String>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    app: String,
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
        let task = tokio::spawn(follow(watch, place, pods.clone()));
        Ok(Self { pods, namespace: namespace.to_owned(), task })
    }

    /// How all pods of a version behave, those to come included.
    pub fn behaviour(&self, version: &str) -> Arc<Behaviour> {
        lock(&self.pods).behaviour(version)
    }

    /// Name and address of the running pods of a version that are ready.
    pub fn ready(&self, version: &str) -> Vec<(String, SocketAddr)> {
        let pods = lock(&self.pods);
        let ours = pods.running.iter().filter(|(_, pod)| pod.ready && pod.service.version() == version);
        ours.map(|(name, pod)| (name.clone(), pod.service.address())).collect()
    }

    /// All running pods as Prometheus would discover them, with `namespace`, `app`, `pod` and `version`.
    pub fn targets(&self) -> Vec<Target> {
        let pods = lock(&self.pods);
        let target = |(name, pod): (&String, &Running)| {
            let mut target = Target::pod(pod.service.address(), &self.namespace, &pod.app, name);
            target.labels.push(("version".to_owned(), pod.service.version().to_owned()));
            target
        };
        pods.running.iter().map(target).collect()
    }

    /// Requests that the running pods of a version have counted.
    pub fn requests(&self, version: &str) -> u64 {
        let pods = lock(&self.pods);
        let ours = pods.running.values().filter(|pod| pod.service.version() == version);
        ours.map(|pod| pod.service.counts().requests).sum()
    }

    /// Waits until this many pods of a version are ready and listen.
    pub async fn wait_until_ready(&self, version: &str, count: usize, limit: Duration) -> Result<()> {
        wait::until_equal(&format!("ready pods of {version}"), limit, count, || async {
            let failure = lock(&self.pods).failure.clone();
            failure.map_or_else(|| Ok(self.ready(version).len()), |failure| bail!(failure))
        })
        .await
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
    fn behaviour(&mut self, version: &str) -> Arc<Behaviour> {
        let seed = self.behaviours.len() as u64 + 1;
        self.behaviours.entry(version.to_owned()).or_insert_with(|| Behaviour::healthy(seed)).clone()
    }
}

async fn follow(watch: Watch, place: Place, pods: Arc<Mutex<Pods>>) {
    let mut known = 0;
    loop {
        let new = watch.events_after(known);
        known += new.len();
        for seen in &new {
            if let Err(error) = take(seen, place, &pods).await {
                lock(&pods).failure = Some(format!("pod {}: {error:#}", seen.name()));
            }
        }
        watch.changed(known).await;
    }
}

async fn take(seen: &Seen, place: Place, pods: &Mutex<Pods>) -> Result<()> {
    let name = seen.name();
    let Some(ip) = running_at(seen) else {
        lock(pods).running.remove(name);
        return Ok(());
    };
    let ready = is_ready(&seen.object);
    if let Some(pod) = lock(pods).running.get_mut(name) {
        pod.ready = ready;
        return Ok(());
    }
    let label = |name: &str| seen.object["metadata"]["labels"][name].as_str().map(str::to_owned);
    let app = label("app").unwrap_or_default();
    let version = label("version").unwrap_or_else(|| app.clone());
    let address = match place {
        Place::Loopback => (Ipv4Addr::LOCALHOST, 0).into(),
        Place::PodAddress(port) => (ip, port).into(),
    };
    let behaviour = lock(pods).behaviour(&version);
    let service = Service::start_at(address, &version, name, behaviour).await?;
    lock(pods).running.insert(name.to_owned(), Running { service, app, ready });
    Ok(())
}

/// The address of a pod that runs and is not on its way out.
fn running_at(seen: &Seen) -> Option<IpAddr> {
    let pod = &seen.object;
    let goes = seen.kind == "DELETED" || !pod["metadata"]["deletionTimestamp"].is_null();
    let runs = pod["status"]["phase"] == "Running" && !goes;
    pod["status"]["podIP"].as_str().filter(|_| runs)?.parse().ok()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
