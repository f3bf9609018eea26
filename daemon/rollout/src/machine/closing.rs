//! The way back: abort, weight 0 read back, then the rest. Abort waits for nothing.

use super::Draft;
use crate::{
    AlertKind, DrainEnd, Effect, Lane, Notice, Observation, OnUndrained, Outcome, Phase, Promote,
    PromoteStage, Reason, Replicas, RevertStage, Role, TimerId, Weight,
};

impl Draft<'_> {
    /// Takes the traffic away and puts everything back. On-call is told unless a newer release is the cause.
    pub(super) fn abort(&mut self, reason: Reason) -> Reason {
        if self.state.is_aborting() || self.state.is_done() {
            return Reason::Stale {
                what: format!("an abort ({reason}) of a rollout that is {}", self.state.phase.name()),
            };
        }
        if !matches!(reason, Reason::Superseded { .. }) {
            self.alert(AlertKind::Aborting, &reason);
        }
        // Promoted by hand before any step, it had no traffic, and stable may have its template all the same.
        if !self.state.had_traffic && !self.state.stable_touched {
            self.end(Outcome::Failed, reason.clone());
            return reason;
        }
        self.forget_opening();
        self.tell(Notice::Aborting, &reason);
        self.ask(Effect::Observe(Observation::None));
        if self.state.stable_touched && reason == Reason::CanaryVanished {
            // Nobody serves the canary's share: whatever stable runs now is better, and its restoring goes on beside.
            self.close(reason.clone());
            self.ask(Effect::RestoreWorkload);
        } else if self.state.stable_touched {
            self.enter(Phase::Reverting { stage: RevertStage::Restoring, reason: reason.clone() });
            self.ask(Effect::RestoreWorkload);
            self.wake(TimerId::Promote, self.now.plus(self.policy.limits.promote));
        } else {
            self.close(reason.clone());
        }
        reason
    }

    /// Weight 0, and stable back at its size at the same moment.
    fn close(&mut self, reason: Reason) {
        self.state.weight = Weight::ZERO;
        self.forget_timers(&[TimerId::Promote]);
        self.ask(Effect::SetTraffic { weight: Weight::ZERO, abort: Some(reason.to_string()) });
        self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart });
        self.enter(Phase::Reverting { stage: RevertStage::Closing, reason });
    }

    pub(super) fn stable_restored(&mut self) -> Reason {
        self.state.stable_touched = false;
        self.close_with_first_reason()
    }

    /// From restoring to closing; the reason stays the one of the abort.
    pub(super) fn close_with_first_reason(&mut self) -> Reason {
        let Phase::Reverting { reason, .. } = self.state.phase.clone() else {
            return Reason::Stale { what: "a restored version that nothing waits for".into() };
        };
        self.resolve(AlertKind::NeedsAttention);
        self.close(reason.clone());
        reason
    }

    /// The edge gives a restore up only where trying again cannot help; a person decides then.
    pub(super) fn restore_failed(&mut self, why: String) -> Reason {
        let reason = Reason::PromotionFailed { why };
        if self.state.is_done() {
            return reason;
        }
        self.needs_attention(reason)
    }

    /// Weight 0 was read back: this is the end, what follows delays nothing.
    pub(super) fn closed(&mut self) -> Reason {
        let Phase::Reverting { reason, .. } = self.state.phase.clone() else {
            return Reason::Stale { what: "weight 0, which nothing waits for".into() };
        };
        self.end(Outcome::Reverted, reason);
        Reason::PutBack
    }

    /// The one terminal transition.
    pub(super) fn end(&mut self, outcome: Outcome, reason: Reason) {
        let untouched = matches!(self.unpaused(), Phase::Gated { next: 0, .. });
        self.forget_opening();
        self.ask(Effect::Observe(Observation::None));
        self.complete_observing();
        self.state.drifts.clear();
        self.enter(Phase::Done { outcome, reason: reason.clone() });
        match outcome {
            Outcome::Promoted => self.retire(),
            Outcome::Reverted if self.policy.in_place => {
                self.ask(Effect::ReleaseTraffic);
                self.put_sizes_back();
            }
            Outcome::Reverted => self.ask(Effect::WatchDrain { limit: self.policy.limits.drain }),
            // Nothing was scaled before its first gate.
            Outcome::Failed if untouched => {}
            Outcome::Failed => self.put_sizes_back(),
        }
        self.tell(Notice::Finished { outcome }, &reason);
        for kind in [AlertKind::Blind, AlertKind::Advisory, AlertKind::NeedsAttention, AlertKind::Aborting] {
            self.resolve(kind);
        }
    }

    /// `Observe(None)` is a wish without an end; in a finished rollout it is not outstanding.
    fn complete_observing(&mut self) {
        self.state.outstanding.retain(|one| !matches!(one.effect, Effect::Observe(_)));
    }

    /// After promotion: what is no longer needed goes, what was held is let go.
    fn retire(&mut self) {
        let delay = self.policy.limits.scale_down_delay;
        match self.policy.promote {
            Promote::CopyTemplate | Promote::External => {
                self.ask(Effect::ReleaseTraffic);
                self.ask(Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::ZeroAfter(delay) });
                self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::AsBefore });
            }
            Promote::Swap => {
                self.ask(Effect::ReleaseTraffic);
                self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::ZeroAfter(delay) });
            }
        }
    }

    fn put_sizes_back(&mut self) {
        self.ask(Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::AsBefore });
        self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::AsBefore });
    }

    /// The drain delays nothing; now the canary's pods may go. "No" cuts: its pods end within their grace period.
    pub(super) fn drained(&mut self, end: DrainEnd) -> Reason {
        let drain =
            self.state.outstanding.iter().position(|one| matches!(one.effect, Effect::WatchDrain { .. }));
        let Some(index) = drain else {
            return Reason::Stale { what: "a drain that nothing waits for".into() };
        };
        self.state.outstanding.remove(index);
        self.after_drain(end)
    }

    pub(super) fn after_drain(&mut self, end: DrainEnd) -> Reason {
        let reason = Reason::Drained { end: end.word().into() };
        self.bump();
        self.ask(Effect::ReleaseTraffic);
        match (end, self.policy.limits.on_undrained) {
            (DrainEnd::No, OnUndrained::Alert) => self.tell(Notice::Attention, &reason),
            (DrainEnd::No, OnUndrained::Cut) | (DrainEnd::Yes | DrainEnd::Unknown, _) => {
                self.put_sizes_back()
            }
        }
        self.tell(Notice::Drained { end }, &reason);
        reason
    }

    /// A canary without endpoints under traffic answers 503 for its whole share: no statistics are needed.
    pub(super) fn canary_vanished(&mut self) -> Reason {
        if let Phase::Reverting { stage: RevertStage::Restoring, .. } = self.state.phase {
            return self.close_with_first_reason();
        }
        let returning = matches!(self.state.phase, Phase::Promoting { stage: PromoteStage::Returning, .. });
        if self.state.weight.is_zero() || returning {
            return Reason::Stale { what: "a canary without endpoints, and without traffic".into() };
        }
        self.abort(Reason::CanaryVanished)
    }

    /// A newer release reverts this one, unless it is already replacing stable: then it is finished first.
    /// What a finished one still had to do to target and pods is given up: they are the newer one's now.
    pub(super) fn superseded(&mut self, by: String) -> Reason {
        if self.state.is_done() {
            self.state.sizes_left |= !self.state.has_put_back();
            let ours = |effect: &Effect| !matches!(effect.lane(), Lane::Target | Lane::Workload);
            self.state.outstanding.retain(|one| ours(&one.effect));
            return Reason::Superseded { by };
        }
        if self.state.stable_touched {
            return Reason::NotNow { action: format!("superseding by {by}"), phase: "promoting".into() };
        }
        self.abort(Reason::Superseded { by })
    }

    /// It waited, and its turn will not come: this is told as any other end.
    pub(super) fn never_began(&mut self, why: String) -> Reason {
        if self.state.revision > 0 {
            return Reason::Stale { what: "the end of a wait that is over".into() };
        }
        let reason = Reason::NeverBegan { why };
        self.end(Outcome::Failed, reason.clone());
        reason
    }
}

impl DrainEnd {
    pub fn word(self) -> &'static str {
        match self {
            DrainEnd::Yes => "yes",
            DrainEnd::No => "no",
            DrainEnd::Unknown => "unknown",
        }
    }
}
