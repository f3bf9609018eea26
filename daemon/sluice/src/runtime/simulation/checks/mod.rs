//! The invariants, held against everything that the daemons do to the world, by their numbers in ARCHITECTURE.md.
//!
//! | | seen while it happens | seen at the end |
//! | --- | --- | --- |
//! | 1, 2 | every weight that is sent or lands (here) | each rise had its permission ([`record`]) |
//! | 3 | | what metrics caused ([`record`]) |
//! | 4 | every answer ([`answering`]) | every message had its effect once ([`ending`]) |
//! | 5 | what is sent, told or answered is in the store ([`saving`], [`telling`]) | |
//! | 6 | who acts, and who takes over from whom ([`owning`]) | |
//! | 7 | every event ([`telling`]) | one end, no alert left ([`ending`]) |
//! | 8 | somebody else's hand is put right or told (here) | |
//! | 9 | | what cannot be read is buried with its reason ([`ending`]) |
//! | 10 | what is outstanding, and how large records are ([`saving`]) | |
//! | 11 | | replayed; no window counts twice and none is lost ([`record`]) |

pub mod answering;
pub mod ending;
pub mod owning;
pub mod record;
pub mod saving;
pub mod telling;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sluice_rollout::{PauseReason, Phase, Weight};
use sluice_traffic::Wanted;
use sluice_wire::record::Saved;

use super::{
    plan::Trouble,
    world::{Flight, World},
};

/// How long what is wrong in calm times may stay so.
const SOON: i64 = 60_000;
/// A canary as bad as ours is put back within this, store or no store. (A clock that is ahead of the source's takes samples
/// for older than the weight they were taken under, for as long as it is ahead.)
const BAD_FOR: i64 = 25_000;
/// After this without trouble everything is as it should be again.
const SETTLED_AFTER: i64 = 12_000;

#[derive(Debug, Default)]
pub struct Watch {
    pub announced: BTreeSet<String>,
    /// Attempts that the store knows no more: newer ones took their place.
    pub forgotten: BTreeSet<String>,
    /// Sequences of what nobody can read.
    pub thrown: BTreeSet<u64>,
    /// Questions by number: key and action.
    pub asked: BTreeMap<u64, (String, String)>,
    pub asked_last: i64,
    pub touched_by_others: bool,
    /// A daemon's clock is not the source's.
    pub skewed: bool,
    /// When the weight changed, or was in doubt.
    pub moves: Vec<i64>,
    pub restored: bool,
    /// A daemon died, or stood still.
    pub cut: bool,
    pub owners: BTreeMap<String, Vec<owning::Owned>>,
    /// Of each rollout, the latest owner whose write was taken.
    pub landed: BTreeMap<String, usize>,
    /// The highest epoch under which pods were scaled.
    pub sized_under: u64,
    /// By command and attempt: the first answer.
    served: BTreeMap<String, String>,
    answers: BTreeMap<u64, sluice_wire::message::Answer>,
    /// When the canary began to be bad with traffic, every read possible.
    bad_since: Option<i64>,
    marked_since: Option<i64>,
    drifted_since: Option<i64>,
    /// Which start of which daemon has read an abort's mark of which rollout at the target.
    marks_read: BTreeSet<(Option<usize>, u32, String)>,
    /// Rollouts that abort without the store knowing.
    unsaved_abort: BTreeSet<String>,
    /// When trouble with the target or the source was last about.
    troubled: i64,
}

/// The latest state of the one policy that is in the store.
pub fn latest(world: &World) -> Option<Arc<Saved>> {
    world.kept.states.get(world.kept.latest.as_ref()?).cloned()
}

/// Invariant 5: what is sent to the target is in the store, but for an abort's weight 0. Invariant 2: an abort is never
/// followed by a higher weight. Invariant 6: only an owner sends.
pub fn sent(world: &mut World, wanted: &Wanted) {
    let attempt = wanted.rollout.attempt().to_owned();
    owning::sends(world, &attempt);
    let reader = (world.who, world.start(), wanted.rollout.to_string());
    if wanted.abort.is_none() && !wanted.weight.is_zero() && world.checks.marks_read.contains(&reader) {
        let weight = wanted.weight;
        world.broken(5, &format!("weight {weight} was sent by who had read an abort's mark at the target"));
    }
    let durable = world.kept.states.get(&attempt).cloned();
    let aborting = durable.as_ref().is_some_and(|saved| saved.state.is_aborting());
    if wanted.abort.is_some() && !aborting {
        world.checks.unsaved_abort.insert(attempt.clone());
    }
    if wanted.abort.is_some() && wanted.weight.is_zero() {
        return;
    }
    let seq = owning::saved_effect(world, &attempt).unwrap_or(0);
    if seq < wanted.fence.seq && !world.checks.restored {
        let (weight, number) = (wanted.weight, wanted.fence.seq);
        world.broken(5, &format!("weight {weight} was sent as effect {number}, the store knows {seq}"));
    }
    if aborting && wanted.weight > world.router.weight {
        world.broken(2, &format!("weight {} was sent after the abort", wanted.weight));
    }
}

/// The target was read by whoever acts: what matters is what it reads before it is the owner. (Where the target cannot be read
/// then, it refuses a higher weight itself.)
pub fn read(world: &mut World) {
    let Some(mark) = world.router.mark.as_ref().map(|mark| mark.rollout.clone()) else { return };
    let attempt = mark.rsplit('@').next().unwrap_or_default();
    if owning::saved_effect(world, attempt).is_none() {
        let reader = (world.who, world.start(), mark);
        world.checks.marks_read.insert(reader);
    }
}

