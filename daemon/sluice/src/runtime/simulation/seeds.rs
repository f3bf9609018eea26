//! Many seeds, on as many threads as there are processors: each run is a thread's own, and tells the same story wherever
//! it is told.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{Run, run};
use crate::runtime::fault::{self, Fault};

/// How many seeds the tests run. `SLUICE_SEEDS` says otherwise, for a slow machine or a long night.
const SEEDS: u64 = 300;
/// Of fewer seeds nothing is said of how runs come out as a whole.
const MANY: u64 = 200;
/// Each fault is noticed within so many seeds from the first, or the checks prove nothing.
const MOST_SEEDS_A_FAULT: u64 = 200;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// Runs these seeds, each once, in about their order, until `take` has had enough. What was begun is ended.
fn each(seeds: std::ops::Range<u64>, fault: Option<Fault>, take: impl Fn(u64, Run) -> bool + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || take(seed, run(seed, fault)) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn told(seed: u64, run: &Run) -> String {
    let broken = run.broken.clone().unwrap_or_default();
    let again = format!("again: tests/simulate --seeds 1 --from {seed} --story");
    format!("seed {seed}: {broken}\n  {}\n  {again}\n", run.story.join("\n  "))
}

/// How many runs came out in which way.
#[derive(Debug, Default)]
struct Tally {
    ends: BTreeMap<String, u64>,
    starts: u64,
    runs: u64,
    /// Stories of those that broke an invariant, by seed.
    failed: BTreeMap<u64, String>,
}

impl Tally {
    fn add(&mut self, seed: u64, run: Run) {
        if run.broken.is_some() {
            self.failed.insert(seed, told(seed, &run));
        }
        *self.ends.entry(run.phase).or_default() += 1;
        self.starts += u64::from(run.starts);
        self.runs += 1;
    }
}

#[test]
fn the_invariants_hold_on_every_seed() {
    let (seeds, from) = (number("SLUICE_SEEDS").unwrap_or(SEEDS), number("SLUICE_FROM").unwrap_or(0));
    let goes_on = is_set("SLUICE_GO_ON");
    let tally = Mutex::new(Tally::default());
    let began = Instant::now();
    each(from..from.saturating_add(seeds), None, |seed, run| {
        if is_set("SLUICE_STORY") {
            eprintln!("{}", told(seed, &run));
        }
        if let Some(why) = run.broken.as_ref().filter(|_| goes_on) {
            eprintln!("seed {seed}: {why}");
        }
        let fails = run.broken.is_some();
        tally.lock().unwrap_or_else(PoisonError::into_inner).add(seed, run);
        fails && !goes_on
    });
    let Tally { ends, starts, runs, failed } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (took, count) = (began.elapsed(), failed.len());
    eprintln!("{runs} seeds from {from} in {took:.0?}, {starts} starts; ended {ends:?}");
    if let Some((_, story)) = failed.into_iter().next() {
        panic!("{count} of {runs} seeds break an invariant; the first:\n{story}");
    }
    if seeds >= MANY {
        for end in ["promoted", "reverted"] {
            assert!(ends.contains_key(end), "no run ended {end}: {ends:?}");
        }
        assert!(starts > seeds * 3 / 2, "too few crashes to prove anything: {starts} starts of {seeds} runs");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..12 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

#[test]
fn every_deliberate_fault_is_found() {
    let mut missed = Vec::new();
    let named = std::env::var("SLUICE_FAULT").ok();
    let is_meant = |fault: &Fault| named.as_ref().is_none_or(|named| *named == format!("{fault:?}"));
    let meant: Vec<Fault> = fault::ALL.into_iter().filter(is_meant).collect();
    assert!(!meant.is_empty(), "no fault has this name: {named:?}; there are {:?}", fault::ALL);
    for fault in meant {
        let (began, found) = (Instant::now(), Mutex::new(None));
        each(0..MOST_SEEDS_A_FAULT, Some(fault), |seed, run| {
            let broken = run.broken.is_some();
            if let Some(why) = run.broken {
                found.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((seed, why));
            }
            broken
        });
        match found.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((seed, why)) => eprintln!("{fault:?}: seed {seed}, {:.1?}: {why}", began.elapsed()),
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found within {MOST_SEEDS_A_FAULT} seeds: {missed:?}");
}
