//! Store and source as a daemon meets them. Every call can be its last one: it dies before the call had its effect or
//! after it, before anybody was told.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_analyzers::Arm;
use sluice_bus::{BusError, Entry, Store, StoreError, StoreRevision};
use sluice_metrics_adapters::{Ask, Gauges, PodSample, Reading, Source, SourceError};

use super::{
    checks,
    plan::Trouble,
    world::{EPOCH_MS, Shared, World},
};

/// How often the source is scraped.
const SCRAPED_EVERY_MS: i64 = 5_000;

/// After a call others follow within this, or none (ms).
const BUSY: i64 = 50;

/// What became of a call that had no answer.
pub enum Lost {
    Before,
    After,
}

impl Shared {
    /// One call: it takes its time, may be the daemon's last, may fail or lose its answer.
    pub async fn call<T>(
        &self,
        away: Trouble,
        loses: Trouble,
        effect: impl FnOnce(&mut World) -> T,
    ) -> Result<T, Lost> {
        let first = {
            let mut world = self.lock();
            let idle = world.lives.len() > 1 && !world.is_busy();
            world.called = world.clock;
            idle
        };
        if first {
            // From here on turns are short: whoever is behind comes up first.
            self.halt();
        }
        self.call_aside(away, loses, effect).await
    }

    /// One that makes no turn short.
    async fn call_aside<T>(
        &self,
        away: Trouble,
        loses: Trouble,
        effect: impl FnOnce(&mut World) -> T,
    ) -> Result<T, Lost> {
        let wait = self.lock().chance.u64(1..20);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let dies = self.lock().dies_now();
        if dies == Some(false) {
            self.die().await;
        }
        let (done, yields) = {
            let mut world = self.lock();
            let unlucky = world.clock < world.plan.calm_from && world.chance.u8(0..100) == 0;
            if world.is(away) || unlucky {
                world.is_unwell();
                return Err(Lost::Before);
            }
            let lost = world.is(loses) && world.chance.bool();
            let done = effect(&mut world);
            if lost {
                world.is_unwell();
            }
            let yields = world.lives.len() > 1 && world.chance.u8(0..8) == 0;
            (if lost { Err(Lost::After) } else { Ok(done) }, yields)
        };
        if dies == Some(true) {
            self.die().await;
        }
        if yields {
            self.halt();
        }
        done
    }

    /// Never comes back.
    pub async fn die(&self) {
        if let Some(life) = self.lock().life_mut() {
            life.dead = true;
        }
        self.halt();
        std::future::pending::<()>().await;
    }
}

impl World {
    /// Calls are under way, or were just now.
    pub fn is_busy(&self) -> bool {
        self.clock - self.called < BUSY
    }

    /// Whether this call is the daemon's last, and if so whether it still has its effect.
    fn dies_now(&mut self) -> Option<bool> {
        let left = self.life_mut()?.dies_in.as_mut()?;
        *left = left.saturating_sub(1);
        let dies = *left == 0;
        self.checks.cut |= dies;
        dies.then(|| self.chance.bool())
    }

    fn is_unwell(&mut self) {
        let now = self.clock;
        if let Some(life) = self.life_mut() {
            life.well_since = now;
        }
    }
}

pub fn unanswered(lost: Lost) -> BusError {
    match lost {
        Lost::Before => BusError::Unreachable("simulated".into()),
        Lost::After => BusError::Timeout(Duration::from_secs(5)),
    }
}

impl Shared {
    async fn store<T>(&self, effect: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        let called = self.call(Trouble::StoreAway, Trouble::StoreAnswersLost, effect).await;
        called.map_err(|lost| StoreError::Bus(unanswered(lost)))
    }

    /// The same of these keys. Beats come and are looked at all the time: nobody acts in between them.
    async fn about<T>(&self, below: &str, effect: impl FnOnce(&mut World) -> T) -> Result<T, StoreError> {
        if !below.starts_with("daemon/") {
            return self.store(effect).await;
        }
        let called = self.call_aside(Trouble::StoreAway, Trouble::StoreAnswersLost, effect).await;
        called.map_err(|lost| StoreError::Bus(unanswered(lost)))
    }
}

