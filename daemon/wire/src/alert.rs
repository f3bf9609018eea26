//! What on-call is told, before any sink gives it its own form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sluice_rollout::{AlertKind, RolloutId, Timestamp};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertStatus {
    Firing,
    Resolved,
}

/// One alert of one rollout. Its identity is (rollout, kind): nothing that changes belongs into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub rollout: RolloutId,
    pub kind: AlertKind,
    pub status: AlertStatus,
    /// One sentence for a phone's screen.
    pub summary: String,
    /// More, for the page: evidence in words, the weight, what to type next.
    pub details: BTreeMap<String, String>,
    pub since: Timestamp,
    /// When this was said.
    pub at: Timestamp,
}
