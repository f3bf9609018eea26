//! Whose a rollout, a command or a question is, where several daemons share one bus. Every daemon hears every command, and
//! one of them acts on it. The others keep a stored one until it has been answered, so it is not lost with its owner; of a
//! request they hear as well, and stand in for an owner that is silent.

use std::time::Duration;

use bytes::Bytes;
use sluice_bus::{Delivery, Headers, StoreError};
use sluice_rollout::Timestamp;
use sluice_wire::{
    message::Answer,
    record::Saved,
    subject::{ALL, OVERRIDE, Subject},
    view::RolloutView,
};

use super::{
    Daemon,
    announce::answer_bytes,
    clock::now,
    intake::answered_before,
    passing_on::{on_behalf_of, person},
};
use crate::control::{Control, ControlError};

/// A request's owner has so long before another daemon answers in its place.
const STAND_IN_AFTER: Duration = Duration::from_secs(3);
/// A question can be answered from the records, a little older, after this.
const READ_FOR_ANOTHER_AFTER: Duration = Duration::from_secs(1);
/// A rollout that was taken over by its record has its owner's task within this, or its servers are away.
const IN_HAND_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Within this a death has been noticed and its rollouts are in other hands.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);
/// A command to all that was answered so long ago has reached everybody whom it was meant for.
const LONG_ANSWERED: Duration = Duration::from_secs(60);

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Mine,
    /// Another daemon, which lives.
    Anothers(String),
    /// Its daemon is dead, and nobody has taken it over yet.
    Nobodys(String),
}

/// What this daemon does about a command that all of them hear.
#[derive(Debug)]
pub enum Part {
    Act,
    /// Another acts; it comes again until it has been answered.
    Keep,
    /// Another acts, or has acted.
    LetGo,
    /// Its owner is silent, and this is said.
    StandIn(Bytes),
}

impl Daemon {
    /// A rollout that has not settled is its owner's; what has ended, or never was, is that daemon's which would begin it.
    pub(super) async fn whose(&self, namespace: &str, name: &str) -> Result<Whose, StoreError> {
        if self.is_one_of_one() || self.is_running_here(namespace, name) {
            return Ok(Whose::Mine);
        }
        let owner = match self.latest_saved(namespace, name).await? {
            Some(saved) if !saved.state.is_settled() => saved.owner.daemon,
            Some(saved) => self.company.chosen_in(saved.owner.cluster.as_deref(), namespace, name),
            None => self.company.chosen_of_all(namespace, name),
        };
        Ok(match (owner == self.parts.daemon, self.company.lives(&owner)) {
            (true, _) => Whose::Mine,
            (false, true) => Whose::Anothers(owner),
            (false, false) => Whose::Nobodys(owner),
        })
    }

    /// Nobody else was ever heard of on this bus.
    pub(super) fn is_one_of_one(&self) -> bool {
        self.parts.alone || !self.company.knows_others()
    }

