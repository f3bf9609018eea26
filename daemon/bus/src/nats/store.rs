//! Keys and logs on JetStream. A bucket is the stream `KV_…`, laid out as NATS' own clients do, so `nats kv` shows it.
//!
//! Reads go to the stream's leader. A deleted key is purged, which leaves no trace behind; the marker that other tools
//! leave when they delete one counts as deleted, too.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::core::{Core, Fault};
use super::setup::stream_of_bucket;
use super::{Nats, header_map, reader};
use crate::plan::{ANSWERS_BUCKET, LOG, RECORD, STATE_BUCKET, Stream};
use crate::{BusError, CALL_LIMIT, Entry, MOST_VALUE_BYTES, Store, StoreError, StoreRevision, keys};

/// Says in a bucket that a message deletes its key.
const OPERATION: &str = "KV-Operation";

#[async_trait]
impl Store for Nats {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError> {
        let last = self.core.last(&keys::encode(key)?).await?;
        Ok(last
            .filter(|message| !is_deletion(&message.headers))
            .map(|message| (message.payload, message.sequence)))
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError> {
        fits(key, &value)?;
        let tokens = keys::encode(key)?;
        match self.core.save(&tokens, value.clone(), expected).await {
            Err(Fault::WrongLastSequence) if expected == 0 => {
                self.create_over_deletion(key, &tokens, value).await
            }
            saved => saved.map_err(|fault| unsaved(key, fault)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let filter = subject_of(STATE_BUCKET, &keys::encode(key)?);
        let stream = stream_of_bucket(STATE_BUCKET);
        let what = json!({"filter": filter});
        let purged = self.core.ask::<serde_json::Value>(&format!("STREAM.PURGE.{stream}"), &what).await;
        Ok(purged.map(drop).map_err(|fault| fault.about(&format!("stream {stream}")))?)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.core.entries(prefix, true).await?.into_keys().collect())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let entries = self.core.entries(prefix, false).await?.into_iter();
        Ok(entries.map(|(key, (value, revision))| Entry { key, value, revision }).collect())
    }

    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError> {
        fits(log, &line)?;
        self.core.append(&subject_below(LOG, log)?, line).await
    }

    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError> {
        let subject = subject_below(LOG, log)?;
        let mut lines = VecDeque::new();
        let take = |message: async_nats::Message, _| {
            lines.push_back(message.payload);
            if lines.len() > most {
                lines.pop_front();
            }
        };
        reader::read(&self.core, Stream::Log.name(), &subject, false, take).await?;
        Ok(lines.into())
    }

    async fn append_record(&self, record: &str, batch: Bytes) -> Result<(), StoreError> {
        fits(record, &batch)?;
        self.core.append(&subject_below(RECORD, record)?, batch).await
    }

    async fn record(
        &self,
        record: &str,
        after: u64,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let subject = subject_below(RECORD, record)?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        let take = |message: async_nats::Message, sequence| {
            bytes += message.payload.len();
            let fits = batches.is_empty() || bytes <= most_bytes;
            if fits {
                batches.push((sequence, message.payload));
            }
            !fits
        };
        reader::read_after(&self.core, Stream::Records.name(), &subject, after, take).await?;
        Ok(batches)
    }
}

impl Nats {
    /// Creates a key whose last message says that it was deleted.
    async fn create_over_deletion(
        &self,
        key: &str,
        tokens: &str,
        value: Bytes,
    ) -> Result<StoreRevision, StoreError> {
        match self.core.last(tokens).await? {
            Some(last) if is_deletion(&last.headers) => {
                self.core.save(tokens, value, last.sequence).await.map_err(|fault| unsaved(key, fault))
            }
            Some(_) | None => Err(StoreError::Conflict { key: key.to_owned() }),
        }
    }
}

impl Core {
    /// Whoever was not answered appends again: by its own content the stream knows what it has.
    async fn append(&self, subject: &str, body: Bytes) -> Result<(), StoreError> {
        let mut sum = DefaultHasher::new();
        body.hash(&mut sum);
        let id = format!("{subject} {:x} {:016x}", body.len(), sum.finish());
        self.publish(subject, &[], body, &id).await?;
        Ok(())
    }

