//! Commands from people: to one rollout, or to all of them at once.

use std::time::Duration;

use futures::future::join_all;
use sluice_rollout::{Action, Inexpressible, Override, Phase, Reason, RolloutId, State, Timestamp, Weight};
use sluice_wire::{
    message::{Answer, Asked, Command},
    policy::{Policy, access},
    record::Charter,
    signature::Claim,
    subject::ALL,
    view::RolloutView,
};

use super::{
    Daemon,
    announce::started,
    authority::{self, Nonce},
    backends::ByHand,
    clock::now,
    passing_on::Who,
    roll::Entry,
    rollout::Handle,
    views,
};
use crate::control::{Control, ControlError};

/// How long a person's weight waits for what the target says to it.
const TARGETS_WORD: Duration = Duration::from_secs(1);

impl Daemon {
    /// `namespace` or `name` may be `_all`. Repeats are recognised by `key` in the rollout's own state. `sent`: when the
    /// bus took it, where it was stored.
    #[expect(clippy::too_many_arguments, reason = "the parts of a subject, the body and where it came from")]
    pub(super) async fn obey(
        &self,
        who: Who<'_>,
        namespace: &str,
        name: &str,
        action: &str,
        key: &str,
        command: Command,
        sent: Option<Timestamp>,
    ) -> Answer {
        let user = who.user;
        let asked = match command.asked(action) {
            Ok(asked) => asked,
            Err(error) => return Answer::refused(error.to_string()),
        };
        let claim = Claim { user, namespace, name, action };
        let nonce = match self.authority.check(claim, &command, sent).await {
            Ok(nonce) => nonce,
            Err(why) => {
                self.parts.meters.refuse("signature");
                tracing::warn!(user, namespace, name, action, why, "a command is refused");
                return refused(why);
            }
        };
        let by = if who.passed_on { format!("{user}, through another daemon") } else { user.to_owned() };
        let actor = match &command.actor {
            Some(actor) => format!("{actor} (by {by})"),
            None => by,
        };
        let key = format!("{user} {key}");
        let action = match asked {
            Asked::Rollout(action) => action,
            Asked::Backends(change) => {
                let by = ByHand { user, actor: &actor, key: &key, change: &change, reason: &command.reason };
                return self.adjust_backends(namespace, name, &by, nonce.as_ref()).await;
            }
        };
        let wish = Wish { user: user.to_owned(), actor, key, action, command, sent, nonce };
        if let Some(answer) = self.about_policy(namespace, name, &wish).await {
            return answer;
        }
        if namespace == ALL || name == ALL {
            return self.obey_all(namespace, name, &wish).await;
        }
        if wish.action == Action::Retry
            && let Some(first) = self.retried(namespace, name, &wish).await
        {
            return first;
        }
        match self.rollouts.get(namespace, name) {
            Some(Entry::Running(handle)) if !handle.post.is_closed() => {
                self.once(&handle.id.clone(), &wish, self.obey_one(&handle, &wish)).await
            }
            Some(entry @ (Entry::Running(_) | Entry::Ended(_))) if wish.action == Action::Retry => {
                self.once(&entry.view().rollout, &wish, self.retry(namespace, name, &wish)).await
            }
            Some(entry @ (Entry::Running(_) | Entry::Ended(_))) => self.over(&entry.view(), &wish).await,
            None => self.not_in_hand(namespace, name, &wish).await,
        }
    }

    /// It may have ended so long ago that only the store knows it.
    async fn not_in_hand(&self, namespace: &str, name: &str, wish: &Wish) -> Answer {
        match self.rollout(namespace, name, None).await {
            Ok(view) if wish.action == Action::Retry => {
                self.once(&view.rollout, wish, self.retry(namespace, name, wish)).await
            }
            Ok(view) => self.over(&view, wish).await,
            Err(ControlError::Unknown(_)) => Answer::refused(format!(
                "no rollout {namespace}/{name} is known here; `sluice status` lists those that are"
            )),
            Err(error) => refused(error),
        }
    }

