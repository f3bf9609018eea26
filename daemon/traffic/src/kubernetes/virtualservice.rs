//! Istio: the weights of two destinations in a VirtualService, `spec.http[i].route[j].weight`.
//!
//! A weight there is a proportion, and 0 where it is not written and there are several destinations
//! (<https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRouteDestination>). Whole percents are written
//! with a total of 100, which every version of Istio takes (older ones insist on it); finer ones with a total of 10,000. Where
//! another destination of the route has a share too, the pair keeps its total.
//! Destinations are known by host, short or in full; subsets, matches and destinations that are not ours stay as they are.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::object::{KindName, Object, Place};
use super::pair::{self, Backend, Pair};
use super::{Kind, KubeTarget};
use crate::{Clients, TargetError};

pub(crate) const VIRTUAL_SERVICE: KindName = KindName {
    group: "networking.istio.io",
    version: "v1",
    kind: "VirtualService",
    plural: "virtualservices",
    kubectl: "virtualservices.networking.istio.io",
    short: "virtualservice",
};

/// What a destination without a weight has beside others.
const ABSENT: u64 = 0;

#[derive(Debug, Clone)]
pub(crate) struct VirtualService {
    stable: String,
    canary: String,
    routes: Vec<String>,
}

pub(crate) async fn connect(
    config: &policy::VirtualService,
    namespace: &str,
    clients: &Clients,
) -> Result<KubeTarget<VirtualService>, TargetError> {
    let namespace = config.namespace.as_deref().unwrap_or(namespace);
    let object = Object::connect(clients, &VIRTUAL_SERVICE, namespace, &config.name).await?;
    Ok(KubeTarget::new(VirtualService::new(config), object))
}

impl VirtualService {
    pub fn new(config: &policy::VirtualService) -> Self {
        VirtualService {
            stable: config.stable.clone(),
            canary: config.canary.clone(),
            routes: config.routes.clone(),
        }
    }

    fn pairs(&self, place: &Place, object: &DynamicObject) -> Result<Vec<Pair>, TargetError> {
        let none = Vec::new();
        let routes = object.data["spec"]["http"].as_array().unwrap_or(&none);
        let mut pairs = Vec::new();
        for (index, route) in routes.iter().enumerate().filter(|(_, route)| self.is_meant(route)) {
            pairs.extend(self.pair(place, index, route)?);
        }
        self.check_found(place, routes, &pairs)?;
        Ok(pairs)
    }

    fn is_meant(&self, route: &Value) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|name| route["name"] == *name)
    }

    fn pair(&self, place: &Place, index: usize, route: &Value) -> Result<Option<Pair>, TargetError> {
        let title = format!("spec.http[{index}]");
        let none = Vec::new();
        let destinations = route["route"].as_array().unwrap_or(&none);
        let stable = destination(place, &title, destinations, &self.stable)?;
        let canary = destination(place, &title, destinations, &self.canary)?;
        let (Some(stable), Some(canary)) = (stable, canary) else { return Ok(None) };
        let is_other = |(at, _): &(usize, &Value)| *at != stable.index && *at != canary.index;
        let others = destinations
            .iter()
            .enumerate()
            .filter(is_other)
            .map(|(_, other)| other["weight"].as_u64().unwrap_or(ABSENT))
            .sum();
        let list = ["spec".into(), "http".into(), index.to_string(), "route".into()].to_vec();
        Ok(Some(Pair { title, list, stable, canary, others, absent: ABSENT, total }))
    }

    fn check_found(&self, place: &Place, routes: &[Value], pairs: &[Pair]) -> Result<(), TargetError> {
        let is_written = |name: &String| {
            let named = |pair: &Pair| {
                routes.iter().enumerate().any(|(index, route)| {
                    route["name"] == *name && pair.title == format!("spec.http[{index}]")
                })
            };
            pairs.iter().any(named)
        };
        if let Some(name) = self.routes.iter().find(|name| !is_written(name)) {
            let why = format!("no route is called {name} and holds {} and {}", self.stable, self.canary);
            return Err(place.unfit("spec.http", why));
        }
        match (pairs.len(), self.routes.is_empty()) {
            (0, _) => Err(place.unfit("spec.http", self.what_is_missing(place, routes))),
            (2.., true) => {
                let why = format!(
                    "{} routes hold both destinations; name those to write in target.virtualService.routes",
                    pairs.len()
                );
                Err(place.unfit("spec.http", why))
            }
            (_, _) => Ok(()),
        }
    }

    fn what_is_missing(&self, place: &Place, routes: &[Value]) -> String {
        let holds = |host: &str| {
            let destinations = routes.iter().flat_map(|route| route["route"].as_array()).flatten();
            destinations
                .into_iter()
                .any(|found| is_host(&found["destination"]["host"], host, &place.namespace))
        };
        let (missing, other) =
            if holds(&self.stable) { (&self.canary, &self.stable) } else { (&self.stable, &self.canary) };
        format!(
            "no route has a destination with host {missing} beside {other}; add it, the canary with weight 0"
        )
    }
}

/// 100 for whole percents, hundredths of a percent otherwise.
fn total(weight: Weight) -> u64 {
    if weight.hundredths().is_multiple_of(100) { 100 } else { 10_000 }
}

fn destination(
    place: &Place,
    route: &str,
    destinations: &[Value],
    host: &str,
) -> Result<Option<Backend>, TargetError> {
    let is_meant =
        |(_, found): &(usize, &Value)| is_host(&found["destination"]["host"], host, &place.namespace);
    let mut found = destinations.iter().enumerate().filter(is_meant);
    let first = found.next();
    if first.is_some() && found.next().is_some() {
        let why = format!(
            "several destinations have the host {host} (subsets or ports); give each version a host of its own"
        );
        return Err(place.unfit(&format!("{route}.route"), why));
    }
    Ok(first.map(|(index, found)| Backend {
        index,
        weight: found["weight"].as_u64(),
        identity: identity(found),
    }))
}

/// A name without dots is a Service of the VirtualService's own namespace; the cluster's domain may be any.
fn is_host(found: &Value, wanted: &str, namespace: &str) -> bool {
    let Some(found) = found.as_str() else { return false };
    let is_full = |full: &str, short: &str| {
        !short.contains('.') && full.starts_with(&format!("{short}.{namespace}.svc."))
    };
    found == wanted || is_full(found, wanted) || is_full(wanted, found)
}

fn identity(route: &Value) -> Vec<(Vec<&'static str>, Value)> {
    let fields: [&[&'static str]; 3] =
        [&["destination", "host"], &["destination", "subset"], &["destination", "port"]];
    let value = |field: &[&str]| route[field[0]][field[1]].clone();
    fields
        .into_iter()
        .map(|field| (field.to_vec(), value(field)))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

impl Kind for VirtualService {
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        pair::check(place, &self.pairs(place, object)?, weight)
    }

    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        meant: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        pair::read(place, &self.pairs(place, object)?, meant)
    }

    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        pair::write(place, &self.pairs(place, object)?, weight)
    }

    fn original(&self, place: &Place, object: &DynamicObject) -> Option<Value> {
        pair::original(&self.pairs(place, object).ok()?)
    }

    fn put_back(&self, place: &Place, object: &DynamicObject, original: &Value) -> Vec<PatchOperation> {
        self.pairs(place, object).map(|pairs| pair::put_back(&pairs, original)).unwrap_or_default()
    }
}
