//! From the announcement to a weight in effect: gates, preparing, shifting.

use std::time::Duration;

use super::Draft;
use crate::{
    AlertKind, Effect, EffectId, GateAnswer, GateId, Notice, Observation, Phase, PromoteStage, Reason,
    Replicas, Role, TimerId, Weight,
};

impl Draft<'_> {
    pub(super) fn requested(&mut self) -> Reason {
        if self.state.revision > 0 {
            return Reason::Stale { what: "the announcement of a rollout that runs already".into() };
        }
        self.bump();
        self.tell(Notice::Started, &Reason::Requested);
        if !self.policy.in_place {
            self.ask(Effect::Observe(Observation::Baseline));
        }
        self.enter_gates(0);
        Reason::Requested
    }

    /// Waits for the first gate before step `next`, or prepares it at once.
    pub(super) fn enter_gates(&mut self, next: usize) {
        self.enter(Phase::Gated { next, gate: 0 });
        self.ask_gate();
    }

    /// Asks the gate that stands next, or goes on where none is left.
    pub(super) fn ask_gate(&mut self) {
        match self.state.phase.gate(self.policy) {
            Some(_) if self.awaits_testers() => self.gates_open(),
            Some(gate) => {
                let (id, patience) = (gate.id.clone(), gate.patience);
                self.ask(Effect::AskGate { gate: id });
                self.wake(TimerId::Patience, self.now.plus(patience));
            }
            None => self.gates_open(),
        }
    }

    /// The gates before anything have said yes; those of step 1 are asked when testers can see what is to be judged.
    fn awaits_testers(&self) -> bool {
        let before_anything = self.policy.gates.len();
        let asked = matches!(self.state.phase, Phase::Gated { next: 0, gate } if gate == before_anything);
        asked && self.policy.testers && !self.state.had_traffic
    }

    fn gates_open(&mut self) {
        self.forget_timers(&[TimerId::Gate, TimerId::Patience]);
        match self.state.phase {
            Phase::Gated { .. } if self.policy.in_place => self.replace_in_place(),
            Phase::Gated { next, .. } => self.prepare(next),
            Phase::Promoting { stage: PromoteStage::Gated, .. } => self.begin_promotion(),
            Phase::Promoting { stage: PromoteStage::Between, .. } => self.prove_first(),
            Phase::Promoting { stage: PromoteStage::After, .. } => self.end_promoted(),
            Phase::Preparing { .. }
            | Phase::Shifting { .. }
            | Phase::Observing { .. }
            | Phase::Paused { .. }
            | Phase::Baking { .. }
            | Phase::Promoting { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => {}
        }
    }

    pub(super) fn gate_answered(&mut self, gate: &GateId, answer: GateAnswer) -> Reason {
        if self.state.asked_gate(self.policy) != Some(gate) {
            return Reason::Stale { what: format!("an answer of gate {}, which is not waited for", gate.0) };
        }
        self.forget_question();
        match answer {
            GateAnswer::NotYet { why, again } => {
                self.wake(TimerId::Gate, again);
                Reason::GateNotYet { gate: gate.0.clone(), why }
            }
            GateAnswer::No { why } => self.abort(Reason::GateNo { gate: gate.0.clone(), why }),
            GateAnswer::Yes if matches!(self.state.phase, Phase::Paused { .. }) => {
                Reason::Stale { what: "a gate's yes while paused; it is asked again at resume".into() }
            }
            GateAnswer::Yes => self.gate_passed(Reason::GateYes { gate: gate.0.clone() }),
        }
    }

    fn forget_question(&mut self) {
        self.state.outstanding.retain(|one| !matches!(one.effect, Effect::AskGate { .. }));
    }

    /// The gate said yes, or a person waived it.
    pub(super) fn gate_passed(&mut self, reason: Reason) -> Reason {
        self.bump();
        self.forget_question();
        self.resolve(AlertKind::NeedsAttention);
        if let Phase::Gated { gate, .. } | Phase::Promoting { gate, .. } = &mut self.state.phase {
            *gate += 1;
        }
        self.ask_gate();
        reason
    }

    pub(super) fn ask_gate_again(&mut self) -> Reason {
        let Some(gate) = self.state.asked_gate(self.policy).cloned() else {
            return Reason::Stale { what: "a gate's timer, but no gate is waited for".into() };
        };
        self.ask(Effect::AskGate { gate: gate.clone() });
        Reason::GateNotYet { gate: gate.0, why: "asked again".into() }
    }

    pub(super) fn gate_silent(&mut self) -> Reason {
        match self.state.asked_gate(self.policy) {
            Some(gate) => self.needs_attention(Reason::GateSilent { gate: gate.0.clone() }),
            None => Reason::Stale { what: "a gate's timer, but no gate is waited for".into() },
        }
    }

    /// Scales the canary for step `next` and holds stable at its size; the weight follows when its pods are available.
    pub(super) fn prepare(&mut self, next: usize) {
        let weight = self.policy.weight_of(next);
        self.enter(Phase::Preparing { next });
        if next == 0 {
            self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart });
        }
        self.wake(TimerId::Prepare, self.now.plus(self.policy.limits.prepare));
        if self.policy.pods_are_the_weight {
            self.try_shift();
        } else {
            self.ask(Effect::ScaleWorkload { role: Role::Canary, replicas: Replicas::AtLeastShare(weight) });
        }
    }

    pub(super) fn scaled(&mut self, id: EffectId, needed: u32) -> Reason {
        match self.complete(id) {
            Some(Effect::ScaleWorkload { role: Role::Canary, .. }) => {
                self.state.canary_needed = needed.max(1);
                self.try_shift()
            }
            Some(_) => Reason::Stale { what: "a scaling that nothing waits for".into() },
            None => Reason::Stale { what: "the completion of an overtaken scaling".into() },
        }
    }

    pub(super) fn workload_observed(&mut self, role: Role, _wanted: u32, available: u32) -> Reason {
        match role {
            Role::Stable => Reason::Stale { what: "stable's size, which the floor holds".into() },
            Role::Canary => {
                self.state.canary_available = available;
                self.try_shift()
            }
        }
    }

    pub(super) fn baseline_measured(&mut self) -> Reason {
        if self.state.baseline_measured {
            return Reason::Stale { what: "a baseline that is known already".into() };
        }
        self.bump();
        self.state.baseline_measured = true;
        self.resolve(AlertKind::Blind);
        self.try_shift();
        Reason::BaselineMeasured
    }

    pub(super) fn baseline_unavailable(&mut self, why: String) -> Reason {
        let reason = Reason::BaselineUnavailable { why };
        let waits = !self.state.baseline_measured && !self.state.is_done() && !self.state.is_aborting();
        if waits && self.now.since(self.state.started) >= self.policy.limits.trouble_after {
            self.alert(AlertKind::Blind, &reason);
        }
        reason
    }

    /// Raises the weight once the canary's pods are there and the service was measured.
    pub(super) fn try_shift(&mut self) -> Reason {
        let (available, needed) = (self.state.canary_available, self.state.canary_needed);
        let waits = Reason::CanaryNotAvailable { available, needed };
        if let Phase::Promoting { stage: PromoteStage::Raising, .. } = self.state.phase {
            return if self.canary_is_ready() { self.raise_fully() } else { waits };
        }
        let Phase::Preparing { next } = self.state.phase else {
            return Reason::Stale { what: "the canary's size, which nothing waits for".into() };
        };
        if !self.canary_is_ready() {
            return waits;
        }
        if !self.state.baseline_measured {
            return Reason::CanaryAvailable { available };
        }
        if self.policy.testers && !self.state.had_traffic {
            self.open_to_testers();
        } else {
            self.shift(next);
        }
        Reason::CanaryAvailable { available }
    }

    /// Weight 0 as before, and testers' requests go to the canary. From now on there is traffic to take away.
    fn open_to_testers(&mut self) {
        self.state.had_traffic = true;
        self.forget_timers(&[TimerId::Prepare]);
        self.enter(Phase::Gated { next: 0, gate: self.policy.gates.len() });
        self.set_weight(Weight::ZERO);
        self.ask_gate();
    }

    /// All pods that the coming weight needs are available, and the wish for them has been written.
    pub(super) fn canary_is_ready(&self) -> bool {
        let scaling = self
            .state
            .outstanding
            .iter()
            .any(|one| matches!(one.effect, Effect::ScaleWorkload { role: Role::Canary, .. }));
        let enough = self.state.canary_available >= self.state.canary_needed.max(1);
        !scaling && (enough || self.policy.pods_are_the_weight)
    }

    /// The canary has pods for a weight, or they come with it.
    pub(super) fn has_pods(&self) -> bool {
        self.policy.pods_are_the_weight || self.state.canary_available > 0
    }

    pub(super) fn prepare_overdue(&mut self) -> Reason {
        let (available, needed) = (self.state.canary_available, self.state.canary_needed);
        match self.state.phase {
            Phase::Preparing { next: 0 } if !self.canary_is_ready() => {
                self.abort(Reason::PrepareDeadline { available, needed })
            }
            Phase::Preparing { .. } => {
                self.wake(TimerId::Prepare, self.now.plus(self.policy.limits.prepare));
                self.needs_attention(Reason::PrepareDeadline { available, needed })
            }
            _ => Reason::Stale { what: "the deadline of a preparation that is over".into() },
        }
    }

    pub(super) fn scale_failed(&mut self, why: String) -> Reason {
        match self.state.phase {
            Phase::Preparing { next: 0 } => self.abort(Reason::TargetRefused { why }),
            _ => self.needs_attention(Reason::TargetRefused { why }),
        }
    }

    /// Asks for step `step`'s weight (the bake's after the last).
    pub(super) fn shift(&mut self, step: usize) {
        let weight = self.policy.weight_of(step);
        self.resolve(AlertKind::NeedsAttention);
        self.enter(Phase::Shifting { step });
        self.forget_timers(&[TimerId::Prepare]);
        self.set_weight(weight);
        self.wake(TimerId::Shift, self.now.plus(self.time_to_shift()));
    }

    /// Pods take their time.
    fn time_to_shift(&self) -> Duration {
        let limits = &self.policy.limits;
        if self.policy.pods_are_the_weight { limits.prepare.max(limits.shift) } else { limits.shift }
    }

    pub(super) fn set_weight(&mut self, weight: Weight) {
        self.state.weight = weight;
        self.state.had_traffic |= !weight.is_zero();
        self.ask(Effect::SetTraffic { weight, abort: None });
    }

    pub(super) fn shift_overdue(&mut self) -> Reason {
        let (available, needed) = (self.state.canary_available, self.state.canary_needed);
        match self.state.phase {
            // As where its pods come first: what never becomes available is no release.
            Phase::Shifting { step: 0 } if self.policy.pods_are_the_weight => {
                self.abort(Reason::PrepareDeadline { available, needed })
            }
            Phase::Shifting { .. } => {
                self.needs_attention(Reason::WeightOverdue { weight: self.state.weight })
            }
            _ => Reason::Stale { what: "the deadline of a weight that is in effect".into() },
        }
    }
}
