//! One rollout's state: a phase with its data, and what is outstanding. Small enough to be saved at every transition.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{
    AlertKind, Effect, EffectId, Fence, GateId, GateSpec, Numbered, Policy, Reason, RolloutId, TimerId,
    Timestamp, Verdict, Weight,
};

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Promoted,
    /// The canary had traffic and it was taken away again.
    Reverted,
    /// It ended before the canary had any traffic.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromoteStage {
    /// Gates before the old version is replaced.
    Gated,
    /// The canary grows to full size, then takes all traffic: it is the stable version from then on (a swap), or stable
    /// is emptied next (recreate).
    Raising,
    /// Recreate: stable's old pods go, all of them.
    Emptying,
    /// Recreate: the hooks between the old pods and the new ones.
    Between,
    /// Recreate: one new pod has to become available before the rest begins.
    Proving,
    /// Stable takes the new template, while the canary keeps its share of the traffic.
    Replacing,
    /// The traffic goes back to stable, which is the new version now.
    Returning,
    /// The hooks after it, while everything can still be put back.
    After,
}

impl PromoteStage {
    /// Whether it waits for gates (or hooks, which are gates of the promotion's inside).
    pub fn asks_gates(self) -> bool {
        match self {
            PromoteStage::Gated | PromoteStage::Between | PromoteStage::After => true,
            PromoteStage::Raising
            | PromoteStage::Emptying
            | PromoteStage::Proving
            | PromoteStage::Replacing
            | PromoteStage::Returning => false,
        }
    }

    /// Whether stable may be without pods, or between two versions: nobody is to stop there.
    pub fn must_go_on(self) -> bool {
        match self {
            PromoteStage::Gated | PromoteStage::After => false,
            PromoteStage::Raising
            | PromoteStage::Emptying
            | PromoteStage::Between
            | PromoteStage::Proving
            | PromoteStage::Replacing
            | PromoteStage::Returning => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevertStage {
    /// Stable's template first, when it was already being replaced; traffic stays where pods are available.
    Restoring,
    /// Weight 0, until it has been read back.
    Closing,
}

/// Where a rollout stands. Illegal mixes cannot be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// Waits for the gates before `next` (0-based step), in their order; those before `gate` have said yes.
    Gated {
        next: usize,
        gate: usize,
    },
    /// The canary is scaled up and the service measured, for the weight of step `next`.
    Preparing {
        next: usize,
    },
    /// Step `step`'s weight was asked for and has not been read back.
    Shifting {
        step: usize,
    },
    /// Step `step` is watched.
    Observing {
        step: usize,
        watch: Watch,
    },
    /// Somebody, or the policy, said stop. Metrics are read on: a bad canary is aborted here too.
    Paused {
        at: Box<Phase>,
        why: PauseReason,
    },
    /// The last watch.
    Baking {
        watch: Watch,
    },
    Promoting {
        stage: PromoteStage,
        gate: usize,
    },
    Reverting {
        stage: RevertStage,
        reason: Reason,
    },
    Done {
        outcome: Outcome,
        reason: Reason,
    },
}

/// What a person has to know of a pause, and where it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PauseReason {
    Person {
        actor: String,
        reason: String,
    },
    /// The step says `pause: true` and has passed.
    Policy,
    Deadline,
    Drift,
    Trouble,
    /// A weight set by hand: resume goes back to the step's own.
    ManualWeight,
}

/// The watch of one step or the bake.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Watch {
    pub since: Timestamp,
    /// Closed windows' time so far, in milliseconds: counted, not elapsed.
    pub counted_ms: u64,
    /// Up to here, by the source's clock: a gap that is read again after a crash counts once.
    #[serde(default)]
    pub counted_until: Timestamp,
    pub verdict: Option<Verdict>,
    /// When the present verdict began to be reported without a break.
    pub verdict_since: Timestamp,
    /// The analysis' own words for it.
    pub words: String,
}

