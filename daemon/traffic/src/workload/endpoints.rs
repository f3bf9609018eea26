//! The canary's ready endpoints, live from the EndpointSlices of the Service that gives it traffic.
//!
//! For a flip that is the Service itself: once it selects the canary its endpoints are the canary's, and before that the number
//! says nothing (the canary has no traffic then). A target that names no Service of the cluster cannot tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use kube::api::{Api, DynamicObject, ListParams};
use kube::runtime::watcher::{Config, Event};
use serde_json::Value;
use sluice_wire::policy;

use crate::kubernetes::object::{KindName, Object, Place, watch, watch_fault};
use crate::{Clients, TargetError};

const SLICE: KindName = KindName {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    kubectl: "endpointslices",
    short: "endpointslices of service",
};

/// By slice, the endpoints that are ready.
type Slices = BTreeMap<String, BTreeSet<String>>;

/// A Service that was just made has its slices after a moment.
const MADE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Endpoints {
    api: Api<DynamicObject>,
    slices: Object,
    place: Place,
}

impl Endpoints {
    pub async fn connect(
        target: &policy::Target,
        namespace: &str,
        clients: &Clients,
    ) -> Result<Option<Endpoints>, TargetError> {
        let Some((namespace, service)) = service_of(target, namespace) else { return Ok(None) };
        let api = SLICE.api(clients.kube().await?, &namespace);
        let slices = Object::connect(clients, &SLICE, &namespace, &service).await?;
        let place = Place { short: SLICE.short, kubectl: SLICE.kubectl, namespace, name: service };
        Ok(Some(Endpoints { api, slices, place }))
    }

    /// Refuses a Service that is not there, or not in this namespace. One that has a selector has a slice even without pods; of one
    /// that has none, the canary would be taken for dead as soon as it had traffic.
    pub async fn check(&self) -> Result<(), TargetError> {
        let labels = ListParams::default().labels(&self.labels());
        let there = async {
            while self.slices.list(&labels).await?.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        tokio::time::timeout(MADE_WITHIN, there).await.unwrap_or_else(|_| Err(self.no_service()))
    }

    fn no_service(&self) -> TargetError {
        let Place { namespace, name, .. } = &self.place;
        TargetError::NotAsNeeded(format!(
            "service {namespace}/{name}, the canary's in spec.target, has no EndpointSlices: it does not exist in this namespace, or has no selector; make it, or name the right one (see: kubectl -n {namespace} get service,endpointslices)"
        ))
    }

    fn labels(&self) -> String {
        format!("kubernetes.io/service-name={}", self.place.name)
    }

    /// The number of ready endpoints, on every change. Endless.
    pub fn watch(&self) -> BoxStream<'static, Result<u32, TargetError>> {
        let place = self.place.clone();
        let events = watch(self.api.clone(), Config::default().labels(&self.labels()));
        let counts = events.scan(Known::default(), move |known, event| {
            std::future::ready(Some(match event {
                Ok(event) => known.take(event).map(Ok),
                Err(error) => {
                    // Whoever listens knows nothing now: the same number is news again.
                    known.last = None;
                    Some(Err(watch_fault(&place, &error)))
                }
            }))
        });
        counts.filter_map(std::future::ready).boxed()
    }
}

/// How many endpoints of a Service are ready now.
pub(crate) async fn ready_endpoints(
    namespace: &str,
    service: &str,
    clients: &Clients,
) -> Result<u32, TargetError> {
    let slices = Object::connect(clients, &SLICE, namespace, service).await?;
    let labels = format!("kubernetes.io/service-name={service}");
    let all = slices.list(&ListParams::default().labels(&labels)).await?;
    let ready: BTreeSet<String> = all.iter().flat_map(ready).collect();
    Ok(u32::try_from(ready.len()).unwrap_or(u32::MAX))
}

