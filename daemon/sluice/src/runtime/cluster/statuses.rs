//! What is written into the status of policies in the cluster, and told as events about them: once a second what differs,
//! a bounded number at once. The latest state counts; what came in between shows in the rollout's history.
//!
//! Whether a policy is in force says the daemon that would begin its rollouts; how its rollout stands says that one's
//! owner. The two parts of the status are written apart, so that neither overwrites the other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use serde_json::{Value, json};
use sluice_traffic::cluster::{ClusterPolicies, Note, PolicyObject};
use sluice_wire::{
    policy::{Condition, RolloutStatus},
    view::RolloutView,
};
use tokio::{sync::broadcast, time::MissedTickBehavior};

use super::{book::ACCEPTED, words};
use crate::runtime::{Daemon, PolicyName, clock::now};

const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Statuses, and events, that are written in one such second; the others wait for the next.
const MOST_A_SECOND: usize = 50;
const AT_ONCE: usize = 8;
/// Even where nothing was told, all are compared this often: what another daemon should have written is found here.
const ALL_EVERY_TICKS: u32 = 10;
/// Events that wait; beyond that the oldest are left out.
const MOST_NOTES: usize = 1_000;

/// An event, and the policy that it is about.
struct Waiting {
    policy: PolicyName,
    note: Note,
}

/// What is still to be told, and what was told last.
#[derive(Default)]
struct Telling {
    notes: VecDeque<Waiting>,
    /// Attempt and phase.
    phases: BTreeMap<PolicyName, (String, String)>,
    trouble: Option<String>,
}

/// Writes until the daemon stops.
pub(in crate::runtime) async fn write_on(daemon: Arc<Daemon>, cluster: ClusterPolicies) {
    let mut changes = daemon.changes.subscribe();
    let mut tick = tokio::time::interval(WRITE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut telling, mut ticks) = (Telling::default(), 0u32);
    let stop = daemon.stop.clone();
    let writing = async {
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(view) => daemon.heard(&mut telling, &view),
                    Err(broadcast::error::RecvError::Lagged(_)) => daemon.book.all_are_due(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(ALL_EVERY_TICKS) {
                        daemon.book.all_are_due();
                        telling.phases.retain(|name, _| daemon.book.in_cluster(name).is_some());
                    }
                    daemon.write_statuses(&cluster, &mut telling).await;
                    daemon.write_events(&cluster, &mut telling).await;
                }
            }
        }
    };
    stop.run_until_cancelled(writing).await;
}

impl Daemon {
    /// Of other daemons' rollouts their owners tell.
    fn heard(&self, telling: &mut Telling, view: &RolloutView) {
        let name = (view.rollout.namespace().to_owned(), view.rollout.name().to_owned());
        if view.owner.as_ref() != Some(&self.parts.daemon) || self.book.in_cluster(&name).is_none() {
            return;
        }
        let stands = (view.rollout.attempt().to_owned(), view.phase.clone());
        if telling.phases.insert(name.clone(), stands.clone()) != Some(stands) {
            let note = words::note(view);
            self.tell_later(telling, &name, note);
        }
        self.book.is_due(name);
    }

    fn tell_later(&self, telling: &mut Telling, policy: &PolicyName, note: Option<Note>) {
        telling.notes.extend(note.map(|note| Waiting { policy: policy.clone(), note }));
        while telling.notes.len() > MOST_NOTES {
            telling.notes.pop_front();
            self.parts.meters.drop_one("policy-events");
        }
    }

    async fn write_statuses(&self, cluster: &ClusterPolicies, telling: &mut Telling) {
        let due = self.book.take_due(MOST_A_SECOND);
        let mut writes = Vec::new();
        for name in due {
            let Some((object, accepted)) = self.book.in_cluster(&name) else { continue };
            let news = self.news(&name, &object, accepted);
            if let Some(told) = &news.condition {
                self.tell_later(telling, &name, Some(condition_note(told)));
            }
            writes.extend(news.patch().map(|patch| (name, object, patch)));
        }
        let written =
            futures::stream::iter(writes.into_iter().map(|(name, object, patch)| async move {
                (name, cluster.write_status(&object, &patch).await)
            }));
        let written: Vec<_> = written.buffer_unordered(AT_ONCE).collect().await;
        for (name, result) in written {
            match result {
                Ok(Some(object)) => self.book.saw(object),
                // The watch tells of that.
                Ok(None) => {}
                Err(error) => {
                    self.book.is_due(name);
                    telling.complain(&format!("the status of a policy cannot be written: {error}"));
                }
            }
        }
    }

    /// What of the status is this daemon's to write, and differs from what stands there.
    fn news(&self, (namespace, name): &PolicyName, object: &PolicyObject, accepted: Condition) -> News {
        let in_force = accepted.reason != "NameTaken";
        let chosen = self.parts.alone || self.company.chosen(namespace, name) == self.parts.daemon;
        let condition = chosen.then(|| changed(object, accepted)).flatten();
        let view = self.rollouts.get(namespace, name).map(|entry| entry.view());
        let own = view.filter(|view| in_force && view.owner.as_ref() == Some(&self.parts.daemon));
        let rollout = own.map(|view| words::status(&view));
        let known = object.status.rollout.as_ref();
        let rollout = rollout.filter(|now| known.is_none_or(|known| !now.stands_as(known)));
        let others =
            object.status.conditions.iter().filter(|other| other.kind != ACCEPTED).cloned().collect();
        News { condition, others, rollout, generation: object.generation }
    }

