//! The world outside of the daemons, as data. Nothing in it moves by itself: whoever looks at it brings it up to now first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sluice_rollout::{Fence, Timestamp, Weight};
use sluice_traffic::{AbortMark, Observed, Size, Sizes, TargetError, Wanted};
use sluice_wire::{alert::Alert, record::Saved};
use tokio::{sync::Notify, time::Instant};

use super::{
    checks::Watch,
    mail::Mail,
    plan::{NAMES, Plan, Trouble},
};

/// Where simulated time begins.
pub const EPOCH_MS: i64 = 1_800_000_000_000;
/// Requests a second, both versions together.
const RATE: i64 = 200;
/// Lines of a story.
const MOST_LINES: usize = 3_000;

/// The world as one daemon meets it, or as nobody in particular does.
#[derive(Debug, Clone)]
pub struct Shared {
    both: Arc<Both>,
    pub who: Option<usize>,
}

#[derive(Debug)]
struct Both {
    world: Mutex<World>,
    /// Something at the target or the workloads has changed.
    news: Notify,
    /// A message has come.
    mail: Notify,
    /// The daemon has died, or others are to have their turn.
    halts: Vec<Notify>,
    /// The daemon is told to stop.
    stops: Vec<Notify>,
}

/// One daemon's process.
#[derive(Debug, Default)]
pub struct Life {
    /// Its so many-th start; 0: never started.
    pub start: u32,
    /// World's time (ms) at its start, and its own clock's then; none: it does not run.
    pub offset: i64,
    pub began: Option<Instant>,
    /// World's time as this process has lived it.
    pub local: i64,
    /// How far its wall clock is off.
    pub skew: i64,
    /// Calls until it dies.
    pub dies_in: Option<u32>,
    pub dead: bool,
    /// Asked to stop.
    pub stopping: bool,
    pub frozen_until: Option<i64>,
    pub starts_at: i64,
    /// Since when it has run and every call of its came through.
    pub well_since: i64,
}

/// Keys, logs and records.
#[derive(Debug, Default)]
pub struct Kept {
    pub keys: BTreeMap<String, (Bytes, u64)>,
    pub revision: u64,
    /// How all stood at a copy that was made now and then.
    pub copy: Option<BTreeMap<String, (Bytes, u64)>>,
    /// The next start finds the last copy.
    pub restores: bool,
    pub logs: BTreeMap<String, Vec<Bytes>>,
    pub records: BTreeMap<String, Vec<(u64, Bytes)>>,
    /// The states that are in the store by attempt, read once.
    pub states: BTreeMap<String, Arc<Saved>>,
    /// The latest attempt.
    pub latest: Option<String>,
}

/// A weight on its way to the target. It lands whether or not its sender still lives.
#[derive(Debug, Clone)]
pub struct Flight {
    pub number: u64,
    pub lands: i64,
    pub who: Option<usize>,
    pub start: u32,
    pub wanted: Wanted,
}

/// What carries the traffic.
#[derive(Debug, Default)]
pub struct Router {
    pub weight: Weight,
    pub fence: Option<Fence>,
    pub mark: Option<AbortMark>,
    pub version: u64,
    pub flights: Vec<Flight>,
    sent: u64,
    pub landed: BTreeMap<u64, Result<Observed, TargetError>>,
}

