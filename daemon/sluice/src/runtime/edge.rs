//! One rollout's edge: everything outside that its lanes, gates and observer work with, and the little of its state that
//! they may know.

use std::sync::Arc;

use serde_json::Value;
use sluice_alerts::Dispatcher;
use sluice_rollout::{Effect, EffectId, Fence, Observation, Phase, RolloutId, State, Weight};
use sluice_traffic::{Target, Workloads};
use sluice_wire::{policy::Policy, record::Charter};
use tokio::sync::watch;

use super::{
    parts::Parts,
    post::Post,
    recorder::Recorder,
    standing::Standing,
    troubles::{Silent, Troubles},
};

/// What lanes may know of the state, as it stood after the last transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    pub epoch: u64,
    pub seq: u64,
    pub revision: u64,
    pub weight: Weight,
    /// A write of the weight was asked for, and has not been confirmed.
    pub writes: bool,
    pub done: bool,
    /// Stable is still the old version at its size of the start, and must stay so.
    pub holds_floor: bool,
}

impl Snapshot {
    pub fn of(state: &State) -> Snapshot {
        let State { epoch, seq, revision, weight, .. } = *state;
        let replacing =
            matches!(state.phase, Phase::Promoting { .. } | Phase::Reverting { .. } | Phase::Done { .. });
        let holds_floor = !replacing && !weight.is_zero();
        let writes = state.outstanding.iter().any(|one| matches!(one.effect, Effect::SetTraffic { .. }));
        Snapshot { epoch, seq, revision, weight, writes, done: state.is_done(), holds_floor }
    }
}

/// What the lanes of one rollout share; there is one of it.
pub struct Edge {
    pub id: RolloutId,
    pub charter: Arc<Charter>,
    pub policy: Arc<Policy>,
    pub parts: Parts,
    pub target: Arc<dyn Target>,
    pub workloads: Arc<dyn Workloads>,
    pub alerts: Arc<Dispatcher>,
    pub post: Post,
    pub recorder: Recorder,
    pub snapshot: watch::Receiver<Snapshot>,
    /// The analyzers' latest report.
    pub report: watch::Receiver<Arc<Value>>,
    pub observation: watch::Sender<Observation>,
    /// Since when the weight stands.
    pub standing: watch::Sender<Standing>,
    /// What cannot be reached just now.
    pub troubles: Troubles,
}

impl Edge {
    pub fn fence(&self, id: EffectId) -> Fence {
        Fence { epoch: self.snapshot.borrow().epoch, seq: id.seq }
    }

    /// It did not come about at `who`; whoever tries again says [`Troubles::over`] when it has.
    pub fn failed(&self, effect: &Effect, who: Silent, why: &str) {
        self.parts.meters.failure(effect.name());
        self.troubles.note(who, why);
        tracing::warn!(rollout = %self.id, effect = effect.name(), why, "an effect did not come about");
    }
}
