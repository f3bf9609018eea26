//! Where controllers keep former templates: a Deployment's in ReplicaSets, a DeploymentConfig's in ReplicationControllers. Stable's
//! is remembered there by name and read back.

use kube::api::{DynamicObject, ListParams};
use serde::Serialize;
use serde_json::Value;
use sluice_wire::policy::Workload;

use super::controller::Controller;
use super::deployment::REVERTED;
use super::promotion::{TEMPLATE_HASH, images, template_of_replica_set, template_of_replication_controller};
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

const REPLICATION_CONTROLLER: KindName = KindName {
    group: "",
    version: "v1",
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    kubectl: "replicationcontroller",
    short: "replicationcontroller",
};

/// What a workload's controller makes of each template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    ReplicaSet,
    /// What OpenShift's controller writes on it stands in `openshift/library-go`, `pkg/apps/appsutil` (`MakeDeployment`).
    ReplicationController,
}

impl Keeper {
    /// A StatefulSet's templates are kept elsewhere, and nobody asks for them here.
    pub fn of(controller: Controller) -> Keeper {
        match controller {
            Controller::Deployment | Controller::StatefulSet => Keeper::ReplicaSet,
            Controller::DeploymentConfig => Keeper::ReplicationController,
        }
    }

    fn kind(self) -> &'static KindName {
        match self {
            Keeper::ReplicaSet => &REPLICA_SET,
            Keeper::ReplicationController => &REPLICATION_CONTROLLER,
        }
    }

    /// The annotation with the number of a template, in the order in which they came.
    fn number(self) -> &'static str {
        match self {
            Keeper::ReplicaSet => "deployment.kubernetes.io/revision",
            Keeper::ReplicationController => "openshift.io/deployment-config.latest-version",
        }
    }

    /// What a list is narrowed to. Others' are told apart by their owner.
    fn selector(self, workload: &DynamicObject) -> String {
        match self {
            Keeper::ReplicaSet => label_selector(workload),
            Keeper::ReplicationController => {
                format!(
                    "openshift.io/deployment-config.name={}",
                    workload.metadata.name.as_deref().unwrap_or_default()
                )
            }
        }
    }

    /// The template as its owner had it, without what the controller has put on it.
    fn template(self, keeper: &DynamicObject) -> Option<Value> {
        match self {
            Keeper::ReplicaSet => Some(template_of_replica_set(keeper, TEMPLATE_HASH)),
            Keeper::ReplicationController => template_of_replication_controller(keeper),
        }
    }
}

/// What `kubectl annotate` and CI write to say why.
const CAUSE: &str = "kubernetes.io/change-cause";

/// One template that a workload had, as its controller keeps it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// As the controller counts: a template that is taken again gets the next number.
    pub number: u64,
    /// The ReplicaSet, or ReplicationController, that keeps it.
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

/// A workload's revisions, for people and for `undo`.
#[derive(Debug)]
pub struct History {
    workload: Object,
    revisions: Revisions,
}

/// Of a Deployment or a DeploymentConfig; others keep no templates where we could read them.
pub async fn connect_history(
    workload: &Workload,
    namespace: &str,
    clients: &Clients,
) -> Result<History, TargetError> {
    let (controller, name) = match Controller::of(workload) {
        Some((controller @ (Controller::Deployment | Controller::DeploymentConfig), name)) => {
            (controller, name)
        }
        Some((Controller::StatefulSet, name)) => {
            return Err(keeps_none(&format!("statefulset {namespace}/{name}")));
        }
        None => return Err(keeps_none("a workload that somebody else runs")),
    };
    Ok(History {
        workload: Object::connect(clients, controller.kind(), namespace, name).await?,
        revisions: Revisions::connect(Keeper::of(controller), clients, namespace).await?,
    })
}

fn keeps_none(workload: &str) -> TargetError {
    TargetError::NotAsNeeded(format!(
        "{workload} keeps no former templates: only Deployments and DeploymentConfigs have a history to go back in"
    ))
}

impl History {
    /// Oldest first.
    pub async fn read(&self) -> Result<Vec<Revision>, TargetError> {
        self.revisions.of(&self.workload.get().await?).await
    }