    async fn write_events(&self, cluster: &ClusterPolicies, telling: &mut Telling) {
        let most = telling.notes.len().min(MOST_A_SECOND);
        for waiting in telling.notes.drain(..most).collect::<Vec<_>>() {
            let Some((object, _)) = self.book.in_cluster(&waiting.policy) else { continue };
            if let Err(error) = cluster.tell(&object, &waiting.note).await {
                telling.complain(&format!("an event about a policy cannot be written: {error}"));
                if error.retryable() {
                    // Later than those behind it: an API server that is away is not asked fifty times.
                    telling.notes.push_back(waiting);
                    return;
                }
                self.parts.meters.drop_one("policy-events");
            }
        }
    }
}

impl Telling {
    /// Trouble that goes on is one line of the log.
    fn complain(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble.to_owned());
        }
    }
}

/// What differs.
struct News {
    condition: Option<Condition>,
    /// Somebody else's conditions: a merge patch replaces the list.
    others: Vec<Condition>,
    rollout: Option<RolloutStatus>,
    generation: i64,
}

impl News {
    fn patch(self) -> Option<Value> {
        let mut patch = json!({});
        if let Some(condition) = self.condition {
            let mut all = self.others;
            all.push(condition);
            patch["observedGeneration"] = self.generation.into();
            patch["conditions"] = json!(all);
        }
        if let Some(rollout) = self.rollout {
            patch["rollout"] = with_nulls(&rollout);
        }
        patch.as_object().is_some_and(|patch| !patch.is_empty()).then_some(patch)
    }
}

/// In a merge patch what is left out stays: a verdict of the step before would.
fn with_nulls(rollout: &RolloutStatus) -> Value {
    let mut patch = json!({"release": null, "step": null, "verdict": null, "daemon": null, "cluster": null});
    let told = json!(rollout);
    for (field, value) in told.as_object().into_iter().flatten() {
        patch[field] = value.clone();
    }
    patch
}

/// The condition with its time, if it differs from the one that stands there.
fn changed(object: &PolicyObject, wanted: Condition) -> Option<Condition> {
    let found = object.status.conditions.iter().find(|condition| condition.kind == wanted.kind);
    let since =
        found.filter(|found| found.status == wanted.status).map(|found| found.last_transition_time.clone());
    let wanted = Condition { last_transition_time: since.unwrap_or_else(time_now), ..wanted };
    (found != Some(&wanted)).then_some(wanted)
}

fn time_now() -> String {
    let now = jiff::Timestamp::from_millisecond(now().millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn condition_note(condition: &Condition) -> Note {
    Note {
        key: format!("accepted {:?} {}", condition.observed_generation, condition.reason),
        warning: (condition.status.as_str(), condition.reason.as_str()) != ("True", "Accepted"),
        reason: match (condition.status.as_str(), condition.reason.as_str()) {
            ("True", "Accepted") => "PolicyAccepted".to_owned(),
            // What is in force, and yet somebody should know of.
            ("True", other) => other.to_owned(),
            _ => "PolicyRefused".to_owned(),
        },
        text: condition.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, generation: i64, since: &str) -> Condition {
        Condition {
            kind: ACCEPTED.into(),
            status: status.into(),
            reason: "Accepted".into(),
            message: "in force".into(),
            last_transition_time: since.into(),
            observed_generation: Some(generation),
        }
    }

    fn object(conditions: Vec<Condition>) -> PolicyObject {
        PolicyObject {
            namespace: "shop".into(),
            name: "checkout".into(),
            uid: "u".into(),
            generation: 2,
            document: Value::Null,
            status: sluice_wire::policy::PolicyStatus { conditions, ..Default::default() },
        }
    }

    #[test]
    fn a_condition_is_written_when_it_says_something_else_and_keeps_its_time_while_its_status_stays() {
        let stands = object(vec![condition("True", 1, "2026-01-01T00:00:00Z")]);
        assert_eq!(changed(&stands, condition("True", 1, "")), None);
        let next = changed(&stands, condition("True", 2, "")).unwrap();
        assert_eq!(next.last_transition_time, "2026-01-01T00:00:00Z");
        let refused = changed(&stands, condition("False", 2, "")).unwrap();
        assert_ne!(refused.last_transition_time, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_a_rollout_has_no_longer_is_taken_away() {
        let rollout = RolloutStatus {
            attempt: "v2".into(),
            release: None,
            phase: "promoted".into(),
            step: None,
            weight: "0 %".into(),
            verdict: None,
            reason: "all passed".into(),
            daemon: Some("left".into()),
            cluster: None,
        };
        let patch = with_nulls(&rollout);
        assert!(patch["verdict"].is_null() && patch.get("verdict").is_some() && patch["daemon"] == "left");
    }
}