#[derive(Debug, Default)]
pub struct Pods {
    pub sizes: Sizes,
    pub stable_fence: Option<Fence>,
    pub canary_fence: Option<Fence>,
    pub version: u64,
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

/// What both versions counted, until when.
#[derive(Debug, Default)]
pub struct Served {
    pub stable: Counted,
    pub canary: Counted,
    until: i64,
    /// As it was read, by the source's time: requests and errors of stable and canary.
    pub samples: BTreeMap<i64, [(u64, u64); 2]>,
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    /// For latencies and losses.
    pub chance: fastrand::Rng,
    pub lives: Vec<Life>,
    /// Whoever looks just now.
    pub who: Option<usize>,
    /// Whose turn it is: only within it does a daemon's own clock tell the time.
    pub turn: Option<usize>,
    /// The latest time (ms since the run's begin) that any daemon has lived.
    pub clock: i64,
    /// When a daemon last called anything outside.
    pub called: i64,
    /// When what must not stay so for long was last looked for: once a millisecond.
    checked: i64,
    pub story: Vec<String>,
    pub broken: Option<String>,
    pub kept: Kept,
    pub mail: Mail,
    /// Commands at the HTTP door that are being carried out.
    pub visits: u32,
    pub router: Router,
    pub pods: Pods,
    pub served: Served,
    /// Subject, id and body of what was told.
    pub published: Vec<(String, String, Bytes)>,
    pub alerts: Vec<Alert>,
    pub checks: Watch,
}

impl Shared {
    pub fn with(plan: Plan, chance: fastrand::Rng) -> Shared {
        let lives = (0..plan.daemons).map(|_| Life::default()).collect();
        let each = || (0..plan.daemons).map(|_| Notify::new()).collect();
        let (halts, stops) = (each(), each());
        let sizes =
            Sizes { stable: Size { wanted: 3, available: 3 }, canary: Size { wanted: 1, available: 1 } };
        let mut world = World {
            plan,
            chance,
            lives,
            who: None,
            turn: None,
            clock: 0,
            called: 0,
            checked: 0,
            story: Vec::new(),
            broken: None,
            kept: Kept::default(),
            mail: Mail::default(),
            visits: 0,
            router: Router::default(),
            pods: Pods { sizes, ..Pods::default() },
            served: Served::default(),
            published: Vec::new(),
            alerts: Vec::new(),
            checks: Watch::default(),
        };
        let drawn = format!("drawn: {:?}", world.plan);
        world.note(drawn);
        let both = Both { world: Mutex::new(world), news: Notify::new(), mail: Notify::new(), halts, stops };
        Shared { both: Arc::new(both), who: None }
    }

    /// The same world as this daemon meets it.
    pub fn of(&self, who: usize) -> Shared {
        Shared { both: self.both.clone(), who: Some(who) }
    }

    /// The world as it is now.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        let mut world = self.raw();
        let before = (world.router.version, world.pods.version);
        world.look(self.who);
        if before != (world.router.version, world.pods.version) {
            self.both.news.notify_waiters();
        }
        world
    }

    fn raw(&self) -> MutexGuard<'_, World> {
        self.both.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock of whoever looks.
    pub fn wall(&self) -> Timestamp {
        let world = self.raw();
        let Some(life) = self.who.and_then(|who| world.lives.get(who)) else {
            return Timestamp::from_millis(EPOCH_MS + world.clock);
        };
        let now = if world.turn == self.who { life.now() } else { life.local };
        Timestamp::from_millis(EPOCH_MS + now + life.skew)
    }

    pub fn note(&self, what: String) {
        self.lock().note(what);
    }

    pub fn news(&self) -> &Notify {
        &self.both.news
    }

    pub fn mail(&self) -> &Notify {
        &self.both.mail
    }

    /// Its turn begins, or ends; within its own runtime.
    pub fn turn(&self, begins: bool) {
        let turn = self.who.filter(|_| begins);
        let mut world = self.lock();
        world.turn = turn;
        world.look(self.who);
    }

    /// Ends this daemon's turn, or its life.
    pub fn halt(&self) {
        if let Some(halt) = self.who.and_then(|who| self.both.halts.get(who)) {
            halt.notify_one();
        }
    }

    /// Tells a daemon to stop.
    pub fn stop(&self, who: usize) {
        if let Some(life) = self.lock().lives.get_mut(who).filter(|life| life.runs()) {
            life.stopping = true;
        }
        if let Some(stop) = self.both.stops.get(who) {
            stop.notify_one();
        }
    }

