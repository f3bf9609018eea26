//! The new version becomes the stable one.

use super::Draft;
use crate::{
    AlertKind, Effect, Notice, Observation, Outcome, Phase, Promote, PromoteStage, Reason, Replicas, Role,
    TimerId, Weight,
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

    pub(super) fn begin_promotion(&mut self) {
        self.tell(Notice::Promoting, &Reason::AlreadySo { what: "good at every step".into() });
        self.wake(TimerId::Promote, self.now.plus(self.policy.limits.promote));
        match self.policy.promote {
            Promote::CopyTemplate | Promote::External => self.replace_stable(),
            Promote::Swap => self.grow_fully(),
        }
    }

    /// Stable takes the new template while both versions carry traffic. From here an abort restores it first.
    fn replace_stable(&mut self) {
        self.enter(Phase::Promoting { stage: PromoteStage::Replacing, gate: 0 });
        self.state.stable_touched = true;
        self.ask(Effect::Observe(Observation::None));
        self.ask(Effect::PromoteWorkload);
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
            return self.promoted();
        }
        if self.state.weight == Weight::FULL {
            return Reason::Stale { what: "full weight, which was asked for already".into() };
        }
        self.bump();
        self.set_weight(Weight::FULL);
        Reason::CanaryAvailable { available: self.state.canary_available }
    }

    /// Stable is the new version: the traffic returns to it.
    pub(super) fn stable_replaced(&mut self) -> Reason {
        self.enter(Phase::Promoting { stage: PromoteStage::Returning, gate: 0 });
        self.state.weight = Weight::ZERO;
        self.ask(Effect::SetTraffic { weight: Weight::ZERO, abort: None });
        Reason::PromotionDone
    }

    pub(super) fn promoted(&mut self) -> Reason {
        self.end(Outcome::Promoted, Reason::PromotionDone);
        Reason::PromotionDone
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
