//! Keys and logs of the embedded bus.

use async_trait::async_trait;
use bytes::Bytes;

use super::lanes::Lane;
use super::order::{Order, Outcome};
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
        let order = Order::Append { log: log.to_owned(), line, at: now().millis() };
        self.core.writer.write(Lane::Urgent, order).await?;
        Ok(())
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        keys::checked(log)?;
        let log = log.to_owned();
        Ok(self.core.read(move |transaction| records::lines(transaction, &log, most)).await?)
    }
}

fn fits(key: &str, value: &[u8]) -> Result<(), StoreError> {
    keys::checked(key)?;
    if value.len() > MOST_VALUE_BYTES {
        return Err(StoreError::TooLarge { key: key.to_owned(), bytes: value.len(), most: MOST_VALUE_BYTES });
    }
    Ok(())
}
