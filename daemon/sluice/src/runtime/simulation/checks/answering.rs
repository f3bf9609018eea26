//! What people are answered: invariants 4 and 5.

use bytes::Bytes;
use sluice_wire::{message::Answer, record::Saved, subject::EVENT};

use super::super::world::World;

/// A state was saved: of the commands that it has answered, each has had its effect once.
pub fn saved(world: &mut World, attempt: &str, before: Option<&Saved>, saved: &Saved) {
    // An attempt begins with what the one before it had answered.
    let Some(before) = before.filter(|_| !world.checks.restored) else { return };
    let known = |key: &str| before.state.first_answer(key).is_some();
    let fresh = saved.state.answered.iter().filter(|one| one.accepted && !known(&one.key));
    let fresh: Vec<String> = fresh.map(|one| one.key.clone()).collect();
    for key in fresh {
        let place = format!("{attempt}, revision {}", saved.state.revision);
        let first = world.checks.served.entry(key.clone()).or_insert_with(|| place.clone());
        if *first != place {
            let what = format!("{key} had its effect at {first} and again at {place}");
            world.broken(4, &what);
        }
    }
}

/// An answer to a stored message: a repeat gets the first one.
pub fn answered(world: &mut World, sequence: u64, subject: &str, body: &Bytes) {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return world.broken(9, &format!("message {sequence} was answered with what is no answer"));
    };
    world.note(format!("answered {sequence} {subject}: {}", answer.message));
    if world.checks.restored {
        return;
    }
    known_to_the_store(world, &format!("message {sequence}"), subject.ends_with(".abort"), &answer);
    let told = |answer: &Answer| (answer.accepted, answer.revision);
    let first = world.checks.answers.entry(sequence).or_insert_with(|| answer.clone());
    // A release that was announced is known under other words once it runs.
    if told(first) != told(&answer) && !subject.starts_with(EVENT) {
        let what = format!("message {sequence} was answered {:?} and then {:?}", told(first), told(&answer));
        world.broken(4, &what);
    }
}

/// What was accepted of a command is in the store. (An abort goes on without.)
fn known_to_the_store(world: &mut World, what: &str, aborts: bool, answer: &Answer) {
    let Some(revision) = answer.revision else { return };
    // A later attempt gives the first answer of the one before it.
    let durable = world.kept.states.values().map(|saved| saved.state.revision).max().unwrap_or(0);
    if answer.accepted && !aborts && revision > durable {
        let said = &answer.message;
        world.broken(5, &format!("{what} was answered ({said}), the store knows revision {durable}"));
    }
}

/// An answer to a question, or at the HTTP door.
pub fn told(world: &mut World, key: &str, action: &str, answer: &Answer) {
    world.note(format!("{key} {action}: {}", answer.message));
    if !world.checks.restored {
        known_to_the_store(world, key, action == "abort", answer);
    }
}

/// Nothing is acknowledged before it has had its effect: what was announced is known to the store, or was refused.
pub fn acknowledged(world: &mut World, sequence: u64) {
    let Some(stored) = world.mail.stored.get(&sequence) else { return };
    if !stored.subject.starts_with(EVENT) || world.checks.thrown.contains(&sequence) || world.checks.restored
    {
        return;
    }
    let buried = world.mail.dead.iter().any(|(subject, _)| *subject == stored.subject);
    let body: serde_json::Value = serde_json::from_slice(&stored.body).unwrap_or_default();
    let attempt = body.pointer("/data/attempt").and_then(|attempt| attempt.as_str()).unwrap_or_default();
    let known = |key: &String| {
        (key.starts_with("charter/") && key.ends_with(&format!("/{attempt}"))) || key.starts_with("pending/")
    };
    if !buried && !world.kept.keys.keys().any(known) {
        world.broken(4, &format!("{attempt} was acknowledged, and the store knows nothing of it"));
    }
}
