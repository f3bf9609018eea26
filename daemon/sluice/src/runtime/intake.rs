//! From the bus to an owner: what arrives is read once, acknowledged when it had its effect, and answered. What cannot be
//! read goes to the dead letters with the reason, and changes nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use sluice_bus::{BusError, Delivery, Feed};
use sluice_rollout::Timestamp;
use sluice_wire::{
    cloudevent::CloudEvent,
    message::{Answer, Command},
    subject::{self, DAEMON, Subject},
    view::RolloutView,
};
use tokio::time::Instant;

use super::{
    Daemon, PolicyName,
    announce::{Sent, StartError, answer_bytes},
    boundary::{self, Boundary},
    company::nudge,
    fault::{self, Fault},
    passing_on::{Who, person},
    whose::Part,
};
use crate::control::Control;

/// An announcement that cannot begin just now comes again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// A list must fit into one message; `status` of one rollout has its evidence.
const MOST_LISTED: usize = 500;
/// A person is answered within this, or told that it takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What another daemon acts on is looked at again after this, until it has been answered.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const CLOCKS_DIFFER: Duration = Duration::from_secs(2);
/// A repeat is looked for no longer than this.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Commands that are worked on at once; more wait on the bus.
const MOST_AT_ONCE: usize = 256;

/// Subscribes to both feeds. Overrides never wait behind events.
pub async fn start(daemon: &Arc<Daemon>) -> anyhow::Result<()> {
    for feed in [Feed::Overrides, Feed::Events] {
        let deliveries = daemon.parts.bus.subscribe(feed).await?;
        let (daemon, stop) = (daemon.clone(), daemon.stop.clone());
        daemon.clone().tasks.spawn(async move {
            let most = match feed {
                Feed::Overrides => MOST_AT_ONCE,
                Feed::Events => 16,
            };
            let work = deliveries.for_each_concurrent(most, |delivery| take(daemon.clone(), feed, delivery));
            stop.run_until_cancelled(work).await;
        });
    }
    Ok(())
}

async fn take(daemon: Arc<Daemon>, feed: Feed, delivery: Delivery) {
    if fault::has(Fault::AcknowledgeUnread) {
        acknowledge(&delivery).await;
    }
    let taken = match feed {
        Feed::Events => announce(&daemon, &delivery).await,
        Feed::Overrides => command(&daemon, &delivery).await,
    };
    match taken {
        Taken::Answered(body) => {
            let answered = answer(&delivery, body).await;
            boundary::met(Boundary::MessageAnswered, kind(feed));
            // A stored command is answered for whoever asks later, and the others keep it until then.
            let needless = feed == Feed::Events || delivery.sequence.is_none();
            if answered || needless || fault::has(Fault::AcknowledgeUnanswered) {
                acknowledge(&delivery).await;
                boundary::met(Boundary::MessageAcknowledged, kind(feed));
            } else {
                give_back(&delivery, AGAIN).await;
            }
        }
        Taken::Dead(reason) => {
            bury(&daemon, &delivery, &reason).await;
        }
        Taken::Anothers => acknowledge(&delivery).await,
        Taken::Kept => give_back(&delivery, LOOK_AGAIN).await,
        Taken::Later(why) => {
            tracing::warn!(subject = delivery.subject, why, "not now; it comes again");
            give_back(&delivery, AGAIN).await;
        }
    }
}

const fn kind(feed: Feed) -> &'static str {
    match feed {
        Feed::Events => "announcement",
        Feed::Overrides => "command",
    }
}

/// What came of a delivery.
enum Taken {
    Answered(Bytes),
    Dead(String),
    Later(String),
    /// Another daemon acts on it; it comes again until it has been answered.
    Kept,
    /// Another daemon acts on it, or has.
    Anothers,
}

