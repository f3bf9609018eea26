//! The new version becomes the stable one.

use super::Draft;
use crate::{
    AlertKind, Effect, Notice, Observation, Outcome, Phase, Promote, PromoteStage, Reason, Replace, Replicas,
    Role, TimerId, Weight,
};

impl Draft<'_> {
    /// Asks the gates before promotion, then begins it.
    pub(super) fn promote(&mut self) {
        self.forget_timers(&[TimerId::StepDeadline, TimerId::BakeDeadline, TimerId::Prepare, TimerId::Shift]);
        self.resolve(AlertKind::NeedsAttention);
        self.enter(Phase::Promoting { stage: PromoteStage::Gated, gate: 0 });
        match self.policy.promote_gates.first() {
            Some(gate) => {
                let (id, patience) = (gate.id.clone(), gate.patience);
                self.ask(Effect::AskGate { gate: id });
                self.wake(TimerId::Patience, self.now.plus(patience));
            }
            None => self.begin_promotion(),
        }
    }

    /// Without weights: what stands there is remembered, then stable is replaced behind the gates of the promotion.
    pub(super) fn replace_in_place(&mut self) {
        self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart });
        self.promote();
    }

    pub(super) fn begin_promotion(&mut self) {
        self.tell(Notice::Promoting, &Reason::AlreadySo { what: "good at every step".into() });
        self.wake(TimerId::Promote, self.now.plus(self.policy.limits.promote));
        match (self.policy.promote, self.policy.replace) {
            (Promote::CopyTemplate, Replace::Rolling) | (Promote::External, _) => self.replace_stable(),
            (Promote::CopyTemplate, Replace::Recreate) if self.policy.in_place => {
                self.empty_stable();
            }
            // Nobody is sent to a stable that is being emptied.
            (Promote::CopyTemplate, Replace::Recreate) | (Promote::Swap, _) => self.grow_fully(),
        }
    }

    /// From here an abort brings stable's former template and size back first.
    fn empty_stable(&mut self) -> Reason {
        self.enter_part(PromoteStage::Emptying);
        self.state.stable_touched = true;
        self.ask(Effect::Observe(Observation::None));
        self.ask(Effect::EmptyWorkload);
        Reason::CanaryAvailable { available: self.state.canary_available }
    }

    /// No old pod is left: the hooks between, then the first new one.
    pub(super) fn stable_emptied(&mut self) -> Reason {
        self.enter_part(PromoteStage::Between);
        self.forget_timers(&[TimerId::Replace]);
        self.ask_gate();
        Reason::StableEmptied
    }

    pub(super) fn prove_first(&mut self) {
        self.enter_part(PromoteStage::Proving);
        self.ask(Effect::PromoteFirst);
    }

    pub(super) fn first_proved(&mut self) -> Reason {
        self.replace_stable();
        Reason::FirstAvailable
    }

    /// Stable takes the new template while both versions carry traffic. From here an abort restores it first.
    fn replace_stable(&mut self) {
        self.enter_part(PromoteStage::Replacing);
        self.state.stable_touched = true;
        self.ask(Effect::Observe(Observation::None));
        self.ask(Effect::PromoteWorkload);
    }

    /// Each part of a replacement has the policy's time for itself.
    fn enter_part(&mut self, stage: PromoteStage) {
        self.enter(Phase::Promoting { stage, gate: 0 });
        if let Some(limit) = self.policy.limits.replace {
            self.wake(TimerId::Replace, self.now.plus(limit));
        }
    }

    pub(super) fn replacement_overdue(&mut self) -> Reason {
        match self.state.phase {
            Phase::Promoting {
                stage: PromoteStage::Emptying | PromoteStage::Proving | PromoteStage::Replacing,
                ..
            } => self.abort(Reason::ReplacementOverdue),
            _ => Reason::Stale { what: "the deadline of a replacement that is over".into() },
        }
    }

    fn grow_fully(&mut self) {
        self.enter(Phase::Promoting { stage: PromoteStage::Raising, gate: 0 });
        self.ask(Effect::ScaleWorkload {
            role: Role::Canary,
            replicas: Replicas::AtLeastShare(Weight::FULL),
        });
    }

    /// The canary is at full size: it takes everything. Where it has everything already (a flip), this is the end.
    pub(super) fn raise_fully(&mut self) -> Reason {
        if self.state.weight == Weight::FULL && self.state.read_back == Some(Weight::FULL) {
            return self.raised();
        }
        if self.state.weight == Weight::FULL {
            return Reason::Stale { what: "full weight, which was asked for already".into() };
        }
        self.bump();
        self.set_weight(Weight::FULL);
        Reason::CanaryAvailable { available: self.state.canary_available }
    }

    /// The canary has all traffic: it is the stable version now, or stable can be emptied.
    pub(super) fn raised(&mut self) -> Reason {
        match self.policy.promote {
            Promote::Swap => self.promoted(),
            Promote::CopyTemplate | Promote::External => self.empty_stable(),
        }
    }

    /// Stable is the new version: the traffic returns to it.
    pub(super) fn stable_replaced(&mut self) -> Reason {
        self.enter(Phase::Promoting { stage: PromoteStage::Returning, gate: 0 });
        self.forget_timers(&[TimerId::Replace]);
        self.state.weight = Weight::ZERO;
        self.ask(Effect::SetTraffic { weight: Weight::ZERO, abort: None });
        Reason::PromotionDone
    }

    /// The new version has all traffic: the hooks after it, then the end.
    pub(super) fn promoted(&mut self) -> Reason {
        self.enter(Phase::Promoting { stage: PromoteStage::After, gate: 0 });
        self.ask_gate();
        Reason::PromotionDone
    }

    /// All hooks have said yes, and the traffic is where it belongs: somebody may have moved it meanwhile.
    pub(super) fn end_promoted(&mut self) {
        let after = matches!(self.state.phase, Phase::Promoting { stage: PromoteStage::After, .. });
        let asked = self.state.phase.gate(self.policy).is_some() || self.asked_weight().is_some();
        if after && !asked && self.state.read_back == Some(self.state.weight) {
            self.end(Outcome::Promoted, Reason::PromotionDone);
        }
    }

    pub(super) fn promotion_failed(&mut self, why: String) -> Reason {
        self.abort(Reason::PromotionFailed { why })
    }

    pub(super) fn promotion_overdue(&mut self) -> Reason {
        match self.state.phase {
            Phase::Promoting { .. } | Phase::Reverting { .. } => {
                self.needs_attention(Reason::PromotionOverdue)
            }
            _ => Reason::Stale { what: "the deadline of a promotion that is over".into() },
        }
    }
}
