//! The message bus and the store: NATS JetStream, and the embedded one. Both keep the same promises, checked by one suite.
//!
//! ```text
//!   teams, people ──▶ Doors ──┐                          ┌──▶ Bus ──▶ the daemon
//!                             ├── NATS or one file ──────┤
//!   command line, HTTP ◀──────┘                          └──▶ Store ◀─▶ its state
//! ```
//!
//! What holds on either:
//! - A stored message is delivered until it is acknowledged, and again after [`ACK_WAIT`], an `again` or a restart.
//! - A message with an id that was seen within the window is kept once.
//! - Overrides never wait behind events: a stream of their own, a feed of their own, and plain requests beside it.
//! - A save succeeds only at the expected revision; what succeeded is on disk (or acknowledged by the cluster).
//! - Everything has a limit: age, bytes, lines; queues are bounded; each call ends within [`CALL_LIMIT`].
//!
//! Nothing here knows what a message means, judges who may send it, or retries for the caller. One file per concern:
//! `plan` lists streams and limits, `subjects`, `keys` and `letter` check what goes out, `nats/` and `embedded/` do it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use sluice_rollout::Timestamp;

pub mod embedded;
mod error;
mod keys;
mod letter;
pub mod nats;
mod plan;
mod subjects;

pub use embedded::{Embedded, EmbeddedConfig};
pub use error::{BusError, StoreError};
pub use letter::{CUT_FROM, Headers, MESSAGE_ID, ORIGINAL_ID, REASON, REPLY_TO, SUBJECT};
pub use nats::{Nats, NatsAuth, NatsConfig, TlsFiles};
pub use plan::{
    ANSWERS_BUCKET, LOG, Limits, MOST_BODY_BYTES, MOST_HEADER_BYTES, MOST_VALUE_BYTES, RECORD, STATE_BUCKET,
    Stream, StreamLimits,
};

/// No call takes longer, whatever happens to the server.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);
/// A delivery that is neither acknowledged nor given back comes again after this.
pub const ACK_WAIT: Duration = Duration::from_secs(30);

/// What came over the bus, as it came. `ack` knows how it wants to be acknowledged and answered.
#[derive(Debug)]
pub struct Delivery {
    pub subject: String,
    /// Header names in any case. Values of one name keep their order; NATS' client does not keep that of the names.
    pub headers: Headers,
    pub body: Bytes,
    /// An id of the message where the bus has one (`Nats-Msg-Id`, or one made of the stream's sequence). On the request door:
    /// `Nats-Msg-Id`, or one made for it.
    pub message_id: String,
    /// 1 at first; more when it is delivered again.
    pub attempt: u64,
    /// Its place in its stream, rising; nothing on the request door.
    pub sequence: Option<u64>,
    /// When the bus took it; nothing on the request door.
    pub at: Option<Timestamp>,
    pub ack: Ack,
}

/// Acknowledges, answers, or gives back one delivery. Dropped without a word, the message comes again.
#[derive(Debug)]
pub struct Ack(pub(crate) Box<dyn AckPort>);

/// What a bus does behind an [`Ack`]; each promises what `Ack`'s function of that name says.
#[async_trait]
pub trait AckPort: Send + Sync + std::fmt::Debug {
    async fn done(&self) -> Result<(), BusError>;
    async fn again(&self, after: Duration) -> Result<(), BusError>;
    async fn answer(&self, body: Bytes) -> Result<(), BusError>;
}

impl Ack {
    /// For another bus than those that are here.
    pub fn new(port: Box<dyn AckPort>) -> Ack {
        Ack(port)
    }

    /// It had its effect and will not come again. An error means that it may; who recognises repeats goes on.
    pub async fn done(&self) -> Result<(), BusError> {
        self.0.done().await
    }
    /// Not now: deliver it again after a while. Means nothing on the request door, where the sender asks again.
    pub async fn again(&self, after: Duration) -> Result<(), BusError> {
        self.0.again(after).await
    }
    /// The answer to the sender: on the request door the reply; on the stored door the answers bucket and, where the
    /// message has it, `Sluice-Reply-To` (only below `sluice.reply.<user>.`; elsewhere [`BusError::Denied`], and the
    /// bucket has the answer all the same).
    pub async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        self.0.answer(body).await
    }
}