async fn announce(daemon: &Daemon, delivery: &Delivery) -> Taken {
    let (namespace, name) = match Subject::parse(&delivery.subject) {
        Ok(Subject::Event { namespace, rollout, .. }) => (namespace, rollout),
        Ok(Subject::Override { .. }) => return Taken::Dead("an override on the events' subject".into()),
        Err(error) => return Taken::Dead(error.to_string()),
    };
    let event = match CloudEvent::read(&delivery.headers, &delivery.body) {
        Ok(event) => event,
        Err(error) => return Taken::Dead(error.to_string()),
    };
    boundary::met(Boundary::MessageRead, kind(Feed::Events));
    let sent = Sent { sequence: delivery.sequence, at: delivery.at };
    match daemon.announced(&namespace, &name, event, sent).await {
        Ok(answer) if answer.accepted => Taken::Answered(answer_bytes(&answer)),
        Ok(answer) => Taken::Dead(answer.message),
        Err(StartError::Elsewhere(why)) => {
            tracing::debug!(subject = delivery.subject, why, "left to another cluster");
            Taken::Anothers
        }
        Err(StartError::Refused(why)) => Taken::Dead(why),
        Err(StartError::Passing(why)) => Taken::Later(why),
    }
}

async fn command(daemon: &Daemon, delivery: &Delivery) -> Taken {
    let (user, namespace, name, action) = match Subject::parse(&delivery.subject) {
        Ok(Subject::Override { user, namespace, rollout, action, .. }) => (user, namespace, rollout, action),
        Ok(Subject::Event { .. }) => return Taken::Dead("an event on the overrides' subject".into()),
        Err(error) => return Taken::Dead(error.to_string()),
    };
    if delivery.sequence.is_none() && user == DAEMON && nudge::is_one(&action) {
        let done = daemon.nudged(&namespace, &name, &action).await;
        return if done { Taken::Answered(Bytes::from_static(b"{}")) } else { Taken::Anothers };
    }
    if let Some(read_only) = look_up(daemon, &namespace, &name, &action, &delivery.body).await {
        return Taken::Answered(read_only);
    }
    let (key, command) = match body(delivery) {
        Ok((key, command)) if fault::has(Fault::ServeTwice) => {
            (format!("{key} {}", delivery.attempt), command)
        }
        Ok(read) => read,
        Err(reason) => return Taken::Dead(reason),
    };
    let (user, passed_on) = match person(&user, &delivery.headers) {
        Ok(person) => person,
        Err(reason) => return Taken::Dead(reason),
    };
    let who = Who { user: &user, passed_on };
    if let Err(error) = command.asked(&action) {
        return Taken::Dead(error.to_string());
    }
    let place = (namespace, name);
    match daemon.part_in(&place.0, &place.1, delivery).await {
        Part::Act if waits_its_turn(daemon, &place, &action, delivery) => {
            return keep(daemon, &place, delivery);
        }
        Part::Act => {}
        Part::Keep => return keep(daemon, &place, delivery),
        Part::LetGo => {
            forget(daemon, &place, delivery);
            return Taken::Anothers;
        }
        Part::StandIn(answer) => return Taken::Answered(answer),
    }
    boundary::met(Boundary::MessageRead, kind(Feed::Overrides));
    let taken = act(daemon, (who, &place.0, &place.1, &action), (&key, command), delivery).await;
    if !matches!(taken, Taken::Kept | Taken::Later(_)) {
        forget(daemon, &place, delivery);
    }
    taken
}

/// One that was sent before it has yet to come again. An abort waits for none.
fn waits_its_turn(daemon: &Daemon, place: &PolicyName, action: &str, delivery: &Delivery) -> bool {
    let behind = |sequence| daemon.kept.is_behind(place, sequence, Instant::now());
    action != "abort" && delivery.sequence.is_some_and(behind)
}

fn keep(daemon: &Daemon, place: &PolicyName, delivery: &Delivery) -> Taken {
    if let Some(sequence) = delivery.sequence
        && !daemon.kept.keep(place, sequence, Instant::now())
    {
        daemon.parts.meters.drop_one("kept-commands");
    }
    Taken::Kept
}

fn forget(daemon: &Daemon, place: &PolicyName, delivery: &Delivery) {
    if let Some(sequence) = delivery.sequence {
        daemon.kept.forget(place, sequence);
    }
}