/// Namespace and name of the Service that carries the canary's traffic.
fn service_of(target: &policy::Target, namespace: &str) -> Option<(String, String)> {
    let own = target.object().and_then(|object| object.namespace).unwrap_or(namespace);
    if let policy::Target::Service(flip) = target {
        return Some((own.to_owned(), flip.name.clone()));
    }
    service_of_host(target.services()?.canary, own)
}

/// `name`, or `name.namespace.svc.<domain>`; other hosts are no Services.
fn service_of_host(host: &str, namespace: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = host.split('.').collect();
    match parts.as_slice() {
        [name] => Some((namespace.to_owned(), (*name).to_owned())),
        [name, namespace, "svc", ..] => Some(((*namespace).to_owned(), (*name).to_owned())),
        _ => None,
    }
}

/// What the watch has shown so far.
#[derive(Debug, Default)]
struct Known {
    slices: Slices,
    /// A listing that is still coming.
    listing: Slices,
    last: Option<u32>,
}

impl Known {
    /// The new number, if it is another one.
    fn take(&mut self, event: Event<DynamicObject>) -> Option<u32> {
        match event {
            Event::Init => {
                self.listing.clear();
                return None;
            }
            Event::InitApply(slice) => {
                self.listing.insert(name(&slice), ready(&slice));
                return None;
            }
            Event::InitDone => self.slices = std::mem::take(&mut self.listing),
            Event::Apply(slice) => {
                self.slices.insert(name(&slice), ready(&slice));
            }
            Event::Delete(slice) => {
                self.slices.remove(&name(&slice));
            }
        }
        let all: BTreeSet<&String> = self.slices.values().flatten().collect();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        (self.last.replace(count) != Some(count)).then_some(count)
    }
}

fn name(slice: &DynamicObject) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// Pods (or addresses, where no pod is named) that are ready; a pod with IPv4 and IPv6 stands in two slices and counts once.
/// `ready` unknown means ready (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions>).
fn ready(slice: &DynamicObject) -> BTreeSet<String> {
    let endpoints = slice.data["endpoints"].as_array().into_iter().flatten();
    let is_ready = |endpoint: &&Value| endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
    let identity = |endpoint: &Value| {
        let pod = endpoint["targetRef"]["uid"].as_str();
        pod.or_else(|| endpoint["addresses"][0].as_str()).map(str::to_owned)
    };
    endpoints.filter(is_ready).filter_map(identity).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, endpoints: &[(&str, Option<bool>)]) -> DynamicObject {
        let endpoint = |(pod, ready): &(&str, Option<bool>)| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"uid": pod}});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        serde_json::from_value(json!({"metadata": {"name": name}, "endpoints": endpoints})).unwrap()
    }

    #[test]
    fn pods_are_counted_once_over_all_slices_and_each_number_is_told_once() {
        let mut known = Known::default();
        let v4 = slice("v4", &[("a", Some(true)), ("b", None), ("c", Some(false))]);
        let v6 = slice("v6", &[("a", Some(true)), ("b", Some(true))]);
        assert_eq!(known.take(Event::Init), None);
        assert_eq!(known.take(Event::InitApply(v4.clone())), None);
        assert_eq!(known.take(Event::InitApply(v6.clone())), None);
        assert_eq!(known.take(Event::InitDone), Some(2));
        assert_eq!(known.take(Event::Delete(v6)), None, "the same pods stand in the other slice");
        assert_eq!(known.take(Event::Apply(slice("v4", &[]))), Some(0));
        assert_eq!(known.take(Event::Init), None);
        assert_eq!(known.take(Event::InitDone), None, "a new listing that says the same is no news");
    }

    #[test]
    fn a_canarys_service_is_found_by_short_and_full_host() {
        let found = |host| service_of_host(host, "shop");
        assert_eq!(found("canary"), Some(("shop".into(), "canary".into())));
        assert_eq!(found("canary.other.svc.cluster.local"), Some(("other".into(), "canary".into())));
        assert_eq!(found("api.example.com"), None);
    }
}
