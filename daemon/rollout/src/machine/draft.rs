//! A transition in the making: collects effects, numbers them, keeps the list of what is outstanding.

use crate::{
    AlertKind, Answered, Effect, EffectId, Firing, Notice, Numbered, Phase, Policy, Reason, State, TimerId,
    Timestamp, Transition,
};

/// Notices that could not be told yet; beyond that the oldest that is not the terminal one is dropped.
const MOST_UNTOLD: usize = 32;

pub(super) struct Draft<'p> {
    pub policy: &'p Policy,
    pub state: State,
    pub now: Timestamp,
    pub answer: Option<Answered>,
    effects: Vec<Numbered>,
    /// The last effect's number before this transition.
    seq_before: u64,
    /// Whether this is a transition, which counts a revision, or only bookkeeping.
    bumped: bool,
}

impl<'p> Draft<'p> {
    pub fn new(policy: &'p Policy, state: State, now: Timestamp) -> Self {
        let now = now.max(state.now);
        let seq_before = state.seq;
        Draft { policy, state, now, answer: None, effects: Vec::new(), seq_before, bumped: false }
    }

    pub fn finish(self, reason: Reason) -> Transition {
        let Draft { mut state, now, answer, mut effects, bumped, seq_before, .. } = self;
        if bumped {
            state.now = now;
        }
        let (came_to, at) = (state.revision, state.weight);
        let told_now = effects.iter_mut().chain(&mut state.outstanding).filter(|one| one.id.seq > seq_before);
        for one in told_now {
            if let Effect::Publish { revision, weight, .. } = &mut one.effect {
                (*revision, *weight) = (came_to, at);
            }
        }
        Transition { state, effects, reason, answer }
    }

    /// Counts one revision a transition, however much it does.
    pub fn bump(&mut self) {
        if !self.bumped {
            self.bumped = true;
            self.state.revision += 1;
        }
    }

    pub fn enter(&mut self, phase: Phase) {
        self.bump();
        self.state.phase = phase;
    }

    /// Asks for an effect; what it makes needless is no longer outstanding.
    pub fn ask(&mut self, effect: Effect) {
        self.state.seq += 1;
        let id = EffectId { revision: self.state.revision, seq: self.state.seq };
        self.state.outstanding.retain(|earlier| !effect.replaces(&earlier.effect));
        self.effects.retain(|earlier| !effect.replaces(&earlier.effect));
        let numbered = Numbered { id, effect };
        self.state.outstanding.push(numbered.clone());
        self.effects.push(numbered);
        self.bound_untold();
    }

    fn bound_untold(&mut self) {
        let untold = |one: &&Numbered| matches!(one.effect, Effect::Publish { .. });
        while self.state.outstanding.iter().filter(untold).count() > MOST_UNTOLD {
            let oldest = self.state.outstanding.iter().position(|one| {
                matches!(&one.effect, Effect::Publish { notice, .. } if !matches!(notice, Notice::Finished { .. }))
            });
            match oldest {
                Some(index) => drop(self.state.outstanding.remove(index)),
                None => return,
            }
        }
    }

    /// Takes an effect off the list; `None` if it was overtaken or came twice.
    pub fn complete(&mut self, id: EffectId) -> Option<Effect> {
        let index = self.state.outstanding.iter().position(|one| one.id == id)?;
        Some(self.state.outstanding.remove(index).effect)
    }

    pub fn repeat_outstanding(&mut self) {
        self.effects.extend(self.state.outstanding.iter().cloned());
    }

    pub fn tell(&mut self, notice: Notice, reason: &Reason) {
        // Revision and weight are those that the transition comes to: see `finish`.
        let (revision, weight) = (self.state.revision, self.state.weight);
        self.ask(Effect::Publish { notice, reason: reason.to_string(), revision, weight });
    }

    pub fn wake(&mut self, timer: TimerId, at: Timestamp) {
        self.ask(Effect::WakeAt { timer, at });
    }