    async fn save(
        &self,
        tokens: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        Ok(self.keep(&subject_of(STATE_BUCKET, tokens), headers, value).await?.sequence)
    }

    /// The last message of a key, from the leader.
    async fn last(&self, tokens: &str) -> Result<Option<StreamMessage>, BusError> {
        let stream = stream_of_bucket(STATE_BUCKET);
        let question = json!({"last_by_subj": subject_of(STATE_BUCKET, tokens)});
        match self.ask::<Got>(&format!("STREAM.MSG.GET.{stream}"), &question).await {
            Ok(got) => {
                let read = StreamMessage::try_from(got.message);
                read.map(Some).map_err(|error| BusError::Other(format!("stream {stream}: {error}")))
            }
            Err(Fault::JetStream(word)) if word.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            Err(fault) => Err(fault.about(&format!("stream {stream}"))),
        }
    }

    async fn entries(
        &self,
        prefix: &str,
        headers_only: bool,
    ) -> Result<BTreeMap<String, (Bytes, u64)>, BusError> {
        let root = subject_of(STATE_BUCKET, "");
        let mut entries = BTreeMap::new();
        let take = |message: async_nats::Message, sequence| {
            let key = message.subject.strip_prefix(&root).and_then(keys::decode);
            let Some(key) = key.filter(|key| key.starts_with(prefix)) else { return };
            if message.headers.as_ref().is_some_and(is_deletion) {
                entries.remove(&key);
            } else {
                entries.insert(key, (message.payload, sequence));
            }
        };
        let filter = format!("{root}{}", keys::filter(prefix));
        reader::read(self, &stream_of_bucket(STATE_BUCKET), &filter, headers_only, take).await?;
        Ok(entries)
    }

    pub(super) async fn keep_answer(
        &self,
        user: &str,
        message_id: &str,
        body: Bytes,
    ) -> Result<(), BusError> {
        let subject = subject_of(ANSWERS_BUCKET, &keys::answer(user, message_id));
        let kept = self.keep(&subject, header_map(&[], &body)?, body).await;
        kept.map(drop).map_err(|fault| fault.about(&format!("bucket {ANSWERS_BUCKET}")))
    }

    /// By a direct get, whose subject names the user: so permissions can grant each person just the own answers.
    pub(super) async fn read_answer(&self, user: &str, message_id: &str) -> Result<Option<Bytes>, BusError> {
        let (stream, subject) =
            (stream_of_bucket(ANSWERS_BUCKET), subject_of(ANSWERS_BUCKET, &keys::answer(user, message_id)));
        let direct = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let found = match self.request(&direct, HeaderMap::new(), Bytes::new(), CALL_LIMIT).await {
            Err(BusError::NoResponders { .. }) => {
                return Err(Fault::NoResponders.about(&format!("stream {stream}")));
            }
            found => found?,
        };
        match found.status {
            None | Some(StatusCode::OK) => Ok(Some(found)
                .filter(|found| !found.headers.as_ref().is_some_and(is_deletion))
                .map(|found| found.payload)),
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(other) => Err(BusError::Other(format!("stream {stream}: {other}"))),
        }
    }
}

/// What the server answers to a get.
#[derive(Deserialize)]
struct Got {
    message: RawMessage,
}

fn subject_of(bucket: &str, tokens: &str) -> String {
    format!("$KV.{bucket}.{tokens}")
}

fn subject_below(root: &str, name: &str) -> Result<String, StoreError> {
    Ok(format!("{root}.{}", keys::encode(name)?))
}

fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
        || headers.get("Nats-Marker-Reason").is_some()
}

fn unsaved(key: &str, fault: Fault) -> StoreError {
    match fault {
        Fault::WrongLastSequence => StoreError::Conflict { key: key.to_owned() },
        other => StoreError::Bus(other.about(&format!("bucket {STATE_BUCKET}"))),
    }
}

fn fits(key: &str, value: &[u8]) -> Result<(), StoreError> {
    keys::checked(key)?;
    if value.len() > MOST_VALUE_BYTES {
        return Err(StoreError::TooLarge { key: key.to_owned(), bytes: value.len(), most: MOST_VALUE_BYTES });
    }
    Ok(())
}
