//! ReplicaSets, where the Deployment controller keeps former templates: stable's is remembered there by name and read back.

use kube::api::{DynamicObject, ListParams};

use super::promotion::{TEMPLATE_HASH, template_of_replica_set};
use crate::kubernetes::marks::annotation;
use crate::kubernetes::object::{KindName, Object, Place};
use crate::{Clients, TargetError};

const REPLICA_SET: KindName = KindName {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    kubectl: "replicaset",
    short: "replicaset",
};

/// The Deployment controller's number of a template, on the Deployment and on its ReplicaSets.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// All ReplicaSets of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Revisions(Object);

impl Revisions {
    pub async fn connect(clients: &Clients, namespace: &str) -> Result<Revisions, TargetError> {
        Ok(Revisions(Object::connect(clients, &REPLICA_SET, namespace, "").await?))
    }

    /// The name of the ReplicaSet that has the Deployment's present template. It has to be there before the template is replaced.
    pub async fn present(&self, place: &Place, deployment: &DynamicObject) -> Result<String, TargetError> {
        let all = self.0.list(&ListParams::default().labels(&label_selector(deployment))).await?;
        let found =
            all.into_iter().find(|set| is_owned_by(set, deployment) && has_template_of(set, deployment));
        found.and_then(|set| set.metadata.name).ok_or_else(|| {
            let number = annotation(deployment, REVISION).unwrap_or("none yet");
            TargetError::Changed(format!(
                "{} has no ReplicaSet with its present template (revision {number}), so there would be nothing to go back to",
                place.title()
            ))
        })
    }

    /// The ReplicaSet of an owner that has this label.
    pub async fn labelled(
        &self,
        place: &Place,
        owner: &DynamicObject,
        label: &str,
    ) -> Result<DynamicObject, TargetError> {
        let all = self.0.list(&ListParams::default().labels(label)).await?;
        all.into_iter().find(|set| is_owned_by(set, owner)).ok_or_else(|| {
            TargetError::NotAsNeeded(format!(
                "{}: its ReplicaSet with {label}, which keeps the former template, is gone; put the template back by hand (see: kubectl -n {} get replicasets --show-labels)",
                place.title(),
                place.namespace
            ))
        })
    }

    pub async fn get(&self, place: &Place, name: &str) -> Result<DynamicObject, TargetError> {
        self.0.sibling(name).get().await.map_err(|error| match error {
            TargetError::NotAsNeeded(_) => TargetError::NotAsNeeded(format!(
                "{}: ReplicaSet {name} with its template from before the promotion is gone; kubectl -n {} rollout history deployment {} shows what is left",
                place.title(),
                place.namespace,
                place.name
            )),
            other => other,
        })
    }
}

fn label_selector(deployment: &DynamicObject) -> String {
    let labels = deployment.data["spec"]["selector"]["matchLabels"].as_object();
    let pairs =
        labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

fn is_owned_by(replica_set: &DynamicObject, deployment: &DynamicObject) -> bool {
    let owners = replica_set.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
}

fn has_template_of(replica_set: &DynamicObject, deployment: &DynamicObject) -> bool {
    without_nulls(template_of_replica_set(replica_set, TEMPLATE_HASH))
        == without_nulls(deployment.data["spec"]["template"].clone())
}

/// `creationTimestamp: null` comes and goes in templates.
fn without_nulls(mut template: serde_json::Value) -> serde_json::Value {
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}
