//! The world outside of the daemon, as data. Nothing in it moves by itself: whoever looks at it brings it up to now first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sluice_rollout::{Fence, Timestamp, Weight};
use sluice_traffic::{AbortMark, Observed, Sizes, TargetError, Wanted};
use sluice_wire::{message::Answer, record::Saved};
use tokio::{sync::Notify, time::Instant};

use super::{
    checks,
    trouble::{Plan, Trouble},
};

/// Where simulated time begins.
const EPOCH_MS: i64 = 1_800_000_000_000;
/// Requests a second, both versions together.
const RATE: i64 = 200;

#[derive(Debug, Clone)]
pub struct Shared(Arc<Both>);

#[derive(Debug)]
struct Both {
    world: Mutex<World>,
    /// Something at the target or the workloads has changed, or the daemon is to die.
    pub news: Notify,
}

/// A weight on its way to the target. It lands whether or not its sender still lives.
#[derive(Debug, Clone)]
pub struct Flight {
    pub number: u64,
    pub lands: i64,
    pub start: u32,
    pub wanted: Wanted,
}

/// What one version counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    pub requests: u64,
    pub errors: u64,
    /// Thousandths of a request that are not whole yet.
    rest: i64,
    rest_errors: i64,
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    /// For latencies and losses.
    pub chance: fastrand::Rng,
    /// Simulated time (ms since the run's begin) at which this start's own clock began.
    pub offset: i64,
    pub began: Option<Instant>,
    /// How far the wall clock is off.
    pub skew: i64,
    pub start: u32,
    /// An owner of this start has the rollout in hand.
    pub owned: bool,
    pub story: Vec<String>,
    pub broken: Option<String>,
    /// Calls until the daemon dies; at 0 it is dead.
    pub dies_in: Option<u32>,
    pub dead: bool,

    pub keys: BTreeMap<String, (Bytes, u64)>,
    /// The state that is in the store, read once.
    durable: Option<Arc<Saved>>,
    pub revision: u64,
    /// Copies of the store that were made now and then.
    pub copy: Option<BTreeMap<String, (Bytes, u64)>>,
    /// The next start finds the last copy.
    pub restores: bool,
    pub logs: BTreeMap<String, Vec<Bytes>>,
    pub records: Vec<(u64, Bytes)>,

    pub weight: Weight,
    pub fence: Option<Fence>,
    pub mark: Option<AbortMark>,
    pub target_version: u64,
    pub flights: Vec<Flight>,
    pub landed: BTreeMap<u64, Result<Observed, TargetError>>,
    pub latest_landing: u32,
    pub sizes: Sizes,
    pub sizes_version: u64,

    pub stable: Counted,
    pub canary: Counted,
    pub counted_until: i64,

    pub published: Vec<(String, String, Bytes)>,
    pub answers: BTreeMap<String, Vec<Answer>>,
    pub usurped: bool,
    pub checks: checks::Watch,
}

impl Shared {
    pub fn new(seed: u64) -> Shared {
        let mut chance = fastrand::Rng::with_seed(seed);
        let plan = Plan::draw(&mut chance);
        let mut world = World {
            plan,
            chance,
            offset: 0,
            began: None,
            skew: 0,
            start: 0,
            owned: false,
            story: Vec::new(),
            broken: None,
            dies_in: None,
            dead: false,
            keys: BTreeMap::new(),
            durable: None,
            revision: 0,
            copy: None,
            restores: false,
            logs: BTreeMap::new(),
            records: Vec::new(),
            weight: Weight::ZERO,
            fence: None,
            mark: None,
            target_version: 0,
            flights: Vec::new(),
            landed: BTreeMap::new(),
            latest_landing: 0,
            sizes: Sizes::default(),
            sizes_version: 0,
            stable: Counted::default(),
            canary: Counted::default(),
            counted_until: 0,
            published: Vec::new(),
            answers: BTreeMap::new(),
            usurped: false,
            checks: checks::Watch::default(),
        };
        world.sizes.stable = sluice_traffic::Size { wanted: 3, available: 3 };
        world.sizes.canary = sluice_traffic::Size { wanted: 1, available: 1 };
        let drawn = format!("{:?}", world.plan);
        world.note(format!("drawn: {drawn}"));
        Shared(Arc::new(Both { world: Mutex::new(world), news: Notify::new() }))
    }

