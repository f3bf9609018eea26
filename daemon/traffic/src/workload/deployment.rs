//! One version run by an `apps/v1` Deployment or an OpenShift DeploymentConfig: its size, its floor, its template. A StatefulSet is
//! the same in all but its template, which is its owner's: no ReplicaSet keeps a former one.
//!
//! Scaling patches the Deployment itself, because `deployments/scale` cannot test an annotation and so would take a former
//! owner's writes. Where an autoscaler owns the size, the floor is its minimum too, or it would undo the floor at its next look.

use futures::{StreamExt, stream::BoxStream};
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_rollout::{Fence, Role, RolloutId};

use super::autoscaler::Autoscalers;
use super::config;
use super::controller::Controller;
use super::pods::Pods;
use super::promotion::{Progress, gitops_owner, images};
use super::revision::{Keeper, Revisions};
use crate::kubernetes::marks::{FENCE, annotation};
use crate::kubernetes::object::{Change, Object};
use crate::kubernetes::patch::{add, path};
use crate::watches::Keep;
use crate::{AtStart, Clients, Size, TargetError};

/// Sizes at the start of a rollout, as JSON. On stable, or on the canary where stable is no Deployment.
pub(crate) const AT_START: &str = "sluice.dev/at-start";
/// The ReplicaSet (of a DeploymentConfig the ReplicationController) that keeps stable's template from before the promotion.
pub(crate) const FORMER: &str = "sluice.dev/former-replicaset";
/// The same of templates that were put back, newest last: `undo` passes over them.
pub(crate) const REVERTED: &str = "sluice.dev/reverted-replicasets";

#[derive(Debug)]
pub(crate) struct Deployment {
    pub(super) controller: Controller,
    pub(super) object: Object,
    autoscalers: Autoscalers,
    pub(super) revisions: Revisions,
    pub(super) pods: Pods,
}

/// What stands in [`AT_START`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remembered {
    pub(super) rollout: String,
    stable: u32,
    canary: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stable_min: Option<u32>,
    /// What the canary ran then: only that is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) canary_pods: Option<String>,
}

impl Deployment {
    pub async fn connect(
        controller: Controller,
        name: &str,
        namespace: &str,
        clients: &Clients,
    ) -> Result<Deployment, TargetError> {
        Ok(Deployment {
            controller,
            object: Object::connect(clients, controller.kind(), namespace, name).await?,
            autoscalers: Autoscalers::connect(clients, namespace).await?,
            revisions: Revisions::connect(Keeper::of(controller), clients, namespace).await?,
            pods: Pods::connect(clients, namespace).await?,
        })
    }

    pub fn title(&self) -> String {
        self.object.place.title()
    }

    pub async fn check(&self) -> Result<(), TargetError> {
        let object = self.object.get().await?;
        config::check_paused(&self.object.place, &object)?;
        self.autoscalers.of(self.controller.kind().kind, &self.object.place.name).await.map(drop)
    }

    pub fn check_apart_from(&self, other: &Deployment) -> Result<(), TargetError> {
        if self.object.place != other.object.place {
            return Ok(());
        }
        let why = format!(
            "workloads.stable and workloads.canary are both {}; each version needs its own",
            self.title()
        );
        Err(TargetError::NotAsNeeded(why))
    }

    /// Whether stable can get another template and its own back.
    pub async fn check_copy(&self) -> Result<(), TargetError> {
        let object = self.object.get().await?;
        match self.controller {
            Controller::Deployment => {}
            Controller::DeploymentConfig => config::check_triggers(&self.object.place, &object)?,
            Controller::StatefulSet => {
                let why = "copyTemplate copies between Deployments and DeploymentConfigs only; write workloads.promote: swap or external";
                return Err(self.object.place.unfit("spec.template", why));
            }
        }
        if let Some(owner) = gitops_owner(&object) {
            let why = format!(
                "a GitOps tool owns it ({owner}) and would put the old version back; write workloads.promote: external, and promote in Git"
            );
            return Err(self.object.place.unfit("spec.template", why));
        }
        if object.data["spec"]["revisionHistoryLimit"] == 0 {
            let why = "0 keeps no former template to go back to; set at least 2";
            return Err(self.object.place.unfit("spec.revisionHistoryLimit", why));
        }
        Ok(())
    }

    pub async fn size(&self, role: Role) -> Result<Size, TargetError> {
        Ok(size(&self.object.get().await?, role))
    }

