//! What on-call is told, before any sink gives it its own form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
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

impl Alert {
    pub fn is_firing(&self) -> bool {
        match self.status {
            AlertStatus::Firing => true,
            AlertStatus::Resolved => false,
        }
    }

    /// The same from firing to resolved, and another one for the next trouble of the same kind: 16 hex digits of a
    /// SHA-256 over rollout, kind and since.
    pub fn episode(&self) -> String {
        let text = format!("{} {} {}", self.rollout, kind_name(self.kind), self.since.millis());
        Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// What happened, to which rollout, in one line: `checkout (shop) is being put back`.
    pub fn title(&self) -> String {
        let what = match (self.kind, self.status) {
            (AlertKind::Aborting, AlertStatus::Firing) => "is being put back",
            (AlertKind::Aborting, AlertStatus::Resolved) => "has been put back",
            (AlertKind::NeedsAttention, AlertStatus::Firing) => "needs attention",
            (AlertKind::NeedsAttention, AlertStatus::Resolved) => "needs no attention any more",
            (AlertKind::Advisory, AlertStatus::Firing) => "should be looked at",
            (AlertKind::Advisory, AlertStatus::Resolved) => "need not be looked at any more",
            (AlertKind::Blind, AlertStatus::Firing) => "has no usable metrics",
            (AlertKind::Blind, AlertStatus::Resolved) => "has its metrics back",
        };
        format!("{} ({}) {what}", self.rollout.name(), self.rollout.namespace())
    }
}

/// As JSON writes it, for labels and logs: `needs-attention`.
pub fn kind_name(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Aborting => "aborting",
        AlertKind::NeedsAttention => "needs-attention",
        AlertKind::Blind => "blind",
        AlertKind::Advisory => "advisory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_lasts_from_firing_to_resolved_and_no_longer() {
        let firing = Alert {
            rollout: "shop/checkout@v2".parse().unwrap(),
            kind: AlertKind::Blind,
            status: AlertStatus::Firing,
            summary: "no metrics".into(),
            details: BTreeMap::new(),
            since: Timestamp::from_millis(1_000),
            at: Timestamp::from_millis(2_000),
        };
        let at = Timestamp::from_millis(9_000);
        let resolved = Alert { status: AlertStatus::Resolved, summary: "back".into(), at, ..firing.clone() };
        let again = Alert { since: at, ..firing.clone() };
        assert_eq!(firing.episode(), resolved.episode());
        assert_ne!(firing.episode(), again.episode());
        assert_eq!(serde_json::to_value(AlertKind::Blind).unwrap(), kind_name(AlertKind::Blind));
    }
}
