//! Rollouts that run at another daemon, as the doors here show them: read from their records, without the live evidence.
//! Commands that come in here by HTTP are passed on to the owner over the bus, on the person's behalf.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use sluice_rollout::RolloutId;
use sluice_wire::{
    message::{Answer, Command},
    subject::{ALL, OVERRIDE, REQUEST},
    view::RolloutView,
};

use super::{
    Daemon,
    passing_on::{Who, on_behalf_of},
    roll::Entry,
    whose::{Whose, silent},
};

/// How often others' rollouts are looked at while somebody follows the changes here.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const READ_AT_ONCE: usize = 32;
/// The owner answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Daemon {
    /// The latest rollout of every policy, wherever it runs.
    pub(super) async fn views_of_all(&self) -> Vec<RolloutView> {
        let here = self.rollouts.views();
        if self.is_one_of_one() {
            return here;
        }
        let running =
            |view: &RolloutView| self.is_running_here(view.rollout.namespace(), view.rollout.name());
        let mut views: Vec<RolloutView> = here.into_iter().filter(running).collect();
        views.extend(self.views_of_others().await);
        views
    }

    async fn views_of_others(&self) -> Vec<RolloutView> {
        let latest = match self.parts.ledger.latest().await {
            Ok(latest) => latest,
            Err(error) => {
                tracing::warn!(%error, "the rollouts of other daemons cannot be read just now");
                return Vec::new();
            }
        };
        let others = latest.into_iter().filter(|id| !self.is_running_here(id.namespace(), id.name()));
        let read = others.map(|id| async move { self.view_of_anothers(&id).await });
        futures::stream::iter(read)
            .buffer_unordered(READ_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    /// What has ended does not change: it is read once. (Or its owner here still tells what came of it.)
    async fn view_of_anothers(&self, id: &RolloutId) -> Option<RolloutView> {
        if let Some(owner) = self.rollouts.owner(id) {
            return Some(owner.view.borrow().clone());
        }
        let ended = |view: &RolloutView| view.rollout == *id && view.outcome.is_some();
        if let Some(Entry::Ended(view)) = self.rollouts.get(id.namespace(), id.name())
            && ended(&view)
        {
            return Some(view.as_ref().clone());
        }
        let view = self.view_of(id).await.ok().flatten()?;
        if ended(&view) {
            self.rollouts.remember(&view);
        }
        Some(view)
    }

    /// A command that came in by HTTP, carried out where the rollout is.
    pub(super) async fn obey_or_pass_on(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
        action: &str,
        key: String,
        command: Command,
    ) -> Answer {
        if (namespace == ALL || name == ALL) && !self.is_one_of_one() {
            return self.obey_and_pass_on(user, namespace, name, action, key, command).await;
        }
        match self.whose(namespace, name).await {
            Ok(Whose::Mine) => {
                self.is_in_hand_by_now(namespace, name).await;
                self.obey(Who::itself(user), namespace, name, action, &key, command, None).await
            }
            Ok(Whose::Nobodys(owner)) => Answer::refused(silent(&owner)),
            Ok(Whose::Anothers(owner)) => {
                let (subject, headers) = on_behalf_of(user, REQUEST, (namespace, name, action), &key);
                let body = serde_json::to_vec(&named(command, &key)).unwrap_or_default();
                match self.parts.doors.request(&subject, &headers, Bytes::from(body), ANSWER_WITHIN).await {
                    Ok(answer) => serde_json::from_slice(&answer).unwrap_or_else(|error| {
                        Answer::refused(format!("daemon {owner} answered strangely: {error}"))
                    }),
                    Err(error) => Answer::refused(format!("{} ({error})", silent(&owner))),
                }
            }
            Err(error) => Answer::refused(format!("not carried out: {error}")),
        }
    }

    /// To all: the others hear it as a stored command; here it is carried out at once, and once.
    async fn obey_and_pass_on(
        &self,
        user: &str,
        namespace: &str,
        name: &str,
        action: &str,
        key: String,
        command: Command,
    ) -> Answer {
        let (subject, headers) = on_behalf_of(user, OVERRIDE, (namespace, name, action), &key);
        let told = named(command.clone(), &key);
        let body = Bytes::from(serde_json::to_vec(&told).unwrap_or_default());
        let stored = self.parts.doors.publish_event(&subject, &headers, body).await;
        let answer = self.obey(Who::itself(user), namespace, name, action, &key, command, None).await;
        let message = match stored {
            Ok(_) => {
                format!("{} at daemon {}; the other daemons are told", answer.message, self.parts.daemon)
            }
            Err(error) => {
                format!(
                    "{} at daemon {}; the others could not be told: {error}",
                    answer.message, self.parts.daemon
                )
            }
        };
        Answer { accepted: true, message, ..answer }
    }
}

/// With an id, by which a repeat is recognised. One that it has stays: a signature may cover it.
fn named(command: Command, key: &str) -> Command {
    Command { id: command.id.clone().or_else(|| Some(key.to_owned())), ..command }
}

/// Whoever follows the changes here sees those of the other daemons' rollouts too.
pub(super) async fn follow(daemon: Arc<Daemon>) {
    let mut known: BTreeMap<RolloutId, (u64, bool)> = BTreeMap::new();
    while daemon.stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if daemon.is_one_of_one() || daemon.changes.receiver_count() <= daemon.listeners {
            continue;
        }
        let mut now = BTreeMap::new();
        for view in daemon.views_of_others().await {
            let stands = (view.revision, view.outcome.is_some());
            if known.get(&view.rollout) != Some(&stands) {
                // Nobody may be listening.
                let _ = daemon.changes.send(view.clone());
            }
            now.insert(view.rollout, stands);
        }
        known = now;
    }
}
