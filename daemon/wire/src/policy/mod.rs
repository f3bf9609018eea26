//! The policy: what a team writes. A file, a custom resource, or inlined in a message: one schema.
//!
//! [`Policy::parse`] answers with everything checked, or with file, line, field and remedy of all that is wrong.

pub mod access;
mod alerts;
pub mod crd;
mod document;
mod fault;
mod form;
mod gates;
mod metrics;
mod resolve;
mod scalars;
mod secrets;
mod shown;
mod status;
mod strategy;
mod target;
mod testers;
mod trigger;
mod workloads;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_rollout::Weight;

pub use access::AccessRule;
pub use alerts::{AlertSink, AlertWebhook, Alertmanager, OWN_LABELS, Slack};
pub use document::{Place, Places};
pub use fault::{PolicyFault, PolicyFaults};
pub use gates::{Dates, Day, FailurePolicy, Freeze, Gate, GateKind, Hours, Job};
pub use metrics::{Metrics, Preset, Prometheus, Queries, Scrape};
pub use resolve::{MOST_POLICY_BYTES, cluster_name};
pub use shown::{HIDDEN, shown};
pub use status::{Condition, PolicyStatus, RolloutStatus};
pub use strategy::{Hooks, Strategy};
pub use target::{
    AlbIngress, Haproxy, InPlace, InPlaceKind, ObjectName, PlainRoute, PodShare, Protocol, RuleRoute,
    ServiceFlip, Services, Target, VirtualService, Webhook,
};
pub use testers::{NameValue, Testers};
pub use trigger::{Trigger, TriggerOn};
pub use workloads::{PodCount, PromoteBy, Recreate, Replace, Rolling, Workload, Workloads};

use crate::{
    analysis::Analysis,
    units::{Percent, Span, StepWeight},
};