    /// Nothing can be commanded any more; whoever repeats what was answered before the end has that answer again.
    async fn over(&self, view: &RolloutView, wish: &Wish) -> Answer {
        let ledger = &self.parts.ledger;
        let (saved, charter) = match tokio::join!(ledger.load(&view.rollout), ledger.charter(&view.rollout)) {
            (Ok(Some((saved, _))), Ok(Some(charter))) => (saved, charter),
            (_, _) => return over(view),
        };
        let policy = serde_json::from_str::<Policy>(&charter.policy).ok();
        match policy.zip(saved.state.first_answer(&wish.key)) {
            Some((policy, first)) => {
                views::answer(&saved.state, &policy.machine(), Some(first), &Reason::OverrideRepeated)
            }
            None => over(view),
        }
    }

    /// The attempt that this very command began before, if it did: delivered again, it gets the first answer.
    pub(super) async fn retried(&self, namespace: &str, name: &str, wish: &Wish) -> Option<Answer> {
        let key = wish.key_of_attempt();
        let attempts = self.parts.ledger.attempts(namespace, name).await.ok()?;
        for id in attempts.ids.iter().rev() {
            let charter = self.parts.ledger.charter(id).await.ok()?;
            if charter.is_some_and(|charter| charter.key == key) {
                return Some(started(id));
            }
        }
        None
    }

    pub(super) async fn once(
        &self,
        id: &RolloutId,
        wish: &Wish,
        obeying: impl Future<Output = Answer>,
    ) -> Answer {
        let (place, what) = ((id.namespace(), id.name()), (id.attempt(), wish.action.name()));
        authority::once(&self.parts.ledger, place, wish.nonce.as_ref(), what, obeying).await
    }

    /// The policy's own word on who may do this: nothing, or the refusal.
    pub(super) fn barred(&self, policy: &Policy, user: &str, action: &str) -> Option<Answer> {
        let why = access::check(&policy.spec.access, user, action).err()?;
        self.parts.meters.refuse("access");
        tracing::warn!(user, action, policy = policy.metadata.name, "a command is refused: access");
        Some(Answer::refused(why))
    }

    async fn obey_one(&self, handle: &Handle, wish: &Wish) -> Answer {
        if let Some(refusal) = self.barred(&handle.policy, &wish.user, wish.action.name()) {
            return refusal;
        }
        if let Some(attempt) = &wish.command.attempt
            && attempt != handle.id.attempt()
        {
            return Answer::refused(format!(
                "refused: attempt {attempt} is no longer current, {} is",
                handle.id
            ));
        }
        let (started, ended) = {
            let view = handle.view.borrow();
            (view.started, view.outcome.is_some())
        };
        if wish.sent.is_some_and(|sent| sent < started) {
            return Answer::refused(format!(
                "refused: sent before {} began; send it again if it is meant for it",
                handle.id
            ));
        }
        if ended && wish.action == Action::Retry {
            return self.retry(handle.id.namespace(), handle.id.name(), wish).await;
        }
        let mut order = wish.order();
        if let Action::SetWeight { weight, inexpressible } = &mut order.action {
            *inexpressible = self::inexpressible(handle, *weight).await;
        }
        match handle.post.command(order).await {
            Some(answer) => answer,
            None => refused(format!("{} has just ended", handle.id)),
        }
    }

    /// One message, every rollout that is running and matches.
    async fn obey_all(&self, namespace: &str, name: &str, wish: &Wish) -> Answer {
        let matches = |handle: &Handle| {
            let labels = &handle.policy.metadata.labels;
            (namespace == ALL || namespace == handle.id.namespace())
                && (name == ALL || name == handle.id.name())
                && wish.command.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
                && handle.view.borrow().outcome.is_none()
        };
        let handles: Vec<Handle> = self.rollouts.running().into_iter().filter(matches).collect();
        let each = handles.iter().map(|handle| self.once(&handle.id, wish, self.obey_one(handle, wish)));
        let each = join_all(each).await;
        let accepted = each.iter().filter(|answer| answer.accepted).count();
        let message = match each.len() {
            0 => "no running rollout matches".to_owned(),
            all => format!("{accepted} of {all} rollouts: {}", wish.action.name()),
        };
        Answer { accepted: accepted > 0, each, ..Answer::refused(message) }
    }