    /// The world as it is now.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (world.target_version, world.sizes_version);
        world.move_on();
        if before != (world.target_version, world.sizes_version) {
            self.0.news.notify_waiters();
        }
        world
    }

    pub fn wall(&self) -> Timestamp {
        let world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_millis(EPOCH_MS + world.at() + world.skew)
    }

    pub fn note(&self, what: String) {
        self.lock().note(what);
    }

    pub fn news(&self) -> &Notify {
        &self.0.news
    }

    /// A new start: the runtime's own clock begins at 0 again, the world's goes on.
    pub fn begin(&self, start: u32) {
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.began = Some(Instant::now());
        (world.start, world.dead, world.dies_in, world.owned) = (start, false, None, false);
        world.checks.must_abort = false;
        if std::mem::take(&mut world.restores) {
            checks::restore(&mut world);
        }
    }

    /// The runtime is gone, and with it its clock.
    pub fn end(&self) {
        let mut world = self.0.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.offset = world.at();
        world.began = None;
    }
}

impl World {
    /// Milliseconds since the run began.
    pub fn at(&self) -> i64 {
        let lived = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.offset + i64::try_from(lived.as_millis()).unwrap_or(i64::MAX)
    }

    pub fn note(&mut self, what: String) {
        let line = format!("{:>8.3} s  {what}", self.at() as f64 / 1000.0);
        if self.story.len() < 2_000 {
            self.story.push(line);
        }
    }

    /// The first one stands.
    pub fn broken(&mut self, invariant: u8, what: &str) {
        if self.broken.is_none() {
            self.note(format!("invariant {invariant} is broken: {what}"));
        }
        self.broken.get_or_insert_with(|| format!("invariant {invariant}: {what}"));
    }

    pub fn is(&self, trouble: Trouble) -> bool {
        self.plan.is(trouble, self.at())
    }

    /// The state that is in the store.
    pub fn durable(&self) -> Option<Arc<Saved>> {
        self.durable.clone()
    }

    /// To be called after every change of the store.
    pub fn read_again(&mut self) {
        let state = self.keys.iter().find(|(key, _)| key.starts_with("state/"));
        self.durable = state.and_then(|(_, (value, _))| serde_json::from_slice(value).ok()).map(Arc::new);
    }

    pub fn phase(&self) -> String {
        self.durable().map_or("not begun".to_owned(), |saved| saved.state.phase.name().to_owned())
    }

    pub fn observed(&self) -> Observed {
        let (canary, written) = (self.weight, self.weight.to_string());
        Observed { canary, written, fence: self.fence, abort: self.mark.clone() }
    }

    fn move_on(&mut self) {
        let now = self.at();
        self.flights.sort_by_key(|flight| (flight.lands, flight.number));
        while self.flights.first().is_some_and(|flight| flight.lands <= now) {
            let flight = self.flights.remove(0);
            self.count(flight.lands);
            super::target::land(self, flight);
        }
        self.count(now);
        checks::all_the_time(self);
    }

    /// Users are served according to the weight that stands.
    fn count(&mut self, until: i64) {
        let elapsed = until - self.counted_until;
        if elapsed <= 0 {
            return;
        }
        self.counted_until = until;
        let to_canary = RATE * elapsed * i64::from(self.weight.hundredths()) / 10_000;
        let bad = self.plan.is_bad(until);
        self.canary.add(to_canary, if bad { 3 } else { 500 });
        self.stable.add(RATE * elapsed - to_canary, 500);
    }
}

impl Counted {
    /// Thousandths of requests, of which one in so many fails.
    fn add(&mut self, thousandths: i64, one_in: i64) {
        self.rest += thousandths;
        let whole = self.rest / 1000;
        self.rest %= 1000;
        self.requests += whole.unsigned_abs();
        self.rest_errors += whole;
        self.errors += (self.rest_errors / one_in).unsigned_abs();
        self.rest_errors %= one_in;
    }
}
