//! Releases that nobody announces: a changed image or template of the canary's workload is an event like any other.
//!
//! What was seen last is kept in the store, so that a change is found once, by whichever daemon looks, and also after nobody
//! has looked for a while. The first sight of a workload starts nothing. An announcement is named after the template and
//! how often it has changed: one that is announced again (a crash came before it was noted) is recognised as a repeat.
//! Sluice itself writes no template of a canary, so what is found here was somebody's wish.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_rollout::{Role, Weight};
use sluice_traffic::{
    TargetError,
    cluster::{Template, watch_template},
};
use sluice_wire::{
    cloudevent::CloudEvent,
    message::ANNOUNCED,
    policy::{Policy, PromoteBy, Trigger, TriggerOn, Workload},
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::{
    Daemon, PolicyName,
    announce::{Sent, StartError},
    clock::now,
};

/// How often the policies are looked through for triggers.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A release that cannot begin just now, and a watch that has ended.
const AGAIN: Duration = Duration::from_secs(5);

/// The template of one workload as it was last acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggered {
    on: TriggerOn,
    sum: String,
    /// How often it has changed: going back to an earlier template is a release of its own.
    count: u64,
}

/// What a template that stands still means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Seen for the first time, or looked at otherwise than before.
    FirstSight(Triggered),
    Known,
    Release(Triggered),
}

/// A policy whose workloads are watched.
struct Followed {
    policy: Arc<Policy>,
    _task: AbortOnDropHandle<()>,
}

