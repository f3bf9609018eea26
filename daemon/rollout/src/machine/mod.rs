//! The transition function: one state, one event, one answer. Each phase's part stands in a file of its own.

mod closing;
mod draft;
mod drifting;
mod opening;
mod overriding;
mod promoting;
mod watching;

#[cfg(test)]
mod edges;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod replacements;
#[cfg(test)]
mod timelines;

use draft::Draft;

use crate::{
    Answered, Baseline, DrainEnd, Effect, EffectId, Event, Numbered, Phase, Policy, PromoteStage, Reason,
    RevertStage, Role, State, TimerId, Timestamp,
};

/// What an event makes of a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub state: State,
    /// To be performed after the state has been saved, in this order within each lane.
    pub effects: Vec<Numbered>,
    pub reason: Reason,
    /// The answer to a person, where the event was an override.
    pub answer: Option<Answered>,
}

/// Decides. Time that runs backwards counts as standing still; a late, repeated or unexpected event changes nothing and
/// says so in its reason.
pub fn step(policy: &Policy, state: State, now: Timestamp, event: Event) -> Transition {
    let mut draft = Draft::new(policy, state, now);
    let reason = draft.take(event);
    draft.finish(reason)
}

impl Draft<'_> {
    fn take(&mut self, event: Event) -> Reason {
        match event {
            Event::Requested => self.requested(),
            Event::GateAnswered { gate, answer } => self.gate_answered(&gate, answer),
            Event::BaselineMeasured(baseline) => self.baseline(baseline),
            Event::WorkloadObserved { role, wanted, available } => {
                self.workload_observed(role, wanted, available)
            }
            Event::Scaled { id, needed } => self.scaled(id, needed),
            Event::WorkloadReady { id } => self.workload_ready(id),
            Event::TrafficObserved(read) => self.traffic_observed(read),
            Event::TargetUnseen { why } => self.target_unseen(why),
            Event::Evidence { step, verdict, counted, until, words, alarms } => {
                self.evidence(step, verdict, (counted, until), words, alarms.as_deref())
            }
            Event::CanaryVanished => self.canary_vanished(),
            Event::Drained(end) => self.drained(end),
            Event::EffectDone { id } => self.effect_done(id),
            Event::EffectFailed { id, why, retrying } => self.effect_failed(id, why, retrying),
            Event::TimerFired { timer, id } => self.timer_fired(timer, id),
            Event::Override(command) => self.overridden(command),
            Event::Superseded { by } => self.superseded(by),
            Event::NeverBegan { why } => self.never_began(why),
            Event::Recovered { epoch, takeover, abort_mark } => self.recovered(epoch, takeover, abort_mark),
        }
    }

    fn effect_done(&mut self, id: EffectId) -> Reason {
        match self.complete(id) {
            Some(effect) => {
                Reason::Stale { what: format!("{} is done, nothing waits for it", effect.name()) }
            }
            None => Reason::Stale { what: "the completion of an overtaken effect".into() },
        }
    }

    fn timer_fired(&mut self, timer: TimerId, id: EffectId) -> Reason {
        if self.complete(id).is_none() {
            return Reason::Stale { what: "a timer that was set anew or is no longer needed".into() };
        }
        match timer {
            TimerId::Gate => self.ask_gate_again(),
            TimerId::Patience => self.gate_silent(),
            TimerId::Replace => self.replacement_overdue(),
            TimerId::Prepare => self.prepare_overdue(),
            TimerId::Shift => self.shift_overdue(),
            TimerId::StepDeadline => self.step_deadline(),
            TimerId::BakeDeadline => self.bake_overdue(),
            TimerId::Promote => self.promotion_overdue(),
        }
    }

    fn effect_failed(&mut self, id: EffectId, why: String, retrying: bool) -> Reason {
        let Some(effect) = self.state.outstanding(id).cloned() else {
            return Reason::Stale { what: "the failure of an overtaken effect".into() };
        };
        if retrying {
            return self.still_trying(&effect, why);
        }
        if self.holds_the_weight(&effect) {
            // It stays outstanding: the weight must not rise on pods that were never asked for. `retry` asks again.
            return self.needs_attention(Reason::TargetRefused { why });
        }
        self.complete(id);
        match effect {
            Effect::SetTraffic { .. } => self.target_refused(why),
            Effect::EmptyWorkload | Effect::PromoteFirst | Effect::PromoteWorkload => {
                self.promotion_failed(why)
            }
            Effect::RestoreWorkload => self.restore_failed(why),
            Effect::ScaleWorkload { role: Role::Canary, .. } if !self.state.is_done() => {
                self.scale_failed(why)
            }
            Effect::WatchDrain { .. } => self.after_drain(DrainEnd::Unknown),
            Effect::ScaleWorkload { .. }
            | Effect::ReleaseTraffic
            | Effect::Observe(_)
            | Effect::WakeAt { .. }
            | Effect::AskGate { .. }
            | Effect::Publish { .. }
            | Effect::Alert { .. }
            | Effect::ResolveAlert { .. } => Reason::EffectFailed { why },
        }
    }

    /// A canary that could not be scaled for a later step than the first.
    fn holds_the_weight(&self, effect: &Effect) -> bool {
        let scaling = matches!(effect, Effect::ScaleWorkload { role: Role::Canary, .. });
        let opening = matches!(self.state.phase, Phase::Preparing { next: 1.. } | Phase::Promoting { .. });
        scaling && (opening || matches!(self.state.phase, Phase::Paused { .. }))
    }

    /// The edge goes on trying. On-call hears of it where traffic or promotion wait for it.
    fn still_trying(&mut self, effect: &Effect, why: String) -> Reason {
        let waits = matches!(
            effect,
            Effect::SetTraffic { .. }
                | Effect::EmptyWorkload
                | Effect::PromoteFirst
                | Effect::PromoteWorkload
                | Effect::RestoreWorkload
        );
        if waits && !self.state.is_done() {
            return self.needs_attention(Reason::TargetRefused { why });
        }
        Reason::EffectFailed { why }
    }

    fn workload_ready(&mut self, id: EffectId) -> Reason {
        match (self.complete(id), &self.state.phase) {
            (Some(Effect::EmptyWorkload), Phase::Promoting { stage: PromoteStage::Emptying, .. }) => {
                self.stable_emptied()
            }
            (Some(Effect::PromoteFirst), Phase::Promoting { stage: PromoteStage::Proving, .. }) => {
                self.first_proved()
            }
            (Some(Effect::PromoteWorkload), Phase::Promoting { stage: PromoteStage::Replacing, .. }) => {
                self.stable_replaced()
            }
            (Some(Effect::RestoreWorkload), Phase::Reverting { stage: RevertStage::Restoring, .. }) => {
                self.stable_restored()
            }
            (Some(_) | None, _) => Reason::Stale { what: "a workload that nothing waits for".into() },
        }
    }

    fn baseline(&mut self, baseline: Baseline) -> Reason {
        match baseline {
            Baseline::Measured => self.baseline_measured(),
            Baseline::Unavailable { why } => self.baseline_unavailable(why),
        }
    }

    /// What was outstanding runs again, with the same ids; every effect can be repeated without harm.
    fn recovered(&mut self, epoch: u64, takeover: bool, abort_mark: Option<String>) -> Reason {
        self.state.epoch = self.state.epoch.max(epoch);
        if let Some(mark) = abort_mark
            && !self.state.is_aborting()
            && !self.state.is_done()
        {
            self.repeat_outstanding();
            return self.abort(Reason::AbortMarkFound { mark });
        }
        self.repeat_outstanding();
        let writes = self.state.outstanding.iter().any(|one| matches!(one.effect, Effect::SetTraffic { .. }));
        if takeover && !writes && !self.state.is_done() && self.state.had_traffic {
            let weight = self.state.weight;
            self.ask(Effect::SetTraffic { weight, abort: None });
        }
        self.bump();
        Reason::Recovered
    }
}