/// Invariants 1 and 6.
pub fn landing(world: &mut World, flight: &Flight) {
    let attempt = flight.wanted.rollout.attempt().to_owned();
    owning::lands(world, &attempt, flight);
    let step = world.kept.states.get(&attempt).map(|saved| most(&saved.state.phase, saved.state.weight));
    let (weight, step) = (flight.wanted.weight, step.unwrap_or_default());
    if weight != world.router.weight {
        world.checks.moves.push(flight.lands);
    }
    if weight > step && !world.checks.restored {
        world.broken(1, &format!("weight {weight} landed, its step allows {step}"));
    }
}

/// What the phase in the store allows at most.
fn most(phase: &Phase, weight: Weight) -> Weight {
    let percent = |percent: f64| Weight::from_percent(percent).unwrap_or_default();
    match phase {
        Phase::Paused { at, .. } => most(at, weight),
        Phase::Gated { .. } | Phase::Preparing { .. } => percent(20.0).max(weight),
        Phase::Shifting { step: 0 } | Phase::Observing { step: 0, .. } => percent(20.0),
        Phase::Shifting { step: 1 } | Phase::Observing { step: 1, .. } => percent(50.0),
        Phase::Shifting { .. } | Phase::Observing { .. } | Phase::Baking { .. } => percent(90.0),
        Phase::Promoting { .. } | Phase::Reverting { .. } | Phase::Done { .. } => Weight::FULL,
    }
}

/// Somebody else writes the target's weight, and nothing else of it.
pub fn hand(world: &mut World, hundredths: u32) {
    if let Ok(weight) = Weight::from_hundredths(hundredths) {
        world.router.weight = weight;
        world.router.version += 1;
        world.checks.touched_by_others = true;
        let now = world.clock;
        world.checks.moves.push(now);
    }
}

/// What must not stay so for long.
pub fn all_the_time(world: &mut World) {
    let now = world.clock;
    let troubles = [
        Trouble::SourceDown,
        Trouble::SourceBehind,
        Trouble::TargetAway,
        Trouble::TargetSlow,
        Trouble::TargetAnswersLost,
    ];
    let owner = latest(world).and_then(|saved| owning::of(&saved.owner.daemon));
    if troubles.iter().any(|trouble| world.plan.is(*trouble, owner, now)) {
        world.checks.troubled = now;
    }
    let Some(saved) = latest(world) else { return };
    let well = owner.and_then(|owner| world.lives.get(owner)).is_some_and(|life| {
        let here = saved.owner.incarnation == life.start.to_string();
        here && life.runs() && life.frozen_until.is_none() && life.dies_in.is_none() && !life.stopping
    });
    bad_canary(world, &saved, owner.filter(|_| well));
    mark(world, &saved);
    drift(world, &saved, well);
}

/// Invariant 5: while only the store is away, a bad canary is put back all the same.
fn bad_canary(world: &mut World, saved: &Saved, owner: Option<usize>) {
    let now = world.clock;
    let exposed = world.plan.is_bad(now)
        && world.router.weight >= Weight::from_percent(20.0).unwrap_or_default()
        && now > world.checks.troubled;
    let judged = matches!(saved.state.phase, Phase::Observing { .. } | Phase::Baking { .. });
    let going = exposed && judged && owner.is_some() && !world.checks.touched_by_others;
    let skew = owner.and_then(|owner| world.lives.get(owner)).map_or(0, |life| life.skew.abs());
    let since = *world.checks.bad_since.get_or_insert(now);
    if !going {
        world.checks.bad_since = None;
    } else if now - since > BAD_FOR + skew {
        world.broken(5, "a bad canary keeps its traffic while only the store is away");
    }
}

/// Invariant 5: an abort's mark at the target wins over the saved state.
fn mark(world: &mut World, saved: &Saved) {
    let now = world.clock;
    let ends = saved.state.is_aborting() || saved.state.is_done();
    let ours = world.router.mark.as_ref().is_some_and(|mark| mark.rollout == saved.state.id.to_string());
    let since = *world.checks.marked_since.get_or_insert(now);
    if !ours || ends || now < world.plan.calm_from {
        world.checks.marked_since = None;
    } else if now - since > SOON {
        world.broken(5, "an abort's mark stands at the target and the rollout goes on");
    }
}

/// Invariant 8: a weight of somebody else's is put right, or the rollout stops and says so.
fn drift(world: &mut World, saved: &Saved, well: bool) {
    let (now, state) = (world.clock, &saved.state);
    let told =
        matches!(&state.phase, Phase::Paused { why: PauseReason::Drift, .. }) || !state.alerts.is_empty();
    let at_rest = matches!(
        state.phase,
        Phase::Observing { .. } | Phase::Baking { .. } | Phase::Paused { .. } | Phase::Reverting { .. }
    );
    let differs = at_rest && !told && world.router.weight != state.weight;
    let quiet = well && now > world.checks.troubled + SETTLED_AFTER && now > world.plan.calm_from;
    let since = *world.checks.drifted_since.get_or_insert(now);
    if !differs || !quiet || world.checks.restored {
        world.checks.drifted_since = None;
    } else if now - since > SOON {
        let (found, wanted) = (world.router.weight, state.weight);
        world
            .broken(8, &format!("{found} stands at the target for long, {wanted} is wanted, nobody is told"));
    }
}
