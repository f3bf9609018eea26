//! What is told on the bus and to on-call: invariants 5 and 7.

use sluice_wire::alert::{Alert, kind_name};

use super::super::world::World;

/// What is told is in the store (an abort is told without), and one event has one id.
pub fn published(world: &mut World, subject: &str, told: &str) {
    world.note(format!("told: {subject} as {told}"));
    let (rollout, number) = told.rsplit_once('/').unwrap_or((told, ""));
    let attempt = rollout.rsplit('@').next().unwrap_or_default().to_owned();
    let number = number.split(' ').next().and_then(|seq| seq.parse().ok());
    let durable = world.kept.states.get(&attempt).map_or(0, |saved| saved.state.seq);
    // An abort and what comes of it is told without the store, too.
    let unsaved = number.unwrap_or(u64::MAX) > durable;
    if unsaved && subject.ends_with(".aborting") {
        world.checks.unsaved_abort.insert(attempt.clone());
    }
    let of_an_abort = world.checks.unsaved_abort.contains(&attempt);
    if unsaved && !of_an_abort && !world.checks.restored {
        world.broken(5, &format!("{subject} was told as {told}, the store knows effect {durable}"));
    }
    let alike = |id: &str| id != told && id.split(' ').next() == told.split(' ').next();
    if let Some((_, id, _)) = world.published.iter().find(|(_, id, _)| alike(id)).cloned() {
        world.broken(7, &format!("one event was told as {id:?} and as {told:?}"));
    }
    let other = |(before, id, _): &&(String, String, _)| id == told && before != subject;
    if let Some((before, ..)) = world.published.iter().find(other).cloned()
        && !world.checks.restored
    {
        world.broken(
            7,
            &format!("{before} and {subject} were told as {told}: one of them counts as a repeat"),
        );
    }
    if !subject.ends_with(".finished") || world.checks.restored {
        return;
    }
    let another = |(subject, id, _): &&(String, String, _)| {
        subject.ends_with(".finished") && id != told && id.starts_with(&format!("{rollout}/"))
    };
    if let Some((_, id, _)) = world.published.iter().find(another).cloned() {
        world.broken(7, &format!("the end was told as {id} and as {told}"));
    }
}

pub fn alerted(world: &mut World, alert: &Alert) {
    let (attempt, kind) = (alert.rollout.attempt(), kind_name(alert.kind));
    world.note(format!("alert: {attempt} {kind} {:?}: {}", alert.status, alert.summary));
    world.alerts.push(alert.clone());
}
