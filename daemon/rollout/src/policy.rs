//! What the machine needs of a policy, resolved and checked: parsed once at the edge, trusted here.

use std::time::Duration;

use crate::{GateId, Weight};

/// A weight and how long it is watched at least and at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub weight: Weight,
    /// Least closed windows' time before the step may be left: counted, not elapsed.
    pub min: Duration,
    /// Wall time after which `on_deadline` holds.
    pub max: Duration,
    /// Gates that must say yes before the weight is raised to this step.
    pub gates: Vec<GateSpec>,
    /// Wait for a person after the step has passed.
    pub pause: bool,
}

/// Something that must say yes first. What it is and how it is asked is the edge's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSpec {
    pub id: GateId,
    /// How long it may stay unanswered before on-call is told.
    pub patience: Duration,
}

/// The last watch before the old version is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bake {
    /// 100 % less the holdback, or 100 % for a flip.
    pub weight: Weight,
    /// Closed windows' time: counted, not elapsed.
    pub length: Duration,
    /// Wall time after which on-call is told that the bake does not come to its end.
    pub max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeadline {
    Hold,
    Pause,
    Abort,
}

/// What `undecided`, `no-data` and `source-down` do while they last. None of them advances or aborts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTrouble {
    Hold,
    Alert,
    Pause,
}

/// Requests still reach the canary when the drain's limit is over (sticky sessions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUndrained {
    /// Its pods go all the same, within their grace period.
    Cut,
    /// Its pods stay, and that is told.
    Alert,
}

/// A target changed from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDrift {
    /// Put right, at most three times in five minutes; then paused and told.
    Correct,
    /// Paused and told at once.
    Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promote {
    /// The canary's template goes to stable, the traffic returns, the canary goes to zero.
    CopyTemplate,
    /// The two versions change roles: traffic stays at 100 % and the old version goes to zero.
    Swap,
    /// Somebody else replaces stable; Sluice waits until it is so, then behaves as after `CopyTemplate`.
    External,
}

/// How stable's pods come to the new template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// A few at a time, as the workload's own controller does it.
    Rolling,
    /// None of the old ones, then one of the new ones, then the rest.
    Recreate,
}

/// Hooks around the replacement of stable. Those before it are gates of the promotion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Only with [`Replace::Recreate`]: when no old pod is left and no new one has begun.
    pub mid: Vec<GateSpec>,
    /// When the new version carries all traffic. A "no" puts the old one back.
    pub post: Vec<GateSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long the canary may take to become available.
    pub prepare: Duration,
    /// How long a written weight may take to be read back.
    pub shift: Duration,
    pub promote: Duration,
    /// How long each part of a replacement may take before it is undone.
    pub replace: Option<Duration>,
    pub on_deadline: OnDeadline,
    pub on_undecided: OnTrouble,
    pub on_no_data: OnTrouble,
    pub on_source_down: OnTrouble,
    /// How long trouble may last before its alert.
    pub trouble_after: Duration,
    /// How long the drain is watched after an abort.
    pub drain: Duration,
    pub on_undrained: OnUndrained,
    /// How long the old pods stay after promotion.
    pub scale_down_delay: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Before anything is done.
    pub gates: Vec<GateSpec>,
    pub steps: Vec<Step>,
    pub bake: Option<Bake>,
    /// Before the old version is replaced.
    pub promote_gates: Vec<GateSpec>,
    pub limits: Limits,
    pub on_drift: OnDrift,
    pub promote: Promote,
    /// A selector flip: 0 or 100 %, nothing runs beside the canary.
    pub flip: bool,
    /// Testers reach the canary from before step 1's gates are asked: the target sends it their requests, at any weight.
    pub testers: bool,
    /// No weights: the new version takes stable's place, and nothing runs beside it.
    pub in_place: bool,
    pub replace: Replace,
    pub hooks: Hooks,
    /// There is no router: the canary's pods come with its weight and not before, and go with it.
    pub pods_are_the_weight: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("no steps: give at least one, for example steps: [{{weight: 5}}, {{weight: 50}}]")]
    NoSteps,
    #[error("step {step} has weight {weight}, not above {before} of the step before it: weights must rise")]
    StepsFall { step: usize, weight: Weight, before: Weight },
    #[error("step {step} has weight 0 %: a step opens traffic, so give it more than 0")]
    ZeroStep { step: usize },
    #[error(
        "step {step} has weight 100 %: that is promotion and no judged step, since nothing would run beside the canary; end the steps below 100 % and let bake and promotion follow"
    )]
    FullStep { step: usize },
    #[error("step {step} has min {min:?} above its max {max:?}")]
    MinAboveMax { step: usize, min: Duration, max: Duration },
    #[error("{count} steps are more than {most}")]
    TooManySteps { count: usize, most: usize },
    #[error("the bake's weight {bake} is not above the last step's {last}: make the holdback smaller")]
    BakeBelowSteps { bake: Weight, last: Weight },
    #[error(
        "a selector flip has no steps between 0 and 100 %: leave `steps` out, its bake is judged against the limit frozen before the flip"
    )]
    FlipWithSteps,
    #[error(
        "rolling and recreate put the new version in stable's place and have no steps: leave `steps` out, or write strategy: canary and say under workloads.replace how stable is replaced"
    )]
    InPlaceWithSteps,
}

