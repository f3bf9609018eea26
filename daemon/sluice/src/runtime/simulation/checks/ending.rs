//! What must be so when all is over: invariants 2, 4, 7 and 9.

use std::collections::BTreeMap;

use sluice_bus::Feed;
use sluice_rollout::{Outcome, Phase};
use sluice_wire::{alert::AlertStatus, record::Saved, subject::DEAD};

use super::{
    super::{mail::Mail, world::World},
    record,
};

pub fn check(world: &mut World, starts: u32) {
    let states: Vec<_> = world.kept.states.values().cloned().collect();
    if states.is_empty() && !world.checks.restored {
        world.broken(4, "no release was ever begun");
    }
    for saved in &states {
        ended(world, saved, starts);
    }
    unfinished(world);
    announced(world);
    commanded(world);
    answered(world);
    thrown(world);
    alerts(world);
    record::all(world);
}

/// No key of what only runs or waits is left.
fn unfinished(world: &mut World) {
    let waits = |key: &&String| key.starts_with("open/") || key.starts_with("pending/");
    if let Some(key) = world.kept.keys.keys().find(waits).cloned() {
        world.broken(7, &format!("{key} is still there"));
    }
}

fn ended(world: &mut World, saved: &Saved, starts: u32) {
    let (attempt, state) = (saved.state.id.attempt().to_owned(), &saved.state);
    if !state.is_settled() {
        let waits: Vec<_> = state.outstanding.iter().map(|one| one.effect.name()).collect();
        let phase = state.phase.name();
        return world
            .broken(7, &format!("after {starts} starts {attempt} is {phase} and waits for {waits:?}"));
    }
    let latest = super::latest(world).is_some_and(|latest| latest.state.id == state.id);
    let reverted = matches!(state.phase, Phase::Done { outcome: Outcome::Reverted, .. });
    if latest && reverted && !world.router.weight.is_zero() && !world.checks.touched_by_others {
        let weight = world.router.weight;
        world.broken(2, &format!("{attempt} is reverted, and the canary has {weight}"));
    }
    let end = format!("@{attempt}/");
    let told = |(subject, id, _): &(String, String, _)| subject.ends_with(".finished") && id.contains(&end);
    if !world.published.iter().any(told) {
        world.broken(7, &format!("the end of {attempt} was never told"));
    }
    if !state.alerts.is_empty() {
        world.broken(7, &format!("an alert of {attempt} is still up"));
    }
}

/// Every release that was announced has come to its end, or was refused with the reason.
fn announced(world: &mut World) {
    if world.checks.restored {
        return;
    }
    let buried = world.mail.dead.iter().any(|(subject, _)| subject.ends_with(".announced"));
    let lost: Vec<String> = world
        .checks
        .announced
        .iter()
        .filter(|attempt| !world.kept.states.contains_key(*attempt) && !buried)
        .cloned()
        .collect();
    for attempt in lost {
        world.broken(4, &format!("{attempt} was announced, and nothing came of it"));
    }
}

/// Nothing waits in the streams for ever.
fn commanded(world: &mut World) {
    if let Some((sequence, consumer)) = world.undone().first().cloned() {
        let subject = world.mail.stored.get(&sequence);
        let subject = subject.map(|stored| stored.subject.clone()).unwrap_or_default();
        world.broken(4, &format!("message {sequence} ({subject}) is not acknowledged by {consumer}"));
    }
}

/// Whoever asks later what came of a stored command finds the answer.
fn answered(world: &mut World) {
    let Mail { stored, answers, dead, .. } = &world.mail;
    let silent = stored.iter().find(|(_, one)| {
        let user = one.subject.split('.').nth(2).unwrap_or_default().to_owned();
        let told = answers.contains_key(&(user, one.id.clone()));
        one.feed == Feed::Overrides && !told && !dead.iter().any(|(subject, _)| *subject == one.subject)
    });
    if let Some((sequence, subject)) = silent.map(|(sequence, one)| (*sequence, one.subject.clone())) {
        world.broken(4, &format!("message {sequence} ({subject}) was acknowledged and never answered"));
    }
}

/// What cannot be read is buried with the reason.
fn thrown(world: &mut World) {
    let thrown: Vec<u64> = world.checks.thrown.iter().copied().collect();
    for sequence in thrown {
        let Some(stored) = world.mail.stored.get(&sequence) else { continue };
        let subject = stored.subject.clone();
        let letter = world.mail.dead.iter().find(|(from, reason)| *from == subject && !reason.is_empty());
        if letter.is_none() {
            world.broken(9, &format!("message {sequence} ({subject}) did not go to {DEAD}"));
        }
    }
}

/// Of every alert the last that on-call heard is that it is over.
fn alerts(world: &mut World) {
    let mut last = BTreeMap::new();
    for alert in &world.alerts {
        last.insert((alert.rollout.clone(), alert.kind), alert.status);
    }
    let up = last.into_iter().find(|(_, status)| *status == AlertStatus::Firing);
    if let Some(((rollout, kind), _)) = up
        && !world.checks.restored
    {
        world.broken(7, &format!("on-call was told of {kind:?} of {rollout}, and never that it is over"));
    }
}