/// Carried out here.
async fn act(
    daemon: &Daemon,
    (who, namespace, name, action): (Who<'_>, &str, &str, &str),
    (key, command): (&str, Command),
    delivery: &Delivery,
) -> Taken {
    let everybody = namespace == subject::ALL || name == subject::ALL;
    let to_all = everybody && delivery.sequence.is_some() && !daemon.is_one_of_one();
    let aborts = action == "abort";
    let at_once = to_all || (aborts && delivery.attempt <= 1);
    match if at_once { First::None } else { first_answer(daemon, delivery).await } {
        First::Was(first) => return Taken::Answered(first),
        First::Unread if !aborts => return unread(),
        // An abort waits for no answer of before: one that is carried out again does no harm. Its own answer waits.
        First::Unread | First::None => {}
    }
    let obeyed = daemon.obey(who, namespace, name, action, key, command, sent(delivery));
    match tokio::time::timeout(ANSWER_WITHIN, obeyed).await {
        Ok(answer) if to_all => obeyed_by_all(daemon, delivery, answer_bytes(&answer)).await,
        Ok(answer) if aborts => match first_answer(daemon, delivery).await {
            First::Was(first) => Taken::Answered(first),
            First::Unread => unread(),
            First::None => Taken::Answered(answer_bytes(&answer)),
        },
        Ok(answer) => Taken::Answered(answer_bytes(&answer)),
        // Stored: it comes again, and its key makes the repeat harmless.
        Err(_) if delivery.sequence.is_some() => Taken::Later("the store does not answer".into()),
        Err(_) => Taken::Answered(answer_bytes(&Answer::refused(
            "not carried out yet: the store does not answer; `sluice status` tells what came of it",
        ))),
    }
}

/// Every daemon carries it out for its own rollouts, and one of them answers, once. It comes again until the rollouts of a
/// daemon that had just died have heard of it too; those that have know it by its key.
async fn obeyed_by_all(daemon: &Daemon, delivery: &Delivery, body: Bytes) -> Taken {
    if daemon.answers_for_all() {
        match kept_answer(daemon, delivery).await {
            Ok(Some(_)) => {}
            Ok(None) if answer(delivery, body).await => {}
            Ok(None) | Err(()) => return Taken::Kept,
        }
    }
    if daemon.has_reached_all(delivery.at).await { Taken::Anothers } else { Taken::Kept }
}

/// The answer that a stored message has got before.
enum First {
    Was(Bytes),
    None,
    /// It may have one, which cannot be read: another one must not be given.
    Unread,
}

fn unread() -> Taken {
    Taken::Later("whether it was answered before cannot be read".into())
}

/// The rollout's own record knows the latest answers only; the bucket keeps them for a day. Of several daemons another may have
/// answered what comes here for the first time.
async fn first_answer(daemon: &Daemon, delivery: &Delivery) -> First {
    if delivery.sequence.is_none() || fault::has(Fault::ServeTwice) {
        return First::None;
    }
    let may_have_one = delivery.attempt > 1 || !daemon.is_one_of_one();
    match kept_answer(daemon, delivery).await {
        Ok(Some(first)) => First::Was(first),
        Err(()) if may_have_one => First::Unread,
        Ok(None) | Err(()) => First::None,
    }
}

/// What the answers bucket has for a stored message; nothing also where it cannot be read.
pub async fn answered_before(daemon: &Daemon, delivery: &Delivery) -> Option<Bytes> {
    kept_answer(daemon, delivery).await.ok().flatten()
}

/// An error where the bucket cannot be read, or not in time.
async fn kept_answer(daemon: &Daemon, delivery: &Delivery) -> Result<Option<Bytes>, ()> {
    let Some(user) = delivery.subject.split('.').nth(2) else { return Ok(None) };
    let asked = daemon.parts.doors.answer(user, &delivery.message_id);
    match tokio::time::timeout(FIRST_ANSWER_WITHIN, asked).await {
        Ok(Ok(first)) => Ok(first),
        Ok(Err(error)) => {
            tracing::debug!(%error, "whether it was answered before cannot be read");
            Err(())
        }
        Err(_) => Err(()),
    }
}

/// When a stored command was sent. The bus' clock may differ a little from ours, but a repeat is never meant for a rollout
/// that began after its first delivery.
fn sent(delivery: &Delivery) -> Option<Timestamp> {
    let slack = if delivery.attempt <= 1 { CLOCKS_DIFFER } else { Duration::ZERO };
    delivery.at.map(|at| at.plus(slack))
}

/// What recognises repeats, and the command.
fn body(delivery: &Delivery) -> Result<(String, Command), String> {
    let (key, command) = Command::read(&delivery.headers, &delivery.body)?;
    Ok((key.unwrap_or_else(|| delivery.message_id.clone()), command))
}

/// The read-only words of the request door.
async fn look_up(daemon: &Daemon, namespace: &str, name: &str, action: &str, body: &[u8]) -> Option<Bytes> {
    let asked = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let attempt = asked.get("attempt").and_then(Value::as_str);
    Some(match action {
        "list" => {
            let views = daemon.rollouts().await;
            let here = |namespace: &str| namespace == subject::ALL;
            let matching: Vec<_> = views
                .into_iter()
                .filter(|view| here(namespace) || view.rollout.namespace() == namespace)
                .map(|view| RolloutView { evidence: Arc::default(), ..view })
                .take(MOST_LISTED)
                .collect();
            answer_bytes(&matching)
        }
        "status" => match daemon.rollout_once_left(namespace, name, attempt).await {
            Ok(view) => answer_bytes(&view),
            Err(error) => answer_bytes(&Answer::refused(error.to_string())),
        },
        "record" => match daemon.record(namespace, name, attempt, after(body)).await {
            Ok(page) => answer_bytes(&page),
            Err(error) => answer_bytes(&Answer::refused(error.to_string())),
        },
        "history" => match daemon.history(namespace, name, attempt).await {
            Ok(lines) => answer_bytes(&lines),
            Err(error) => answer_bytes(&Answer::refused(error.to_string())),
        },
        _ => return None,
    })
}

/// Where the next part of a record begins.
fn after(body: &[u8]) -> u64 {
    let asked = serde_json::from_slice::<Value>(body).unwrap_or_default();
    asked.get("after").and_then(Value::as_u64).unwrap_or(0)
}

/// Whether that is settled: it was sent and kept, or never will be.
async fn answer(delivery: &Delivery, body: Bytes) -> bool {
    let Err(error) = delivery.ack.answer(body).await else { return true };
    tracing::warn!(subject = delivery.subject, %error, "the answer could not be sent");
    match error {
        BusError::Unreachable(_) | BusError::Timeout(_) | BusError::Storage(_) => false,
        BusError::Denied(_)
        | BusError::Setup { .. }
        | BusError::NoResponders { .. }
        | BusError::Subject { .. }
        | BusError::TooLarge { .. }
        | BusError::Other(_) => true,
    }
}

async fn give_back(delivery: &Delivery, after: Duration) {
    if let Err(error) = delivery.ack.again(after).await {
        tracing::warn!(subject = delivery.subject, %error, "could not be given back; it comes again by itself");
    }
}

async fn acknowledge(delivery: &Delivery) {
    if let Err(error) = delivery.ack.done().await {
        tracing::warn!(subject = delivery.subject, %error, "could not be acknowledged; its repeat gets the first answer");
    }
}

/// Kept with its reason before it is acknowledged: nothing is lost.
async fn bury(daemon: &Daemon, delivery: &Delivery, reason: &str) {
    daemon.parts.meters.dead_letter();
    tracing::warn!(subject = delivery.subject, reason, "goes to the dead letters");
    answer(delivery, answer_bytes(&Answer::refused(reason))).await;
    match daemon.parts.bus.dead(delivery, reason).await {
        Ok(()) => acknowledge(delivery).await,
        Err(error) => {
            tracing::warn!(%error, "the dead letter could not be kept; it comes again");
            if let Err(error) = delivery.ack.again(AGAIN).await {
                tracing::debug!(%error, "could not be given back");
            }
        }
    }
}