    /// Only the fence.
    pub async fn take_over(&self, fence: Fence) -> Result<(), TargetError> {
        let raise = |_: &DynamicObject| {
            Ok(Change { annotations: vec![(FENCE, Some(fence.to_string()))], ..Change::default() })
        };
        self.object.edit(fence, raise).await.map(drop)
    }

    /// At least so many replicas, and an autoscaler that does not go below.
    pub async fn floor(&self, at_least: u32, fence: Fence) -> Result<(), TargetError> {
        let raise = |object: &DynamicObject| Ok(grow_to(object, at_least));
        self.object.edit(fence, raise).await?;
        match self.autoscalers.of(self.controller.kind().kind, &self.object.place.name).await? {
            Some(autoscaler) => autoscaler.raise_minimum(at_least, fence).await,
            None => Ok(()),
        }
    }

    /// Exactly so many. An autoscaler gets its own minimum back; at 0 it stands still by itself.
    pub async fn set(&self, wanted: u32, fence: Fence) -> Result<(), TargetError> {
        if let Some(autoscaler) =
            self.autoscalers.of(self.controller.kind().kind, &self.object.place.name).await?
        {
            autoscaler.restore_minimum(None, fence).await?;
        }
        let set = |object: &DynamicObject| {
            Ok(if replicas(object) == wanted { Change::default() } else { scale_to(wanted) })
        };
        self.object.edit(fence, set).await.map(drop)
    }

    /// The autoscaler's minimum as before; without one, no fewer replicas than before. More stay: somebody wanted them.
    pub async fn release(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        if let Some(autoscaler) =
            self.autoscalers.of(self.controller.kind().kind, &self.object.place.name).await?
        {
            return autoscaler.restore_minimum(start.stable_min, fence).await;
        }
        let raise = |object: &DynamicObject| Ok(grow_to(object, start.stable));
        self.object.edit(fence, raise).await.map(drop)
    }

    pub fn watch(&self, role: Role) -> BoxStream<'static, Result<Size, TargetError>> {
        let object = self.object.clone();
        let states = self
            .object
            .follow(Keep::Sizes)
            .map(move |state| state?.map(|state| size(&state, role)).ok_or_else(|| object.missing()));
        states.boxed()
    }

    /// Somebody else promotes: until stable runs what the canary runs, and its pods are available.
    pub async fn wait_for_images_of(&self, canary: &Deployment) -> Result<(), TargetError> {
        let wanted = images(&canary.object.get().await?);
        self.wait_until(|object| {
            images(object) == wanted && self.controller.progress(object) == Progress::Done
        })
        .await
    }

    /// Somebody else has promoted and has to undo it: we can only say so.
    pub async fn check_has_other_images_than(&self, canary: &Deployment) -> Result<(), TargetError> {
        let bad = images(&canary.object.get().await?);
        if images(&self.object.get().await?) != bad {
            return Ok(());
        }
        let why = format!(
            "it already runs the canary's {}; whoever promoted it has to put the old version back",
            bad.join(", ")
        );
        Err(self.object.place.unfit("spec.template", why))
    }

    /// Until all pods have the present template and are available.
    pub async fn wait_until_rolled_out(&self) -> Result<(), TargetError> {
        self.wait_until(|object| self.controller.progress(object) == Progress::Done).await
    }

    /// Ends with an error when the Deployment is gone or its own progress deadline has passed; a silent API server is waited for.
    pub(super) async fn wait_until(
        &self,
        arrived: impl Fn(&DynamicObject) -> bool + Send,
    ) -> Result<(), TargetError> {
        let mut states = self.object.watch();
        while let Some(state) = states.next().await {
            match state {
                Ok(Some(object)) if arrived(&object) => return Ok(()),
                Ok(Some(object)) => self.log_progress(&self.controller.progress(&object))?,
                Ok(None) => return Err(self.object.missing()),
                Err(error) if error.retryable() => tracing::debug!(%error, "waiting goes on"),
                Err(error) => return Err(error),
            }
        }
        Err(TargetError::Unreachable(format!("the watch of {} ended", self.title())))
    }

    fn log_progress(&self, progress: &Progress) -> Result<(), TargetError> {
        match progress {
            Progress::Done => Ok(()),
            Progress::Waiting(what) => {
                tracing::debug!(deployment = self.title(), what, "rolling out");
                Ok(())
            }
            Progress::Stuck(words) => {
                let place = &self.object.place;
                Err(place.unfit(
                    "status",
                    format!("{words}; kubectl -n {} rollout status {}", place.namespace, place.name),
                ))
            }
        }
    }
}

