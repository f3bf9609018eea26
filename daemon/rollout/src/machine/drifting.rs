//! The target as it stands: our own weight read back, late news, or somebody else's hand.

use std::time::Duration;

use super::Draft;
use crate::{
    AlertKind, Effect, EffectId, Fence, Lane, Notice, OnDrift, Outcome, PauseReason, Phase, PromoteStage,
    ReadBack, Reason, RevertStage, Weight,
};

const DRIFTS_WITHIN: Duration = Duration::from_secs(300);
const MOST_DRIFTS: usize = 3;

impl Draft<'_> {
    pub(super) fn traffic_observed(&mut self, read: ReadBack) -> Reason {
        if self.state.is_done() {
            return self.observed_after_done(&read);
        }
        if self.is_late(&read) {
            return Reason::Stale { what: format!("weight {} from before our last write", read.weight) };
        }
        self.state.read_back = Some(read.weight);
        self.target_seen();
        match self.asked_weight() {
            Some((id, asked)) => self.maybe_confirmed(id, asked, &read),
            None if read.weight == self.state.weight => {
                self.end_promoted();
                Reason::WeightInEffect { weight: read.weight }
            }
            None => self.drifted(read.weight),
        }
    }

    /// Nothing is decided by that: what can still be written is written, and metrics are read on.
    pub(super) fn target_unseen(&mut self, why: String) -> Reason {
        if self.state.is_done() {
            return Reason::Stale { what: "the target of a rollout that is done".into() };
        }
        // Only the alert that this raises is withdrawn when the target is seen again, not one that is up for other reasons.
        self.state.target_unseen |=
            !self.state.alerts.iter().any(|one| one.kind == AlertKind::NeedsAttention);
        self.needs_attention(Reason::TargetUnseen { why })
    }

    fn target_seen(&mut self) {
        if std::mem::take(&mut self.state.target_unseen) {
            self.resolve(AlertKind::NeedsAttention);
        }
    }

    /// Weight 0 was read back and told; while the canary drains, whoever gives it traffic again is put right: downwards
    /// only, at most three times in five minutes, then told once. What a later rollout wrote is none of ours.
    fn observed_after_done(&mut self, read: &ReadBack) -> Reason {
        let reverted = matches!(self.state.phase, Phase::Done { outcome: Outcome::Reverted, .. });
        let anothers = read.fence.is_some_and(|found| found.epoch > self.state.epoch);
        if !reverted || anothers || self.is_late(read) || !self.has_aftermath() {
            return Reason::Stale { what: "the target of a rollout that is done".into() };
        }
        self.state.read_back = Some(read.weight);
        match self.asked_weight() {
            Some((id, asked)) => self.maybe_confirmed(id, asked, read),
            None if read.weight.is_zero() => Reason::WeightInEffect { weight: read.weight },
            None => self.opened_after_end(read.weight),
        }
    }

    /// Something of what follows the end is still being done to target or pods.
    fn has_aftermath(&self) -> bool {
        let touches = |effect: &Effect| matches!(effect.lane(), Lane::Target | Lane::Workload);
        self.state.outstanding.iter().any(|one| touches(&one.effect))
    }

    fn opened_after_end(&mut self, found: Weight) -> Reason {
        self.forget_old_drifts();
        let times = self.state.drifts.len();
        let reason = Reason::OpenedAfterEnd { found };
        if times > MOST_DRIFTS {
            return reason;
        }
        self.bump();
        // One entry more than corrections: that it was told.
        self.state.drifts.push_back(self.now);
        if times == MOST_DRIFTS {
            self.tell(Notice::Attention, &reason);
            return reason;
        }
        let reason = Reason::Drift {
            found,
            wanted: Weight::ZERO,
            times: u32::try_from(times + 1).unwrap_or(u32::MAX),
        };
        self.ask(Effect::SetTraffic { weight: Weight::ZERO, abort: Some(reason.to_string()) });
        reason
    }

    fn forget_old_drifts(&mut self) {
        while self.state.drifts.front().is_some_and(|first| self.now.since(*first) > DRIFTS_WITHIN) {
            self.state.drifts.pop_front();
        }
    }

    /// A watch may bring what stood there before our last write; a read of just now may not.
    fn is_late(&self, read: &ReadBack) -> bool {
        match (read.fence, self.state.confirmed) {
            (Some(found), Some(confirmed)) => !read.fresh && found < confirmed,
            (None | Some(_), None) | (None, Some(_)) => false,
        }
    }

    pub(super) fn asked_weight(&self) -> Option<(EffectId, Weight)> {
        self.state.outstanding.iter().find_map(|one| match one.effect {
            Effect::SetTraffic { weight, .. } => Some((one.id, weight)),
            _ => None,
        })
    }

    /// Only our own write, or a later one, confirms: the same weight under an older fence may still be overtaken by a
    /// write that is in flight.
    fn maybe_confirmed(&mut self, id: EffectId, asked: Weight, read: &ReadBack) -> Reason {
        let ours: Fence = self.state.fence(id);
        if read.weight != asked || read.fence.is_none_or(|found| found < ours) {
            return Reason::Stale { what: format!("weight {} while {asked} is on its way", read.weight) };
        }
        self.complete(id);
        self.state.confirmed = read.fence;
        self.bump();
        self.in_effect(asked)
    }

    fn in_effect(&mut self, weight: Weight) -> Reason {
        let reason = Reason::WeightInEffect { weight };
        match self.state.phase.clone() {
            Phase::Shifting { step } => {
                self.observe(step);
                let notice = if step < self.policy.steps.len() {
                    Notice::StepReached { step, weight }
                } else {
                    Notice::Baking
                };
                self.tell(notice, &reason);
                reason
            }
            // A swap ends at full weight and nothing less: drift and recovery write the weight of before, too.
            Phase::Promoting { stage: PromoteStage::Raising, .. } if weight < Weight::FULL => {
                self.try_shift()
            }
            Phase::Promoting { stage: PromoteStage::Raising, .. } => self.raised(),
            Phase::Promoting { stage: PromoteStage::Returning, .. } => self.promoted(),
            Phase::Promoting { stage: PromoteStage::After, .. } => {
                self.end_promoted();
                reason
            }
            Phase::Reverting { stage: RevertStage::Closing, .. } => self.closed(),
            Phase::Paused { .. } | Phase::Observing { .. } | Phase::Baking { .. } => {
                if let Some(step) = self.state.step(self.policy) {
                    self.observe_weight(step);
                }
                reason
            }
            Phase::Gated { .. }
            | Phase::Preparing { .. }
            | Phase::Promoting { .. }
            | Phase::Reverting { stage: RevertStage::Restoring, .. } => reason,
            Phase::Done { .. } => {
                // The canary had traffic again: what follows the end begins anew with its drain.
                self.ask(Effect::WatchDrain { limit: self.policy.limits.drain });
                reason
            }
        }
    }

    /// Somebody else wrote. Put right at most three times in five minutes, then paused and told; an abort never gives up.
    fn drifted(&mut self, found: Weight) -> Reason {
        let wanted = self.state.weight;
        if self.state.is_aborting() {
            self.bump();
            if found < wanted {
                // Less than we want is never raised again after an abort.
                self.state.weight = found;
                return Reason::Drift { found, wanted: found, times: 1 };
            }
            self.ask(Effect::SetTraffic { weight: wanted, abort: None });
            return Reason::Drift { found, wanted, times: 1 };
        }
        self.forget_old_drifts();
        let pausable = !matches!(self.state.phase, Phase::Paused { .. } | Phase::Promoting { .. });
        let tolerated = match self.policy.on_drift {
            OnDrift::Correct => self.state.drifts.len() < MOST_DRIFTS,
            OnDrift::Report => false,
        };
        if tolerated {
            return self.correct(found, wanted);
        }
        let reason = Reason::DriftTooOften { found, wanted };
        if pausable {
            self.pause(PauseReason::Drift, &reason);
        }
        self.needs_attention(reason)
    }

    fn correct(&mut self, found: Weight, wanted: Weight) -> Reason {
        if wanted > found && !self.has_pods() {
            return Reason::CanaryNotAvailable { available: 0, needed: self.state.canary_needed };
        }
        self.bump();
        self.state.drifts.push_back(self.now);
        let times = u32::try_from(self.state.drifts.len()).unwrap_or(u32::MAX);
        self.ask(Effect::SetTraffic { weight: wanted, abort: None });
        Reason::Drift { found, wanted, times }
    }

    /// The target refuses for good. Going up, the rollout stops and goes back; going down, it is tried for ever.
    pub(super) fn target_refused(&mut self, why: String) -> Reason {
        let reason = Reason::TargetRefused { why };
        if self.state.is_done() {
            // The rest of the end does not wait for a target that is gone.
            self.ask(Effect::WatchDrain { limit: self.policy.limits.drain });
            return reason;
        }
        if self.state.is_aborting() {
            let abort = Some(reason.to_string());
            self.ask(Effect::SetTraffic { weight: Weight::ZERO, abort });
            return self.needs_attention(reason);
        }
        match self.state.phase {
            Phase::Promoting { stage: PromoteStage::Returning, .. } => {
                let weight = self.state.weight;
                self.ask(Effect::SetTraffic { weight, abort: None });
                self.needs_attention(reason)
            }
            Phase::Shifting { .. } | Phase::Gated { next: 0, .. } | Phase::Preparing { next: 0 }
                if self.state.read_back.is_none_or(Weight::is_zero) && self.state.confirmed.is_none() =>
            {
                // Nothing of ours ever stood there: there is no traffic to take away.
                self.state.had_traffic = false;
                self.state.weight = Weight::ZERO;
                self.abort(reason)
            }
            Phase::Paused { why: PauseReason::ManualWeight, .. } => self.refused_by_hand(reason),
            _ => self.abort(reason),
        }
    }

    /// A person's weight came to nothing: what stands there stands on, paused, and that is told. More than the step allows, or
    /// nothing known, is no state to stay in.
    fn refused_by_hand(&mut self, reason: Reason) -> Reason {
        let most = self.state.step(self.policy).map_or(Weight::ZERO, |step| self.policy.weight_of(step));
        match self.state.read_back.filter(|stands| *stands <= most) {
            Some(stands) => {
                self.bump();
                self.state.weight = stands;
                self.needs_attention(reason)
            }
            None => self.abort(reason),
        }
    }
}