    /// The revision to go back to: the named one, or the latest before the present one that was not put back.
    pub async fn to_undo_to(&self, wanted: Option<u64>) -> Result<Revision, TargetError> {
        let all = self.read().await?;
        let (place, known) = (&self.workload.place, numbers(&all));
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

/// All objects of a namespace that keep templates.
#[derive(Debug, Clone)]
pub(crate) struct Revisions {
    keeper: Keeper,
    all: Object,
}

impl Revisions {
    pub async fn connect(
        keeper: Keeper,
        clients: &Clients,
        namespace: &str,
    ) -> Result<Revisions, TargetError> {
        Ok(Revisions { keeper, all: Object::connect(clients, keeper.kind(), namespace, "").await? })
    }

    /// The name of what keeps the workload's present template. It has to be there before the template is replaced. Of several (a
    /// DeploymentConfig that came back to one has two) the latest.
    pub async fn present(&self, place: &Place, workload: &DynamicObject) -> Result<String, TargetError> {
        let history = self.of(workload).await?;
        history.into_iter().rev().find(|one| one.current).map(|one| one.kept_by).ok_or_else(|| {
            TargetError::Changed(format!(
                "{} has no {} with its present template yet, so there would be nothing to go back to",
                place.title(),
                self.keeper.kind().kind
            ))
        })
    }

    /// Oldest first.
    pub async fn of(&self, workload: &DynamicObject) -> Result<Vec<Revision>, TargetError> {
        let all = self.all.list(&ListParams::default().labels(&self.keeper.selector(workload))).await?;
        let owned = all.iter().filter(|one| is_owned_by(one, workload));
        let present = without_nulls(workload.data["spec"]["template"].clone());
        let put_back = annotation(workload, REVERTED).unwrap_or_default();
        let mut revisions: Vec<Revision> =
            owned.filter_map(|one| self.revision(one, &present, put_back)).collect();
        revisions.sort_by_key(|one| one.number);
        Ok(revisions)
    }

    /// Beside the workload's present template, and the names of those that were put back.
    fn revision(&self, keeper: &DynamicObject, present: &Value, put_back: &str) -> Option<Revision> {
        let name = keeper.metadata.name.clone()?;
        Some(Revision {
            number: annotation(keeper, self.keeper.number())?.parse().ok()?,
            reverted: put_back.split(',').any(|one| one == name),
            kept_by: name,
            images: images(keeper),
            cause: annotation(keeper, CAUSE).map(str::to_owned),
            created: keeper.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
            current: self.keeper.template(keeper).is_some_and(|template| without_nulls(template) == *present),
        })
    }

    /// The ReplicaSet of an owner that has this label.
    pub async fn labelled(
        &self,
        place: &Place,
        owner: &DynamicObject,
        label: &str,
    ) -> Result<DynamicObject, TargetError> {
        let all = self.all.list(&ListParams::default().labels(label)).await?;
        all.into_iter().find(|set| is_owned_by(set, owner)).ok_or_else(|| {
            TargetError::NotAsNeeded(format!(
                "{}: its ReplicaSet with {label}, which keeps the former template, is gone; put the template back by hand (see: kubectl -n {} get replicasets --show-labels)",
                place.title(),
                place.namespace
            ))
        })
    }

    /// The template that an object of this name keeps.
    pub async fn template(&self, place: &Place, name: &str) -> Result<Value, TargetError> {
        let found = self.all.sibling(name).get().await.map_err(|error| match error {
            TargetError::NotAsNeeded(_) => TargetError::NotAsNeeded(format!(
                "{}: {} {name}, which keeps its former template, is gone; sluice revisions {}/{} shows what is left",
                place.title(),
                self.keeper.kind().kind,
                place.namespace,
                place.name
            )),
            other => other,
        })?;
        self.keeper.template(&found).ok_or_else(|| {
            TargetError::NotAsNeeded(format!(
                "{}: {} {name} does not say which template it was made of; put the template back by hand",
                place.title(),
                self.keeper.kind().kind
            ))
        })
    }
}

fn label_selector(deployment: &DynamicObject) -> String {
    let labels = deployment.data["spec"]["selector"]["matchLabels"].as_object();
    let pairs =
        labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    pairs.collect::<Vec<_>>().join(",")
}

fn is_owned_by(keeper: &DynamicObject, workload: &DynamicObject) -> bool {
    let owners = keeper.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(&owner.uid) == workload.metadata.uid.as_ref())
}

/// `creationTimestamp: null` comes and goes in templates.
fn without_nulls(mut template: Value) -> Value {
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    template
}
