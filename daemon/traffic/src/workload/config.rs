//! What a DeploymentConfig asks for beyond a Deployment: whether its triggers leave its template alone, and the start of its next
//! version where none of them begins one (`oc rollout latest`).
//!
//! A version begins with a higher `status.latestVersion`; OpenShift's controller makes its ReplicationController then. It is raised
//! in the status, by a patch that tests our fence, and not by the subresource `instantiate`: that one can test nothing, and takes
//! the newest images of manual triggers too, over the one that is promoted.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_rollout::Fence;

use super::controller::Controller;
use super::deployment::Deployment;
use crate::TargetError;
use crate::kubernetes::decide::after_refusal;
use crate::kubernetes::marks::{Marks, guards, same_generation};
use crate::kubernetes::object::{ATTEMPTS, PatchFailure, Place};
use crate::kubernetes::patch::{add, path, test};

fn triggers<'a>(config: &'a DynamicObject, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = config.data["spec"]["triggers"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter(move |trigger| trigger["type"] == kind)
}

/// An automatic image trigger would write its own image over the one that is promoted.
pub(super) fn check_triggers(place: &Place, config: &DynamicObject) -> Result<(), TargetError> {
    if triggers(config, "ImageChange").all(|trigger| trigger["imageChangeParams"]["automatic"] != true) {
        return Ok(());
    }
    let why = format!(
        "an automatic ImageChange would write its own image over the promoted one; oc -n {} set triggers deploymentconfig/{} --manual makes releases the policy's matter",
        place.namespace, place.name
    );
    Err(place.unfit("spec.triggers", why))
}

pub(super) fn check_paused(place: &Place, object: &DynamicObject) -> Result<(), TargetError> {
    if object.data["spec"]["paused"] != true {
        return Ok(());
    }
    Err(place.unfit("spec.paused", "while it is paused nothing is rolled out; resume it"))
}

fn latest_version(config: &DynamicObject) -> u64 {
    config.data["status"]["latestVersion"].as_u64().unwrap_or(0)
}

/// The next version, of which no pod is there yet. That is said with it: until its controller looks, the former one's count stood
/// there.
fn next_version(config: &DynamicObject) -> Vec<PatchOperation> {
    let next = latest_version(config) + 1;
    let status = path(["status"]);
    let details = json!({"message": "begun by sluice", "causes": [{"type": "Manual"}]});
    if config.data["status"].is_null() {
        let all = json!({"latestVersion": next, "updatedReplicas": 0, "details": details});
        return vec![test(status.clone(), Value::Null), add(status, all)];
    }
    let at = |field: &str| path(["status", field]);
    let before = config.data["status"]["latestVersion"].clone();
    vec![
        test(at("latestVersion"), before),
        add(at("latestVersion"), next),
        add(at("updatedReplicas"), 0),
        add(at("details"), details),
    ]
}

impl Deployment {
    /// Begins the version of the present template where a DeploymentConfig's triggers do not; nothing to do for other kinds, and
    /// where its latest version is of this template. A paused one is refused: its controller would make none.
    pub async fn begin_version(&self, fence: Fence) -> Result<(), TargetError> {
        if self.controller != Controller::DeploymentConfig {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let config = self.object.get().await?;
            if self.has_begun(&config).await? {
                return Ok(());
            }
            if let Some(found) = Marks::of(&config).fence.filter(|found| *found > fence) {
                return Err(TargetError::Fenced { found, ours: fence });
            }
            check_paused(&self.object.place, &config)?;
            let generation = same_generation(&config).into_iter().collect();
            let operations = [guards(&config), generation, next_version(&config)].concat();
            match self.object.patch_status(operations.clone()).await {
                Ok(_) => return Ok(()),
                Err(PatchFailure::Other(error)) => return Err(error),
                Err(PatchFailure::Unprocessable(words)) => {
                    let fresh = self.object.get().await?;
                    after_refusal(&self.object.place, &config, &fresh, &operations, &words)?;
                }
            }
        }
        Err(TargetError::Changed(self.title()))
    }

    /// Its own trigger begins it, or its latest version is of this template, or is being made.
    async fn has_begun(&self, config: &DynamicObject) -> Result<bool, TargetError> {
        if triggers(config, "ConfigChange").next().is_some() {
            return Ok(true);
        }
        let latest = latest_version(config);
        let made = self.revisions.of(config).await?;
        let made = made.iter().find(|version| version.number == latest);
        Ok(latest > 0 && made.is_none_or(|version| version.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(status: Value, triggers: Value) -> DynamicObject {
        serde_json::from_value(
            json!({"metadata": {"name": "shop"}, "spec": {"triggers": triggers}, "status": status}),
        )
        .unwrap()
    }

    fn raised(status: Value) -> Value {
        let config = config(status, json!([]));
        let mut object = serde_json::to_value(&config).unwrap();
        // This library does not know that the API server passes a test for null where nothing is.
        let is_null_test = |operation: &PatchOperation| matches!(operation, PatchOperation::Test(test) if test.value.is_null());
        let operations: Vec<PatchOperation> =
            next_version(&config).into_iter().filter(|operation| !is_null_test(operation)).collect();
        json_patch::patch(&mut object, &operations).unwrap();
        object["status"].clone()
    }

    #[test]
    fn the_next_version_has_the_next_number_and_no_pod_yet() {
        let running = raised(json!({"latestVersion": 3, "updatedReplicas": 5, "availableReplicas": 5}));
        assert_eq!((&running["latestVersion"], &running["updatedReplicas"]), (&json!(4), &json!(0)));
        assert_eq!(running["availableReplicas"], 5, "the former one's pods are still there");
        assert_eq!(raised(json!({}))["latestVersion"], 1);
        assert_eq!(raised(Value::Null)["latestVersion"], 1);
    }
}
