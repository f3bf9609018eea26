//! NATS JetStream: streams, key-value buckets and consumers on servers from 2.9 on.
//!
//! - Nothing is used that 2.9 drops silently: no several filters on a consumer, no per-message time to live.
//! - The connection comes back by itself, and subscriptions go on where they were.
//! - A forbidden publish is told by the server only on the side; `news` listens there, so the caller gets
//!   [`BusError::Denied`] instead of a timeout.
//!
//! Installing a rustls crypto provider is the binary's job, before [`Nats::connect`].

mod config;
mod core;
mod doors;
mod feed;
mod news;
mod reader;
mod setup;
mod store;

use std::sync::Arc;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::json;
use sluice_wire::subject::DEAD;

pub use self::config::{NatsAuth, NatsConfig, TlsFiles};
use self::core::Core;
use crate::plan::{Stream, Way};
use crate::{Bus, BusError, Delivery, Feed, Headers, letter, subjects};

/// The bus, the store and the doors over one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Nats {
    core: Arc<Core>,
}

impl Nats {
    /// Connects, or says within the time limit why not. Streams are checked by [`Bus::init`].
    pub async fn connect(config: NatsConfig) -> Result<Nats, BusError> {
        Ok(Nats { core: Arc::new(Core::connect(config).await?) })
    }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<(), BusError> {
        match Way::of(subject)? {
            Way::Kept(_) => self.core.publish(subject, headers, body, id).await.map(drop),
            Way::Reply => {
                subjects::literal(subject)?;
                self.core.tell(subject, header_map(headers, &body)?, body).await
            }
            Way::Request => {
                let why = "a request waits for its answer: ask it instead of publishing it";
                Err(BusError::Subject { subject: subject.to_owned(), why: why.into() })
            }
        }
    }

    async fn dead(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let (headers, body) = letter::dead(delivery, reason);
        let id = format!("{} {}", delivery.subject, delivery.message_id);
        self.core.publish(DEAD, &headers, body, &id).await.map(drop)
    }

    async fn subscribe(&self, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError> {
        feed::subscribe(self.core.clone(), feed).await
    }

    async fn healthy(&self) -> Result<(), BusError> {
        if !self.core.is_connected() {
            return Err(self.core.timeout());
        }
        let name = Stream::Overrides.name();
        let info = self.core.ask::<serde_json::Value>(&format!("STREAM.INFO.{name}"), &json!({})).await;
        info.map(drop).map_err(|fault| fault.about(&format!("stream {name}")))
    }

    async fn init(&self) -> Result<Vec<String>, BusError> {
        let mut made = setup::streams(&self.core).await?;
        made.extend(feed::consumers(&self.core).await?);
        Ok(made)
    }
}

impl Core {
    /// Publishes into the stream that keeps this subject and gives its sequence there, or the first one's if it is a
    /// repeat.
    async fn publish(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<u64, BusError> {
        subjects::literal(subject)?;
        let mut map = header_map(headers, &body)?;
        if !id.is_empty() {
            map.insert(NATS_MESSAGE_ID, header_value(id)?);
        }
        let kept = self.keep(subject, map, body).await;
        Ok(kept.map_err(|fault| fault.about(&format!("the stream for {subject}")))?.sequence)
    }
}

/// Headers as the client has them. It would panic on what [`letter::checked`] refuses.
fn header_map(headers: &[(String, String)], body: &[u8]) -> Result<HeaderMap, BusError> {
    letter::checked(headers, body)?;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let refused =
            |error: &dyn std::fmt::Display| BusError::Other(format!("header {name:?} is refused: {error}"));
        let name: HeaderName = name.parse().map_err(|error| refused(&error))?;
        map.append(name, header_value(value)?);
    }
    Ok(map)
}

fn header_value(value: &str) -> Result<HeaderValue, BusError> {
    value
        .parse()
        .map_err(|error| BusError::Other(format!("header value or id {value:?} is refused: {error}")))
}

fn header_list(map: Option<&HeaderMap>) -> Headers {
    let pairs = map.into_iter().flat_map(HeaderMap::iter);
    pairs
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
        .collect()
}
