//! `trigger:` what starts a rollout beside a message.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Spec, Workload};
use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Trigger {
    pub on: TriggerOn,
    /// How long a changed workload has to stand still: several edits are one release.
    pub settle: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TriggerOn {
    /// Nothing but a message starts one.
    #[default]
    Announcement,
    /// Another image in the canary's workload. A restart is none.
    Image,
    /// Anything in the canary's pod template, a restart included.
    Template,
}

impl Default for Trigger {
    fn default() -> Self {
        Trigger { on: TriggerOn::Announcement, settle: Span::from_secs(5) }
    }
}

impl Trigger {
    pub fn is_usual(&self) -> bool {
        *self == Trigger::default()
    }
}

impl Spec {
    /// A trigger needs something to look at.
    pub(super) fn wrong_trigger(&self) -> Option<(String, String)> {
        let why = match &self.workloads.canary {
            _ if self.trigger.on == TriggerOn::Announcement => return None,
            Workload::External => {
                "looks at the canary's workload, and workloads.canary names none: name its Deployment there, or write announcement"
            }
            Workload::Deployment(name) | Workload::DeploymentConfig(name) | Workload::StatefulSet(name)
                if name.contains("${") =>
            {
                "looks at one workload, and workloads.canary is another with every version: write announcement"
            }
            Workload::Deployment(_) | Workload::DeploymentConfig(_) | Workload::StatefulSet(_) => {
                return None;
            }
        };
        Some(("spec.trigger.on".to_owned(), why.to_owned()))
    }
}