/// Which messages a subscription brings. Overrides never wait behind events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// `sluice.event.>`, stored. Shared: each message goes to one daemon (of each cluster, where there are several).
    Events,
    /// `sluice.override.>` (stored) and `sluice.request.>` (plain requests) together. Each daemon gets all of them.
    Overrides,
}

/// A revision of a stored value, for compare-and-swap. 0: the key must not exist.
pub type StoreRevision = u64;

/// A key with its value and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    pub revision: StoreRevision,
}

/// Publishing and subscribing. Cheap to clone behind an `Arc`.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// At least once; `id` makes a repeat recognisable to the stream (an empty one does not).
    async fn publish(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<(), BusError>;
    /// What could not be read goes to `sluice.dead` with its subject, headers, bytes and the reason. Acknowledging the
    /// delivery stays with the caller.
    async fn dead(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError>;
    /// Endless; reconnects by itself.
    async fn subscribe(&self, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError>;
    /// Whether the bus can be reached now, in words if not.
    async fn healthy(&self) -> Result<(), BusError>;
    /// Makes what is missing and checks what is there. One line for each thing that was made.
    async fn init(&self) -> Result<Vec<String>, BusError>;
}

/// Keys with compare-and-swap, and append-only logs with limits. A name is any text up to 512 bytes; `/` separates its
/// parts, and a prefix that ends with `/` is looked up without reading the rest.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError>;
    /// Saves only if the key is still at `expected` (0: does not exist). Gives the new revision.
    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: StoreRevision,
    ) -> Result<StoreRevision, StoreError>;
    /// Removes the key with all traces. One that does not exist is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
    /// All keys with this prefix, sorted.
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
    /// All keys with this prefix and their values, sorted, in one pass: what a start reads.
    async fn scan(&self, prefix: &str) -> Result<Vec<Entry>, StoreError>;
    /// Appends to the log named `log` (dropped oldest first beyond its limits). Whoever got no answer appends the same line
    /// again: within two minutes NATS keeps it once.
    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError>;
    /// The log's lines, oldest first, at most the last `most`.
    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError>;
    /// Appends a batch to the decision record named `record`. Records have limits of their own, so that they never push a
    /// log's lines out.
    async fn append_record(&self, record: &str, batch: Bytes) -> Result<(), StoreError>;
    /// The record's batches that come after the place `after` (0: from the oldest that is kept), oldest first, each with
    /// its place: as many as fit into `most_bytes`, and one where not even that fits.
    async fn record(
        &self,
        record: &str,
        after: u64,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StoreError>;
}

/// One kept message as a follower sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Its place in its stream; 0 for what no stream keeps (`sluice.reply.…`).
    pub sequence: u64,
    pub subject: String,
    pub headers: Headers,
    pub body: Bytes,
    pub at: Option<Timestamp>,
}

/// The bus as people and teams see it: the command line, and HTTP in front of the embedded bus.
#[async_trait]
pub trait Doors: Send + Sync + std::fmt::Debug {
    /// Puts a message into `sluice.event.…` or `sluice.override.…` and gives its sequence; a repeat of a `Nats-Msg-Id`
    /// gives the first one's.
    async fn publish_event(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<u64, BusError>;
    /// Asks on `sluice.request.…` and waits for the answer; [`BusError::NoResponders`] if no daemon listens.
    async fn request(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, BusError>;
    /// Messages that a pattern below one of `sluice.{out,event,override,reply}.` (or `sluice.dead`) matches, endless.
    /// `after`: those with a higher sequence (0: all that is kept); nothing: those from now on. Answers
    /// (`sluice.reply.…`) are not kept: only those from now on.
    async fn follow(
        &self,
        pattern: &str,
        after: Option<u64>,
    ) -> Result<BoxStream<'static, Followed>, BusError>;
    /// The answer to a stored override, once there is one. `user` as it stands in the subject.
    async fn answer(&self, user: &str, message_id: &str) -> Result<Option<Bytes>, BusError>;
}
