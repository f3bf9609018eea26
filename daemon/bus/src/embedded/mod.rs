//! The embedded bus: the same subjects and promises in one process, kept in one file.
//!
//! ```text
//!  publish, ack, put ──▶ lanes ──▶ writer ──commit──▶ file
//!                                    │ signals          │ snapshots
//!                     subscribers, followers ◀──────────┘
//!  request ──▶ callers ──▶ the daemon ──▶ reply          (never touches the file)
//! ```
//!
//! One daemon has the file; a second one is refused. Limits are kept when something is written, not by a clock. What was
//! answered with success is on disk.

mod callers;
mod complaints;
mod doors;
mod feed;
mod file;
mod inbox;
mod lanes;
mod messages;
mod order;
mod records;
mod signals;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use sluice_rollout::Timestamp;
use sluice_wire::subject::DEAD;

use self::callers::Callers;
use self::file::File;
use self::inbox::Inbox;
use self::lanes::Lane;
use self::order::{NewMessage, Order, Outcome};
use self::signals::Signals;
use self::writer::Writer;
use crate::plan::{Stream, Way};
use crate::{ACK_WAIT, Bus, BusError, CALL_LIMIT, Delivery, Feed, Followed, Limits, letter, subjects};

/// Where the embedded bus keeps what it has, and how much.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// One file, made if it is missing; nothing: in memory, gone with the process.
    pub path: Option<PathBuf>,
    pub limits: Limits,
    /// A delivery that is neither acknowledged nor given back comes again after this.
    pub ack_wait: Duration,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { path: None, limits: Limits::default(), ack_wait: ACK_WAIT }
    }
}

impl EmbeddedConfig {
    /// In this file, with the usual limits.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::default() }
    }
}

/// The bus, the store and the doors in one. Cheap to clone; the file is closed when the last clone, subscription and
/// delivery is gone.
#[derive(Debug, Clone)]
pub struct Embedded {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    /// Before `file`: it writes what waits when it is dropped.
    writer: Writer,
    file: Arc<File>,
    signals: Arc<Signals>,
    callers: Callers,
    ack_wait: Duration,
}

impl Embedded {
    /// Opens or makes the file. [`BusError::Setup`] if another process has it open, or it is none of ours.
    pub fn open(config: EmbeddedConfig) -> Result<Embedded, BusError> {
        let file = match &config.path {
            Some(path) => File::at(path)?,
            None => File::memory()?,
        };
        Embedded::on(file, config)
    }

    /// In memory: for tests and the demo.
    pub fn in_memory() -> Result<Embedded, BusError> {
        Embedded::open(EmbeddedConfig::default())
    }

    fn on(file: File, config: EmbeddedConfig) -> Result<Embedded, BusError> {
        let file = Arc::new(file);
        let signals =
            Arc::new(Signals::new(restored(&file, Stream::Events)?, restored(&file, Stream::Overrides)?));
        let writer = Writer::start(file.clone(), config.limits, signals.clone())?;
        let (callers, ack_wait) = (Callers::default(), config.ack_wait);
        Ok(Embedded { core: Arc::new(Core { writer, file, signals, callers, ack_wait }) })
    }
}

fn restored(file: &File, stream: Stream) -> Result<Inbox, BusError> {
    let found = file.read(|transaction| messages::pending(transaction, stream));
    Ok(Inbox::restored(found.map_err(|error| unreadable(&error))?))
}

fn unreadable(error: &redb::Error) -> BusError {
    BusError::Storage(format!("reading its file: {error}"))
}

#[async_trait]
impl Bus for Embedded {
    async fn publish(
        &self,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<(), BusError> {
        match Way::of(subject)? {
            Way::Kept(stream) => self.core.keep(stream, subject, headers, body, id).await.map(drop),
            Way::Reply => self.core.tell(subject, headers, body),
            Way::Request => Err(requests_are_asked(subject)),
        }
    }

    async fn dead(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let (headers, body) = letter::dead(delivery, reason);
        let id = format!("{} {}", delivery.subject, delivery.message_id);
        self.core.keep(Stream::Dead, DEAD, &headers, body, &id).await.map(drop)
    }

    async fn subscribe(&self, feed: Feed) -> Result<BoxStream<'static, Delivery>, BusError> {
        Ok(feed::subscribe(self.core.clone(), feed))
    }

    async fn healthy(&self) -> Result<(), BusError> {
        self.core.writer.trouble().map_or(Ok(()), |why| Err(BusError::Storage(why)))
    }

    /// The file was made and checked when it was opened.
    async fn init(&self) -> Result<Vec<String>, BusError> {
        Ok(Vec::new())
    }
}

fn requests_are_asked(subject: &str) -> BusError {
    let why = "a request waits for its answer: ask it instead of publishing it";
    BusError::Subject { subject: subject.to_owned(), why: why.into() }
}

impl Core {
    /// Puts a message into its stream and gives its sequence, or the first one's if it is a repeat.
    async fn keep(
        &self,
        stream: Stream,
        subject: &str,
        headers: &[(String, String)],
        body: Bytes,
        id: &str,
    ) -> Result<u64, BusError> {
        subjects::literal(subject)?;
        letter::checked(headers, &body)?;
        let headers = serde_json::to_string(headers).map_err(|error| BusError::Other(error.to_string()))?;
        let (subject, id) = (subject.to_owned(), id.to_owned());
        let lane = if stream == Stream::Events { Lane::Bulk } else { Lane::Urgent };
        let message = NewMessage { stream, subject, headers, body, id, at: now().millis() };
        match self.writer.write(lane, Order::Publish(message)).await? {
            Outcome::Kept { sequence, .. } => Ok(sequence),
            other => Err(BusError::Other(format!("a publish came to {other:?}"))),
        }
    }

    /// An answer, to whoever follows it just now.
    fn tell(&self, subject: &str, headers: &[(String, String)], body: Bytes) -> Result<(), BusError> {
        subjects::literal(subject)?;
        letter::checked(headers, &body)?;
        let (subject, headers) = (subject.to_owned(), headers.to_vec());
        self.signals.tell(Followed { sequence: 0, subject, headers, body, at: Some(now()) });
        Ok(())
    }

    /// Reads in one snapshot, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, BusError> {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || file.read(look));
        match tokio::time::timeout(CALL_LIMIT, reading).await {
            Ok(Ok(read)) => read.map_err(|error| unreadable(&error)),
            Ok(Err(error)) => Err(BusError::Storage(format!("reading its file: {error}"))),
            Err(_) => Err(BusError::Timeout(CALL_LIMIT)),
        }
    }
}

/// The clock is read here, where messages come in, and nowhere below.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
