//! HorizontalPodAutoscalers: the one that scales a Deployment, and its minimum as a floor.
//!
//! Its own minimum is remembered in an annotation of ours on it, so that it is put back even when the record is lost. A minimum
//! that somebody owns (KEDA writes its HPA again from the ScaledObject) comes back on its own; the caller asks again on change.

use kube::api::{DynamicObject, ListParams};
use sluice_rollout::Fence;

use crate::kubernetes::marks::annotation;
use crate::kubernetes::object::{Change, KindName, Object};
use crate::kubernetes::patch::{add, path};
use crate::{Clients, TargetError};

pub(crate) const AUTOSCALER: KindName = KindName {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    kubectl: "hpa",
    short: "hpa",
};

/// The autoscaler's own `minReplicas`.
pub(crate) const OWN_MINIMUM: &str = "sluice.dev/own-min-replicas";

/// All autoscalers of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Autoscalers(Object);

/// One that scales a Deployment of ours, as it was read.
#[derive(Debug)]
pub(crate) struct Autoscaler {
    object: Object,
    read: DynamicObject,
}

impl Autoscalers {
    pub async fn connect(clients: &Clients, namespace: &str) -> Result<Autoscalers, TargetError> {
        Ok(Autoscalers(Object::connect(clients, &AUTOSCALER, namespace, "").await?))
    }

    /// The one that scales this Deployment (or whatever kind it is), if any.
    pub async fn of(&self, kind: &str, name: &str) -> Result<Option<Autoscaler>, TargetError> {
        let all = self.0.list(&ListParams::default()).await?;
        let found = all.into_iter().find(|hpa| scales(hpa, kind, name));
        Ok(found.map(|read| Autoscaler {
            object: self.0.sibling(read.metadata.name.as_deref().unwrap_or_default()),
            read,
        }))
    }
}

fn scales(autoscaler: &DynamicObject, kind: &str, name: &str) -> bool {
    let target = &autoscaler.data["spec"]["scaleTargetRef"];
    target["kind"] == kind && target["name"] == name
}

impl Autoscaler {
    /// `hpa shop/checkout`
    pub fn title(&self) -> String {
        self.object.place.title()
    }

    /// The minimum that is its owner's, not ours.
    pub fn own_minimum(&self) -> u32 {
        own_minimum(&self.read)
    }

    pub async fn raise_minimum(&self, at_least: u32, fence: Fence) -> Result<(), TargetError> {
        let most = self.read.data["spec"]["maxReplicas"].as_u64().unwrap_or(u64::from(u32::MAX));
        if most < u64::from(at_least) {
            let why = format!("{most} is below the {at_least} pods that the rollout needs; raise it");
            return Err(self.object.place.unfit("spec.maxReplicas", why));
        }
        let raise = |hpa: &DynamicObject| Ok(raising(hpa, at_least));
        self.object.edit(fence, raise).await.map(drop)
    }

    /// What its owner had; `known` is what the rollout's record says of it.
    pub async fn restore_minimum(&self, known: Option<u32>, fence: Fence) -> Result<(), TargetError> {
        let restore = |hpa: &DynamicObject| Ok(restoring(hpa, known));
        self.object.edit(fence, restore).await.map(drop)
    }
}

fn minimum(hpa: &DynamicObject) -> u32 {
    hpa.data["spec"]["minReplicas"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1)
}

fn remembered(hpa: &DynamicObject) -> Option<u32> {
    annotation(hpa, OWN_MINIMUM)?.parse().ok()
}

fn own_minimum(hpa: &DynamicObject) -> u32 {
    remembered(hpa).unwrap_or_else(|| minimum(hpa))
}

fn raising(hpa: &DynamicObject, at_least: u32) -> Change {
    if minimum(hpa) >= at_least {
        return Change::default();
    }
    Change {
        operations: vec![add(path(["spec", "minReplicas"]), at_least)],
        annotations: vec![(OWN_MINIMUM, Some(own_minimum(hpa).to_string()))],
    }
}

/// Only where we raised it: a minimum that somebody has changed since without our mark is theirs.
fn restoring(hpa: &DynamicObject, known: Option<u32>) -> Change {
    let Some(own) = remembered(hpa).map(|own| known.unwrap_or(own)) else { return Change::default() };
    let operations =
        if minimum(hpa) == own { Vec::new() } else { vec![add(path(["spec", "minReplicas"]), own)] };
    Change { operations, annotations: vec![(OWN_MINIMUM, None)] }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hpa(min: u32, own: Option<&str>) -> DynamicObject {
        let annotations = own.map(|own| json!({ OWN_MINIMUM: own })).unwrap_or(json!({}));
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "annotations": annotations},
            "spec": {"minReplicas": min, "maxReplicas": 10, "scaleTargetRef": {"kind": "Deployment", "name": "shop"}},
        }))
        .unwrap()
    }

    #[test]
    fn the_owners_minimum_is_remembered_once_and_put_back() {
        assert_eq!(raising(&hpa(2, None), 5).annotations, [(OWN_MINIMUM, Some("2".into()))]);
        assert_eq!(
            raising(&hpa(5, Some("2")), 7).annotations,
            [(OWN_MINIMUM, Some("2".into()))],
            "not our own floor"
        );
        assert!(raising(&hpa(5, None), 3).operations.is_empty(), "a higher minimum of its owner's stays");
        let back = restoring(&hpa(5, Some("2")), None);
        assert_eq!(serde_json::to_value(back.operations).unwrap()[0]["value"], 2);
        assert!(
            restoring(&hpa(5, None), Some(2)).operations.is_empty(),
            "a minimum without our mark is its owner's"
        );
        assert_eq!(own_minimum(&hpa(5, Some("2"))), 2);
    }

    #[test]
    fn only_the_autoscaler_of_the_deployment_is_meant() {
        assert!(scales(&hpa(1, None), "Deployment", "shop"));
        assert!(!scales(&hpa(1, None), "Deployment", "shop-canary"));
        assert!(!scales(&hpa(1, None), "DeploymentConfig", "shop"));
    }
}
