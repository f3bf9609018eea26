//! Deterministic simulation: the real machine, owner, lanes, observer, ledger and recorder on a paused clock and one
//! thread, before a world that fails in every way that a seed draws: crashes before and after every outward call, answers
//! that are lost, writes that land late, a store that is away or restored from an older copy, another owner, a clock that
//! jumps, a source that is down, other hands at the target, commands that are sent twice.
//!
//! ```text
//!   seed ─▶ plan of trouble ─▶ owner ⇄ world (store, target, workloads, source, bus) ─▶ invariants, by number
//!                                └─ crash: the runtime is dropped; what was sent may still land ─▶ taken up again
//! ```
//!
//! The same seed gives the same story to the last word. `tests/simulate --seeds 100000 --from 1` runs more of them, and
//! prints the story of one that fails. Deliberate faults ([`Fault`]) prove that breaking an invariant is noticed.
//!
//! Not simulated: the doors and announcements (their crash table stands in ARCHITECTURE.md), several daemons at once.

mod calls;
mod checks;
mod daemon;
mod target;
mod trouble;
mod world;

use std::cell::RefCell;

use sluice_rollout::Timestamp;

use self::{daemon::Ended, world::Shared};
use super::fault::{self, Fault};

/// How many seeds the tests run, if nothing else is said.
const SEEDS: u64 = 400;
/// A rollout that takes more starts than this is stuck in a crash loop of ours.
const MOST_STARTS: u32 = 12;

thread_local! {
    static CLOCK: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// The simulated wall clock, on a thread that simulates.
pub fn now() -> Option<Timestamp> {
    CLOCK.with_borrow(|world| world.as_ref().map(|world| world.wall()))
}

/// One run.
#[derive(Debug, PartialEq)]
struct Run {
    story: Vec<String>,
    /// The invariant's number and what happened.
    broken: Option<String>,
    phase: String,
    starts: u32,
}

fn run(seed: u64, fault: Option<Fault>) -> Run {
    fault::with(fault, || {
        fastrand::seed(seed);
        let world = Shared::new(seed);
        CLOCK.set(Some(world.clone()));
        let mut starts = 0;
        while starts < MOST_STARTS {
            starts += 1;
            match daemon::live(&world, starts) {
                Ended::Crashed => world.note("the daemon dies".into()),
                Ended::Over => break,
            }
        }
        checks::at_the_end(&world, starts);
        CLOCK.set(None);
        let world = world.lock();
        Run { story: world.story.clone(), broken: world.broken.clone(), phase: world.phase(), starts }
    })
}

fn told(seed: u64, run: &Run) -> String {
    let broken = run.broken.clone().unwrap_or_default();
    let again = format!("again: tests/simulate --seeds 1 --from {seed}");
    format!("seed {seed}: {broken}\n  {}\n  {again}\n", run.story.join("\n  "))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_invariants_hold_on_every_seed() {
    let (seeds, from) = (number("SLUICE_SEEDS").unwrap_or(SEEDS), number("SLUICE_FROM").unwrap_or(0));
    let (mut ends, mut starts) = (std::collections::BTreeMap::<String, u64>::new(), 0);
    for seed in from..from.saturating_add(seeds) {
        let run = run(seed, None);
        if std::env::var("SLUICE_STORY").is_ok() {
            eprintln!("{}", told(seed, &run));
        }
        assert!(run.broken.is_none(), "{}", told(seed, &run));
        *ends.entry(run.phase).or_default() += 1;
        starts += u64::from(run.starts);
    }
    eprintln!("{seeds} seeds from {from}, {starts} starts; ended {ends:?}");
    if seeds >= SEEDS {
        for end in ["promoted", "reverted"] {
            assert!(ends.contains_key(end), "no run ended {end}: {ends:?}");
        }
        assert!(starts > seeds * 3 / 2, "too few crashes to prove anything: {starts} starts of {seeds} runs");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [1, 7, 23] {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

/// Each fault is noticed within so many seeds, or the checks prove nothing.
const MOST_SEEDS_A_FAULT: u64 = 250;

#[test]
fn every_deliberate_fault_is_found() {
    let faults = [
        Fault::ExecuteBeforeSave,
        Fault::AcknowledgeBeforeSave,
        Fault::NeverSave,
        Fault::SaveOverAnothersState,
        Fault::AbortWaitsForTheStore,
        Fault::LoseWhatWaitsForTheStore,
        Fault::SettleBeforeAllIsTold,
        Fault::WriteOverALaterFence,
        Fault::PublishUnderAFreshId,
        Fault::ForgetWhatIsOutstanding,
        Fault::KeepTheFormerEpoch,
        Fault::IgnoreTheAbortMark,
    ];
    let mut missed = Vec::new();
    for fault in faults {
        let began = std::time::Instant::now();
        let found =
            (0..MOST_SEEDS_A_FAULT).find_map(|seed| run(seed, Some(fault)).broken.map(|why| (seed, why)));
        match found {
            Some((seed, why)) => eprintln!("{fault:?}: seed {seed}, {:?}: {why}", began.elapsed()),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found within {MOST_SEEDS_A_FAULT} seeds: {missed:?}");
}
