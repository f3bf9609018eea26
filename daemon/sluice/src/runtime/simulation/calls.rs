//! Store, bus and source as the daemon meets them. Every call can be the last one: the daemon dies before it had its
//! effect or after it, before anybody was told.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, pending};
use sluice_analyzers::Arm;
use sluice_bus::{Bus, BusError, Delivery, Doors, Entry, Feed, Followed, Store, StoreError, StoreRevision};
use sluice_metrics_adapters::{Ask, Gauges, PodSample, Reading, Source, SourceError};

use super::{
    checks,
    trouble::{CALM_FROM, Trouble},
    world::{Shared, World},
};

/// How often the source is scraped.
const SCRAPED_EVERY_MS: i64 = 5_000;

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
        let wait = self.lock().chance.u64(1..20);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let dies = self.lock().dies_now();
        if dies == Some(false) {
            self.die().await;
        }
        let lost = {
            let mut world = self.lock();
            let calm = world.at() >= CALM_FROM;
            let unlucky = !calm && world.chance.u8(0..100) == 0;
            if world.is(away) || unlucky {
                return Err(Lost::Before);
            }
            world.is(loses) && world.chance.bool()
        };
        let done = effect(&mut self.lock());
        if dies == Some(true) {
            self.die().await;
        }
        if lost { Err(Lost::After) } else { Ok(done) }
    }

    /// Never comes back.
    pub async fn die(&self) {
        self.lock().dead = true;
        self.news().notify_waiters();
        std::future::pending::<()>().await;
    }
}

impl World {
    /// Whether this call is the last, and if so whether it still has its effect.
    pub fn dies_now(&mut self) -> Option<bool> {
        let left = self.dies_in.as_mut()?;
        *left = left.saturating_sub(1);
        (*left == 0).then(|| self.chance.bool())
    }
}

fn unanswered(lost: Lost) -> BusError {
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
}

#[async_trait]
impl Store for Shared {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError> {
        self.store(|world| world.keys.get(key).cloned()).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError> {
        self.store(|world| {
            let found = world.keys.get(key).map_or(0, |(_, revision)| *revision);
            if found != expected {
                return Err(StoreError::Conflict { key: key.to_owned() });
            }
            world.revision += 1;
            let revision = world.revision;
            world.keys.insert(key.to_owned(), (value, revision));
            checks::saved(world, key);
            Ok(revision)
        })
        .await?
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.store(|world| {
            checks::deleted(world, key);
            world.keys.remove(key);
        })
        .await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store(|world| world.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect()).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let entry = |(key, (value, revision)): (&String, &(Bytes, u64))| Entry {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        self.store(|world| world.keys.iter().filter(|(key, _)| key.starts_with(prefix)).map(entry).collect())
            .await
    }

    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError> {
        self.store(|world| world.logs.entry(log.to_owned()).or_default().push(line)).await
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        self.store(|world| {
            let lines = world.logs.get(log).cloned().unwrap_or_default();
            lines[lines.len().saturating_sub(most)..].to_vec()
        })
        .await
    }

    async fn append_record(&self, _: &str, batch: Bytes) -> Result<(), StoreError> {
        self.store(|world| {
            let place = world.records.len() as u64 + 1;
            world.records.push((place, batch));
        })
        .await
    }

    async fn record(&self, _: &str, after: u64, _: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.store(|world| world.records.iter().filter(|(place, _)| *place > after).cloned().collect()).await
    }
}

#[async_trait]
impl Bus for Shared {
    async fn publish(
        &self,
        subject: &str,
        _: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<(), BusError> {
        let called = self.call(Trouble::BusAway, Trouble::BusAnswersLost, |world| {
            checks::published(world, subject, id);
            world.published.push((subject.to_owned(), id.to_owned(), body));
        });
        called.await.map_err(unanswered)
    }

    async fn dead(&self, _: &Delivery, _: &str) -> Result<(), BusError> {
        Ok(())
    }

    async fn subscribe(&self, _: Feed) -> Result<BoxStream<'static, Delivery>, BusError> {
        Ok(pending().boxed())
    }

    async fn healthy(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn init(&self) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }
}

/// Nobody stands before these doors.
#[async_trait]
impl Doors for Shared {
    async fn publish_event(&self, _: &str, _: &[(String, String)], _: Bytes) -> Result<u64, BusError> {
        Err(unanswered(Lost::Before))
    }

    async fn request(
        &self,
        subject: &str,
        _: &[(String, String)],
        _: Bytes,
        _: Duration,
    ) -> Result<Bytes, BusError> {
        Err(BusError::NoResponders { subject: subject.to_owned() })
    }

    async fn follow(&self, _: &str, _: Option<u64>) -> Result<BoxStream<'static, Followed>, BusError> {
        Ok(pending().boxed())
    }

    async fn answer(&self, _: &str, _: &str) -> Result<Option<Bytes>, BusError> {
        Ok(None)
    }
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

/// Both versions as they were last scraped; the source's clock is right.
fn reading(world: &mut World) -> Reading {
    let at_ms = 1_800_000_000_000 + world.at();
    let pod = |arm, pod: &str, counted: super::world::Counted| PodSample {
        arm,
        pod: pod.to_owned(),
        at_ms,
        requests: counted.requests,
        errors: counted.errors,
        buckets: None,
        started_ms: None,
        ready_ms: None,
        strata: Vec::new(),
    };
    let pods = vec![pod(Arm::Stable, "s", world.stable), pod(Arm::Canary, "c", world.canary)];
    Reading { at_ms, pods, complaints: Vec::new(), next_ms: at_ms + world.skew + SCRAPED_EVERY_MS }
}
