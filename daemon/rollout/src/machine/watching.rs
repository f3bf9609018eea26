//! A step, or the bake, under watch: evidence, trouble, deadlines, pauses.

use std::{collections::BTreeSet, time::Duration};

use super::Draft;
use crate::{
    AlertKind, Effect, Notice, Observation, OnDeadline, OnTrouble, PauseReason, Phase, Reason, TimerId,
    Timestamp, Verdict, Watch,
};

const ONE_SECOND: Duration = Duration::from_secs(1);

impl Draft<'_> {
    /// The weight is in effect: the step (or the bake) is watched from now on.
    pub(super) fn observe(&mut self, step: usize) {
        let watch = Watch { since: self.now, verdict_since: self.now, ..Watch::default() };
        self.forget_timers(&[TimerId::Shift]);
        self.resolve(AlertKind::NeedsAttention);
        self.enter(if step < self.policy.steps.len() {
            Phase::Observing { step, watch }
        } else {
            Phase::Baking { watch }
        });
        self.observe_weight(step);
        self.set_deadline();
    }

    pub(super) fn observe_weight(&mut self, step: usize) {
        let weight = self.state.weight;
        self.ask(Effect::Observe(Observation::Step { step, weight }));
    }

    /// The deadline of what is watched now, from now on.
    pub(super) fn set_deadline(&mut self) {
        match (&self.state.phase, &self.policy.bake) {
            (Phase::Observing { step, .. }, _) => {
                let max = self.policy.steps.get(*step).map_or(Duration::MAX, |step| step.max);
                self.wake(TimerId::StepDeadline, self.now.plus(max));
            }
            (Phase::Baking { .. }, Some(bake)) => self.wake(TimerId::BakeDeadline, self.now.plus(bake.max)),
            (_, Some(_) | None) => {}
        }
    }

    /// One judged window. `Fail` aborts from wherever the canary may have traffic; only `Pass` ever advances.
    pub(super) fn evidence(
        &mut self,
        step: usize,
        verdict: Verdict,
        counted: (Duration, Timestamp),
        words: String,
        alarms: Option<&[String]>,
    ) -> Reason {
        if self.state.is_aborting() || self.state.is_done() || !self.state.had_traffic {
            return Reason::Stale { what: "evidence of a rollout that is not watched".into() };
        }
        if verdict == Verdict::Fail {
            return self.failed(words);
        }
        if self.state.step(self.policy) != Some(step) || self.state.phase.watch_mut().is_none() {
            return Reason::Stale { what: format!("evidence of step {}", step + 1) };
        }
        self.note(verdict, counted, &words);
        if let Some(alarms) = alarms {
            self.advise(alarms);
        }
        match verdict {
            Verdict::Pass => self.try_leave(words),
            Verdict::Undecided => self.trouble(self.policy.limits.on_undecided, Reason::Undecided { words }),
            Verdict::NoData => self.trouble(self.policy.limits.on_no_data, Reason::NoData { words }),
            Verdict::SourceDown => {
                self.trouble(self.policy.limits.on_source_down, Reason::SourceDown { words })
            }
            Verdict::Fail => Reason::Failed { words },
        }
    }

    /// While stable itself is being replaced the two arms are no longer the two versions.
    fn failed(&mut self, words: String) -> Reason {
        match self.state.phase {
            Phase::Promoting { .. } if self.state.stable_touched => {
                Reason::Stale { what: format!("evidence while stable is being replaced: {words}") }
            }
            _ => self.abort(Reason::Failed { words }),
        }
    }

    fn note(&mut self, verdict: Verdict, (counted, until): (Duration, Timestamp), words: &str) {
        let now = self.now;
        let Some(watch) = self.state.phase.watch_mut() else { return };
        if watch.verdict != Some(verdict) {
            watch.verdict = Some(verdict);
            watch.verdict_since = now;
        }
        if !counted.is_zero() && until > watch.counted_until {
            let new = if watch.counted_until == Timestamp::default() {
                counted
            } else {
                until.since(watch.counted_until)
            };
            let millis = u64::try_from(counted.min(new).as_millis()).unwrap_or(u64::MAX);
            watch.counted_ms = watch.counted_ms.saturating_add(millis);
            watch.counted_until = until;
        }
        watch.words.clear();
        watch.words.extend(words.chars().take(200));
        if !matches!(verdict, Verdict::NoData | Verdict::SourceDown) {
            self.resolve(AlertKind::Blind);
        }
    }

    /// What somebody should look at is told under a kind of its own. It never advances and never aborts. The figures in the
    /// words change with every window; another subject is news at once. One that is gone may be back with the next window: so
    /// it is withdrawn when it has been gone for as long as trouble lasts before it is told.
    fn advise(&mut self, alarms: &[String]) {
        let up = self.state.alerts.iter().find(|firing| firing.kind == AlertKind::Advisory);
        let told = up.map(|firing| subjects(&firing.summary)).unwrap_or_default();
        let reason = Reason::Advice { words: alarms.join("; ") };
        let now = subjects(&reason.to_string());
        if now == told {
            self.state.advice_less_since = None;
            return;
        }
        if now.is_subset(&told) {
            let since = *self.state.advice_less_since.get_or_insert(self.now);
            if self.now.since(since) < self.policy.limits.trouble_after {
                return;
            }
        }
        self.state.advice_less_since = None;
        self.resolve(AlertKind::Advisory);
        if !alarms.is_empty() {
            self.alert(AlertKind::Advisory, &reason);
            self.tell(Notice::Attention, &reason);
        }
    }

    /// What lasts longer than the policy's patience is told, or pauses. It never advances and never aborts.
    fn trouble(&mut self, policy: OnTrouble, reason: Reason) -> Reason {
        let since = self.state.watch().map_or(self.now, |watch| watch.verdict_since);
        if self.now.since(since) < self.policy.limits.trouble_after {
            return reason;
        }
        let kind = match reason {
            Reason::NoData { .. } | Reason::SourceDown { .. } => AlertKind::Blind,
            _ => AlertKind::NeedsAttention,
        };
        match policy {
            OnTrouble::Hold => {}
            OnTrouble::Alert => self.alert(kind, &reason),
            OnTrouble::Pause => {
                self.alert(kind, &reason);
                self.pause(PauseReason::Trouble, &reason);
            }
        }
        reason
    }

    /// Leaves the step once it has been watched long enough and passed.
    pub(super) fn try_leave(&mut self, words: String) -> Reason {
        match &self.state.phase {
            Phase::Observing { step, watch } => {
                let step = *step;
                let Some(spec) = self.policy.steps.get(step) else { return Reason::MinNotReached { step } };
                if u128::from(watch.counted_ms) < spec.min.as_millis() {
                    return Reason::MinNotReached { step };
                }
                let reason = Reason::StepPassed { step, words };
                self.tell(Notice::StepPassed { step }, &reason);
                if spec.pause {
                    self.pause(PauseReason::Policy, &Reason::AwaitsPerson);
                } else {
                    self.leave_step(step);
                }
                reason
            }
            Phase::Baking { watch } => {
                let length = self.policy.bake.as_ref().map_or(Duration::ZERO, |bake| bake.length);
                if u128::from(watch.counted_ms) < length.as_millis() {
                    return Reason::MinNotReached { step: self.policy.steps.len() };
                }
                self.promote();
                Reason::BakePassed { words }
            }
            _ => Reason::NotNow { action: "advancing".into(), phase: self.state.phase.name().into() },
        }
    }

    /// To the step after `step`, to the bake after the last, or to promotion.
    pub(super) fn leave_step(&mut self, step: usize) {
        self.forget_timers(&[TimerId::StepDeadline, TimerId::BakeDeadline]);
        self.resolve(AlertKind::NeedsAttention);
        let next = step + 1;
        if next < self.policy.steps.len() || (next == self.policy.steps.len() && self.policy.bake.is_some()) {
            self.enter_gates(next);
        } else {
            self.promote();
        }
    }

    pub(super) fn step_deadline(&mut self) -> Reason {
        let Phase::Observing { step, ref watch } = self.state.phase else {
            return Reason::Stale { what: "the deadline of a step that was left".into() };
        };
        let blind = matches!(watch.verdict, None | Some(Verdict::NoData | Verdict::SourceDown));
        let reason = Reason::StepDeadline { step, words: watch.words.clone() };
        match self.policy.limits.on_deadline {
            OnDeadline::Abort if !blind => self.abort(reason),
            OnDeadline::Pause => {
                self.pause(PauseReason::Deadline, &reason);
                self.needs_attention(reason)
            }
            OnDeadline::Hold => self.needs_attention(reason),
            OnDeadline::Abort => {
                // Blind now: looked at again, so that it still ends once it can see.
                self.wake(
                    TimerId::StepDeadline,
                    self.now.plus(self.policy.limits.trouble_after.max(ONE_SECOND)),
                );
                self.needs_attention(reason)
            }
        }
    }

    pub(super) fn bake_overdue(&mut self) -> Reason {
        match &self.state.phase {
            Phase::Baking { watch } => {
                let words = watch.words.clone();
                self.needs_attention(Reason::BakeOverdue { words })
            }
            _ => Reason::Stale { what: "the deadline of a bake that is over".into() },
        }
    }

    /// Stays where it is until resumed. What is paused already stays as it was paused.
    pub(super) fn pause(&mut self, why: PauseReason, reason: &Reason) {
        if matches!(self.state.phase, Phase::Paused { .. }) {
            return;
        }
        let at = Box::new(self.state.phase.clone());
        self.forget_timers(&[
            TimerId::Gate,
            TimerId::Patience,
            TimerId::StepDeadline,
            TimerId::BakeDeadline,
            TimerId::Prepare,
            TimerId::Shift,
        ]);
        self.enter(Phase::Paused { at, why });
        self.tell(Notice::Paused, reason);
    }
}

/// What an advisory's words are about, without their figures.
fn subjects(summary: &str) -> BTreeSet<String> {
    let words = summary.split_once(": ").map_or("", |(_, words)| words);
    words.split("; ").filter_map(|alarm| Some(alarm.split_once(':')?.0.to_owned())).collect()
}
