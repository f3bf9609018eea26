//! Deterministic simulation: whole daemons (doors, company, owners, lanes, observers, recorder) on paused clocks and one
//! thread, before a world that fails in every way that a seed draws.
//!
//! ```text
//!   seed ─▶ plan ─▶ one to three daemons ⇄ world (bus, store, target, pods, source, on-call) ─▶ invariants, by number
//!                    └─ die before or after any call, stop, stand still; what was sent may still land
//! ```
//!
//! Drawn are: crashes and clean stops, daemons that stand still and wake up late, a store that is away (for all or for
//! one), loses answers or comes back as an older copy, messages that come late, twice or out of order, a target that is
//! away, slow or written to by others, a source that is down or behind, clocks that jump, releases that supersede, queue or
//! refuse each other, commands by all three doors, and what nobody can read.
//!
//! The same seed gives the same story to the last word. `tests/simulate --seeds 100000 --from 1` runs more of them, and
//! prints the story of one that fails. Deliberate faults ([`Fault`]) prove that breaking an invariant is noticed.
//!
//! Not simulated: what a target's adapter makes of a weight (its tests and the stories on real servers do), gates, signed
//! commands.

mod calls;
mod checks;
mod doors;
mod mail;
mod people;
mod plan;
mod process;
mod seeds;
mod stories;
mod target;
mod world;

use std::cell::RefCell;

use sluice_rollout::Timestamp;

use self::{plan::Plan, process::Process, world::Shared};
use super::fault::{self, Fault};

/// The longest turn (ms) that a fine grain makes while nobody calls anything.
const IDLE: i64 = 500;
/// Before this (ms) no run is over.
const AT_LEAST: i64 = 3_000;

thread_local! {
    static CLOCK: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// The simulated wall clock, on a thread that simulates.
pub fn now() -> Option<Timestamp> {
    CLOCK.with_borrow(|world| world.as_ref().map(Shared::wall))
}

/// One run.
#[derive(Debug, PartialEq)]
struct Run {
    story: Vec<String>,
    /// The invariant's number and what happened.
    broken: Option<String>,
    /// How the latest rollout ended.
    phase: String,
    starts: u32,
}

fn run(seed: u64, fault: Option<Fault>) -> Run {
    planned(seed, fault, Plan::draw)
}

/// One run under this plan; what else happens by chance is the seed's.
fn planned(seed: u64, fault: Option<Fault>, plan: impl FnOnce(&mut fastrand::Rng) -> Plan) -> Run {
    fault::with(fault, || {
        fastrand::seed(seed);
        let mut chance = fastrand::Rng::with_seed(seed);
        let plan = plan(&mut chance);
        let world = Shared::with(plan, chance);
        let processes = live(&world);
        drop(processes);
        CLOCK.set(None);
        let mut world = world.lock();
        let starts = world.lives.iter().map(|life| life.start).sum();
        if world.broken.is_none() {
            checks::ending::check(&mut world, starts);
        }
        let phase =
            checks::latest(&world).map_or("not begun".into(), |saved| saved.state.phase.name().into());
        Run { story: std::mem::take(&mut world.story), broken: world.broken.clone(), phase, starts }
    })
}

/// Whoever is furthest behind has the next turn.
fn live(world: &Shared) -> Vec<Process> {
    let daemons = world.lock().plan.daemons;
    let mut processes: Vec<Process> = (0..daemons).map(|who| Process::new(world.of(who))).collect();
    while !is_over(world) {
        go_on(world, &mut processes);
    }
    for (who, process) in processes.iter_mut().enumerate() {
        CLOCK.set(Some(world.of(who)));
        finish(world, who, process);
    }
    processes
}

/// What happens now, and one daemon's turn.
fn go_on(world: &Shared, processes: &mut [Process]) {
    people::happen(world, processes);
    start_and_thaw(world, processes);
    match next(world) {
        Some((who, until)) => {
            CLOCK.set(Some(world.of(who)));
            processes[who].run(until);
        }
        None => world.lock().clock += 100,
    }
}

/// A clean stop: what waits is written.
fn finish(world: &Shared, who: usize, process: &mut Process) {
    let until = {
        world.stop(who);
        world.lock().lives[who].local + 20_000
    };
    while process.runs() && world.lock().lives[who].local < until {
        process.run(until);
    }
}

fn start_and_thaw(world: &Shared, processes: &mut [Process]) {
    let restores = {
        let mut world = world.lock();
        let all_dead = world.lives.iter().all(|life| !life.runs());
        all_dead && std::mem::take(&mut world.kept.restores)
    };
    if restores {
        checks::saving::restore(&mut world.lock());
    }
    for (who, process) in processes.iter_mut().enumerate() {
        let (clock, starts_at, frozen, waits) = {
            let world = world.lock();
            let life = &world.lives[who];
            (world.clock, life.starts_at, life.frozen_until, world.kept.restores)
        };
        CLOCK.set(Some(world.of(who)));
        if !process.runs() && starts_at <= clock && !waits {
            process.start();
        } else if frozen.is_some_and(|until| until <= clock) {
            process.thaw(clock);
        }
    }
    CLOCK.set(None);
}

/// Whose turn it is, and until when.
fn next(world: &Shared) -> Option<(usize, i64)> {
    let mut world = world.lock();
    let awake = world.lives.iter().enumerate().filter(|(_, life)| life.runs() && life.frozen_until.is_none());
    let (who, local) = awake.map(|(who, life)| (who, life.local)).min_by_key(|(_, local)| *local)?;
    let alone = world.lives.len() == 1;
    // Where nobody calls anything, how finely turns are cut makes no difference.
    let grain = if world.is_busy() { world.plan.grain } else { world.plan.grain.max(IDLE) };
    let turn = if alone { 500 } else { 1 + world.chance.i64(0..grain) };
    Some((who, local + turn))
}

/// Everything has ended and is settled, or it is far too late, or something is broken.
fn is_over(world: &Shared) -> bool {
    let world = world.lock();
    let waits = |key: &String| key.starts_with("open/") || key.starts_with("pending/");
    let settled = world.plan.happenings.is_empty()
        && world.clock > AT_LEAST
        && !world.kept.keys.keys().any(waits)
        && world.router.flights.is_empty()
        && world.mail.all_is_done(world.clock)
        && world.visits == 0
        && world.kept.keys.keys().any(|key| key.starts_with("state/"));
    settled || world.broken.is_some() || world.clock > world.plan.limit()
}
