//! Invariant 6: two daemons never act on one rollout, and nobody takes one from a daemon that lives.

use sluice_rollout::Fence;
use sluice_wire::record::{Owner, Saved};

use super::super::{
    plan::NAMES,
    world::{Flight, World},
};

/// One owner of a rollout: the daemon, which start of it, under which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub daemon: String,
    pub incarnation: String,
    pub epoch: u64,
    /// The highest effect that it has saved.
    pub seq: u64,
}

impl Owned {
    fn is(&self, other: &Owned) -> bool {
        self.is_process_of(other) && self.epoch == other.epoch
    }

    /// The same start of the same daemon.
    pub fn is_process_of(&self, other: &Owned) -> bool {
        (&self.daemon, &self.incarnation) == (&other.daemon, &other.incarnation)
    }

    pub fn is_of(&self, owner: &Owner) -> bool {
        (&self.daemon, &self.incarnation, self.epoch) == (&owner.daemon, &owner.incarnation, owner.epoch)
    }
}

/// Who has run well for so long is known to live.
const KNOWN_TO_LIVE: i64 = 12_000;

pub fn of(daemon: &str) -> Option<usize> {
    NAMES.iter().position(|name| *name == daemon)
}

/// The place of this start of this daemon among the rollout's owners.
fn place(world: &World, attempt: &str, who: Option<usize>, start: u32) -> Option<usize> {
    let name = NAMES.get(who?)?;
    let owners = world.checks.owners.get(attempt)?;
    owners.iter().rposition(|owner| owner.daemon == *name && owner.incarnation == start.to_string())
}

/// The highest effect that whoever acts has saved as an owner.
pub fn saved_effect(world: &World, attempt: &str) -> Option<u64> {
    let place = place(world, attempt, world.who, world.start())?;
    world.checks.owners.get(attempt)?.get(place).map(|owner| owner.seq)
}

/// A state was saved: its owner may be another.
pub fn saved(world: &mut World, attempt: &str, before: Option<&Saved>, saved: &Saved) {
    let owner = &saved.owner;
    let owned = Owned {
        daemon: owner.daemon.clone(),
        incarnation: owner.incarnation.clone(),
        epoch: owner.epoch,
        seq: saved.state.seq,
    };
    let (name, start) = (world.name(), world.start().to_string());
    let chosen = owner.incarnation.is_empty() && before.is_none();
    if !chosen && (owner.daemon != name || owner.incarnation != start) {
        world.broken(6, &format!("{name} saved a state as {}'s", owner.daemon));
    }
    if let Some(former) = before.map(|saved| &saved.owner).filter(|former| *former != owner) {
        let anothers = former.daemon != owner.daemon || former.incarnation != owner.incarnation;
        if anothers && owner.epoch <= former.epoch {
            world.broken(6, &format!("{name} took over under epoch {}, which is no later one", owner.epoch));
        }
        if former.daemon != owner.daemon && lives(world, &former.daemon) {
            world.broken(6, &format!("{name} took over from {}, which lives", former.daemon));
        }
    }
    let owners = world.checks.owners.entry(attempt.to_owned()).or_default();
    if let Some(last) = owners.last_mut().filter(|last| last.is(&owned)) {
        last.seq = owned.seq;
    } else {
        let line =
            format!("owner of {attempt}: {} ({}), epoch {}", owned.daemon, owned.incarnation, owned.epoch);
        owners.push(owned);
        world.note(line);
        // A weight that was on its way, or a target that cannot be read now, leaves in doubt which one stood.
        let now = world.clock;
        world.checks.moves.push(now);
    }
}

/// Without a doubt, for everybody to see.
fn lives(world: &World, daemon: &str) -> bool {
    let life = of(daemon).and_then(|who| world.lives.get(who));
    life.is_some_and(|life| {
        let well = world.clock - life.well_since > KNOWN_TO_LIVE && life.frozen_until.is_none();
        life.runs() && well && !life.stopping
    }) && !world.checks.restored
}

pub fn sends(world: &mut World, attempt: &str) {
    if place(world, attempt, world.who, world.start()).is_none() && !world.checks.restored {
        let name = world.name();
        world.broken(6, &format!("{name} sent a weight of {attempt} and has never owned it"));
    }
}

/// Of two owners' writes the later owner's is the last that is taken.
pub fn lands(world: &mut World, attempt: &str, flight: &Flight) {
    let Some(place) = place(world, attempt, flight.who, flight.start) else { return };
    let latest = world.checks.landed.entry(attempt.to_owned()).or_default();
    if place < *latest && !world.checks.restored {
        world.broken(6, &format!("a write of a former owner of {attempt} landed after its successor's"));
    } else {
        *latest = (*latest).max(place);
    }
}

/// Whoever scales pods writes under a fence of a rollout's latest owners.
pub fn sized(world: &mut World, fence: Fence) {
    let taken = world.checks.sized_under.max(fence.epoch);
    if fence.epoch < world.checks.sized_under && !world.checks.restored {
        let under = world.checks.sized_under;
        world.broken(6, &format!("pods were scaled under epoch {} after {under}", fence.epoch));
    }
    world.checks.sized_under = taken;
}
