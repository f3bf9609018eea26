//! What is saved and what is deleted: invariants 5, 6, 7 and 10.

use std::sync::Arc;

use sluice_wire::record::Saved;

use super::{super::world::World, owning};
use crate::runtime::ledger::Attempts;

/// Effects that are outstanding, at most.
const MOST_OUTSTANDING: usize = 64;
/// Bytes of one record.
const MOST_BYTES: usize = 64 * 1024;

/// The attempt that a state's key names.
fn attempt(key: &str) -> Option<String> {
    key.strip_prefix("state/")?.rsplit('/').next().map(str::to_owned)
}

fn read(world: &World, key: &str) -> Option<Arc<Saved>> {
    let (value, _) = world.kept.keys.get(key)?;
    serde_json::from_slice(value).ok().map(Arc::new)
}

/// The latest attempt, as the store has it.
fn current(world: &World) -> Option<String> {
    let (_, (value, _)) = world.kept.keys.iter().find(|(key, _)| key.starts_with("current/"))?;
    let attempts: Attempts = serde_json::from_slice(value).ok()?;
    attempts.ids.last().map(|id| id.attempt().to_owned())
}

pub fn saved(world: &mut World, key: &str) {
    let bytes = world.kept.keys.get(key).map_or(0, |(value, _)| value.len());
    if bytes > MOST_BYTES {
        world.broken(10, &format!("{key} has {bytes} bytes"));
    }
    if key.starts_with("current/") {
        world.kept.latest = current(world);
    }
    let Some(attempt) = attempt(key) else { return };
    let Some(saved) = read(world, key) else { return world.broken(10, &format!("{key} cannot be read")) };
    let before = world.kept.states.insert(attempt.clone(), saved.clone());
    owning::saved(world, &attempt, before.as_deref(), &saved);
    super::answering::saved(world, &attempt, before.as_deref(), &saved);
    let state = &saved.state;
    let (phase, weight, revision) = (state.phase.name(), state.weight, state.revision);
    let outstanding = state.outstanding.len();
    world.note(format!(
        "saved: {attempt} {phase} at {weight}, revision {revision}, {outstanding} outstanding"
    ));
    if outstanding > MOST_OUTSTANDING {
        world.broken(10, &format!("{outstanding} effects are outstanding"));
    }
    if state.is_aborting() || state.is_done() {
        world.checks.unsaved_abort.remove(&attempt);
    }
}

/// A state is no longer in the store: of that attempt nothing is asked any more. (Its history and its record go by the limits
/// of their streams.)
pub fn forgotten(world: &mut World, key: &str) {
    let Some(attempt) = attempt(key) else { return };
    if world.kept.states.remove(&attempt).is_some() {
        world.checks.announced.remove(&attempt);
        world.checks.forgotten.insert(attempt);
    }
}

/// Invariant 7: what is outstanding is not forgotten with its rollout. (One that was refused before it had a state has nothing.)
pub fn deleted(world: &mut World, key: &str) {
    let attempt = key.strip_prefix("open/").and_then(|rest| rest.rsplit('/').next());
    let Some(saved) = attempt.and_then(|attempt| world.kept.states.get(attempt)) else { return };
    if !world.kept.keys.contains_key(key) || world.checks.restored {
        return;
    }
    if !saved.state.is_settled() {
        world.broken(7, &format!("{key} was let go before all of it had come about"));
    }
}

/// The store comes back as it was at the last copy. An abort that neither the copy nor the target knows is gone with it:
/// that is not drawn.
pub fn restore(world: &mut World) {
    let ending = super::latest(world).is_none_or(|saved| saved.state.is_done() || saved.state.is_aborting())
        || !world.checks.unsaved_abort.is_empty();
    let Some(copy) = world.kept.copy.take().filter(|copy| copy.keys().any(|key| key.starts_with("state/")))
    else {
        return;
    };
    if ending {
        return;
    }
    world.kept.keys = copy;
    let keys: Vec<String> = world.kept.keys.keys().filter(|key| key.starts_with("state/")).cloned().collect();
    world.kept.states.clear();
    for key in keys {
        if let (Some(attempt), Some(saved)) = (attempt(&key), read(world, &key)) {
            world.kept.states.insert(attempt, saved);
        }
    }
    world.kept.latest = current(world);
    world.checks.restored = true;
    world.note("the store is as it was at its last copy".to_owned());
}