    /// Until this daemon is told to stop.
    pub async fn stopped(&self) {
        while !self.lock().life().is_some_and(|life| life.stopping) {
            match self.who.and_then(|who| self.both.stops.get(who)) {
                Some(stop) => stop.notified().await,
                None => std::future::pending().await,
            }
        }
    }

    pub async fn halted(&self) {
        match self.who.and_then(|who| self.both.halts.get(who)) {
            Some(halt) => halt.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Life {
    /// World's time by its own clock; only within its own runtime.
    fn now(&self) -> i64 {
        let lived = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.offset + i64::try_from(lived.as_millis()).unwrap_or(i64::MAX)
    }

    pub fn runs(&self) -> bool {
        self.began.is_some() && !self.dead
    }
}

impl World {
    fn look(&mut self, who: Option<usize>) {
        self.who = who;
        let turn = who.filter(|_| self.turn == who);
        if let Some(life) = turn.and_then(|who| self.lives.get_mut(who)).filter(|life| life.began.is_some()) {
            life.local = life.now();
            self.clock = self.clock.max(life.local);
        }
        self.move_on();
    }

    /// The time of whoever looks (ms since the run began).
    pub fn at(&self) -> i64 {
        self.life().map_or(self.clock, |life| life.local)
    }

    pub fn life(&self) -> Option<&Life> {
        self.lives.get(self.who?)
    }

    pub fn life_mut(&mut self) -> Option<&mut Life> {
        self.lives.get_mut(self.who?)
    }

    pub fn start(&self) -> u32 {
        self.life().map_or(0, |life| life.start)
    }

    pub fn name(&self) -> &'static str {
        self.who.and_then(|who| NAMES.get(who)).unwrap_or(&"world")
    }

    pub fn note(&mut self, what: String) {
        let line = format!("{:>8.3} s  {:<5} {what}", self.at() as f64 / 1000.0, self.name());
        if self.story.len() < MOST_LINES {
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

    /// Whether whoever looks has this trouble.
    pub fn is(&self, trouble: Trouble) -> bool {
        self.plan.is(trouble, self.who, self.clock)
    }

    pub fn observed(&self) -> Observed {
        let Router { weight, fence, ref mark, .. } = self.router;
        Observed { canary: weight, written: weight.to_string(), fence, abort: mark.clone() }
    }

    fn move_on(&mut self) {
        let now = self.clock;
        self.router.flights.sort_by_key(|flight| (flight.lands, flight.number));
        while self.router.flights.first().is_some_and(|flight| flight.lands <= now) {
            let flight = self.router.flights.remove(0);
            self.serve(flight.lands);
            super::target::land(self, flight);
        }
        self.serve(now);
        if now > self.checked {
            self.checked = now;
            super::checks::all_the_time(self);
        }
    }

    /// Users are served according to the weight that stands.
    fn serve(&mut self, until: i64) {
        let elapsed = until - self.served.until;
        if elapsed <= 0 {
            return;
        }
        self.served.until = until;
        let to_canary = RATE * elapsed * i64::from(self.router.weight.hundredths()) / 10_000;
        let bad = self.plan.is_bad(until);
        self.served.canary.add(to_canary, if bad { 3 } else { 500 });
        self.served.stable.add(RATE * elapsed - to_canary, 500);
    }
}

impl Router {
    /// A number of its own for each weight that is sent.
    pub fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }
}

impl Counted {
    /// Thousandths of requests, of which one in so many fails.
    fn add(&mut self, thousandths: i64, one_in: i64) {
        self.rest += thousandths;
        let whole = self.rest / 1000;
        self.rest %= 1000;
        self.requests += whole.unsigned_abs();
        // When more begin to fail, what is left over of before makes no error that no request has.
        self.rest_errors = self.rest_errors % one_in + whole;
        self.errors += (self.rest_errors / one_in).unsigned_abs();
        self.rest_errors %= one_in;
    }
}
