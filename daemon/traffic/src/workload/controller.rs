//! What keeps a version's pods: its name in the API, and how far it has come.

use kube::api::DynamicObject;
use sluice_wire::policy::Workload;

use super::promotion::{Progress, config_progress, progress, stateful_progress};
use crate::kubernetes::object::KindName;

/// What keeps a version's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Controller {
    Deployment,
    /// OpenShift's.
    DeploymentConfig,
    StatefulSet,
}

const DEPLOYMENT: KindName = KindName {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    kubectl: "deployment",
    short: "deployment",
};

const DEPLOYMENT_CONFIG: KindName = KindName {
    group: "apps.openshift.io",
    version: "v1",
    kind: "DeploymentConfig",
    plural: "deploymentconfigs",
    kubectl: "deploymentconfigs.apps.openshift.io",
    short: "deploymentconfig",
};

const STATEFUL_SET: KindName = KindName {
    group: "apps",
    version: "v1",
    kind: "StatefulSet",
    plural: "statefulsets",
    kubectl: "statefulset",
    short: "statefulset",
};

impl Controller {
    /// With the workload's name; `None` for what somebody else runs.
    pub fn of(workload: &Workload) -> Option<(Controller, &str)> {
        Some(match workload {
            Workload::Deployment(name) => (Controller::Deployment, name),
            Workload::DeploymentConfig(name) => (Controller::DeploymentConfig, name),
            Workload::StatefulSet(name) => (Controller::StatefulSet, name),
            Workload::External => return None,
        })
    }

    pub fn kind(self) -> &'static KindName {
        match self {
            Controller::Deployment => &DEPLOYMENT,
            Controller::DeploymentConfig => &DEPLOYMENT_CONFIG,
            Controller::StatefulSet => &STATEFUL_SET,
        }
    }

    pub fn progress(self, object: &DynamicObject) -> Progress {
        match self {
            Controller::Deployment => progress(object),
            Controller::DeploymentConfig => config_progress(object),
            Controller::StatefulSet => stateful_progress(object),
        }
    }
}
