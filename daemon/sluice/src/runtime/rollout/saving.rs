//! Saving what was decided, and what happens while the store is away. An abort waits for no save.
//!
//! A store that is away refuses at once; one that hangs (a leader that moves, a link that went silent) keeps its caller
//! until the call's limit. While a save is under way urgent letters are taken in, and the first that would abort ends the
//! waiting: what was being saved waits with the other deferred letters, and the abort goes next, outrunning its own save.
//! If the save came through all the same, the next one meets its revision, finds us as the owner, and goes on from there.

use std::time::{Duration, Instant};

use sluice_bus::{BusError, StoreError};
use sluice_rollout::{Event, Numbered, State, step};
use sluice_wire::record::{HistoryLine, Saved, VERSION};

use super::{Fault, Inbox, Leave, Letter, Owner, Silent, fault, now};

/// The time that was watched is saved this often.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// Letters taken in during one save.
const MOST_EARLY: usize = 64;

/// Whoever asked for an abort is answered, and on-call told, after this at the latest: the save follows.
const ABORT_WAITS: Duration = Duration::from_secs(1);

impl Owner {
    /// The save of a decision to abort, whose weight 0 has left for the target already.
    pub(super) async fn save_abort(
        &mut self,
        state: &State,
        line: Option<&HistoryLine>,
    ) -> Result<(), StoreError> {
        match tokio::time::timeout(ABORT_WAITS, self.save(state, line)).await {
            Ok(saved) => saved,
            // If it came through all the same, the next save meets its revision and goes on from there.
            Err(_) => Err(StoreError::Bus(BusError::Timeout(ABORT_WAITS))),
        }
    }

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

    /// Saves what is unsaved first, then takes up the first letter that waited.
    pub(super) async fn catch_up(&mut self, inbox: &mut Inbox) -> Result<(), Leave> {
        if self.unsaved {
            let state = self.saved.state.clone();
            match self.save(&state, None).await {
                Ok(()) => {
                    self.unsaved = false;
                    self.told_unsaved.clear();
                    self.parts.meters.unsaved(false);
                    let held = std::mem::take(&mut self.held);
                    let outstanding = |one: &Numbered| self.saved.state.outstanding(one.id).is_some();
                    let held = held.into_iter().filter(outstanding).collect();
                    self.lanes.execute(held);
                }
                Err(StoreError::Conflict { key }) => {
                    return Err(Leave::Disowned(format!("{key} was saved by another owner")));
                }
                Err(error) => {
                    tracing::debug!(rollout = %self.id, %error, "the store is still away");
                    return Ok(());
                }
            }
        }
        let letter = self.deferred.pop_front();
        // What waited behind it must not wait for the letter itself.
        let rest = std::mem::take(&mut self.deferred);
        let ordered = match letter {
            Some(letter) => self.order(letter, inbox).await,
            None => Ok(()),
        };
        self.deferred.extend(rest);
        ordered
    }

    /// Bookkeeping that is saved although nothing was decided: the time that was watched, so that after a crash no more than
    /// a minute is watched again. Nothing waits for it where the store is away. What the gap of a crash adds counts from
    /// `counted_until` on, so none of it twice, whichever of state and evidence was saved later.
    pub(super) fn is_to_be_noted(&self, state: &State) -> bool {
        let watched = |state: &State| state.watch().map(|watch| watch.counted_ms);
        !self.unsaved
            && self.deferred.is_empty()
            && self.saved_at.elapsed() >= NOTED_EVERY
            && watched(state)
                .is_some_and(|counted| counted > 0 && Some(counted) != watched(&self.saved.state))
    }

    pub(super) fn mark_unsaved(&mut self, error: &StoreError) {
        tracing::error!(rollout = %self.id, %error, "aborting without the store; the save follows");
        self.edge.troubles.note(Silent::Store, &error.to_string());
        if !self.unsaved {
            self.unsaved = true;
            self.parts.meters.unsaved(true);
        }
    }

    /// A conflict may be our own earlier save whose answer was lost: while the record still names us, we go on from it.
    async fn save(&mut self, state: &State, line: Option<&HistoryLine>) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut untold = self.pen.untold();
        untold.extend(line.cloned());
        let saved = Saved { version: VERSION, owner: self.saved.owner.clone(), state: state.clone(), untold };
        self.revision = match self.parts.ledger.save(&saved, self.revision).await {
            Err(StoreError::Conflict { key }) => match self.parts.ledger.load(&self.id).await? {
                Some((found, revision))
                    if found.owner == saved.owner || fault::has(Fault::SaveOverAnothersState) =>
                {
                    self.parts.ledger.save(&saved, revision).await?
                }
                Some(_) | None => return Err(StoreError::Conflict { key }),
            },
            other => other?,
        };
        self.saved_at = tokio::time::Instant::now();
        self.parts.meters.saved(began.elapsed().as_secs_f64());
        self.edge.troubles.over(Silent::Store);
        Ok(())
    }
}