/// Follows the workloads of all policies that have a trigger and are this daemon's, until it stops.
pub(in crate::runtime) async fn follow_on(daemon: Arc<Daemon>) {
    let mut followed: BTreeMap<PolicyName, Followed> = BTreeMap::new();
    let stop = daemon.stop.clone();
    loop {
        let wanted: BTreeMap<PolicyName, Arc<Policy>> = daemon
            .book
            .triggering()
            .into_iter()
            .filter(|(name, policy)| daemon.looks_at(name, policy))
            .collect();
        followed.retain(|name, one| wanted.get(name).is_some_and(|policy| looks_alike(policy, &one.policy)));
        for (name, policy) in wanted {
            followed.entry(name).or_insert_with(|| Followed {
                policy: policy.clone(),
                _task: AbortOnDropHandle::new(tokio::spawn(follow(daemon.clone(), policy))),
            });
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
    }
}

fn looks_alike(one: &Policy, other: &Policy) -> bool {
    one.spec.trigger == other.spec.trigger
        && one.spec.workloads == other.spec.workloads
        && one.spec.target == other.spec.target
}

/// After a swap the next version comes where stable was: both are looked at.
async fn follow(daemon: Arc<Daemon>, policy: Arc<Policy>) {
    let workloads = &policy.spec.workloads;
    let canary = (Role::Canary, &workloads.canary);
    let stable = (workloads.promote == PromoteBy::Swap).then_some((Role::Stable, &workloads.stable));
    let arms = std::iter::once(canary).chain(stable);
    join_all(arms.map(|(role, workload)| follow_arm(&daemon, &policy, role, workload))).await;
}

async fn follow_arm(daemon: &Daemon, policy: &Policy, role: Role, workload: &Workload) {
    let mut told = None;
    loop {
        let namespace = &policy.metadata.namespace;
        let trouble = match watch_template(workload, namespace, &daemon.parts.clients).await {
            Ok(Some(states)) => follow_template(daemon, policy, role, states, &mut told).await,
            Ok(None) => return,
            Err(error) => error.to_string(),
        };
        complain(&mut told, policy, trouble);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ends only with the watch.
async fn follow_template(
    daemon: &Daemon,
    policy: &Policy,
    role: Role,
    mut states: BoxStream<'static, Result<Option<Template>, TargetError>>,
    told: &mut Option<String>,
) -> String {
    let mut settling = Settling::new(&policy.spec.trigger);
    loop {
        let due = settling.due.as_ref().map(|(at, template)| (*at, template.clone()));
        let waiting = async {
            match due {
                Some((at, template)) => {
                    tokio::time::sleep_until(at).await;
                    template
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            state = states.next() => match state {
                Some(Ok(state)) => {
                    *told = None;
                    settling.sees(state, Instant::now());
                }
                Some(Err(error)) => complain(told, policy, error.to_string()),
                None => return "the watch has ended".to_owned(),
            },
            template = waiting => match daemon.stands_still(policy, role, &template).await {
                Ok(()) => settling.due = None,
                Err(why) => {
                    complain(told, policy, why);
                    settling.due = Some((Instant::now() + AGAIN, template));
                }
            },
        }
    }
}

/// Waits until a changed template stands still.
struct Settling {
    trigger: Trigger,
    present: Option<String>,
    /// When the template counts as standing still; nothing once it was acted upon.
    due: Option<(Instant, Template)>,
}

impl Settling {
    fn new(trigger: &Trigger) -> Settling {
        Settling { trigger: trigger.clone(), present: None, due: None }
    }

    /// The workload at `now`; nothing: it is not there.
    fn sees(&mut self, template: Option<Template>, now: Instant) {
        let seen = sum(template.as_ref(), self.trigger.on);
        if self.present != seen {
            self.due = template.map(|template| (now + self.trigger.settle.0, template));
        }
        self.present = seen;
    }
}

fn sum(template: Option<&Template>, on: TriggerOn) -> Option<String> {
    template.map(|template| match on {
        TriggerOn::Image | TriggerOn::Announcement => template.of_images(),
        TriggerOn::Template => template.whole.clone(),
    })
}

/// Trouble that goes on is one line of the log.
fn complain(told: &mut Option<String>, policy: &Policy, trouble: String) {
    if told.as_ref() != Some(&trouble) {
        let policy = format!("{}/{}", policy.metadata.namespace, policy.metadata.name);
        tracing::warn!(policy, "its trigger: {trouble}; tried again");
        *told = Some(trouble);
    }
}

fn meaning(known: Option<&Triggered>, on: TriggerOn, sum: String) -> Meaning {
    match known {
        Some(known) if known.on == on && known.sum == sum => Meaning::Known,
        Some(known) if known.on == on => Meaning::Release(Triggered { on, sum, count: known.count + 1 }),
        Some(known) => Meaning::FirstSight(Triggered { on, sum, count: known.count }),
        None => Meaning::FirstSight(Triggered { on, sum, count: 0 }),
    }
}

impl Daemon {
    /// One daemon of the policy's cluster looks.
    fn looks_at(&self, (namespace, name): &PolicyName, policy: &Policy) -> bool {
        let chosen = || self.company.chosen(namespace, name) == self.parts.daemon;
        let cluster = &policy.spec.cluster;
        (cluster.is_none() || *cluster == self.parts.cluster) && (self.parts.alone || chosen())
    }

    /// An error is passing: it is tried again.
    async fn stands_still(&self, policy: &Policy, role: Role, template: &Template) -> Result<(), String> {
        let (namespace, name) = (&policy.metadata.namespace, &policy.metadata.name);
        let on = policy.spec.trigger.on;
        let ledger = &self.parts.ledger;
        let (workload, sum) = (&template.workload, sum(Some(template), on).unwrap_or_default());
        let known = ledger.triggered(namespace, name, workload).await.map_err(|error| error.to_string())?;
        let next = match meaning(known.as_ref(), on, sum) {
            Meaning::Known => return Ok(()),
            Meaning::FirstSight(first) => {
                tracing::info!(
                    policy = format!("{namespace}/{name}"),
                    workload,
                    "its changes start rollouts from now on"
                );
                first
            }
            Meaning::Release(next)
                if ledger.triggers_are_off(namespace, name).await.map_err(|error| error.to_string())? =>
            {
                tracing::warn!(
                    policy = format!("{namespace}/{name}"),
                    workload,
                    "it was changed while its triggers are off: nothing starts (sluice triggers-on {namespace}/{name}, or announce it)"
                );
                next
            }
            Meaning::Release(next) => {
                self.released(policy, role, template, &next).await?;
                next
            }
        };
        ledger.set_triggered(namespace, name, workload, &next).await.map_err(|error| error.to_string())
    }

    async fn released(
        &self,
        policy: &Policy,
        role: Role,
        template: &Template,
        next: &Triggered,
    ) -> Result<(), String> {
        let (namespace, name) = (&policy.metadata.namespace, &policy.metadata.name);
        let (policy_name, workload) = (format!("{namespace}/{name}"), &template.workload);
        if self.carries_the_traffic(policy, role).await? {
            tracing::error!(
                policy = policy_name,
                workload,
                "it was changed while it carries the traffic: no rollout can hold that back"
            );
            let why =
                format!("{workload} was changed while it carries the traffic: no rollout can hold that back");
            self.tell_refusal(policy, Some(why));
            return Ok(());
        }
        let id = format!("{}-{}", next.sum, next.count);
        let data = json!({"version": template.version(), "actor": workload});
        let event = CloudEvent::new(id, &format!("cluster/{workload}"), ANNOUNCED, &policy_name, now(), data);
        match self.announced(namespace, name, event, Sent::default()).await {
            Ok(answer) if answer.accepted => {
                tracing::info!(policy = policy_name, workload, "changed: {}", answer.message);
                self.tell_refusal(policy, None);
                Ok(())
            }
            Ok(answer) => {
                tracing::error!(
                    policy = policy_name,
                    workload,
                    "changed, and refused as a release: {}",
                    answer.message
                );
                self.parts.meters.refuse("trigger");
                self.tell_refusal(policy, Some(format!("{workload}: {}", answer.message)));
                Ok(())
            }
            Err(StartError::Elsewhere(_) | StartError::Refused(_)) => Ok(()),
            Err(StartError::Passing(why)) => Err(why),
        }
    }

    /// In the policy's status, where it stands in the cluster.
    fn tell_refusal(&self, policy: &Policy, why: Option<String>) {
        let name = (policy.metadata.namespace.clone(), policy.metadata.name.clone());
        self.book.note_refusal(&name, why);
    }

    /// Only where the versions change roles must that be asked of the target.
    async fn carries_the_traffic(&self, policy: &Policy, role: Role) -> Result<bool, String> {
        if policy.spec.workloads.promote != PromoteBy::Swap {
            return Ok(false);
        }
        let (spec, namespace, clients) = (&policy.spec, &policy.metadata.namespace, &self.parts.clients);
        let observed = async {
            let target = sluice_traffic::connect(
                &spec.target,
                spec.testers.as_ref(),
                &spec.workloads,
                namespace,
                clients,
            );
            target.await?.observe().await
        };
        let observed = observed.await.map_err(|error| error.to_string())?;
        Ok(match role {
            Role::Canary => observed.canary == Weight::FULL,
            Role::Stable => observed.canary != Weight::FULL,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(on: TriggerOn, sum: &str, count: u64) -> Triggered {
        Triggered { on, sum: sum.into(), count }
    }

    fn template(image: &str) -> Option<Template> {
        let workload = "deployment shop/checkout-canary".to_owned();
        Some(Template { workload, images: vec![image.to_owned()], whole: image.to_owned() })
    }

    #[test]
    fn several_edits_in_a_row_are_one_release_and_an_edit_taken_back_is_none_of_its_own() {
        let trigger = Trigger { on: TriggerOn::Image, ..Trigger::default() };
        let (mut settling, start) = (Settling::new(&trigger), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        settling.sees(template("v1"), at(0));
        settling.sees(template("v2"), at(3));
        settling.sees(template("v2"), at(4));
        assert_eq!(
            settling.due,
            template("v2").map(|template| (at(8), template)),
            "five seconds after the edit"
        );
        settling.sees(template("v3"), at(7));
        assert_eq!(settling.due, template("v3").map(|template| (at(12), template)));
        settling.due = None;
        settling.sees(template("v3"), at(20));
        assert_eq!(settling.due, None, "what was acted upon stays so: a size has changed");
        settling.sees(None, at(21));
        assert_eq!(settling.due, None);
    }

    #[test]
    fn the_first_sight_starts_nothing_and_every_change_one_release() {
        let image = TriggerOn::Image;
        assert_eq!(meaning(None, image, "a".into()), Meaning::FirstSight(known(image, "a", 0)));
        let first = known(image, "a", 0);
        assert_eq!(meaning(Some(&first), image, "a".into()), Meaning::Known);
        let second = known(image, "b", 1);
        assert_eq!(meaning(Some(&first), image, "b".into()), Meaning::Release(second.clone()));
        let back = Meaning::Release(known(image, "a", 2));
        assert_eq!(meaning(Some(&second), image, "a".into()), back, "going back is a release of its own");
        let otherwise = Meaning::FirstSight(known(TriggerOn::Template, "t", 1));
        assert_eq!(meaning(Some(&second), TriggerOn::Template, "t".into()), otherwise);
    }
}
