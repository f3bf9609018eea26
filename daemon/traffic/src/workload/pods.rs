//! A workload's pods themselves. Its status does not count those that are ending, and they may still work: a migration that
//! bears no old version beside it has to wait for them, too.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{DynamicObject, ListParams};
use kube::core::Selector;

use super::controller::Controller;
use crate::kubernetes::object::{KindName, Object, Place};
use crate::{Clients, TargetError};

const POD: KindName =
    KindName { group: "", version: "v1", kind: "Pod", plural: "pods", kubectl: "pods", short: "pod" };

/// A pod that has come to its end runs nothing, whether it is deleted or not.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// How often it is looked whether the last one has gone: its grace is 30 s by default.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// All pods of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Pods(Object);

impl Pods {
    pub async fn connect(clients: &Clients, namespace: &str) -> Result<Pods, TargetError> {
        Ok(Pods(Object::connect(clients, &POD, namespace, "").await?))
    }

    /// Whether a pod of this workload's is there, an ending one included.
    pub async fn are_left(
        &self,
        controller: Controller,
        place: &Place,
        workload: &DynamicObject,
    ) -> Result<bool, TargetError> {
        let selector = selector(controller, place, workload)?;
        let wanted = ListParams::default().labels_from(&selector).fields(NOT_ENDED).limit(1);
        Ok(!self.0.list(&wanted).await?.is_empty())
    }

    /// Until none is left. Cancel-safe.
    pub async fn wait_until_gone(
        &self,
        controller: Controller,
        place: &Place,
        workload: &DynamicObject,
    ) -> Result<(), TargetError> {
        while self.are_left(controller, place, workload).await? {
            tracing::debug!(workload = place.title(), "pods are ending");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// An empty one would select every pod of the namespace; the API server takes no such Deployment.
fn selector(
    controller: Controller,
    place: &Place,
    workload: &DynamicObject,
) -> Result<Selector, TargetError> {
    let unfit = |why: String| place.unfit("spec.selector", why);
    let written = workload.data["spec"]["selector"].clone();
    let selector = match controller {
        // The labels themselves.
        Controller::DeploymentConfig => {
            let labels: BTreeMap<String, String> =
                serde_json::from_value(written).map_err(|error| unfit(error.to_string()))?;
            labels.into_iter().collect()
        }
        Controller::Deployment | Controller::StatefulSet => {
            let labels: LabelSelector =
                serde_json::from_value(written).map_err(|error| unfit(error.to_string()))?;
            Selector::try_from(labels).map_err(|error| unfit(error.to_string()))?
        }
    };
    match selector.selects_all() {
        true => Err(unfit("selects every pod of the namespace; name its labels".to_owned())),
        false => Ok(selector),
    }
}
