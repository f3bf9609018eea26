//! The canary's ready endpoints, live from the EndpointSlices of the Service that gives it traffic.
//!
//! For a flip that is the Service itself: once it selects the canary its endpoints are the canary's, and before that the number
//! says nothing (the canary has no traffic then). A target that names no Service of the cluster cannot tell.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream::BoxStream};
use kube::api::{DynamicObject, ListParams};
use serde_json::Value;
use sluice_wire::policy;

use crate::kubernetes::object::{KindName, Object, Place, watch_fault};
use crate::watches::Keep;
use crate::{Clients, TargetError};

const SLICE: KindName = KindName {
    group: "discovery.k8s.io",
    version: "v1",
    kind: "EndpointSlice",
    plural: "endpointslices",
    kubectl: "endpointslices",
    short: "endpointslices of service",
};

/// A Service that was just made has its slices after a moment.
const MADE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Endpoints {
    slices: Object,
}

impl Endpoints {
    pub async fn connect(
        target: &policy::Target,
        namespace: &str,
        clients: &Clients,
    ) -> Result<Option<Endpoints>, TargetError> {
        let Some((namespace, service)) = service_of(target, namespace) else { return Ok(None) };
        Ok(Some(Endpoints { slices: Object::connect(clients, &SLICE, &namespace, &service).await? }))
    }

    /// Refuses a Service that is not there, or not in this namespace. One that has a selector has a slice even without pods; of one
    /// that has none, the canary would be taken for dead as soon as it had traffic.
    pub async fn check(&self) -> Result<(), TargetError> {
        let labels = ListParams::default().labels(&self.labels());
        let mut missed = None;
        while self.slices.list(&labels).await?.is_empty() {
            // Counted from the first answer: a slow one says nothing about the Service.
            if missed.get_or_insert_with(Instant::now).elapsed() > MADE_WITHIN {
                return Err(self.no_service());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn no_service(&self) -> TargetError {
        let Place { namespace, name, .. } = &self.slices.place;
        TargetError::NotAsNeeded(format!(
            "service {namespace}/{name}, the canary's in spec.target, has no EndpointSlices: it does not exist in this namespace, or has no selector; make it, or name the right one (see: kubectl -n {namespace} get service,endpointslices)"
        ))
    }

    fn labels(&self) -> String {
        format!("kubernetes.io/service-name={}", self.slices.place.name)
    }

    /// The number of ready endpoints, on every change. Endless.
    pub fn watch(&self) -> BoxStream<'static, Result<u32, TargetError>> {
        let place = self.slices.place.clone();
        let counts = self.slices.concerning(Keep::Endpoints).scan(None, move |last, slices| {
            let count = slices.map(|slices| count(slices.values().map(Arc::as_ref)));
            // After an error whoever listens knows nothing: the same number is news again.
            let before = std::mem::replace(last, count.as_ref().ok().copied());
            let is_news = before.is_none() || before != *last;
            std::future::ready(Some(is_news.then(|| count.map_err(|error| watch_fault(&place, &error)))))
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
    Ok(count(all.iter()))
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

/// Ready endpoints of all of a Service's slices.
fn count<'a>(slices: impl Iterator<Item = &'a DynamicObject>) -> u32 {
    let ready: BTreeSet<String> = slices.flat_map(ready).collect();
    u32::try_from(ready.len()).unwrap_or(u32::MAX)
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
    fn pods_are_counted_once_over_all_slices() {
        let v4 = slice("v4", &[("a", Some(true)), ("b", None), ("c", Some(false))]);
        let v6 = slice("v6", &[("a", Some(true)), ("b", Some(true))]);
        assert_eq!(count([&v4, &v6].into_iter()), 2);
        assert_eq!(count([&v4].into_iter()), 2, "whether it is ready is unknown: it is");
        assert_eq!(count([&slice("v4", &[])].into_iter()), 0);
    }

    #[test]
    fn a_canarys_service_is_found_by_short_and_full_host() {
        let found = |host| service_of_host(host, "shop");
        assert_eq!(found("canary"), Some(("shop".into(), "canary".into())));
        assert_eq!(found("canary.other.svc.cluster.local"), Some(("other".into(), "canary".into())));
        assert_eq!(found("api.example.com"), None);
    }
}
