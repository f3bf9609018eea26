//! The invariants, held against everything that the daemon does to the world, by their numbers in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};

use sluice_rollout::{Action, Fence, Outcome, Phase, Weight};
use sluice_traffic::Wanted;
use sluice_wire::{
    decisions::batch,
    message::Answer,
    record::{Charter, Saved},
};

use super::{
    daemon::{CALM, id},
    world::{Flight, Shared, World},
};
use crate::replay::{Replay, Stop};

/// How long what is wrong in calm times may stay so.
const SOON: i64 = 60_000;
/// A canary as bad as ours is put back within this, store or no store. (A clock that is ahead of the source's takes samples
/// for older than the weight they were taken under, for as long as it is ahead.)
const BAD_FOR: i64 = 25_000;

#[derive(Debug, Default)]
pub struct Watch {
    pub touched_by_others: bool,
    restores: bool,
    usurped_at: Option<i64>,
    /// When the canary began to be bad with traffic, every read possible.
    bad_since: Option<i64>,
    marked_since: Option<i64>,
    asked_last: Option<i64>,
    unsaved_abort: bool,
    /// The target had an abort's mark when the rollout was taken up.
    pub must_abort: bool,
    accepted: BTreeMap<String, (bool, Option<u64>)>,
}

impl Watch {
    pub fn usurped_for(&self, now: i64) -> i64 {
        self.usurped_at.map_or(0, |at| now - at)
    }

    /// Every ten seconds.
    pub fn asks_again(&mut self, now: i64) -> bool {
        let due = self.asked_last.is_none_or(|last| now - last > 10_000);
        if due {
            self.asked_last = Some(now);
        }
        due
    }
}

/// Invariant 5: what is sent to the target is in the store, but for an abort's weight 0. Invariant 2: an abort is never
/// followed by a higher weight.
pub fn sent(world: &mut World, wanted: &Wanted) {
    let durable = world.durable();
    let aborting = durable.as_ref().is_some_and(|saved| saved.state.is_aborting());
    if wanted.abort.is_some() && !aborting {
        world.checks.unsaved_abort = true;
    }
    if wanted.abort.is_some() && wanted.weight.is_zero() {
        return;
    }
    let seq = durable.as_ref().map_or(0, |saved| saved.state.seq);
    if seq < wanted.fence.seq && !world.usurped {
        world.broken(
            5,
            &format!(
                "weight {} was sent as effect {}, the store knows {seq}",
                wanted.weight, wanted.fence.seq
            ),
        );
    }
    if aborting && wanted.weight > world.weight {
        world.broken(2, &format!("weight {} was sent after the abort", wanted.weight));
    }
}

/// Invariants 1 and 6.
pub fn landing(world: &mut World, flight: &Flight) {
    if flight.start < world.latest_landing {
        let what =
            format!("a write of start {} landed after one of start {}", flight.start, world.latest_landing);
        world.broken(6, &what);
    }
    if world.usurped {
        world.broken(6, "a write landed after another owner had taken the rollout");
    }
    let step = world.durable().map(|saved| most(&saved)).unwrap_or_default();
    if flight.wanted.weight > step && !world.usurped && !world.checks.restores {
        world.broken(1, &format!("weight {} landed, its step allows {step}", flight.wanted.weight));
    }
}

/// What the phase in the store allows at most.
fn most(saved: &Saved) -> Weight {
    let percent = |percent: f64| Weight::from_percent(percent).unwrap_or_default();
    match &saved.state.phase {
        Phase::Paused { at, .. } => {
            let state = sluice_rollout::State { phase: (**at).clone(), ..saved.state.clone() };
            most(&Saved { state, ..saved.clone() })
        }
        Phase::Gated { .. } | Phase::Preparing { .. } => percent(20.0).max(saved.state.weight),
        Phase::Shifting { step: 0 } | Phase::Observing { step: 0, .. } => percent(20.0),
        Phase::Shifting { step: 1 } | Phase::Observing { step: 1, .. } => percent(50.0),
        Phase::Shifting { .. } | Phase::Observing { .. } | Phase::Baking { .. } => percent(90.0),
        Phase::Promoting { .. } => Weight::FULL,
        Phase::Reverting { .. } | Phase::Done { .. } => Weight::FULL,
    }
}