    /// Forgets timers: those that fire all the same are late and change nothing.
    pub fn forget_timers(&mut self, unwanted: &[TimerId]) {
        let gone =
            |effect: &Effect| matches!(effect, Effect::WakeAt { timer, .. } if unwanted.contains(timer));
        self.state.outstanding.retain(|one| !gone(&one.effect));
        self.effects.retain(|one| !gone(&one.effect));
    }

    /// Forgets everything that the opening of traffic had asked for and that an end or an abort makes wrong.
    pub fn forget_opening(&mut self) {
        let keeps = |one: &Numbered| match &one.effect {
            Effect::WakeAt { .. } | Effect::AskGate { .. } => false,
            Effect::EmptyWorkload | Effect::PromoteFirst | Effect::PromoteWorkload => false,
            Effect::SetTraffic { .. } | Effect::ReleaseTraffic => false,
            Effect::WatchDrain { .. } | Effect::ScaleWorkload { .. } | Effect::RestoreWorkload => true,
            Effect::Observe(_)
            | Effect::Publish { .. }
            | Effect::Alert { .. }
            | Effect::ResolveAlert { .. } => true,
        };
        self.state.outstanding.retain(keeps);
        self.effects.retain(keeps);
    }

    /// Raises an alert, once; what changes while it is up is told by notices.
    pub fn alert(&mut self, kind: AlertKind, summary: &Reason) {
        if self.state.alerts.iter().any(|firing| firing.kind == kind) {
            return;
        }
        self.bump();
        let (summary, since) = (summary.to_string(), self.now);
        self.state.alerts.push(Firing { kind, summary: summary.clone(), since });
        self.ask(Effect::Alert { kind, summary, since });
    }

    pub fn resolve(&mut self, kind: AlertKind) {
        let Some(index) = self.state.alerts.iter().position(|firing| firing.kind == kind) else { return };
        let Firing { summary, since, .. } = self.state.alerts.remove(index);
        self.bump();
        let untold = self.is_untold(kind, since).then_some(self.now);
        self.ask(Effect::ResolveAlert { kind, summary, since, untold });
    }

    /// Whether the end of this alert takes its beginning back before that was told. An abort's never does.
    fn is_untold(&self, kind: AlertKind, since: Timestamp) -> bool {
        let raised = |effect: &Effect| matches!(effect, Effect::Alert { kind: of, since: at, .. } if (*of, *at) == (kind, since));
        kind != AlertKind::Aborting && self.state.outstanding.iter().any(|one| raised(&one.effect))
    }

    /// On-call is told once; the rollout stays where it is.
    pub fn needs_attention(&mut self, reason: Reason) -> Reason {
        if !self.state.alerts.iter().any(|firing| firing.kind == AlertKind::NeedsAttention) {
            self.alert(AlertKind::NeedsAttention, &reason);
            self.tell(Notice::Attention, &reason);
        }
        reason
    }
}

impl Effect {
    /// One word for reasons and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::SetTraffic { .. } => "set-traffic",
            Effect::ReleaseTraffic => "release-traffic",
            Effect::WatchDrain { .. } => "watch-drain",
            Effect::ScaleWorkload { .. } => "scale-workload",
            Effect::EmptyWorkload => "empty-workload",
            Effect::PromoteFirst => "promote-first",
            Effect::PromoteWorkload => "promote-workload",
            Effect::RestoreWorkload => "restore-workload",
            Effect::Observe(_) => "observe",
            Effect::WakeAt { .. } => "wake-at",
            Effect::AskGate { .. } => "ask-gate",
            Effect::Publish { .. } => "publish",
            Effect::Alert { .. } => "alert",
            Effect::ResolveAlert { .. } => "resolve-alert",
        }
    }

    /// Whether it raises or withdraws an alert.
    pub fn is_alert(&self) -> bool {
        matches!(self, Effect::Alert { .. } | Effect::ResolveAlert { .. })
    }
}