impl PolicyError {
    /// Which step is meant, counted from 1; nothing if it is about all of them.
    pub fn step(&self) -> Option<usize> {
        match self {
            PolicyError::StepsFall { step, .. }
            | PolicyError::ZeroStep { step }
            | PolicyError::FullStep { step }
            | PolicyError::MinAboveMax { step, .. } => Some(*step),
            PolicyError::NoSteps
            | PolicyError::TooManySteps { .. }
            | PolicyError::BakeBelowSteps { .. }
            | PolicyError::FlipWithSteps
            | PolicyError::InPlaceWithSteps => None,
        }
    }

    /// The field of the step, or of the policy, as people write it.
    pub fn field(&self) -> &'static str {
        match self {
            PolicyError::StepsFall { .. } | PolicyError::ZeroStep { .. } | PolicyError::FullStep { .. } => {
                "weight"
            }
            PolicyError::MinAboveMax { .. } => "min",
            PolicyError::NoSteps
            | PolicyError::TooManySteps { .. }
            | PolicyError::FlipWithSteps
            | PolicyError::InPlaceWithSteps => "steps",
            PolicyError::BakeBelowSteps { .. } => "bake.holdback",
        }
    }
}

const MOST_STEPS: usize = 64;

impl Policy {
    /// Checks what the types alone cannot say, up to the first fault.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that is wrong. Step numbers in errors count from 1.
    pub fn faults(&self) -> Vec<PolicyError> {
        if self.in_place {
            return if self.steps.is_empty() { Vec::new() } else { vec![PolicyError::InPlaceWithSteps] };
        }
        if self.flip {
            return if self.steps.is_empty() { Vec::new() } else { vec![PolicyError::FlipWithSteps] };
        }
        if self.steps.is_empty() {
            return vec![PolicyError::NoSteps];
        }
        if self.steps.len() > MOST_STEPS {
            return vec![PolicyError::TooManySteps { count: self.steps.len(), most: MOST_STEPS }];
        }
        let mut faults = Vec::new();
        let mut before = Weight::ZERO;
        for (index, step) in self.steps.iter().enumerate() {
            faults.extend(step.check(index + 1, before).err());
            before = step.weight;
        }
        let bake = self.bake.as_ref().filter(|bake| bake.weight <= before);
        faults.extend(bake.map(|bake| PolicyError::BakeBelowSteps { bake: bake.weight, last: before }));
        faults
    }

    /// The gates that must say yes before step `next`, in order.
    pub fn gates_before(&self, next: usize) -> impl Iterator<Item = &GateSpec> {
        let first = if next == 0 { self.gates.as_slice() } else { &[] };
        let step = self.steps.get(next).map_or(&[][..], |step| step.gates.as_slice());
        first.iter().chain(step)
    }

    /// The highest weight that observation `step` may have (0-based; the bake is the step after the last).
    pub fn weight_of(&self, step: usize) -> Weight {
        match (self.steps.get(step), &self.bake) {
            (Some(step), _) => step.weight,
            (None, Some(bake)) => bake.weight,
            (None, None) => Weight::FULL,
        }
    }
}

impl Step {
    fn check(&self, step: usize, before: Weight) -> Result<(), PolicyError> {
        if self.weight.is_zero() {
            return Err(PolicyError::ZeroStep { step });
        }
        if self.weight == Weight::FULL {
            return Err(PolicyError::FullStep { step });
        }
        if self.weight <= before {
            return Err(PolicyError::StepsFall { step, weight: self.weight, before });
        }
        if self.min > self.max {
            return Err(PolicyError::MinAboveMax { step, min: self.min, max: self.max });
        }
        Ok(())
    }
}
