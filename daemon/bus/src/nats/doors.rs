//! The doors on NATS, as the command line uses them under a person's own credentials.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, DeliverPolicy, Info, IntoConsumerConfig, pull};
use async_nats::jetstream::{self, stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use serde_json::json;
use sluice_rollout::Timestamp;
use tokio::sync::watch;

use super::core::Core;
use super::{Nats, header_list, header_map};
use crate::letter::{MESSAGE_ID, header};
use crate::plan::{Stream, Way};
use crate::{BusError, CALL_LIMIT, Doors, Followed, subjects};

const AFTER_TROUBLE: Duration = Duration::from_millis(200);

#[async_trait]
impl Doors for Nats {
    async fn publish_event(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<u64, BusError> {
        subjects::incoming(subject)?;
        let id = header(headers, MESSAGE_ID).unwrap_or_default().to_owned();
        self.core.publish(subject, headers, body, &id).await
    }

    async fn request(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, BusError> {
        subjects::request(subject)?;
        Ok(self.core.request(subject, header_map(headers, &body)?, body, limit).await?.payload)
    }

    async fn follow(
        &self,
        pattern: &str,
        after: Option<u64>,
    ) -> Result<BoxStream<'static, Followed>, BusError> {
        match subjects::followed(pattern)? {
            Way::Kept(stream) => {
                let follower = Follower::begin(self.core.clone(), stream, pattern.to_owned(), after).await?;
                Ok(follower.stream())
            }
            Way::Reply | Way::Request => Ok(self.core.listen(pattern).await?.map(told).boxed()),
        }
    }

    async fn answer(&self, user: &str, message_id: &str) -> Result<Option<Bytes>, BusError> {
        self.core.read_answer(user, message_id).await
    }
}

/// Reads on from a place in a stream; begun anew after what was seen last, on any trouble.
struct Follower {
    core: Arc<Core>,
    stream: Stream,
    pattern: String,
    seen: u64,
    messages: Option<pull::Ordered>,
    connections: watch::Receiver<u64>,
}

impl Follower {
    async fn begin(
        core: Arc<Core>,
        stream: Stream,
        pattern: String,
        after: Option<u64>,
    ) -> Result<Follower, BusError> {
        let seen = match after {
            Some(after) => after,
            None => last_sequence(&core, stream).await?,
        };
        let connections = core.connections();
        let messages = Some(open(&core, stream, &pattern, seen).await?);
        Ok(Follower { core, stream, pattern, seen, messages, connections })
    }

    fn stream(self) -> BoxStream<'static, Followed> {
        unfold(self, |mut follower| async move { Some((follower.next().await, follower)) }).boxed()
    }

    async fn next(&mut self) -> Followed {
        loop {
            let Some(open) = &mut self.messages else {
                self.open_anew().await;
                continue;
            };
            let message = tokio::select! {
                message = open.next() => message,
                // The consumer lived in the server's memory: it may be gone, and nobody would tell.
                Ok(()) = self.connections.changed() => None,
            };
            match message {
                Some(Ok(message)) => {
                    if let Some(followed) = self.fresh(message) {
                        return followed;
                    }
                }
                Some(Err(_)) | None => self.messages = None,
            }
        }
    }

    /// Nothing for what was seen already.
    fn fresh(&mut self, message: jetstream::Message) -> Option<Followed> {
        let info = message.info().ok()?;
        let (sequence, published) = (info.stream_sequence, info.published.unix_timestamp_nanos() / 1_000_000);
        if sequence <= self.seen {
            return None;
        }
        self.seen = sequence;
        let at = i64::try_from(published).map(Timestamp::from_millis).ok();
        Some(Followed { sequence, at, ..told(message.message) })
    }

    async fn open_anew(&mut self) {
        match open(&self.core, self.stream, &self.pattern, self.seen).await {
            Ok(messages) => self.messages = Some(messages),
            Err(error) => {
                tracing::debug!(%error, pattern = self.pattern, "following waits");
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
    }
}

async fn open(core: &Core, stream: Stream, pattern: &str, seen: u64) -> Result<pull::Ordered, BusError> {
    let config = pull::OrderedConfig {
        filter_subject: pattern.to_owned(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: seen.saturating_add(1) },
        ..pull::OrderedConfig::default()
    };
    let name = stream.name();
    let question = json!({"stream_name": name, "config": config.clone().into_consumer_config()});
    let made = core.ask(&format!("CONSUMER.CREATE.{name}"), &question).await;
    let info: Info = made.map_err(|fault| fault.about(&format!("stream {name}")))?;
    let opening = Consumer::new(config, info, core.context.clone()).messages();
    match tokio::time::timeout(CALL_LIMIT, opening).await {
        Ok(opened) => opened.map_err(|error| core.failed(&error)),
        Err(_) => Err(core.timeout()),
    }
}

async fn last_sequence(core: &Core, stream: Stream) -> Result<u64, BusError> {
    let name = stream.name();
    let info = core.ask::<stream::Info>(&format!("STREAM.INFO.{name}"), &json!({})).await;
    Ok(info.map_err(|fault| fault.about(&format!("stream {name}")))?.state.last_sequence)
}

fn told(message: async_nats::Message) -> Followed {
    let headers = header_list(message.headers.as_ref());
    Followed { sequence: 0, subject: message.subject.to_string(), headers, body: message.payload, at: None }
}
