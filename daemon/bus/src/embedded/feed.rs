//! Subscriptions of the daemon: stored messages until they are acknowledged, and requests beside overrides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use super::lanes::Lane;
use super::order::Order;
use super::{Core, messages, now};
use crate::letter::{REPLY_TO, header};
use crate::plan::Stream;
use crate::{Ack, AckPort, BusError, Delivery, Feed, Followed, keys, subjects};

/// When the file could not be read: the next try.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

pub(super) fn subscribe(core: Arc<Core>, feed: Feed) -> BoxStream<'static, Delivery> {
    match feed {
        Feed::Events => stored(core, feed),
        Feed::Overrides => {
            let requests = requests(core.callers.listen());
            // They take turns, so that neither door waits behind the other.
            stream::select(requests, stored(core, feed)).boxed()
        }
    }
}

fn requests(receiver: mpsc::Receiver<Delivery>) -> BoxStream<'static, Delivery> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|next| (next, receiver)) })
        .boxed()
}

fn stored(core: Arc<Core>, feed: Feed) -> BoxStream<'static, Delivery> {
    stream::unfold(core, move |core| async move { Some((next(&core, feed).await, core)) }).boxed()
}

/// The next stored message that is due.
async fn next(core: &Arc<Core>, feed: Feed) -> Delivery {
    let stream = stream_of(feed);
    loop {
        let (sequence, attempt) = core.signals.mailbox(feed).next(core.ack_wait).await;
        match core.read(move |transaction| messages::read(transaction, stream, sequence)).await {
            Ok(Some((message, id))) => {
                note_delivery(core, stream, sequence, attempt).await;
                return delivery(core.clone(), feed, message, id, attempt);
            }
            Ok(None) => core.signals.mailbox(feed).remove(sequence),
            Err(error) => {
                tracing::warn!(%error, sequence, "a stored message could not be read");
                core.signals.mailbox(feed).postpone(sequence, AFTER_TROUBLE);
            }
        }
    }
}

/// So that a message that kills the daemon is counted over restarts. The delivery does not wait for the disk.
async fn note_delivery(core: &Core, stream: Stream, sequence: u64, attempt: u64) {
    if let Err(error) = core.writer.note(Order::Delivered { stream, sequence, times: attempt }).await {
        tracing::warn!(%error, sequence, "a delivery could not be counted");
    }
}

fn delivery(core: Arc<Core>, feed: Feed, message: Followed, id: String, attempt: u64) -> Delivery {
    let Followed { sequence, subject, headers, body, at } = message;
    let message_id = if id.is_empty() { keys::without_id(sequence) } else { id };
    let reply_to = header(&headers, REPLY_TO).map(str::to_owned);
    let ack = StoredAck {
        core,
        feed,
        sequence,
        subject: subject.clone(),
        message_id: message_id.clone(),
        reply_to,
    };
    let (sequence, ack) = (Some(sequence), Ack(Box::new(ack)));
    Delivery { subject, headers, body, message_id, attempt, sequence, at, ack }
}

fn stream_of(feed: Feed) -> Stream {
    match feed {
        Feed::Events => Stream::Events,
        Feed::Overrides => Stream::Overrides,
    }
}

#[derive(Debug)]
struct StoredAck {
    core: Arc<Core>,
    feed: Feed,
    sequence: u64,
    subject: String,
    message_id: String,
    reply_to: Option<String>,
}

#[async_trait]
impl AckPort for StoredAck {
    async fn done(&self) -> Result<(), BusError> {
        let order = Order::Done { stream: stream_of(self.feed), sequence: self.sequence };
        self.core.writer.write(Lane::Urgent, order).await?;
        self.core.signals.mailbox(self.feed).remove(self.sequence);
        Ok(())
    }

    async fn again(&self, after: Duration) -> Result<(), BusError> {
        self.core.signals.mailbox(self.feed).postpone(self.sequence, after);
        Ok(())
    }

    async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        if let Some(key) = answer_key(&self.subject, &self.message_id) {
            let order = Order::Answer { key, body: body.clone(), at: now().millis() };
            self.core.writer.write(Lane::Urgent, order).await?;
        }
        match &self.reply_to {
            Some(reply) => {
                subjects::reply_allowed(&self.subject, reply)?;
                self.core.tell(reply, &[], body)
            }
            None => Ok(()),
        }
    }
}

/// Where the answer to a person's message is kept; nothing for an event.
fn answer_key(subject: &str, message_id: &str) -> Option<String> {
    let user = subjects::user(subject).filter(|_| Stream::of(subject) == Some(Stream::Overrides))?;
    Some(keys::answer(user, message_id))
}
