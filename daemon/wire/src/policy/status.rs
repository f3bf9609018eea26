//! `status:` of a policy that stands in a cluster: whether it is in force, and how its latest rollout stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Written by daemons only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatus {
    /// The generation that `conditions` speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether this generation is in force. Where it is not, the one before it stays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The latest rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

/// As `metav1.Condition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// RFC 3339.
    pub last_transition_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How the latest rollout stands, at most a few seconds late. `sluice status` and `explain` have the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    pub attempt: String,
    /// What is released, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    pub phase: String,
    /// `2/4`, or `bake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The canary's, as it is wanted: `25 %`.
    pub weight: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Why it stands where it stands.
    pub reason: String,
    /// The daemon that acts on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

impl RolloutStatus {
    /// Whether the two differ in more than words.
    pub fn stands_as(&self, other: &RolloutStatus) -> bool {
        RolloutStatus { reason: String::new(), ..self.clone() }
            == RolloutStatus { reason: String::new(), ..other.clone() }
    }
}