/// Invariant 6: nobody saves over another owner's state.
pub fn saved(world: &mut World, key: &str) {
    if !key.starts_with("state/") {
        return;
    }
    world.read_again();
    if world.usurped {
        world.broken(6, "a state was saved over another owner's");
    }
    if let Some(saved) = world.durable() {
        let state = &saved.state;
        if std::mem::take(&mut world.checks.must_abort) && !state.is_aborting() && !state.is_done() {
            world.broken(5, "an abort's mark stood at the target and did not win over the saved state");
        }
        let line = format!(
            "saved: {} at {}, revision {}, {} outstanding",
            state.phase.name(),
            state.weight,
            state.revision,
            state.outstanding.len()
        );
        world.note(line);
        if state.outstanding.len() > 64 {
            world.broken(10, "more than 64 effects are outstanding");
        }
        world.checks.unsaved_abort &= !state.is_aborting() && !state.is_done();
    }
}

/// Invariant 7: what is outstanding is not forgotten with its rollout.
pub fn deleted(world: &mut World, key: &str) {
    if key.starts_with("open/")
        && world.durable().is_none_or(|saved| !saved.state.is_settled())
        && !world.usurped
    {
        world.broken(7, "the rollout was let go before all of it had come about");
    }
}

/// Invariants 5 and 7: what is told is in the store (an abort is told without), and the end is told under one id.
pub fn published(world: &mut World, subject: &str, told: &str) {
    let number =
        told.rsplit('/').next().and_then(|seq| seq.split(' ').next()).and_then(|seq| seq.parse().ok());
    let durable = world.durable().map_or(0, |saved| saved.state.seq);
    world.note(format!("told: {subject} as {told}"));
    // An abort and what comes of it is told without the store, too.
    let of_an_abort = world.checks.unsaved_abort || subject.ends_with(".aborting");
    if number.unwrap_or(u64::MAX) > durable && !of_an_abort && !world.usurped {
        world.broken(5, &format!("{subject} was told as {told}, the store knows effect {durable}"));
    }
    let again = world
        .published
        .iter()
        .find(|(_, id, _)| id != told && id.split(' ').next() == told.split(' ').next());
    if let Some((_, id, _)) = again.cloned() {
        world.broken(7, &format!("one event was told as {id:?} and as {told:?}"));
    }
    if subject.ends_with(".finished") && !world.checks.restores {
        let other =
            world.published.iter().find(|(subject, id, _)| subject.ends_with(".finished") && id != told);
        if let Some((_, id, _)) = other.cloned() {
            world.broken(7, &format!("the end was told as {id} and as {told}"));
        }
    }
}

/// Invariant 4: a repeat gets the first answer. Invariant 5: what was accepted is in the store.
pub fn answered(world: &mut World, key: &str, action: &Action, answer: Answer) {
    world.note(format!("{key} {}: {}", action.name(), answer.message));
    let durable = world.durable();
    let known = durable.as_ref().and_then(|saved| saved.state.first_answer(key));
    if *action == Action::Abort || world.usurped || world.checks.restores {
        return;
    }
    if known.is_none() {
        world.broken(
            5,
            &format!("{key} was answered ({}), and the store knows nothing of it", answer.message),
        );
    }
    let told = (answer.accepted, answer.revision);
    let first = world.checks.accepted.entry(key.to_owned()).or_insert(told);
    if *first != told {
        let what = format!("{key} was answered {first:?} and then {told:?}");
        world.broken(4, &what);
    }
    world.answers.entry(key.to_owned()).or_default().push(answer);
}

/// Whoever takes the rollout from us: a later epoch in the state and at the target.
pub fn usurp(world: &mut World) {
    let Some(saved) = world.durable().filter(|saved| !saved.state.is_done()) else { return };
    let mut saved = (*saved).clone();
    let Some(key) = world.keys.keys().find(|key| key.starts_with("state/")).cloned() else { return };
    saved.owner.daemon = "other".into();
    saved.owner.epoch += 10;
    world.revision += 1;
    let value = serde_json::to_vec(&saved).unwrap_or_default();
    world.keys.insert(key, (value.into(), world.revision));
    world.read_again();
    world.fence = Some(Fence { epoch: saved.owner.epoch, seq: saved.state.seq });
    world.target_version += 1;
    (world.usurped, world.checks.usurped_at) = (true, Some(world.at()));
}