/// Sizes as they stand, kept on stable (else the canary) under the rollout's id, so that a second call answers alike.
pub(crate) async fn at_start(
    stable: Option<&Deployment>,
    canary: Option<&Deployment>,
    rollout: &RolloutId,
    after: Option<&RolloutId>,
    fence: Fence,
) -> Result<AtStart, TargetError> {
    let Some(keeper) = stable.or(canary) else {
        return Ok(AtStart { stable: 1, canary: 1, stable_min: None });
    };
    let kept = keeper.object.get().await?;
    if let Some(kept) = kept_at_start(&kept, rollout) {
        return Ok(kept);
    }
    let before_it = after.and_then(|former| kept_at_start(&kept, former));
    let found = look_around(stable, canary, rollout).await?.or_as_before(before_it);
    let text = serde_json::to_string(&found).unwrap_or_default();
    let keep = |object: &DynamicObject| match kept_at_start(object, rollout) {
        Some(_) => Ok(Change::default()),
        None => Ok(Change {
            operations: Vec::new(),
            annotations: vec![(AT_START, Some(text.clone())), (FORMER, None)],
        }),
    };
    let kept = keeper.object.edit(fence, keep).await?;
    Ok(kept_at_start(&kept, rollout).unwrap_or_else(|| found.sizes()))
}

fn kept_at_start(object: &DynamicObject, rollout: &RolloutId) -> Option<AtStart> {
    let kept: Remembered = serde_json::from_str(annotation(object, AT_START)?).ok()?;
    (kept.rollout == rollout.to_string()).then(|| kept.sizes())
}

async fn look_around(
    stable: Option<&Deployment>,
    canary: Option<&Deployment>,
    rollout: &RolloutId,
) -> Result<Remembered, TargetError> {
    let mut found = Remembered {
        rollout: rollout.to_string(),
        stable: 1,
        canary: 1,
        stable_min: None,
        canary_pods: None,
    };
    if let Some(stable) = stable {
        found.stable = replicas(&stable.object.get().await?);
        let autoscaler =
            stable.autoscalers.of(stable.controller.kind().kind, &stable.object.place.name).await?;
        found.stable_min = autoscaler.map(|autoscaler| autoscaler.own_minimum());
    }
    if let Some(canary) = canary {
        let object = canary.object.get().await?;
        found.canary = replicas(&object);
        found.canary_pods = Some(pods_hash(&object));
    }
    Ok(found)
}

impl Remembered {
    /// The sizes from before the chain of releases that superseded each other, where this is one of them.
    fn or_as_before(self, before: Option<AtStart>) -> Remembered {
        match before {
            Some(AtStart { stable, canary, stable_min }) => Remembered { stable, canary, stable_min, ..self },
            None => self,
        }
    }

    fn sizes(&self) -> AtStart {
        AtStart { stable: self.stable, canary: self.canary, stable_min: self.stable_min }
    }
}

pub(crate) fn scale_to(wanted: u32) -> Change {
    Change { operations: vec![add(path(["spec", "replicas"]), wanted)], annotations: Vec::new() }
}

/// No fewer than these; nothing to change where as many are wanted already.
pub(crate) fn grow_to(object: &DynamicObject, at_least: u32) -> Change {
    if replicas(object) < at_least { scale_to(at_least) } else { Change::default() }
}

/// Wanted replicas; 1 where none are written.
pub(crate) fn replicas(object: &DynamicObject) -> u32 {
    count(&object.data["spec"]["replicas"]).unwrap_or(1)
}

pub(super) fn count(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// Of the canary only pods of its present template count: the new version is what gets the traffic.
pub(crate) fn size(object: &DynamicObject, role: Role) -> Size {
    let status = |field: &str| count(&object.data["status"][field]).unwrap_or(0);
    let available = match role {
        Role::Stable => status("availableReplicas"),
        Role::Canary => status("availableReplicas").min(status("updatedReplicas")),
    };
    Size { wanted: replicas(object), available }
}

/// What the pods run; labels and annotations (a restart's time, say) are left out.
pub(super) fn pods_hash(object: &DynamicObject) -> String {
    let spec = object.data["spec"]["template"]["spec"].to_string();
    Sha256::digest(spec.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