/// The first answer to a message, for repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    pub key: String,
    pub accepted: bool,
    pub revision: u64,
    pub reason: Reason,
    /// Where the rollout stood then.
    pub phase: String,
    pub step: Option<usize>,
    pub weight: Weight,
    /// The earlier attempt that it was for, where that is not this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<RolloutId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub id: RolloutId,
    /// Counts transitions, not saves.
    pub revision: u64,
    /// The ownership's epoch, the fence's first half.
    pub epoch: u64,
    /// The number of the last effect: never repeats, and is the fence's second half.
    pub seq: u64,
    /// The latest time seen; an earlier one counts as equal.
    pub now: Timestamp,
    pub started: Timestamp,
    #[serde(flatten)]
    pub phase: Phase,
    /// The weight that is wanted now.
    pub weight: Weight,
    /// The weight last read back from the target.
    pub read_back: Option<Weight>,
    /// The fence under which it was confirmed; news with a lower one are late.
    pub confirmed: Option<Fence>,
    /// Whether the service was measured before the canary had traffic; without it nothing is judged.
    pub baseline_measured: bool,
    /// Whether the canary ever had traffic in this rollout.
    pub had_traffic: bool,
    /// Whether stable's template may have been touched, so that an abort has to restore it.
    pub stable_touched: bool,
    /// It ended, and a newer release took the sizes over that it had raised: that one puts them back.
    #[serde(default)]
    pub sizes_left: bool,
    /// Available canary pods as last reported, and how many the present weight needs.
    pub canary_available: u32,
    pub canary_needed: u32,
    pub outstanding: Vec<Numbered>,
    /// Alerts that are up.
    pub alerts: Vec<Firing>,
    /// Whether on-call was told that the target cannot be read.
    #[serde(default)]
    pub target_unseen: bool,
    /// Since when less is to be looked at than on-call was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice_less_since: Option<Timestamp>,
    /// Times of the last corrections of drift.
    pub drifts: VecDeque<Timestamp>,
    pub answered: VecDeque<Answered>,
}

/// An alert that is up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    pub kind: AlertKind,
    pub summary: String,
    pub since: Timestamp,
}

/// How many first answers are kept in the state itself; older ones stand in the answers bucket.
pub(crate) const MOST_ANSWERS: usize = 16;

impl State {
    /// Before anything happened. The first event is `Requested`.
    pub fn new(id: RolloutId, epoch: u64, now: Timestamp) -> State {
        State {
            id,
            revision: 0,
            epoch,
            seq: 0,
            now,
            started: now,
            phase: Phase::Gated { next: 0, gate: 0 },
            weight: Weight::ZERO,
            read_back: None,
            confirmed: None,
            baseline_measured: false,
            had_traffic: false,
            stable_touched: false,
            sizes_left: false,
            canary_available: 0,
            canary_needed: 1,
            outstanding: Vec::new(),
            alerts: Vec::new(),
            target_unseen: false,
            advice_less_since: None,
            drifts: VecDeque::new(),
            answered: VecDeque::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done { .. })
    }

    /// Whether everything that this rollout asked for has come about, too.
    pub fn is_settled(&self) -> bool {
        self.is_done() && self.outstanding.is_empty()
    }

    pub fn is_aborting(&self) -> bool {
        matches!(self.phase, Phase::Reverting { .. })
    }

    /// The step (0-based) that is watched or being reached; the bake is the step after the last.
    pub fn step(&self, policy: &Policy) -> Option<usize> {
        self.phase.step(policy)
    }

    /// The fence of an effect of ours.
    pub fn fence(&self, id: EffectId) -> Fence {
        Fence { epoch: self.epoch, seq: id.seq }
    }

    /// Whether it has ended, and what it had raised has been put back to the sizes of before.
    pub fn has_put_back(&self) -> bool {
        let sizes = |effect: &Effect| {
            matches!(
                effect,
                Effect::WatchDrain { .. } | Effect::SetTraffic { .. } | Effect::ScaleWorkload { .. }
            )
        };
        self.is_done() && !self.sizes_left && !self.outstanding.iter().any(|one| sizes(&one.effect))
    }

