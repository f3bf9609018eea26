//! Reads a part of a stream once, from its beginning to its present end: keys of a bucket, lines of a log.
//!
//! A consumer without acknowledgements that lives for seconds, in the server's memory. One filter, since 2.9 knows no
//! several. It also brings what changes while it reads, so no key is missed that moves to the end meanwhile.
//!
//! How many are left the server says with each message; 2.9 counts one too many for ever where a key is replaced at the moment in
//! which the consumer is made. So a reading ends also when it has seen as many subjects as there were messages at its beginning.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, Info, IntoConsumerConfig, pull};
use futures::StreamExt;
use serde_json::json;

use super::core::Core;
use crate::{BusError, CALL_LIMIT};

const BATCH: usize = 200;
/// Of messages that may be large.
const SMALL_BATCH: usize = 8;
const LIVES: Duration = Duration::from_secs(10);

/// Gives every message of `stream` below `filter` to `take`, with its sequence.
pub(super) async fn read(
    core: &Core,
    stream: &str,
    filter: &str,
    headers_only: bool,
    mut take: impl FnMut(Message, u64),
) -> Result<(), BusError> {
    let (consumer, pending) = begin(core, stream, filter, headers_only, DeliverPolicy::All).await?;
    let mut left = pending;
    let mut subjects = BTreeSet::new();
    while left > 0 && (subjects.len() as u64) < pending {
        let mut seen = |message: Message, sequence| {
            subjects.insert(message.subject.to_string());
            take(message, sequence);
        };
        let read = tokio::time::timeout(CALL_LIMIT, batch(core, &consumer, BATCH, &mut seen));
        match read.await.unwrap_or_else(|_| Err(core.timeout()))? {
            Some(pending) => left = pending,
            None => break,
        }
    }
    Ok(())
}

/// Gives the messages below `filter` that come after a sequence to `take`, until it says that it has enough.
pub(super) async fn read_after(
    core: &Core,
    stream: &str,
    filter: &str,
    after: u64,
    mut take: impl FnMut(Message, u64) -> bool,
) -> Result<(), BusError> {
    let from = DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) };
    let (consumer, mut left) = begin(core, stream, filter, false, from).await?;
    let mut enough = false;
    while left > 0 && !enough {
        let mut until_enough = |message, sequence| enough = enough || take(message, sequence);
        let read = tokio::time::timeout(CALL_LIMIT, batch(core, &consumer, SMALL_BATCH, &mut until_enough));
        left = read.await.unwrap_or_else(|_| Err(core.timeout()))?.unwrap_or(0);
    }
    Ok(())
}

async fn begin(
    core: &Core,
    stream: &str,
    filter: &str,
    headers_only: bool,
    deliver_policy: DeliverPolicy,
) -> Result<(Consumer<pull::Config>, u64), BusError> {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        deliver_policy,
        filter_subject: filter.to_owned(),
        headers_only,
        memory_storage: true,
        num_replicas: 1,
        inactive_threshold: LIVES,
        ..pull::Config::default()
    };
    let question = json!({"stream_name": stream, "config": config.clone().into_consumer_config()});
    let made = core.ask(&format!("CONSUMER.CREATE.{stream}"), &question).await;
    let info: Info = made.map_err(|fault| fault.about(&format!("stream {stream}")))?;
    let pending = info.num_pending;
    Ok((Consumer::new(config, info, core.context.clone()), pending))
}

/// Takes one batch; says how many are left, or nothing if none came.
async fn batch(
    core: &Core,
    consumer: &Consumer<pull::Config>,
    size: usize,
    take: &mut impl FnMut(Message, u64),
) -> Result<Option<u64>, BusError> {
    let mut messages =
        consumer.fetch().max_messages(size).messages().await.map_err(|error| core.failed(&error))?;
    let mut left = None;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| core.failed(error.as_ref()))?;
        let info = message.info().map_err(|error| BusError::Other(error.to_string()))?;
        let sequence = info.stream_sequence;
        left = Some(info.pending);
        take(message.message, sequence);
    }
    Ok(left)
}
