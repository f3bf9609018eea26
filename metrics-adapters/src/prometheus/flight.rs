//! Who may ask now: one read per rollout, so many queries at once, none while the circuit is open.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_rollout::RolloutId;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::{Ask, SourceError, breaker::Breaker};

#[derive(Debug)]
pub(super) struct Gate {
    server: String,
    begun: Instant,
    patience: Duration,
    permits: Semaphore,
    breaker: Mutex<Breaker>,
    flying: Mutex<BTreeSet<RolloutId>>,
}

impl Gate {
    pub(super) fn new(server: &str, concurrency: usize, patience: Duration) -> Gate {
        // Each process has its own randomness here, so that several daemons' probes fall apart.
        let seed = RandomState::new().hash_one(server);
        Gate {
            server: server.to_owned(),
            begun: Instant::now(),
            patience,
            permits: Semaphore::new(concurrency.max(1)),
            breaker: Mutex::new(Breaker::new(seed)),
            flying: Mutex::default(),
        }
    }

    /// Waits for its turn, at most as long as a query may take.
    pub(super) async fn enter(&self) -> Result<Pass<'_>, SourceError> {
        let permit = match timeout(self.patience, self.permits.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(SourceError::Busy { server: self.server.clone() }),
        };
        let admitted = self.breaker().admit(self.now());
        admitted.map_err(|refusal| SourceError::Open {
            server: self.server.clone(),
            failures: refusal.failures,
            wait_ms: refusal.wait_ms,
        })?;
        Ok(Pass { gate: self, left: false, _permit: permit })
    }

    /// Takes those rollouts on board that are not being read already.
    pub(super) fn board(&self, asks: &[Ask]) -> Flights<'_> {
        let mut flying = self.flying();
        let seats =
            asks.iter().map(|ask| flying.insert(ask.rollout.clone()).then(|| ask.rollout.clone())).collect();
        Flights { gate: self, seats }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flying(&self) -> MutexGuard<'_, BTreeSet<RolloutId>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One query on its way.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    left: bool,
    _permit: SemaphorePermit<'a>,
}

impl Pass<'_> {
    pub(super) fn leave(mut self, well: bool) {
        self.left = true;
        let now = self.gate.now();
        let mut breaker = self.gate.breaker();
        if well { breaker.succeeded() } else { breaker.failed(now) }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.gate.breaker().abandoned();
        }
    }
}

/// Rollouts whose read is on its way; they are free again when this is dropped.
#[derive(Debug)]
pub(super) struct Flights<'a> {
    gate: &'a Gate,
    seats: Vec<Option<RolloutId>>,
}

impl Flights<'_> {
    pub(super) fn has(&self, place: usize) -> bool {
        self.seats.get(place).is_some_and(Option::is_some)
    }
}

impl Drop for Flights<'_> {
    fn drop(&mut self) {
        let mut flying = self.gate.flying();
        self.seats.iter().flatten().for_each(|rollout| {
            flying.remove(rollout);
        });
    }
}
