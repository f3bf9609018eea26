//! ReplicaSets, where the Deployment controller keeps former templates: stable's is remembered there by name and read back.

use kube::api::{DynamicObject, ListParams};
use serde::Serialize;
use serde_json::Value;

use super::controller::Controller;
use super::deployment::REVERTED;
use super::promotion::{TEMPLATE_HASH, images, template_of_replica_set};
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

/// What `kubectl annotate` and CI write to say why.
const CAUSE: &str = "kubernetes.io/change-cause";

/// One template that a Deployment had, as its controller keeps it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// As the controller counts: a template that is taken again gets the next number.
    pub number: u64,
    /// The ReplicaSet that keeps it.
    pub kept_by: String,
    pub images: Vec<String>,
    /// In its owner's words (`kubernetes.io/change-cause`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// RFC 3339, when it was made first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// It runs now.
    pub current: bool,
    /// A rollout put it back: `undo` without a number passes over it.
    pub reverted: bool,
}

/// A Deployment's revisions, for people and for `undo`.
#[derive(Debug)]
pub struct History {
    deployment: Object,
    revisions: Revisions,
}

/// Of a Deployment; others keep no templates where we could read them.
pub async fn connect_history(name: &str, namespace: &str, clients: &Clients) -> Result<History, TargetError> {
    let kind = Controller::Deployment.kind();
    Ok(History {
        deployment: Object::connect(clients, kind, namespace, name).await?,
        revisions: Revisions::connect(clients, namespace).await?,
    })
}

impl History {
    /// Oldest first.
    pub async fn read(&self) -> Result<Vec<Revision>, TargetError> {
        self.revisions.history(&self.deployment.get().await?).await
    }

    /// The revision to go back to: the named one, or the latest before the present one that was not put back.
    pub async fn to_undo_to(&self, wanted: Option<u64>) -> Result<Revision, TargetError> {
        let all = self.read().await?;
        let (place, known) = (&self.deployment.place, numbers(&all));
        let refuse = |why: String| {
            TargetError::NotAsNeeded(format!(
                "{}: {why}; it has {known} (see: sluice revisions {}/{})",
                place.title(),
                place.namespace,
                place.name
            ))
        };
        let found = match wanted {
            Some(number) => all.iter().find(|one| one.number == number),
            None => all.iter().rev().find(|one| !one.current && !one.reverted),
        };
        match (found, wanted) {
            (Some(one), _) if one.current => Err(refuse(format!("revision {} runs already", one.number))),
            (Some(one), _) => Ok(one.clone()),
            (None, Some(number)) => Err(refuse(format!("there is no revision {number}"))),
            (None, None) => Err(refuse("there is no former revision that was not put back".to_owned())),
        }
    }
}

fn numbers(all: &[Revision]) -> String {
    if all.is_empty() {
        return "none".to_owned();
    }
    all.iter().map(|one| one.number.to_string()).collect::<Vec<_>>().join(", ")
}

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

    /// Oldest first.
    async fn history(&self, deployment: &DynamicObject) -> Result<Vec<Revision>, TargetError> {
        let all = self.0.list(&ListParams::default().labels(&label_selector(deployment))).await?;
        let owned = all.iter().filter(|set| is_owned_by(set, deployment));
        let mut revisions: Vec<Revision> = owned.filter_map(|set| revision(set, deployment)).collect();
        revisions.sort_by_key(|one| one.number);
        Ok(revisions)
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
                "{}: ReplicaSet {name}, which keeps its former template, is gone; kubectl -n {} rollout history deployment {} shows what is left",
                place.title(),
                place.namespace,
                place.name
            )),
            other => other,
        })
    }
}

fn revision(set: &DynamicObject, deployment: &DynamicObject) -> Option<Revision> {
    let name = set.metadata.name.clone()?;
    let put_back = annotation(deployment, REVERTED).unwrap_or_default();
    Some(Revision {
        number: annotation(set, REVISION)?.parse().ok()?,
        reverted: put_back.split(',').any(|one| one == name),
        kept_by: name,
        images: images(set),
        cause: annotation(set, CAUSE).map(str::to_owned),
        created: set.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
        current: has_template_of(set, deployment),
    })
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
fn without_nulls(mut template: Value) -> Value {
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}
