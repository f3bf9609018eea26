//! What is kept of a rollout. Two keys and a stream: `state` at every transition, `evidence` when the verdict changes,
//! and the history. Records carry a version; an unknown newer one is left alone and reported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_rollout::{Event, Reason, RolloutId, State, Timestamp};

use crate::{decisions::sum_of_bytes, policy};

/// The version of the records that this Sluice writes.
pub const VERSION: u32 = 1;

/// What does not change while a rollout lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charter {
    pub version: u32,
    pub id: RolloutId,
    /// The release's name for people.
    pub release: Option<String>,
    pub actor: Option<String>,
    /// The version that ran before, as announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `source` and `id` of the announcement.
    pub key: String,
    /// Its place in the bus' stream, where it has one: an older announcement never begins after a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The resolved policy's bytes (JSON), and the SHA-256 of what of them may be shown: see [`Charter::shown`].
    pub policy: String,
    pub policy_hash: String,
    pub announced: Timestamp,
    /// The attempt that this one superseded before it had put back the sizes it had raised: this one does, at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RolloutId>,
    /// How often this release was tried before: its retries share one chance of a false abort.
    #[serde(default, skip_serializing_if = "is_first")]
    pub retries: u32,
}

fn is_first(retries: &u32) -> bool {
    *retries == 0
}

impl Charter {
    /// As it may leave the daemon: the policy's secrets are hidden. Its hash is the same.
    pub fn shown(&self) -> Charter {
        Charter { policy: policy::shown(&self.policy), ..self.clone() }
    }

    /// The hash that belongs to a policy's bytes.
    pub fn hash(policy: &str) -> String {
        sum_of_bytes(policy::shown(policy).as_bytes())
    }
}

/// Who acts on a rollout. Taken by compare-and-swap with `epoch + 1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub daemon: String,
    pub incarnation: String,
    pub epoch: u64,
    /// Only daemons of this cluster take it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Saved with compare-and-swap before anything is acknowledged or executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    pub version: u32,
    pub owner: Owner,
    pub state: State,
    /// Lines of the history that were not known to be in their stream when this was saved: what a crash has kept from
    /// being written is written by whoever takes the rollout up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<HistoryLine>,
}

/// One line of the history: one transition that changed something, or one refused command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLine {
    #[schemars(with = "String")]
    pub rollout: RolloutId,
    /// Milliseconds since 1970.
    #[schemars(with = "i64")]
    pub at: Timestamp,
    pub revision: u64,
    pub phase: String,
    pub weight: f64,
    /// What caused it, one word.
    pub event: String,
    /// Why, for people; `code` for programs.
    pub reason: String,
    pub code: String,
    /// Who, where it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// What was asked for, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

impl HistoryLine {
    /// The line of one transition, as `state` stands after it; nobody's command, and nothing asked for.
    pub fn of(state: &State, at: Timestamp, event: &str, reason: &Reason) -> HistoryLine {
        HistoryLine {
            rollout: state.id.clone(),
            at,
            revision: state.revision,
            phase: state.phase.name().to_owned(),
            weight: state.weight.percent(),
            event: event.to_owned(),
            reason: reason.to_string(),
            code: reason.code(),
            actor: None,
            accepted: None,
            effects: Vec::new(),
        }
    }
}

/// The event's one word in the history.
pub fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Requested => "requested",
        Event::GateAnswered { .. } => "gate-answered",
        Event::BaselineMeasured(_) => "baseline-measured",
        Event::WorkloadObserved { .. } => "workload-observed",
        Event::WorkloadReady { .. } => "workload-ready",
        Event::Scaled { .. } => "scaled",
        Event::TrafficObserved(_) => "traffic-observed",
        Event::TargetUnseen { .. } => "target-unseen",
        Event::Evidence { .. } => "evidence",
        Event::CanaryVanished => "canary-vanished",
        Event::Drained(_) => "drained",
        Event::EffectDone { .. } => "effect-done",
        Event::EffectFailed { .. } => "effect-failed",
        Event::TimerFired { .. } => "timer-fired",
        Event::Override(_) => "override",
        Event::Superseded { .. } => "superseded",
        Event::NeverBegan { .. } => "never-began",
        Event::Recovered { .. } => "recovered",
    }
}
