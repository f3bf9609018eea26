//! Reads a part of a stream once, from its beginning to its present end: keys of a bucket, lines of a log.
//!
//! A consumer without acknowledgements that lives for seconds, in the server's memory. One filter, since 2.9 knows no
//! several. It also brings what changes while it reads, so no key is missed that moves to the end meanwhile.

use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, Info, IntoConsumerConfig, pull};
use futures::StreamExt;
use serde_json::json;

use super::core::Core;
use crate::{BusError, CALL_LIMIT};

const BATCH: usize = 200;
const LIVES: Duration = Duration::from_secs(10);

/// Gives every message of `stream` below `filter` to `take`, with its sequence.
pub(super) async fn read(
    core: &Core,
    stream: &str,
    filter: &str,
    headers_only: bool,
    mut take: impl FnMut(Message, u64),
) -> Result<(), BusError> {
    let (consumer, pending) = begin(core, stream, filter, headers_only).await?;
    let mut left = pending;
    while left > 0 {
        let read = tokio::time::timeout(CALL_LIMIT, batch(core, &consumer, &mut take));
        match read.await.unwrap_or_else(|_| Err(core.timeout()))? {
            Some(pending) => left = pending,
            None => break,
        }
    }
    Ok(())
}

async fn begin(
    core: &Core,
    stream: &str,
    filter: &str,
    headers_only: bool,
) -> Result<(Consumer<pull::Config>, u64), BusError> {
    let config = pull::Config {
        ack_policy: AckPolicy::None,
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
    take: &mut impl FnMut(Message, u64),
) -> Result<Option<u64>, BusError> {
    let mut messages =
        consumer.fetch().max_messages(BATCH).messages().await.map_err(|error| core.failed(&error))?;
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
