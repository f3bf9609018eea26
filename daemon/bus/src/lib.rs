//! The message bus and the store: NATS JetStream, and the embedded one. Both keep the same promises, checked by one suite.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// What came over the bus, as it came. `door` says how it wants to be answered and acknowledged.
#[derive(Debug)]
pub struct Delivery {
    pub subject: String,
    /// Header names in any case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// An id of the message where the bus has one (`Nats-Msg-Id`, or the stream's sequence).
    pub message_id: String,
    /// 1 at first; more when it is delivered again.
    pub attempt: u64,
    pub ack: Ack,
}

/// Acknowledges, answers, or gives back one delivery. Dropped without a word, the message comes again.
#[derive(Debug)]
pub struct Ack(pub(crate) Box<dyn AckPort>);

#[async_trait]
pub(crate) trait AckPort: Send + Sync + std::fmt::Debug {
    async fn done(&self) -> Result<(), BusError>;
    async fn again(&self, after: Duration) -> Result<(), BusError>;
    async fn answer(&self, body: Bytes) -> Result<(), BusError>;
}

impl Ack {
    /// It had its effect and will not come again.
    pub async fn done(&self) -> Result<(), BusError> {
        self.0.done().await
    }
    /// Not now: deliver it again after a while.
    pub async fn again(&self, after: Duration) -> Result<(), BusError> {
        self.0.again(after).await
    }
    /// The answer to the sender: on the request door the reply; on the stored door `Sluice-Reply-To` (only below
    /// `sluice.reply.<user>.`) and the answers bucket.
    pub async fn answer(&self, body: Bytes) -> Result<(), BusError> {
        self.0.answer(body).await
    }
}

/// Which messages a subscription brings. Overrides never wait behind events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    /// `sluice.event.>`, stored.
    Events,
    /// `sluice.override.>` (stored) and `sluice.request.>` (plain requests) together.
    Overrides,
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus cannot be reached: {0}")]
    Unreachable(String),
    #[error("no answer from the bus within {0:?}")]
    Timeout(Duration),
    #[error("the bus refuses: {0}")]
    Denied(String),
    #[error("{what} is not as Sluice needs it: {why}; run `sluice init`")]
    Setup { what: String, why: String },
    #[error("{0}")]
    Other(String),
}

/// A revision of a stored value, for compare-and-swap. 0: the key must not exist.
pub type StoreRevision = u64;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else saved first; read again and decide.
    #[error("{key} was saved by somebody else meanwhile")]
    Conflict { key: String },
    #[error("the value of {key} has {bytes} bytes, more than {most}")]
    TooLarge { key: String, bytes: usize, most: usize },
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// Publishing and subscribing. Cheap to clone behind an `Arc`.
#[async_trait]
pub trait Bus: Send + Sync + std::fmt::Debug {
    /// At least once; `id` makes a repeat recognisable to the stream.
    async fn publish(&self, subject: &str, headers: &[(String, String)], body: Bytes, id: &str) -> Result<(), BusError>;
    /// What could not be read goes to `sluice.dead` with its subject, headers, bytes and the reason.
    async fn dead(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError>;
    /// Endless; reconnects by itself.
    async fn subscribe(&self, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError>;
    /// Whether the bus can be reached now, in words if not.
    async fn healthy(&self) -> Result<(), BusError>;
    /// Makes what is missing and checks what is there.
    async fn init(&self) -> Result<Vec<String>, BusError>;
}

/// Keys with compare-and-swap, and append-only logs with limits.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    async fn get(&self, key: &str) -> Result<Option<(Bytes, StoreRevision)>, StoreError>;
    /// Saves only if the key is still at `expected` (0: does not exist).
    async fn put(&self, key: &str, value: Bytes, expected: StoreRevision) -> Result<StoreRevision, StoreError>;
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
    async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
    /// Appends to the log named `log` (dropped oldest first beyond its limits).
    async fn append(&self, log: &str, line: Bytes) -> Result<(), StoreError>;
    /// The log's lines, oldest first, at most the last `most`.
    async fn log(&self, log: &str, most: usize) -> Result<Vec<Bytes>, StoreError>;
}
