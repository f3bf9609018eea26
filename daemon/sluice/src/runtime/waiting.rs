//! Announcements that wait for their turn: one a policy, the newest. What takes its place, or cannot begin after all, ends
//! it, and that end is told as any other: whoever waits for it gets an outcome.

use serde_json::Value;
use sluice_bus::StoreError;
use sluice_rollout::{Effect, Event, Phase, Reason, RolloutId, State, Transition, step};
use sluice_wire::{
    policy::{OnNewRelease, Policy},
    record::{Charter, HistoryLine, Saved, VERSION, event_name},
};

use super::{
    Daemon,
    announce::{StartError, parse},
    clock::now,
    ended_view,
    lanes::published,
    roll::Entry,
    whose::Whose,
};

impl Daemon {
    /// The newest announcement waits; one that waited before it is told that its turn will not come.
    pub(super) async fn keep_waiting(&self, charter: &Charter) -> Result<(), StartError> {
        self.overtake_waiting(&charter.id).await?;
        Ok(self.parts.ledger.set_pending(charter).await?)
    }

    /// `id` begins: nothing that was announced before it waits any longer.
    pub(super) async fn forget_waiting(&self, id: &RolloutId) -> Result<(), StartError> {
        self.overtake_waiting(id).await?;
        Ok(self.parts.ledger.clear_pending(id.namespace(), id.name()).await?)
    }

    async fn overtake_waiting(&self, by: &RolloutId) -> Result<(), StartError> {
        match self.parts.ledger.pending(by.namespace(), by.name()).await? {
            Some(waiting) if waiting.charter.id != *by => {
                self.never_begins(waiting.charter, format!("superseded by {by} while it waited")).await
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Its end has a record, a line of history and the terminal event, as if it had begun. Done again after a crash, it
    /// tells the same under the same id.
    async fn never_begins(&self, charter: Charter, why: String) -> Result<(), StartError> {
        let (id, ledger) = (charter.id.clone(), &self.parts.ledger);
        tracing::warn!(rollout = %id, why, "never begins");
        let policy: Policy = parse(&charter)?;
        let at = charter.announced;
        let begun = State::new(id.clone(), 0, at);
        let event = Event::NeverBegan { why };
        let Transition { mut state, reason, .. } = step(&policy.machine(), begun, now(), event.clone());
        let told = std::mem::take(&mut state.outstanding);
        let saved = Saved { version: VERSION, owner: self.owner(0), state, untold: Vec::new() };
        ledger.create_charter(&charter).await?;
        match ledger.load(&id).await? {
            None => {
                ledger.save(&saved, 0).await?;
                ledger.remember_passed_over(&id).await?;
                let line = HistoryLine::of(&saved.state, now(), event_name(&event), &reason);
                ledger.tell_history(&line).await?;
            }
            Some((known, _)) if ended_unbegun(&known.state) => {}
            // It has begun, and only the note that it waits is still there: its end is its owner's to tell.
            Some(_) => return Ok(()),
        }
        for one in told {
            if let Effect::Publish { .. } = one.effect {
                let event = published(&charter, one.id, &one.effect, &Value::Null);
                if let Some((subject, event)) = event {
                    let headers = [("Content-Type".to_owned(), "application/cloudevents+json".to_owned())];
                    let body = bytes::Bytes::from(event.to_bytes());
                    let sent = self.parts.bus.publish(&subject, &headers, body, &event.id).await;
                    sent.map_err(|error| StartError::Passing(error.to_string()))?;
                }
            }
        }
        if let Some(view) = ended_view(&charter, &saved) {
            // Nobody may be listening.
            let _ = self.changes.send(view);
        }
        Ok(())
    }

    /// Begins what waited for the rollouts that have ended meanwhile, where that is this daemon's to do.
    pub(super) async fn begin_pending(&self) {
        let left = std::mem::take(&mut *self.left());
        self.take_up_each(left).await;
        match self.parts.ledger.all_pending().await {
            Ok(waiting) => {
                for charter in waiting {
                    self.begin_waiting(charter.id.namespace(), charter.id.name()).await;
                }
            }
            Err(error) => tracing::warn!(%error, "what waits cannot be read just now"),
        }
    }

    /// What waits for its turn under this policy, if it is this daemon's to begin it.
    pub(super) async fn begin_waiting(&self, namespace: &str, name: &str) {
        if !matches!(self.whose(namespace, name).await, Ok(Whose::Mine)) {
            return;
        }
        let turn = self.turn(namespace, name);
        let _one_at_a_time = turn.lock().await;
        let looked = async {
            let pending = self.parts.ledger.pending(namespace, name).await?;
            Ok::<_, StoreError>((pending, self.latest_saved(namespace, name).await?))
        };
        match looked.await {
            Ok((Some(pending), _)) if !self.acts_on(&pending.charter) => {}
            Ok((Some(pending), latest)) => self.one_pending(pending.charter, latest).await,
            Ok((None, _)) => {}
            Err(error) => tracing::warn!(namespace, name, %error, "what waits cannot be read just now"),
        }
    }

    /// Begins it where the one before has ended; otherwise says again that it supersedes (a crash may have lost that).
    async fn one_pending(&self, charter: Charter, latest: Option<Saved>) {
        if latest.is_none_or(|saved| saved.state.is_done()) {
            return self.begin_one_pending(charter).await;
        }
        let supersedes =
            parse(&charter).is_ok_and(|policy| policy.spec.on_new_release == OnNewRelease::Supersede);
        let running = self.rollouts.get(charter.id.namespace(), charter.id.name());
        if let (Some(Entry::Running(handle)), true) = (running, supersedes) {
            handle.post.urgent(Event::Superseded { by: charter.id.attempt().to_owned() }).await;
        }
    }

    async fn begin_one_pending(&self, charter: Charter) {
        let id = charter.id.clone();
        if let Ok(Some((saved, _))) = self.parts.ledger.load(&id).await {
            // It began, and an error or a crash came before it had an owner, or before the note of its waiting was gone.
            if !saved.state.is_done()
                && !self.is_in_hand(&id)
                && let Err(error) = self.take_up_in_turn(&id).await
            {
                tracing::warn!(rollout = %id, %error, "begun, and cannot be taken up yet");
                return;
            }
            if let Err(error) = self.parts.ledger.clear_pending(id.namespace(), id.name()).await {
                tracing::warn!(rollout = %id, %error, "begun, but still noted as waiting");
            }
            return;
        }
        let begun = self.begin(charter.clone()).await;
        match begun {
            Err(StartError::Passing(why)) => {
                tracing::warn!(rollout = %id, why, "waits: it cannot begin yet");
                return;
            }
            // Its own cluster's daemons begin it.
            Err(StartError::Elsewhere(_)) => return,
            Err(StartError::Refused(why)) => {
                if let Err(error) = self.never_begins(charter, why).await {
                    tracing::warn!(rollout = %id, %error, "what waited is refused, and that cannot be told yet");
                    return;
                }
            }
            Ok(_) => {}
        }
        if let Err(error) = self.parts.ledger.clear_pending(id.namespace(), id.name()).await {
            tracing::warn!(rollout = %id, %error, "begun, but still noted as waiting");
        }
    }
}

/// Whether its turn never came.
fn ended_unbegun(state: &State) -> bool {
    matches!(state.phase, Phase::Done { reason: Reason::NeverBegan { .. }, .. })
}