    /// The outstanding effect with this id, if it has not been overtaken.
    pub fn outstanding(&self, id: EffectId) -> Option<&Effect> {
        self.outstanding.iter().find(|numbered| numbered.id == id).map(|numbered| &numbered.effect)
    }

    /// The gate that is waited for.
    pub fn asked_gate<'p>(&self, policy: &'p Policy) -> Option<&'p GateId> {
        self.phase.gate(policy).map(|gate| &gate.id)
    }

    /// When `timer` will fire, if it is set.
    pub fn timer(&self, timer: TimerId) -> Option<Timestamp> {
        self.outstanding.iter().find_map(|numbered| match &numbered.effect {
            Effect::WakeAt { timer: set, at } if *set == timer => Some(*at),
            _ => None,
        })
    }

    /// What the policy's next attempt answers to commands that were meant for this one and are sent again.
    pub fn answers_to_hand_on(&self) -> VecDeque<Answered> {
        let of = |answered: &Answered| Some(answered.of.clone().unwrap_or_else(|| self.id.clone()));
        self.answered.iter().map(|answered| Answered { of: of(answered), ..answered.clone() }).collect()
    }

    /// The first answer to this message, if it has been answered.
    pub fn first_answer(&self, key: &str) -> Option<&Answered> {
        self.answered.iter().find(|answered| answered.key == key)
    }

    /// The present watch, paused or not.
    pub fn watch(&self) -> Option<&Watch> {
        self.phase.watch()
    }
}

impl Phase {
    /// One word for people, messages and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Gated { .. } => "gated",
            Phase::Preparing { .. } => "preparing",
            Phase::Shifting { .. } => "shifting",
            Phase::Observing { .. } => "observing",
            Phase::Paused { .. } => "paused",
            Phase::Baking { .. } => "baking",
            Phase::Promoting { .. } => "promoting",
            Phase::Reverting { .. } => "reverting",
            Phase::Done { outcome: Outcome::Promoted, .. } => "promoted",
            Phase::Done { outcome: Outcome::Reverted, .. } => "reverted",
            Phase::Done { outcome: Outcome::Failed, .. } => "failed",
        }
    }

    pub(crate) fn step(&self, policy: &Policy) -> Option<usize> {
        match self {
            Phase::Gated { next, .. } | Phase::Preparing { next, .. } => Some(*next),
            Phase::Shifting { step } | Phase::Observing { step, .. } => Some(*step),
            Phase::Baking { .. } => Some(policy.steps.len()),
            Phase::Paused { at, .. } => at.step(policy),
            Phase::Promoting { .. } | Phase::Reverting { .. } | Phase::Done { .. } => None,
        }
    }

    pub(crate) fn gate<'p>(&self, policy: &'p Policy) -> Option<&'p GateSpec> {
        match self {
            Phase::Gated { next, gate } => policy.gates_before(*next).nth(*gate),
            Phase::Promoting { stage, gate } => match stage {
                PromoteStage::Gated => policy.promote_gates.get(*gate),
                PromoteStage::Between => policy.hooks.mid.get(*gate),
                PromoteStage::After => policy.hooks.post.get(*gate),
                PromoteStage::Raising
                | PromoteStage::Emptying
                | PromoteStage::Proving
                | PromoteStage::Replacing
                | PromoteStage::Returning => None,
            },
            Phase::Paused { at, .. } => at.gate(policy),
            Phase::Preparing { .. }
            | Phase::Shifting { .. }
            | Phase::Observing { .. }
            | Phase::Baking { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => None,
        }
    }

    fn watch(&self) -> Option<&Watch> {
        match self {
            Phase::Observing { watch, .. } | Phase::Baking { watch } => Some(watch),
            Phase::Paused { at, .. } => at.watch(),
            Phase::Gated { .. }
            | Phase::Preparing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => None,
        }
    }

    pub(crate) fn watch_mut(&mut self) -> Option<&mut Watch> {
        match self {
            Phase::Observing { watch, .. } | Phase::Baking { watch } => Some(watch),
            Phase::Paused { at, .. } => at.watch_mut(),
            Phase::Gated { .. }
            | Phase::Preparing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => None,
        }
    }
}
