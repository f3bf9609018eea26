//! What can be written: one closed list, each with what it came to. Applied inside a transaction that the writer commits.
//!
//! An order that is refused (a conflict, no room) has written nothing, so the others of its commit go on.

use bytes::Bytes;
use redb::ReadableTable;

use super::messages;
use super::records::{self, Shelf};
use super::tables::{Tables, number};
use crate::plan::{Limits, Stream};

/// A message to keep.
#[derive(Debug)]
pub(super) struct NewMessage {
    pub(super) stream: Stream,
    pub(super) subject: String,
    /// As JSON.
    pub(super) headers: String,
    pub(super) body: Bytes,
    /// Empty: it is never taken for a repeat.
    pub(super) id: String,
    /// Milliseconds since 1970.
    pub(super) at: i64,
}

#[derive(Debug)]
pub(super) enum Order {
    Publish(NewMessage),
    /// It need not be delivered again.
    Done {
        stream: Stream,
        sequence: u64,
    },
    /// It was handed out that many times.
    Delivered {
        stream: Stream,
        sequence: u64,
        times: u64,
    },
    Put {
        key: String,
        value: Bytes,
        expected: u64,
    },
    Delete {
        key: String,
    },
    Append {
        shelf: Shelf,
        log: String,
        line: Bytes,
        at: i64,
    },
    Answer {
        key: String,
        body: Bytes,
        at: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// The message's place; not fresh if it was there already.
    Kept {
        stream: Stream,
        sequence: u64,
        fresh: bool,
    },
    Saved {
        revision: u64,
    },
    /// Another revision is there.
    Conflict,
    /// A limit is reached and nothing may be dropped; in words.
    Full(&'static str),
}

impl Order {
    /// What it takes of the room for waiting orders.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Order::Publish(message) => message.body.len() + message.headers.len() + message.subject.len(),
            Order::Put { value, key, .. } => value.len() + key.len(),
            Order::Append { log, line: body, .. } | Order::Answer { key: log, body, .. } => {
                body.len() + log.len()
            }
            Order::Done { .. } | Order::Delivered { .. } | Order::Delete { .. } => 0,
        }
    }

    pub(super) fn apply(&self, tables: &mut Tables<'_>, limits: &Limits) -> Result<Outcome, redb::Error> {
        match self {
            Order::Publish(message) => messages::publish(tables, message, &limits.of(message.stream)),
            Order::Done { stream, sequence } => {
                tables.pending.remove((number(*stream), *sequence))?;
                Ok(Outcome::Written)
            }
            Order::Delivered { stream, sequence, times } => {
                delivered(tables, (number(*stream), *sequence), *times)
            }
            Order::Put { key, value, expected } => {
                records::put(tables, key, value, *expected, limits.state_bytes)
            }
            Order::Delete { key } => records::delete(tables, key),
            Order::Append { shelf, log, line, at } => records::append(tables, *shelf, log, line, *at, limits),
            Order::Answer { key, body, at } => records::answer(tables, key, body, *at, limits),
        }
    }
}

/// Only for a message that is not acknowledged meanwhile.
fn delivered(tables: &mut Tables<'_>, place: (u8, u64), times: u64) -> Result<Outcome, redb::Error> {
    if tables.pending.get(place)?.is_some() {
        tables.pending.insert(place, times)?;
    }
    Ok(Outcome::Written)
}
