//! What the store keeps of a policy's attempts.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sluice_bus::{Embedded, Entry};

use super::*;

/// A store that deletes nothing while it is told to fail.
#[derive(Debug)]
struct Failing {
    store: Embedded,
    fails: AtomicBool,
}

#[async_trait]
impl Store for Failing {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError> {
        self.store.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError> {
        self.store.put(key, value, expected).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(BusError::Storage("no deletion just now".into()).into());
        }
        self.store.delete(key).await
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.store.keys(prefix).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        self.store.scan(prefix).await
    }

    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError> {
        self.store.append(log, line).await
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        self.store.log(log, most).await
    }

    async fn append_record(&self, record: &str, batch: Bytes) -> Result<(), StoreError> {
        self.store.append_record(record, batch).await
    }

    async fn record(&self, record: &str, after: u64, most: usize) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.store.record(record, after, most).await
    }
}

fn attempt(number: usize) -> RolloutId {
    RolloutId::new("shop", "checkout", &format!("v{number}")).unwrap()
}

/// Its keys as a beginning leaves them.
async fn begun(store: &Failing, ledger: &Ledger, number: usize) -> Result<RolloutId, StoreError> {
    let id = attempt(number);
    for kind in ["charter", "state"] {
        let key = key(kind, &id);
        if store.get(&key).await?.is_none() {
            store.put(&key, Bytes::from_static(b"{}"), 0).await?;
        }
    }
    ledger.open(&id, "one").await?;
    ledger.make_current(&id, 1).await
}

async fn kept(store: &Failing) -> Vec<usize> {
    let mut kept = Vec::new();
    for kind in ["charter/", "state/", "open/"] {
        kept.push(store.keys(kind).await.unwrap().len());
    }
    kept
}

fn opened() -> (Arc<Failing>, Ledger) {
    let store = Arc::new(Failing { store: Embedded::in_memory().unwrap(), fails: AtomicBool::new(false) });
    (store.clone(), Ledger::new(store))
}

#[tokio::test]
async fn what_is_older_than_the_latest_attempts_goes_although_the_store_failed_at_that_moment() {
    let (store, ledger) = opened();
    for number in 0..=MOST_ATTEMPTS {
        assert_eq!(begun(&store, &ledger, number).await.unwrap(), attempt(number));
    }
    store.fails.store(true, Ordering::Relaxed);
    assert!(begun(&store, &ledger, MOST_ATTEMPTS + 1).await.is_err(), "it is said, and tried again");
    store.fails.store(false, Ordering::Relaxed);
    for number in MOST_ATTEMPTS + 1..MOST_ATTEMPTS + 10 {
        assert_eq!(begun(&store, &ledger, number).await.unwrap(), attempt(number));
    }
    // The one that the last beginning pushed out goes at the next.
    assert_eq!(kept(&store).await, [MOST_ATTEMPTS + 1; 3], "nor is anything of it to be taken up");
}

#[tokio::test]
async fn a_former_attempt_that_is_taken_up_is_not_the_latest() {
    let (store, ledger) = opened();
    for number in 0..=MOST_ATTEMPTS {
        begun(&store, &ledger, number).await.unwrap();
    }
    for former in [attempt(0), attempt(1)] {
        assert_eq!(ledger.make_current(&former, 7).await.unwrap(), attempt(MOST_ATTEMPTS), "{former}");
    }
    assert_eq!(ledger.attempts("shop", "checkout").await.unwrap().epoch, 7);
}
