//! Gateway API: the weights of two backends in an HTTPRoute, `spec.rules[i].backendRefs[j].weight`.
//!
//! A weight there is a proportion from 0 to 1,000,000, and 1 where it is not written
//! (<https://gateway-api.sigs.k8s.io/reference/spec/#backendref>). The pair's total is 10,000, hundredths of a percent, always:
//! every weight is then exact and the numbers can be read. Only where another backend of the rule has a share too does the pair
//! keep its total, for the other's share must stay; weights that this total cannot express are refused.
//! No status is looked at: a route that is not accepted can still be put back.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::object::{KindName, Object, Place};
use super::pair::{self, Backend, Pair};
use super::{Kind, KubeTarget};
use crate::{Clients, TargetError};

pub(crate) const HTTP_ROUTE: KindName = KindName {
    group: "gateway.networking.k8s.io",
    version: "v1",
    kind: "HTTPRoute",
    plural: "httproutes",
    kubectl: "httproutes.gateway.networking.k8s.io",
    short: "httproute",
};

/// What a backend without a weight has.
const ABSENT: u64 = 1;

#[derive(Debug, Clone)]
pub(crate) struct HttpRoute {
    stable: String,
    canary: String,
    port: Option<u16>,
    rules: Vec<String>,
}

pub(crate) async fn connect(
    config: &policy::HttpRoute,
    namespace: &str,
    clients: &Clients,
) -> Result<KubeTarget<HttpRoute>, TargetError> {
    let namespace = config.namespace.as_deref().unwrap_or(namespace);
    let object = Object::connect(clients, &HTTP_ROUTE, namespace, &config.name).await?;
    Ok(KubeTarget::new(HttpRoute::new(config), object))
}

impl HttpRoute {
    pub fn new(config: &policy::HttpRoute) -> Self {
        HttpRoute {
            stable: config.stable.clone(),
            canary: config.canary.clone(),
            port: config.port,
            rules: config.rules.clone(),
        }
    }

    fn pairs(&self, place: &Place, object: &DynamicObject) -> Result<Vec<Pair>, TargetError> {
        let none = Vec::new();
        let rules = object.data["spec"]["rules"].as_array().unwrap_or(&none);
        let mut pairs = Vec::new();
        for (index, rule) in rules.iter().enumerate().filter(|(index, rule)| self.is_meant(*index, rule)) {
            pairs.extend(self.pair(place, index, rule)?);
        }
        self.check_found(place, rules, &pairs)?;
        Ok(pairs)
    }

    fn is_meant(&self, index: usize, rule: &Value) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|name| is_called(name, index, rule))
    }

    /// The pair of a rule; none if a rule that was not named lacks one of the two.
    fn pair(&self, place: &Place, index: usize, rule: &Value) -> Result<Option<Pair>, TargetError> {
        let title = format!("spec.rules[{index}]");
        let none = Vec::new();
        let backends = rule["backendRefs"].as_array().unwrap_or(&none);
        let stable = self.backend(place, &title, backends, &self.stable)?;
        let canary = self.backend(place, &title, backends, &self.canary)?;
        let (stable, canary) = match (stable, canary) {
            (Some(stable), Some(canary)) => (stable, canary),
            (Some(_), None) if !self.rules.is_empty() => return Err(lacks(place, &title, &self.canary)),
            (None, Some(_)) if !self.rules.is_empty() => return Err(lacks(place, &title, &self.stable)),
            _ => return Ok(None),
        };
        let is_other = |(at, _): &(usize, &Value)| *at != stable.index && *at != canary.index;
        let others = backends
            .iter()
            .enumerate()
            .filter(is_other)
            .map(|(_, other)| other["weight"].as_u64().unwrap_or(ABSENT))
            .sum();
        let list = ["spec".into(), "rules".into(), index.to_string(), "backendRefs".into()].to_vec();
        Ok(Some(Pair { title, list, stable, canary, others, absent: ABSENT, total: |_| 10_000 }))
    }

    fn backend(
        &self,
        place: &Place,
        rule: &str,
        backends: &[Value],
        name: &str,
    ) -> Result<Option<Backend>, TargetError> {
        let fits = |backend: &Value| {
            let port = self.port.is_none_or(|port| backend["port"].as_u64() == Some(port.into()));
            backend["name"] == name && port
        };
        let mut found = backends.iter().enumerate().filter(|(_, backend)| fits(backend));
        let first = found.next();
        if first.is_some() && found.next().is_some() {
            let why = format!("several backends are called {name}; say target.httpRoute.port");
            return Err(place.unfit(&format!("{rule}.backendRefs"), why));
        }
        Ok(first.map(|(index, backend)| Backend {
            index,
            weight: backend["weight"].as_u64(),
            identity: identity(backend),
        }))
    }

    fn check_found(&self, place: &Place, rules: &[Value], pairs: &[Pair]) -> Result<(), TargetError> {
        for name in &self.rules {
            let is_there = rules.iter().enumerate().any(|(index, rule)| is_called(name, index, rule));
            let written = pairs.iter().any(|pair| {
                rules.iter().enumerate().any(|(index, rule)| {
                    pair.title == format!("spec.rules[{index}]") && is_called(name, index, rule)
                })
            });
            if !is_there || !written {
                let why = format!("no rule is called {name} and holds {} and {}", self.stable, self.canary);
                return Err(place.unfit("spec.rules", why));
            }
        }
        if pairs.is_empty() {
            return Err(place.unfit("spec.rules", self.what_is_missing(rules)));
        }
        Ok(())
    }

    fn what_is_missing(&self, rules: &[Value]) -> String {
        let holds = |name: &str| {
            rules
                .iter()
                .flat_map(|rule| rule["backendRefs"].as_array())
                .flatten()
                .any(|backend| backend["name"] == name)
        };
        let port = self.port.map(|port| format!(" at port {port}")).unwrap_or_default();
        let (missing, other) =
            if holds(&self.stable) { (&self.canary, &self.stable) } else { (&self.stable, &self.canary) };
        format!(
            "no rule has a backend {missing}{port} beside {other}; add it to backendRefs, the canary with weight 0"
        )
    }
}

/// By name, or by number from 0.
fn is_called(name: &str, index: usize, rule: &Value) -> bool {
    rule["name"] == name || name.parse() == Ok(index)
}

fn lacks(place: &Place, rule: &str, name: &str) -> TargetError {
    place.unfit(
        &format!("{rule}.backendRefs"),
        format!("no backend is called {name}; add it, the canary with weight 0"),
    )
}

fn identity(backend: &Value) -> Vec<(Vec<&'static str>, Value)> {
    let fields = ["name", "namespace", "port"];
    fields
        .into_iter()
        .filter(|field| !backend[field].is_null())
        .map(|field| (vec![field], backend[field].clone()))
        .collect()
}

impl Kind for HttpRoute {
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
