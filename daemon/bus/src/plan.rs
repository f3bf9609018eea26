//! What both buses consist of: six streams, two buckets, and their limits. The one list of them.
//!
//! Overrides have a stream of their own, so that a flood of events never delays one. Nothing is without a limit: beyond
//! it the oldest goes first, except for saved state, which is refused instead.

use std::time::Duration;

use sluice_wire::subject::{DEAD, EVENT, OUT, OVERRIDE, REPLY, REQUEST};

use crate::BusError;

/// Largest body that a message may have; with its headers it stays below a NATS server's default of 1 MiB.
pub const MOST_BODY_BYTES: usize = 768 * 1024;
/// Largest value of a key, and largest line of a log.
pub const MOST_VALUE_BYTES: usize = 512 * 1024;
/// Largest sum of a message's headers.
pub const MOST_HEADER_BYTES: usize = 32 * 1024;

/// Bucket of state: `state`, `evidence` and `charter` of every rollout, owners, heartbeats.
pub const STATE_BUCKET: &str = "SLUICE_STATE";
/// Bucket of answers to stored overrides, under `<user>.<message id>`.
pub const ANSWERS_BUCKET: &str = "SLUICE_ANSWERS";
/// Root of the logs' subjects.
pub const LOG: &str = "sluice.log";
/// Root of the decision records' subjects.
pub const RECORD: &str = "sluice.record";

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: u64 = 1024 * 1024;

/// One of the six streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    Events,
    Overrides,
    Out,
    Dead,
    Log,
    Records,
}

/// Limits of one stream. Beyond age or bytes the oldest message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    pub age: Duration,
    pub bytes: u64,
    /// How long a repeated id is recognised.
    pub duplicates: Duration,
}

/// Limits of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub events: StreamLimits,
    pub overrides: StreamLimits,
    pub out: StreamLimits,
    pub dead: StreamLimits,
    pub log: StreamLimits,
    /// Lines of one log.
    pub log_lines: u64,
    pub records: StreamLimits,
    /// Batches of one decision record.
    pub record_batches: u64,
    /// Saved state as a whole; a save beyond it is refused.
    pub state_bytes: u64,
    pub answers_age: Duration,
    pub answers_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = |age, mib| StreamLimits { age, bytes: mib * MIB, duplicates: 10 * MINUTE };
        Self {
            events: limits(3 * DAY, 128),
            overrides: limits(DAY, 64),
            out: limits(7 * DAY, 256),
            dead: limits(30 * DAY, 64),
            log: StreamLimits { duplicates: 2 * MINUTE, ..limits(90 * DAY, 512) },
            log_lines: 10_000,
            records: StreamLimits { duplicates: 2 * MINUTE, ..limits(30 * DAY, 512) },
            record_batches: 20_000,
            state_bytes: 1024 * MIB,
            answers_age: DAY,
            answers_bytes: 64 * MIB,
        }
    }
}

impl Limits {
    pub fn of(&self, stream: Stream) -> StreamLimits {
        match stream {
            Stream::Events => self.events,
            Stream::Overrides => self.overrides,
            Stream::Out => self.out,
            Stream::Dead => self.dead,
            Stream::Log => self.log,
            Stream::Records => self.records,
        }
    }
}

impl Stream {
    pub const ALL: [Stream; 6] =
        [Stream::Events, Stream::Overrides, Stream::Out, Stream::Dead, Stream::Log, Stream::Records];

    /// Its name on a NATS server.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Events => "SLUICE_EVENTS",
            Stream::Overrides => "SLUICE_OVERRIDES",
            Stream::Out => "SLUICE_OUT",
            Stream::Dead => "SLUICE_DEAD",
            Stream::Log => "SLUICE_LOG",
            Stream::Records => "SLUICE_RECORDS",
        }
    }

    /// The root of its subjects.
    pub fn root(self) -> &'static str {
        match self {
            Stream::Events => EVENT,
            Stream::Overrides => OVERRIDE,
            Stream::Out => OUT,
            Stream::Dead => DEAD,
            Stream::Log => LOG,
            Stream::Records => RECORD,
        }
    }

    /// The subjects that it keeps.
    pub fn pattern(self) -> String {
        match self {
            Stream::Dead => DEAD.to_owned(),
            Stream::Events | Stream::Overrides | Stream::Out | Stream::Log | Stream::Records => {
                format!("{}.>", self.root())
            }
        }
    }

    /// The stream that keeps a subject, or all that a pattern can match.
    pub fn of(subject: &str) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| match stream {
            Stream::Dead => subject == DEAD,
            Stream::Events | Stream::Overrides | Stream::Out | Stream::Log | Stream::Records => {
                below(subject, stream.root())
            }
        })
    }
}

/// Where a subject leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into a stream.
    Kept(Stream),
    /// To whoever listens now: an answer to a person.
    Reply,
    /// To the daemon, which answers at once.
    Request,
}

impl Way {
    pub(crate) fn of(subject: &str) -> Result<Way, BusError> {
        if let Some(stream) = Stream::of(subject) {
            return Ok(Way::Kept(stream));
        }
        if below(subject, REPLY) {
            return Ok(Way::Reply);
        }
        if below(subject, REQUEST) {
            return Ok(Way::Request);
        }
        let why = "write one below sluice.event., sluice.override., sluice.request., sluice.out. or sluice.reply., or sluice.dead";
        Err(BusError::Subject { subject: subject.chars().take(200).collect(), why: why.to_owned() })
    }
}

fn below(subject: &str, root: &str) -> bool {
    subject.strip_prefix(root).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
}