/// The store comes back as it was at the last copy. An abort that neither the copy nor the target knows is gone with it:
/// that is not drawn; nor is a copy that undoes another owner's taking.
pub fn restore(world: &mut World) {
    let ending = world.durable().is_none_or(|saved| saved.state.is_done() || saved.state.is_aborting());
    let Some(copy) = world.copy.take().filter(|copy| copy.keys().any(|key| key.starts_with("state/"))) else {
        return;
    };
    if !ending && !world.checks.unsaved_abort && !world.usurped {
        world.keys = copy;
        world.read_again();
        world.checks.restores = true;
        world.note("the store is as it was at its last copy".to_owned());
    }
}

/// What must not stay so for long.
pub fn all_the_time(world: &mut World) {
    let now = world.at();
    let readable = !world.is(super::trouble::Trouble::SourceDown)
        && !world.is(super::trouble::Trouble::TargetAway)
        && !world.is(super::trouble::Trouble::TargetSlow)
        && !world.is(super::trouble::Trouble::TargetAnswersLost);
    let exposed = world.plan.is_bad(now) && world.weight >= Weight::from_percent(20.0).unwrap_or_default();
    let judged = world
        .durable()
        .is_some_and(|saved| matches!(saved.state.phase, Phase::Observing { .. } | Phase::Baking { .. }));
    let going = exposed
        && world.owned
        && readable
        && judged
        && world.dies_in.is_none()
        && !world.usurped
        && !world.checks.touched_by_others;
    let since = world.checks.bad_since.get_or_insert(now).to_owned();
    if !going {
        world.checks.bad_since = None;
    } else if now - since > BAD_FOR + world.skew.abs() {
        world.broken(5, "a bad canary keeps its traffic while only the store is away");
    }
    let ends = world.durable().is_some_and(|saved| saved.state.is_aborting() || saved.state.is_done());
    let ignored = world.mark.is_some() && now > CALM && !ends && !world.usurped && world.durable().is_some();
    let since = world.checks.marked_since.get_or_insert(now).to_owned();
    if !ignored {
        world.checks.marked_since = None;
    } else if now - since > SOON {
        world.broken(5, "an abort's mark stands at the target and the rollout goes on");
    }
}

/// What must be so when all is over: invariants 2, 7 and 11.
pub fn at_the_end(world: &Shared, starts: u32) {
    let mut world = world.lock();
    if world.usurped {
        return;
    }
    let Some(saved) = world.durable() else { return world.broken(4, "the release was never begun") };
    if !saved.state.is_settled() {
        let waits: Vec<_> = saved.state.outstanding.iter().map(|one| one.effect.name()).collect();
        let what =
            format!("after {starts} starts it is {} and waits for {waits:?}", saved.state.phase.name());
        return world.broken(7, &what);
    }
    let reverted = matches!(saved.state.phase, Phase::Done { outcome: Outcome::Reverted, .. });
    if reverted && !world.weight.is_zero() && !world.checks.touched_by_others {
        let weight = world.weight;
        world.broken(2, &format!("reverted, and the canary has {weight}"));
    }
    let ends: BTreeSet<_> = world
        .published
        .iter()
        .filter(|(subject, ..)| subject.ends_with(".finished"))
        .map(|(_, id, _)| id)
        .collect();
    if ends.is_empty() {
        world.broken(7, "the end was never told");
    }
    if !saved.state.alerts.is_empty() {
        world.broken(7, "an alert is still up");
    }
    replayed(&mut world);
}

/// Invariant 11. What a crash took from the record is no difference.
fn replayed(world: &mut World) {
    let charter = world.keys.iter().find(|(key, _)| key.starts_with("charter/"));
    let charter = charter.and_then(|(_, (value, _))| serde_json::from_slice::<Charter>(value).ok());
    let Some(charter) = charter else { return world.broken(11, &format!("{} has no charter", id())) };
    let records = world.records.clone();
    let replay = || -> Result<u64, Stop> {
        let mut replay = Replay::new(&charter)?;
        for (_, raw) in &records {
            let batch = batch(std::str::from_utf8(raw).unwrap_or_default())?;
            replay.batch(&batch)?;
        }
        Ok(replay.finish().windows)
    };
    match replay() {
        Ok(windows) => world.note(format!("{windows} windows came out the same")),
        Err(stop) => world.broken(11, &stop.to_string()),
    }
}