/// A whole policy document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// `sluice.dev/v1alpha1`
    pub api_version: String,
    /// `RolloutPolicy`
    pub kind: String,
    pub metadata: Metadata,
    pub spec: Spec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// For `_all` commands narrowed by a label selector.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// Everything but target, metrics and steps has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    pub target: Target,
    /// One word that stands for steps, promotion and replacement; `sluice validate` prints what it came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// The cluster whose daemons act (`sluice run --cluster`); the one of the daemon that reads the policy if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Whose requests go to the canary at any weight, from before step 1's gates until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testers: Option<Testers>,
    #[serde(default)]
    pub workloads: Workloads,
    pub metrics: Metrics,
    #[serde(default)]
    pub analysis: Analysis,
    /// Rising weights. Left out only where the target flips.
    #[serde(default)]
    pub steps: Vec<StepSpec>,
    #[serde(default)]
    pub limits: LimitsSpec,
    #[serde(default)]
    pub bake: BakeSpec,
    /// Before anything is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Before the old version is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promote_gates: Vec<Gate>,
    /// Around the replacement of the old version's pods.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Who may command what; without a rule whoever NATS or a token lets in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<AlertSink>,
    #[serde(default, skip_serializing_if = "Trigger::is_usual")]
    pub trigger: Trigger,
    #[serde(default)]
    pub on_new_release: OnNewRelease,
    #[serde(default)]
    pub on_drift: OnDriftSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepSpec {
    /// Percent of the traffic to the canary.
    #[schemars(with = "StepWeight")]
    pub weight: Weight,
    /// In place of `limits.step.min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Span>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Wait for a person once the step has passed.
    #[serde(default)]
    pub pause: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsSpec {
    pub step: StepLimits,
    pub on_deadline: OnDeadlineSpec,
    pub on_undecided: OnTroubleSpec,
    pub on_no_data: OnTroubleSpec,
    pub on_source_down: OnTroubleSpec,
    /// How long such trouble lasts before its alert.
    pub trouble_after: Span,
    /// How long the canary may take to become available.
    pub prepare: Span,
    /// How long a written weight may take to be read back.
    pub shift: Span,
    pub promote: Span,
    /// How long the drain is watched after an abort.
    pub drain: Span,
    /// What is done with the canary's pods where requests still reach them after that (sticky sessions).
    pub on_undrained: OnUndrainedSpec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StepLimits {
    /// Least time of closed windows: counted, not elapsed.
    pub min: Span,
    /// Wall time.
    pub max: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BakeSpec {
    /// Time of closed windows; 0 leaves the bake out.
    #[serde(rename = "for")]
    pub length: Span,
    /// Stable's share while the bake lasts.
    pub holdback: Percent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDeadlineSpec {
    #[default]
    Hold,
    Pause,
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnTroubleSpec {
    Hold,
    Alert,
    Pause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnUndrainedSpec {
    /// They go all the same, within their grace period.
    #[default]
    Cut,
    /// They stay, and that is told.
    Alert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnNewRelease {
    /// Revert the running one, then start the newest.
    #[default]
    Supersede,
    Queue,
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDriftSpec {
    #[default]
    Correct,
    Report,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Default for LimitsSpec {
    fn default() -> Self {
        LimitsSpec {
            step: StepLimits::default(),
            on_deadline: OnDeadlineSpec::Hold,
            on_undecided: OnTroubleSpec::Hold,
            on_no_data: OnTroubleSpec::Alert,
            on_source_down: OnTroubleSpec::Alert,
            trouble_after: Span::from_secs(60),
            prepare: Span::from_secs(600),
            shift: Span::from_secs(60),
            promote: Span::from_secs(600),
            drain: Span::from_secs(60),
            on_undrained: OnUndrainedSpec::Cut,
        }
    }
}

impl Default for StepLimits {
    fn default() -> Self {
        StepLimits { min: Span::from_secs(60), max: Span::from_secs(45 * 60) }
    }
}

impl Default for BakeSpec {
    fn default() -> Self {
        BakeSpec { length: Span::from_secs(600), holdback: Percent(0.05) }
    }
}

impl Policy {
    /// With the versions' own names as values of the label that `metrics.prometheus.labels.by` names, where the policy leaves them
    /// to be found: a target that names its versions anew with each release knows them only when it begins.
    pub fn named(&self, [stable, canary]: [String; 2]) -> Policy {
        let mut policy = self.clone();
        if let Metrics::Prometheus(prometheus) = &mut policy.spec.metrics {
            let labels = &mut prometheus.labels;
            if labels.contains_key("by") && !labels.contains_key("stable") && !labels.contains_key("canary") {
                labels.extend([("stable".to_owned(), stable), ("canary".to_owned(), canary)]);
            }
        }
        policy
    }

    /// The same policy as an undo: stable gets the template that one of its own ReplicaSets keeps, with no weights, gates or
    /// hooks.
    pub fn undone(&self, replica_set: &str) -> Policy {
        let mut policy = self.clone();
        let spec = &mut policy.spec;
        spec.workloads.from_replica_set = Some(replica_set.to_owned());
        (spec.strategy, spec.testers, spec.hooks) = (None, None, Hooks::default());
        // No Job of the policy's has a part in it: stable's own strategy goes back.
        spec.workloads.replace.take_if(|replace| matches!(replace, Replace::Custom(_)));
        spec.steps.clear();
        spec.gates.clear();
        spec.promote_gates.clear();
        policy
    }

    /// The same policy with the two versions in each other's place: how a rollout after a swap begins.
    pub fn swapped(&self) -> Policy {
        let mut policy = self.clone();
        let spec = &mut policy.spec;
        if !spec.target.swap() {
            return policy;
        }
        std::mem::swap(&mut spec.workloads.stable, &mut spec.workloads.canary);
        match &mut spec.metrics {
            Metrics::Scrape(scrape) => std::mem::swap(&mut scrape.stable, &mut scrape.canary),
            Metrics::Prometheus(prometheus) => {
                let stable = prometheus.labels.remove("stable");
                if let Some(canary) = prometheus.labels.remove("canary") {
                    prometheus.labels.insert("stable".to_owned(), canary);
                }
                if let Some(stable) = stable {
                    prometheus.labels.insert("canary".to_owned(), stable);
                }
            }
        }
        policy
    }
}