    /// The record of a policy's latest attempt.
    pub(super) async fn latest_saved(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Saved>, StoreError> {
        let attempts = self.parts.ledger.attempts(namespace, name).await?;
        match attempts.ids.last() {
            Some(id) => Ok(self.parts.ledger.load(id).await?.map(|(saved, _)| saved)),
            None => Ok(None),
        }
    }

    pub(super) async fn part_in(&self, namespace: &str, name: &str, delivery: &Delivery) -> Part {
        let stored = delivery.sequence.is_some();
        if namespace == ALL || name == ALL {
            return if stored { self.part_in_one_to_all(delivery).await } else { Part::Act };
        }
        match self.whose(namespace, name).await {
            Ok(Whose::Mine) if self.is_in_hand_by_now(namespace, name).await || !stored => Part::Act,
            Ok(Whose::Mine) => Part::Keep,
            Ok(Whose::Anothers(_) | Whose::Nobodys(_)) if stored => {
                let answered = delivery.attempt > 1 && answered_before(self, delivery).await.is_some();
                if answered { Part::LetGo } else { Part::Keep }
            }
            Ok(Whose::Anothers(_) | Whose::Nobodys(_)) => self.stand_in(namespace, name, delivery).await,
            Err(error) => {
                tracing::warn!(namespace, name, %error, "whose a command is cannot be read just now");
                if stored { Part::Keep } else { Part::LetGo }
            }
        }
    }

    /// Its record may name this daemon a moment before its owner's task runs here, or while its servers are away. What has
    /// ended needs no owner.
    pub(super) async fn is_in_hand_by_now(&self, namespace: &str, name: &str) -> bool {
        if self.is_running_here(namespace, name) {
            return true;
        }
        let latest = match self.latest_saved(namespace, name).await {
            Ok(Some(saved)) if !saved.state.is_settled() => saved.state.id,
            Ok(Some(_) | None) | Err(_) => return true,
        };
        let in_hand = async {
            while !self.is_in_hand(&latest) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(IN_HAND_WITHIN, in_hand).await.is_ok()
    }

    /// Who joins later hears a day's commands: those that have long been answered are not for its rollouts.
    async fn part_in_one_to_all(&self, delivery: &Delivery) -> Part {
        let old = delivery.at.is_some_and(|at| now().since(at) > LONG_ANSWERED);
        if old && !self.is_one_of_one() && answered_before(self, delivery).await.is_some() {
            return Part::LetGo;
        }
        Part::Act
    }

    async fn stand_in(&self, namespace: &str, name: &str, delivery: &Delivery) -> Part {
        let Ok(_permit) = self.standing_in.try_acquire() else { return Part::LetGo };
        tokio::time::sleep(STAND_IN_AFTER).await;
        match self.whose(namespace, name).await {
            Ok(Whose::Mine) => Part::Act,
            Ok(Whose::Anothers(owner) | Whose::Nobodys(owner))
                if self.company.second(namespace, name, &owner) == self.parts.daemon =>
            {
                Part::StandIn(answer_bytes(&self.answer_for(&owner, delivery).await))
            }
            Ok(Whose::Anothers(_) | Whose::Nobodys(_)) | Err(_) => Part::LetGo,
        }
    }

    /// An abort is kept on the bus, under its own id, for whoever takes the rollout over. Anything else would come as a
    /// surprise later.
    async fn answer_for(&self, owner: &str, delivery: &Delivery) -> Answer {
        let Some((stored, headers)) = as_a_stored_abort(delivery) else {
            return Answer::refused(silent(owner));
        };
        match self.parts.doors.publish_event(&stored, &headers, delivery.body.clone()).await {
            Ok(_) => Answer {
                accepted: true,
                ..Answer::refused(format!(
                    "daemon {owner}, whose rollout this is, does not answer just now; the abort is kept on the bus and takes effect as soon as it does or another has taken over"
                ))
            },
            Err(error) => Answer::refused(format!("{}; the abort could not be kept: {error}", silent(owner))),
        }
    }

    /// Who answers a stored command to all, of those who carry it out.
    pub(super) fn answers_for_all(&self) -> bool {
        self.is_one_of_one() || self.company.chosen_of_all(ALL, ALL) == self.parts.daemon
    }

    /// Whether a stored command to all has come to every rollout that ran when it was sent: those of a daemon that had just
    /// died are in other hands by then.
    pub(super) async fn has_reached_all(&self, sent: Option<Timestamp>) -> bool {
        if self.is_one_of_one() {
            return true;
        }
        let fresh = sent.is_some_and(|at| now().since(at) < TAKEN_OVER_WITHIN);
        let orphaned = async {
            let open = self.parts.ledger.open_rollouts().await?;
            Ok::<_, StoreError>(open.iter().any(|open| !self.company.lives(&open.daemon)))
        };
        !fresh && matches!(orphaned.await, Ok(false))
    }

    /// A question about a rollout of another daemon's is answered from its record if the owner does not answer first.
    pub(super) async fn rollout_once_left(
        &self,
        namespace: &str,
        name: &str,
        attempt: Option<&str>,
    ) -> Result<RolloutView, ControlError> {
        if !matches!(self.whose(namespace, name).await, Ok(Whose::Mine)) {
            tokio::time::sleep(READ_FOR_ANOTHER_AFTER).await;
        }
        self.rollout(namespace, name, attempt).await
    }
}

/// Where an abort that was asked for at once is kept on the person's behalf, with the headers that say so.
fn as_a_stored_abort(delivery: &Delivery) -> Option<(String, Headers)> {
    let Ok(Subject::Override { user, namespace, rollout, action, .. }) = Subject::parse(&delivery.subject)
    else {
        return None;
    };
    let (user, _) = person(&user, &delivery.headers).ok()?;
    let place = (&*namespace, &*rollout, &*action);
    (action == "abort").then(|| on_behalf_of(&user, OVERRIDE, place, &delivery.message_id))
}

pub fn silent(owner: &str) -> String {
    format!(
        "not carried out: daemon {owner}, whose rollout this is, does not answer; another takes over within ten seconds of its death: send it again then (`sluice status` shows whose it is)"
    )
}
