//! Commands from people: each is answered with what will happen now, or why not, and its answer is kept for repeats.

use std::time::Duration;

use super::Draft;
use crate::{
    Action, AlertKind, Answered, Effect, Inexpressible, Notice, Override, PauseReason, Phase, PromoteStage,
    Reason, Replicas, RevertStage, Role, TimerId, Weight, state::MOST_ANSWERS,
};

impl Draft<'_> {
    pub(super) fn overridden(&mut self, command: Override) -> Reason {
        if let Some(first) = self.state.first_answer(&command.key).cloned() {
            self.answer = Some(first);
            return Reason::OverrideRepeated;
        }
        let outcome = self.allowed(&command).and_then(|()| self.obey(&command));
        let accepted = outcome.is_ok();
        let reason = match outcome {
            Ok(()) => command.said(),
            Err(refusal) => refusal,
        };
        let answered = Answered {
            key: command.key,
            accepted,
            revision: self.state.revision,
            reason: reason.clone(),
            phase: self.state.phase.name().to_owned(),
            step: self.state.step(self.policy),
            weight: self.state.weight,
            of: None,
        };
        if self.state.answered.len() == MOST_ANSWERS {
            self.state.answered.pop_front();
        }
        self.state.answered.push_back(answered.clone());
        self.answer = Some(answered);
        self.tell(Notice::Overridden { actor: command.actor, accepted }, &reason);
        reason
    }

    fn allowed(&self, command: &Override) -> Result<(), Reason> {
        match command.expected_revision {
            Some(expected) if expected != self.state.revision => {
                Err(Reason::RevisionExpected { expected, at: self.state.revision })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn obey(&mut self, command: &Override) -> Result<(), Reason> {
        if self.state.is_done() {
            return Err(self.not_now(&command.action));
        }
        match &command.action {
            Action::Abort => self.abort_by_hand(command),
            _ if self.state.is_aborting() => Err(self.not_now(&command.action)),
            Action::Promote => self.promote_step(command),
            Action::PromoteFull => self.promote_full(),
            Action::Pause => self.pause_by_hand(command),
            Action::Resume => self.resume(command),
            Action::Retry => self.retry(command),
            Action::Skip { to } => self.skip(*to, command),
            Action::SetWeight { weight, inexpressible } => {
                self.set_weight_by_hand(*weight, inexpressible.as_ref(), command)
            }
            Action::Extend { by } => self.extend(*by, command),
            Action::Undo { .. } | Action::Triggers { .. } => Err(self.not_now(&command.action)),
        }
    }

    fn not_now(&self, action: &Action) -> Reason {
        Reason::NotNow { action: action.name().into(), phase: self.state.phase.name().into() }
    }

    /// Where stable is being restored first, a second abort does not wait for that any longer.
    fn abort_by_hand(&mut self, command: &Override) -> Result<(), Reason> {
        match self.state.phase {
            Phase::Reverting { stage: RevertStage::Restoring, .. } => {
                self.close_with_first_reason();
                Ok(())
            }
            Phase::Reverting { .. } => Err(Reason::AlreadySo { what: "aborting".into() }),
            _ => {
                self.abort(command.said());
                Ok(())
            }
        }
    }

    /// This step counts as passed, the gate as open.
    fn promote_step(&mut self, command: &Override) -> Result<(), Reason> {
        match self.unpaused() {
            Phase::Gated { .. } => {
                self.unpause();
                self.gate_passed(command.said());
            }
            Phase::Promoting { stage, .. } if stage.asks_gates() => {
                self.unpause();
                self.gate_passed(command.said());
            }
            Phase::Observing { step, .. } => {
                self.unpause();
                self.leave_step(step);
            }
            Phase::Baking { .. } => {
                self.unpause();
                self.promote();
            }
            Phase::Preparing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Paused { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => return Err(self.not_now(&command.action)),
        }
        Ok(())
    }

    fn promote_full(&mut self) -> Result<(), Reason> {
        if matches!(self.unpaused(), Phase::Promoting { .. }) {
            return Err(Reason::AlreadySo { what: "promoting".into() });
        }
        if self.state.canary_available == 0 && !self.policy.in_place {
            return Err(Reason::CanaryNotAvailable { available: 0, needed: self.state.canary_needed });
        }
        let untouched = matches!(self.unpaused(), Phase::Gated { next: 0, .. });
        self.unpause();
        self.forget_opening();
        if untouched {
            // What stands there is remembered, and stable held at its size, before its template is touched.
            self.ask(Effect::ScaleWorkload { role: Role::Stable, replicas: Replicas::HeldAtStart });
        }
        self.promote();
        Ok(())
    }

    fn pause_by_hand(&mut self, command: &Override) -> Result<(), Reason> {
        match &self.state.phase {
            Phase::Paused { .. } => return Err(Reason::AlreadySo { what: "paused".into() }),
            Phase::Promoting { stage, .. } if stage.must_go_on() => {
                return Err(self.not_now(&command.action));
            }
            _ => {}
        }
        let why = PauseReason::Person { actor: command.actor.clone(), reason: command.reason.clone() };
        self.pause(why, &command.said());
        Ok(())
    }

    fn resume(&mut self, command: &Override) -> Result<(), Reason> {
        let Phase::Paused { why, .. } = self.state.phase.clone() else {
            return Err(Reason::AlreadySo { what: "running".into() });
        };
        self.unpause();
        self.resolve(AlertKind::NeedsAttention);
        self.tell(Notice::Resumed, &command.said());
        self.go_on(&why);
        Ok(())
    }

    /// Takes up what was paused; wishes that may have been lost or overtaken are repeated.
    fn go_on(&mut self, why: &PauseReason) {
        if *why == PauseReason::Drift {
            self.state.drifts.clear();
            if self.has_pods() || self.state.weight.is_zero() {
                self.set_weight(self.state.weight);
            }
        }
        let own = self.state.step(self.policy).map(|step| self.policy.weight_of(step));
        match self.state.phase.clone() {
            Phase::Gated { .. }
            | Phase::Promoting { stage: PromoteStage::Gated | PromoteStage::After, .. } => self.ask_gate(),
            Phase::Preparing { next } => self.prepare(next),
            // The pods may have gone meanwhile: the weight follows them.
            Phase::Shifting { step } => self.prepare(step),
            Phase::Observing { step, .. } if own != Some(self.state.weight) => self.prepare(step),
            Phase::Baking { .. } if own != Some(self.state.weight) => self.prepare(self.policy.steps.len()),
            Phase::Observing { step, .. } if *why == PauseReason::Policy => self.leave_step(step),
            Phase::Observing { .. } | Phase::Baking { .. } => self.set_deadline(),
            Phase::Paused { .. } | Phase::Promoting { .. } | Phase::Reverting { .. } | Phase::Done { .. } => {
            }
        }
    }

    fn retry(&mut self, command: &Override) -> Result<(), Reason> {
        match self.unpaused() {
            Phase::Observing { .. } | Phase::Baking { .. } => {
                self.unpause();
                self.resolve(AlertKind::NeedsAttention);
                self.bump();
                self.go_on(&PauseReason::Deadline);
                Ok(())
            }
            Phase::Preparing { next } => {
                self.unpause();
                self.resolve(AlertKind::NeedsAttention);
                self.prepare(next);
                Ok(())
            }
            Phase::Gated { .. }
            | Phase::Shifting { .. }
            | Phase::Paused { .. }
            | Phase::Promoting { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => Err(self.not_now(&command.action)),
        }
    }

    /// Over the next step, or to step `to` (counted from 1; the bake is the one after the last); a gate is waived.
    fn skip(&mut self, to: Option<usize>, command: &Override) -> Result<(), Reason> {
        let bakes = usize::from(self.policy.bake.is_some());
        let last = self.policy.steps.len() + bakes;
        match (self.unpaused(), to) {
            (Phase::Gated { .. }, None) => {
                self.unpause();
                self.gate_passed(command.said());
                Ok(())
            }
            (Phase::Promoting { stage, .. }, None) if stage.asks_gates() => {
                self.unpause();
                self.gate_passed(command.said());
                Ok(())
            }
            (Phase::Observing { step, .. }, to) => {
                let target = to.unwrap_or(step + 3);
                // The bake is what shows a late fault: nobody passes over it by the way.
                if to.is_none() && bakes > 0 && target > last {
                    return Err(Reason::OnlyBakeLeft);
                }
                if target <= step + 1 || (to.is_some() && target > last) {
                    return Err(Reason::StepUnknown { to: target, from: step + 1, last });
                }
                self.unpause();
                self.leave_step(target.min(last + 1).saturating_sub(2));
                Ok(())
            }
            (Phase::Baking { .. }, None) => {
                self.unpause();
                self.promote();
                Ok(())
            }
            _ => Err(self.not_now(&command.action)),
        }
    }

    /// By hand at most the step's own weight, and one that the target can express; it stays there until resumed.
    fn set_weight_by_hand(
        &mut self,
        weight: Weight,
        inexpressible: Option<&Inexpressible>,
        command: &Override,
    ) -> Result<(), Reason> {
        let (Phase::Observing { .. } | Phase::Baking { .. }, Some(step)) =
            (self.unpaused(), self.state.step(self.policy))
        else {
            return Err(self.not_now(&command.action));
        };
        let most = self.policy.weight_of(step);
        if weight > most {
            return Err(Reason::WeightTooHigh { asked: weight, most });
        }
        if let Some(Inexpressible { why, nearest }) = inexpressible {
            let nearest = nearest.iter().copied().filter(|near| *near <= most).collect();
            return Err(Reason::WeightInexpressible { asked: weight, nearest, why: why.clone() });
        }
        if weight > self.state.weight && !self.has_pods() {
            return Err(Reason::CanaryNotAvailable { available: 0, needed: 1 });
        }
        self.unpause();
        self.pause(PauseReason::ManualWeight, &command.said());
        self.set_weight(weight);
        Ok(())
    }

    fn extend(&mut self, by: Duration, command: &Override) -> Result<(), Reason> {
        let timers = [
            TimerId::StepDeadline,
            TimerId::BakeDeadline,
            TimerId::Prepare,
            TimerId::Replace,
            TimerId::Promote,
        ];
        for timer in timers {
            if let Some(at) = self.state.timer(timer) {
                self.bump();
                self.resolve(AlertKind::NeedsAttention);
                self.wake(timer, at.max(self.now).plus(by));
                return Ok(());
            }
        }
        if let (Phase::Observing { .. } | Phase::Baking { .. }, None) =
            (&self.state.phase, self.state.timer(timers[0]))
        {
            self.bump();
            self.resolve(AlertKind::NeedsAttention);
            let timer = if matches!(self.state.phase, Phase::Baking { .. }) { timers[1] } else { timers[0] };
            self.wake(timer, self.now.plus(by));
            return Ok(());
        }
        Err(self.not_now(&command.action))
    }

    /// The phase itself, or the one that is paused.
    pub(super) fn unpaused(&self) -> Phase {
        match &self.state.phase {
            Phase::Paused { at, .. } => at.as_ref().clone(),
            phase => phase.clone(),
        }
    }

    fn unpause(&mut self) {
        self.bump();
        if let Phase::Paused { at, .. } = &self.state.phase {
            self.state.phase = at.as_ref().clone();
        }
    }
}

impl Override {
    fn said(&self) -> Reason {
        Reason::Override {
            actor: self.actor.clone(),
            action: self.action.name().into(),
            reason: self.reason.clone(),
        }
    }
}

impl Action {
    /// The action's token in a subject.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Promote => "promote",
            Action::PromoteFull => "promote-full",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Abort => "abort",
            Action::Retry => "retry",
            Action::Skip { .. } => "skip",
            Action::SetWeight { .. } => "set-weight",
            Action::Extend { .. } => "extend",
            Action::Undo { .. } => "undo",
            Action::Triggers { on: true } => "triggers-on",
            Action::Triggers { on: false } => "triggers-off",
        }
    }
}