    /// A rollout that has ended begins anew, as a new attempt of the same release under the same policy.
    async fn retry(&self, namespace: &str, name: &str, wish: &Wish) -> Answer {
        let id = match self.find(namespace, name, None).await {
            Ok(Some(id)) => id,
            Ok(None) => return refused(format!("no rollout {namespace}/{name}")),
            Err(error) => return refused(error),
        };
        let (charter, saved) = match (self.parts.ledger.charter(&id).await, self.parts.ledger.load(&id).await)
        {
            (Ok(Some(charter)), Ok(Some((saved, _)))) => (charter, saved),
            (Err(error), _) | (_, Err(error)) => return refused(error),
            (Ok(_), Ok(_)) => return refused(format!("the record of {id} is gone")),
        };
        if let State { phase: Phase::Done { outcome: sluice_rollout::Outcome::Promoted, .. }, .. } =
            saved.state
        {
            return refused(format!("{id} was promoted: there is nothing to try again"));
        }
        match serde_json::from_str::<Policy>(&charter.policy) {
            Ok(policy) => {
                if let Some(refusal) = self.barred(&policy, &wish.user, wish.action.name()) {
                    return refusal;
                }
            }
            Err(error) => return refused(format!("the policy of {id} cannot be read: {error}")),
        }
        let again = match RolloutId::new(namespace, name, &next_attempt(id.attempt())) {
            Ok(id) => id,
            Err(error) => return refused(error),
        };
        let charter = Charter {
            id: again,
            actor: Some(wish.actor.clone()),
            key: wish.key_of_attempt(),
            sequence: None,
            announced: now(),
            after: None,
            retries: 0,
            ..charter
        };
        match self.tried_again(charter).await {
            Ok(answer) => answer,
            Err(error) => refused(error.to_string()),
        }
    }
}

/// One person's command, before it is addressed.
pub(super) struct Wish {
    /// Whom the door let in.
    pub(super) user: String,
    /// Of a signed command.
    nonce: Option<Nonce>,
    pub(super) actor: String,
    pub(super) key: String,
    pub(super) action: Action,
    pub(super) command: Command,
    /// When the bus took it, where that is known: a stored command may be a day old.
    pub(super) sent: Option<Timestamp>,
}

impl Wish {
    /// Where it makes a new attempt: what recognises a repeat in that one's charter.
    pub(super) fn key_of_attempt(&self) -> String {
        format!("sluice/retry {}", self.key)
    }

    fn order(&self) -> Override {
        Override {
            key: self.key.clone(),
            actor: self.actor.clone(),
            reason: self.command.reason.clone(),
            expected_revision: self.command.revision,
            action: self.action.clone(),
        }
    }
}

/// What the target says to a weight that it cannot express. A target that does not answer soon is no reason to refuse: then the
/// write tells.
async fn inexpressible(handle: &Handle, weight: Weight) -> Option<Inexpressible> {
    // Nothing stands in the way of taking traffic away.
    if weight.is_zero() {
        return None;
    }
    let target = &handle.target;
    let asked = async {
        match target.check(&[weight]).await {
            Err(error) if !error.retryable() => {
                let nearest = target.nearest(weight).await.unwrap_or_default();
                Some(Inexpressible { why: error.to_string(), nearest })
            }
            Ok(()) | Err(_) => None,
        }
    };
    tokio::time::timeout(TARGETS_WORD, asked).await.unwrap_or_default()
}

/// In the words that every refusal of a command begins with.
pub(super) fn refused(why: impl std::fmt::Display) -> Answer {
    Answer::refused(format!("refused: {why}"))
}

/// Nothing can be commanded any more, or not yet.
fn over(view: &RolloutView) -> Answer {
    Answer {
        rollout: Some(view.rollout.clone()),
        revision: Some(view.revision),
        phase: Some(view.phase.clone()),
        weight: Some(view.weight),
        ..Answer::refused(match view.outcome {
            Some(_) => format!("refused: {} has ended: {}", view.rollout, view.phase),
            None => format!("refused: {} could not be taken up yet; the daemon's log says why", view.rollout),
        })
    }
}

/// `v2` becomes `v2-r2`, `v2-r2` becomes `v2-r3`.
pub(super) fn next_attempt(attempt: &str) -> String {
    match attempt.rsplit_once("-r").and_then(|(base, number)| Some((base, number.parse::<u32>().ok()?))) {
        Some((base, number)) => format!("{base}-r{}", number.saturating_add(1)),
        None => format!("{attempt}-r2"),
    }
}

#[cfg(test)]
mod tests {
    use super::next_attempt;

    #[test]
    fn attempts_count_up() {
        assert_eq!(next_attempt("v2"), "v2-r2");
        assert_eq!(next_attempt("v2-r2"), "v2-r3");
        assert_eq!(next_attempt("1.0-rc"), "1.0-rc-r2");
    }
}
