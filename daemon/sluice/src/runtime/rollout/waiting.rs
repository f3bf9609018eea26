//! What waits for the store, and what does not wait.

use sluice_rollout::{Effect, Event, Firing, Lane, Numbered, State, Transition};
use sluice_wire::message::Answer;
use tokio::sync::oneshot;

use super::{MOST_DEFERRED, Owner, must_save};
use crate::runtime::{
    fault::{self, Fault},
    post::Letter,
};

impl Owner {
    /// Without the store only weight 0 (which has gone already) and the telling go out; the rest follows the save.
    pub(super) fn execute(&mut self, effects: Vec<Numbered>) {
        let (now, later) = if self.unsaved {
            self.told_unsaved.extend(effects.iter().filter_map(fired));
            effects.into_iter().partition(|one| one.effect.lane() == Lane::Telling)
        } else {
            (effects, Vec::new())
        };
        self.held.extend(later);
        self.lanes.execute(now);
    }

    /// While the last decision is not in the store, nothing but an abort goes on: its order would be lost.
    pub(super) fn must_wait(&self, before: &State, transition: &Transition) -> bool {
        (self.unsaved || !self.deferred.is_empty()) && must_save(before, transition)
    }

    /// Of what is told again and again only the latest waits.
    pub(super) fn defer(&mut self, event: Event, reply: Option<oneshot::Sender<Answer>>) {
        if fault::has(Fault::LoseWhatWaitsForTheStore) {
            return;
        }
        if repeats(&event) {
            let alike = |letter: &Letter| {
                matches!(letter, Letter::Event(waiting)
                    if std::mem::discriminant(waiting) == std::mem::discriminant(&event))
            };
            self.deferred.retain(|letter| !alike(letter));
        }
        if self.deferred.len() >= MOST_DEFERRED {
            self.parts.meters.drop_one("deferred");
            tracing::error!(rollout = %self.id, "too much waits for the store; the newest is lost");
            return;
        }
        self.deferred.push_back(match (event, reply) {
            (Event::Override(command), Some(reply)) => Letter::Command { command, reply },
            (event, _) => Letter::Event(event),
        });
    }
}

fn fired(one: &Numbered) -> Option<Firing> {
    let Effect::Alert { kind, summary, since } = &one.effect else { return None };
    Some(Firing { kind: *kind, summary: summary.clone(), since: *since })
}

/// Told again and again by the edge: an older one says nothing that a later one does not.
fn repeats(event: &Event) -> bool {
    matches!(event, Event::Evidence { .. } | Event::WorkloadObserved { .. } | Event::BaselineMeasured(_))
}
