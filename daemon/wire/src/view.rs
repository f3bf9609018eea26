//! What `status`, `watch`, `history` and the HTTP API show of a rollout.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sluice_rollout::{Outcome, RolloutId, Timestamp, Verdict, Weight};

/// One rollout as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    #[schemars(with = "String")]
    pub rollout: RolloutId,
    pub release: Option<String>,
    pub revision: u64,
    pub phase: String,
    /// The step that is watched or being reached, counted from 1; the bake is `steps.len() + 1`.
    pub step: Option<usize>,
    /// The weights of the policy's steps in percent.
    pub steps: Vec<f64>,
    pub bake: Option<f64>,
    /// The weight that is wanted, and the one last read back from the target.
    #[schemars(with = "f64")]
    pub weight: Weight,
    #[schemars(with = "Option<f64>")]
    pub read_back: Option<Weight>,
    #[schemars(with = "Option<String>")]
    pub verdict: Option<Verdict>,
    /// Why it stands where it stands.
    pub reason: String,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Outcome>,
    /// Alerts that are up.
    pub alerts: Vec<String>,
    /// Milliseconds since 1970.
    #[schemars(with = "i64")]
    pub started: Timestamp,
    #[schemars(with = "i64")]
    pub changed: Timestamp,
    /// Closed windows' seconds of the present watch, of those that it needs.
    pub watched_seconds: Option<f64>,
    pub needed_seconds: Option<f64>,
    /// When the present watch has to be decided; what then happens is the policy's.
    #[serde(default)]
    #[schemars(with = "Option<i64>")]
    pub deadline: Option<Timestamp>,
    /// The report of the analyzers: evidence against its bars for every metric; `clockOffsetSeconds` where the source's clock
    /// is not ours.
    #[serde(default, serialize_with = "as_itself", deserialize_with = "shared")]
    #[schemars(with = "Value")]
    pub evidence: Arc<Value>,
    pub owner: Option<String>,
    /// The cluster whose daemons act on it, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

fn as_itself<S: Serializer>(evidence: &Arc<Value>, serializer: S) -> Result<S::Ok, S::Error> {
    evidence.as_ref().serialize(serializer)
}

fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Value>, D::Error> {
    Value::deserialize(deserializer).map(Arc::new)
}
