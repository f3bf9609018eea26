//! A save that an abort need not wait for.
//!
//! A store that is away refuses at once; one that hangs (a leader that moves, a link that went silent) keeps its caller
//! until the call's limit. While a save is under way urgent letters are taken in, and the first that would abort ends the
//! waiting: what was being saved waits with the other deferred letters, and the abort goes next, outrunning its own save.
//! If the save came through all the same, the next one meets its revision, finds us as the owner, and goes on from there.

use std::time::Instant;

use sluice_bus::{BusError, StoreError};
use sluice_rollout::{Event, State, step};
use sluice_wire::record::HistoryLine;

use super::{Inbox, Letter, Owner, now};

/// Letters taken in during one save.
const MOST_EARLY: usize = 64;

impl Owner {
    /// [`Owner::save`] of what came of `before`, given up for an abort that arrives meanwhile. What arrived is kept in `early`, the abort first.
    pub(super) async fn save_unless_aborted(
        &mut self,
        inbox: &mut Inbox,
        before: &State,
        state: &State,
        line: Option<&HistoryLine>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let machine = self.machine.clone();
        let aborts = |letter: &Letter| {
            let event = match letter {
                Letter::Event(event) => event.clone(),
                Letter::Command { command, .. } => Event::Override(command.clone()),
                Letter::Doubted | Letter::Fenced { .. } => return false,
            };
            !state.is_aborting() && step(&machine, before.clone(), now(), event).state.is_aborting()
        };
        let (mut came, mut abort) = (Vec::new(), None);
        let outcome = {
            let saving = self.save(state, line);
            tokio::pin!(saving);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut saving => break outcome,
                    Some(letter) = inbox.urgent.recv(), if came.len() < MOST_EARLY => {
                        if aborts(&letter) {
                            abort = Some(letter);
                            break Err(StoreError::Bus(BusError::Timeout(began.elapsed())));
                        }
                        came.push(letter);
                    }
                }
            }
        };
        self.early.extend(abort.into_iter().chain(came));
        outcome
    }
}
