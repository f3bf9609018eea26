//! What is kept of a transition: a line of the history for people, and the decision for a replay.

use sluice_rollout::{Answered, Event, Numbered, Reason, State, Timestamp, Transition};
use sluice_wire::{
    decisions::{Decided, Sum},
    record::{HistoryLine, event_name},
};

use super::Owner;
use crate::runtime::{clock::now, views};

impl Owner {
    /// What the machine was given and what it made of it, for a replay.
    pub(super) fn record(
        &self,
        (now, saved): (Timestamp, bool),
        event: &Event,
        reason: &Reason,
        effects: &[Numbered],
        answer: Option<&Answered>,
    ) {
        let state = &self.saved.state;
        let decided = Decided {
            now,
            event: event.clone(),
            revision: state.revision,
            phase: state.phase.name().to_owned(),
            weight: state.weight,
            reason: reason.clone(),
            effects: effects.to_vec(),
            answer: answer.cloned(),
            saved,
            state: Sum::new(),
        };
        self.edge.recorder.decided(decided, state);
    }

    pub(super) fn remember(
        &mut self,
        line: Option<HistoryLine>,
        reason: &Reason,
        answered: Option<&Answered>,
    ) {
        let Some(line) = line else { return };
        self.parts.meters.transition(&line.code);
        // What was refused changed nothing: why the rollout stands where it stands stays as it was.
        if answered.is_none_or(|answered| answered.accepted) {
            self.last_reason = reason.to_string();
        }
        let state = &self.saved.state;
        tracing::info!(
            rollout = %self.id, revision = state.revision, phase = state.phase.name(),
            weight = %state.weight, %reason, "{}", line.event
        );
        self.pen.write(line);
    }
}

/// The history's line of a transition; nothing for bookkeeping, and for a command that was answered before: one to all comes
/// again every few seconds until it has reached everybody.
pub(super) fn line(before: &State, event: &Event, transition: &Transition) -> Option<HistoryLine> {
    let Transition { state, effects, reason, answer } = transition;
    if state.revision == before.revision && (answer.is_none() || *reason == Reason::OverrideRepeated) {
        return None;
    }
    let actor = match event {
        Event::Override(command) => Some(command.actor.clone()),
        _ => None,
    };
    Some(HistoryLine {
        actor,
        accepted: answer.as_ref().map(|answered| answered.accepted),
        effects: effects.iter().map(|one| views::effect_words(&one.effect)).collect(),
        ..HistoryLine::of(state, now(), event_name(event), reason)
    })
}