#[async_trait]
impl Store for Shared {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError> {
        self.about(key, |world| world.kept.keys.get(key).cloned()).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError> {
        self.about(key, |world| {
            let found = world.kept.keys.get(key).map_or(0, |(_, revision)| *revision);
            if found != expected {
                return Err(StoreError::Conflict { key: key.to_owned() });
            }
            world.kept.revision += 1;
            let revision = world.kept.revision;
            world.kept.keys.insert(key.to_owned(), (value, revision));
            checks::saving::saved(world, key);
            Ok(revision)
        })
        .await?
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store(|world| {
            checks::saving::deleted(world, key);
            world.kept.keys.remove(key);
            checks::saving::forgotten(world, key);
        })
        .await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store(|world| below(world, prefix).map(|(key, _)| key.clone()).collect()).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let entry = |(key, (value, revision)): (&String, &(Bytes, u64))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        self.about(prefix, |world| below(world, prefix).map(entry).collect()).await
    }

    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError> {
        self.store(|world| world.kept.logs.entry(log.to_owned()).or_default().push(line)).await
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        self.store(|world| {
            let lines = world.kept.logs.get(log).cloned().unwrap_or_default();
            lines[lines.len().saturating_sub(most)..].to_vec()
        })
        .await
    }

    async fn append_record(&self, record: &str, batch: Bytes) -> Result<(), StoreError> {
        self.store(|world| {
            let batches = world.kept.records.entry(record.to_owned()).or_default();
            batches.push((batches.len() as u64 + 1, batch));
        })
        .await
    }

    async fn record(&self, record: &str, after: u64, _: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.store(|world| {
            let batches = world.kept.records.get(record).into_iter().flatten();
            batches.filter(|(place, _)| *place > after).cloned().collect()
        })
        .await
    }
}

fn below<'a>(world: &'a World, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a (Bytes, u64))> {
    world.kept.keys.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
}

#[async_trait]
impl Source for Shared {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    async fn read(&self, asks: &[Ask], _: i64) -> Vec<Result<Reading, SourceError>> {
        let called = self.call(Trouble::SourceDown, Trouble::SourceDown, reading).await;
        let down = |_| SourceError::Unreachable { server: "simulated".into(), why: "down".into() };
        let read = called.map_err(down);
        asks.iter().map(|_| read.clone()).collect()
    }

    async fn gauges(&self, _: &Ask, _: i64) -> Result<Gauges, SourceError> {
        Err(SourceError::Unsupported("no gauges".into()))
    }

    async fn history(&self, _: &Ask, _: i64, _: i64, _: Duration) -> Result<Vec<Reading>, SourceError> {
        Err(SourceError::Unsupported("no history".into()))
    }
}

/// Both versions as they were last scraped; the source's clock is right. A replica that is behind has an earlier scrape.
fn reading(world: &mut World) -> Reading {
    let now = EPOCH_MS + world.clock;
    let counted = |counted: super::world::Counted| (counted.requests, counted.errors);
    world.served.samples.insert(now, [counted(world.served.stable), counted(world.served.canary)]);
    let behind = world.is(Trouble::SourceBehind) && world.chance.bool();
    let newest = world.served.samples.iter().rev();
    let (at_ms, [stable, canary]) = newest
        .take(3)
        .nth(if behind { 2 } else { 0 })
        .map_or((now, [(0, 0); 2]), |(at, counted)| (*at, *counted));
    let pod = |arm, pod: &str, (requests, errors)| PodSample {
        arm,
        pod: pod.to_owned(),
        at_ms,
        requests,
        errors,
        buckets: None,
        started_ms: None,
        ready_ms: None,
        strata: Vec::new(),
    };
    let pods = vec![pod(Arm::Stable, "s", stable), pod(Arm::Canary, "c", canary)];
    let skew = world.life().map_or(0, |life| life.skew);
    Reading { at_ms: now, pods, complaints: Vec::new(), next_ms: now + skew + SCRAPED_EVERY_MS }
}
