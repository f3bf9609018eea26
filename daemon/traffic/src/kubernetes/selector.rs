//! A Service whose selector is flipped from one version's labels to the other's, `spec.selector`: all traffic in one write.
//!
//! Only 0 and 100 % exist. Labels of the selector that neither version names stay. A Service has no generation, so a write that
//! goes up tests the labels that it replaces instead; one that goes down works from whatever stands there.

use std::collections::{BTreeMap, BTreeSet};

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::Value;
use sluice_rollout::Weight;
use sluice_wire::policy;

use super::object::{Change, KindName, Object, Place};
use super::patch::{add, path, remove, test};
use super::{Kind, KubeTarget, names};
use crate::{Clients, TargetError, Unfit};

pub(crate) const SERVICE: KindName = KindName {
    group: "",
    version: "v1",
    kind: "Service",
    plural: "services",
    kubectl: "service",
    short: "service",
};

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    stable: BTreeMap<String, String>,
    canary: BTreeMap<String, String>,
}

pub(crate) async fn connect(
    config: &policy::ServiceFlip,
    namespace: &str,
    clients: &Clients,
) -> Result<KubeTarget<Selector>, TargetError> {
    let namespace = config.namespace.as_deref().unwrap_or(namespace);
    let object = Object::connect(clients, &SERVICE, namespace, &config.name).await?;
    if let Some(unfit) = check(config).into_iter().next() {
        return Err(unfit.into());
    }
    Ok(KubeTarget::new(Selector::new(config), object))
}

/// Labels that tell the two versions apart.
pub(crate) fn check(config: &policy::ServiceFlip) -> Vec<Unfit> {
    let mut unfit = names::object("service", &config.name, config.namespace.as_deref());
    for (field, labels) in [("service.stable", &config.stable), ("service.canary", &config.canary)] {
        if labels.is_empty() {
            unfit.push(Unfit::new(field, "names no labels, for example {app: blue}"));
        }
    }
    if config.stable == config.canary {
        let why = "the same labels as stable: name those that tell the canary's pods apart";
        unfit.push(Unfit::new("service.canary", why));
    }
    unfit
}

impl Selector {
    pub fn new(config: &policy::ServiceFlip) -> Self {
        Selector { stable: config.stable.clone(), canary: config.canary.clone() }
    }

    /// Labels that either version names.
    fn keys(&self) -> BTreeSet<&String> {
        self.stable.keys().chain(self.canary.keys()).collect()
    }

    fn version(&self, weight: Weight) -> &BTreeMap<String, String> {
        if weight.is_zero() { &self.stable } else { &self.canary }
    }

    /// Whether the selector says this version and nothing of the other.
    fn selects(&self, selector: &Value, version: &BTreeMap<String, String>) -> bool {
        self.keys().into_iter().all(|key| selector[key].as_str() == version.get(key).map(String::as_str))
    }
}

impl Kind for Selector {
    fn check(&self, place: &Place, object: &DynamicObject, weight: Weight) -> Result<(), TargetError> {
        let whole = weight.is_zero() || weight == Weight::FULL;
        if !whole {
            let finest = format!("100 %: {} is flipped by its selector, all or nothing", place.title());
            return Err(TargetError::TooFine { asked: weight, finest });
        }
        let selector = &object.data["spec"]["selector"];
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(place.unfit("spec.selector", "it has none, so its endpoints are not made from pods"));
        }
        Ok(())
    }

    fn read(
        &self,
        place: &Place,
        object: &DynamicObject,
        _: Option<Weight>,
    ) -> Result<(Weight, String), TargetError> {
        let selector = &object.data["spec"]["selector"];
        let present: Vec<String> = self
            .keys()
            .iter()
            .filter_map(|key| Some(format!("{key}={}", selector[key.as_str()].as_str()?)))
            .collect();
        let written = present.join(",");
        if self.selects(selector, &self.stable) {
            Ok((Weight::ZERO, written))
        } else if self.selects(selector, &self.canary) {
            Ok((Weight::FULL, written))
        } else {
            let why = format!(
                "{written:?} is neither stable's {:?} nor the canary's {:?}",
                self.stable, self.canary
            );
            Err(place.unfit("spec.selector", why))
        }
    }

    fn write(
        &self,
        place: &Place,
        object: &DynamicObject,
        weight: Weight,
    ) -> Result<Vec<PatchOperation>, TargetError> {
        self.check(place, object, weight)?;
        let at = |key: &str| path(["spec", "selector", key]);
        let present = |key: &str| object.data["spec"]["selector"].get(key).cloned();
        let keys = self.keys();
        let tests = keys.iter().map(|key| test(at(key), present(key).unwrap_or_default()));
        let labels = keys.iter().filter_map(|key| match (self.version(weight).get(*key), present(key)) {
            (Some(value), _) => Some(add(at(key), value.clone())),
            (None, Some(_)) => Some(remove(at(key))),
            (None, None) => None,
        });
        Ok(tests.chain(labels).collect())
    }

    /// The labels of both versions stand in the policy; there is nothing else to remember.
    fn original(&self, _: &Place, _: &DynamicObject) -> Option<Value> {
        None
    }

    fn put_back(&self, _: &Place, _: &DynamicObject, _: &Value) -> Vec<PatchOperation> {
        Vec::new()
    }

    /// A selector tells nobody apart.
    fn testers(&self, _: &Place, _: &DynamicObject, _: bool) -> Result<Change, TargetError> {
        Ok(Change::default())
    }
}
