//! `workloads:` how the two versions are run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workloads {
    #[serde(default)]
    pub stable: Workload,
    #[serde(default)]
    pub canary: Workload,
    /// Who makes the canary's version the stable one.
    #[serde(default)]
    pub promote: PromoteBy,
    /// How long the old pods stay after promotion.
    #[serde(default = "thirty_seconds")]
    pub scale_down_delay: Span,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Workload {
    /// Name of an `apps/v1` Deployment in the policy's namespace. An autoscaler's minimum is its floor.
    Deployment(String),
    /// Name of an OpenShift `apps.openshift.io/v1` DeploymentConfig in the policy's namespace. It is scaled and watched; its
    /// template stays its owner's, so `promote` is `swap` or `external`.
    DeploymentConfig(String),
    /// Name of an `apps/v1` StatefulSet in the policy's namespace. It is scaled and watched; its template stays its owner's, so
    /// `promote` is `swap` or `external`.
    StatefulSet(String),
    /// Somebody else runs it; Sluice neither scales nor replaces it.
    #[default]
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PromoteBy {
    /// The canary's pod template becomes stable's; labels that stable's selector names stay. Both are Deployments, and no
    /// GitOps tool owns stable's template.
    #[default]
    CopyTemplate,
    /// The two change roles; nothing is copied.
    Swap,
    /// Somebody else gives stable the canary's images; Sluice waits until its pods are available. Both are Deployments.
    External,
}

impl Default for Workloads {
    fn default() -> Self {
        Workloads {
            stable: Workload::External,
            canary: Workload::External,
            promote: PromoteBy::Swap,
            scale_down_delay: thirty_seconds(),
        }
    }
}

fn thirty_seconds() -> Span {
    Span::from_secs(30)
}
