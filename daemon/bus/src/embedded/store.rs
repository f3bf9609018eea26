//! Keys and logs of the embedded bus.

use async_trait::async_trait;
use bytes::Bytes;

use super::lanes::Lane;
use super::order::{Order, Outcome};
use super::records::Shelf;
use super::{Embedded, now, records};
use crate::{BusError, Entry, MOST_VALUE_BYTES, Store, StoreError, StoreRevision, keys};

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError> {
        keys::checked(key)?;
        let key = key.to_owned();
        Ok(self.core.read(move |transaction| records::read(transaction, &key)).await?)
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError> {
        fits(key, &value)?;
        let order = Order::Put { key: key.to_owned(), value, expected };
        match self.core.writer.write(Lane::Urgent, order).await? {
            Outcome::Saved { revision } => Ok(revision),
            Outcome::Conflict => Err(StoreError::Conflict { key: key.to_owned() }),
            other => Err(BusError::Other(format!("a save came to {other:?}")).into()),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        keys::checked(key)?;
        self.core.writer.write(Lane::Urgent, Order::Delete { key: key.to_owned() }).await?;
        Ok(())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix = prefix.to_owned();
        let entries = self.core.read(move |transaction| records::scan(transaction, &prefix, false)).await?;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let prefix = prefix.to_owned();
        Ok(self.core.read(move |transaction| records::scan(transaction, &prefix, true)).await?)
    }

    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError> {
        fits(log, &line)?;
        self.append_to(Shelf::Log, log.to_owned(), line).await
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        keys::checked(log)?;
        let log = log.to_owned();
        Ok(self.core.read(move |transaction| records::lines(transaction, &log, most)).await?)
    }

    async fn append_record(&self, record: &str, batch: Bytes) -> Result<(), StoreError> {
        fits(record, &batch)?;
        self.append_to(Shelf::Records, on_the_shelf(record), batch).await
    }

    async fn record(
        &self,
        record: &str,
        after: u64,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        keys::checked(record)?;
        let log = on_the_shelf(record);
        let read = move |transaction: &_| records::batches(transaction, &log, after, most_bytes);
        Ok(self.core.read(read).await?)
    }
}

impl Embedded {
    async fn append_to(&self, shelf: Shelf, log: String, line: Bytes) -> Result<(), StoreError> {
        // A record never stands in the way of a save.
        let lane = match shelf {
            Shelf::Log => Lane::Urgent,
            Shelf::Records => Lane::Bulk,
        };
        let order = Order::Append { shelf, log, line, at: now().millis() };
        self.core.writer.write(lane, order).await?;
        Ok(())
    }
}

/// No log has such a name: it begins with what no name of ours begins with.
fn on_the_shelf(record: &str) -> String {
    format!("\0record/{record}")
}

fn fits(key: &str, value: &[u8]) -> Result<(), StoreError> {
    keys::checked(key)?;
    if value.len() > MOST_VALUE_BYTES {
        return Err(StoreError::TooLarge { key: key.to_owned(), bytes: value.len(), most: MOST_VALUE_BYTES });
    }
    Ok(())
}
