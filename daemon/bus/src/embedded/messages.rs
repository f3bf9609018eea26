//! Streams in the file: publishing with recognition of repeats, limits, reading.
//!
//! Beyond its limits a stream drops its oldest messages, but never one that is not acknowledged: then a new one is
//! refused instead, and its sender knows.

use std::time::Duration;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use sluice_rollout::Timestamp;

use super::order::{NewMessage, Outcome};
use super::tables::{self, MESSAGES, PENDING, Tables, last_sequence_name, number};
use crate::plan::{Stream, StreamLimits};
use crate::{Followed, Headers, subjects};

/// What a message takes beside its bytes, roughly.
const OVERHEAD_BYTES: u64 = 128;
/// Work done for one new message at most.
const MOST_DROPPED: usize = 256;
const MOST_LOOKED_AT: usize = 10_000;
const MOST_FORGOTTEN: usize = 64;
/// Ids remembered at most.
const MOST_IDS: u64 = 200_000;

/// Whether a stream's messages wait for an acknowledgement.
pub(super) fn is_acknowledged(stream: Stream) -> bool {
    match stream {
        Stream::Events | Stream::Overrides => true,
        Stream::Out | Stream::Dead | Stream::Log | Stream::Records => false,
    }
}

pub(super) fn publish(
    tables: &mut Tables<'_>,
    message: &NewMessage,
    limits: &StreamLimits,
) -> Result<Outcome, redb::Error> {
    let stream = number(message.stream);
    forget_ids(tables, stream, message.at - millis(limits.duplicates))?;
    if let Some(sequence) = known(tables, stream, &message.id)? {
        return Ok(Outcome::Kept { stream: message.stream, sequence, fresh: false });
    }
    if !make_room(tables, stream, size(message), message.at - millis(limits.age), limits.bytes)? {
        return Ok(Outcome::Full("too many messages wait to be acknowledged; is the daemon running?"));
    }
    let sequence = insert(tables, message)?;
    Ok(Outcome::Kept { stream: message.stream, sequence, fresh: true })
}

fn insert(tables: &mut Tables<'_>, message: &NewMessage) -> Result<u64, redb::Error> {
    let stream = number(message.stream);
    let sequence = tables.next_number(last_sequence_name(message.stream))?;
    let NewMessage { subject, headers, body, id, at, .. } = message;
    tables
        .messages
        .insert((stream, sequence), (*at, id.as_str(), subject.as_str(), headers.as_str(), &body[..]))?;
    let (count, bytes) = tally(tables, stream)?;
    tables.tallies.insert(stream, (count + 1, bytes + size(message)))?;
    if is_acknowledged(message.stream) {
        tables.pending.insert((stream, sequence), 0)?;
    }
    if !id.is_empty() {
        tables.ids.insert((stream, id.as_str()), sequence)?;
        tables.ids_by_age.insert((stream, *at, sequence), id.as_str())?;
    }
    Ok(sequence)
}

fn known(tables: &Tables<'_>, stream: u8, id: &str) -> Result<Option<u64>, redb::Error> {
    if id.is_empty() {
        return Ok(None);
    }
    Ok(tables.ids.get((stream, id))?.map(|sequence| sequence.value()))
}

fn forget_ids(tables: &mut Tables<'_>, stream: u8, before: i64) -> Result<(), redb::Error> {
    let crowded = tables.ids.len()? > MOST_IDS;
    let mut old = Vec::new();
    for row in
        tables.ids_by_age.range((stream, i64::MIN, 0)..=(stream, i64::MAX, u64::MAX))?.take(MOST_FORGOTTEN)
    {
        let (place, id) = row?;
        if place.value().1 >= before && !crowded {
            break;
        }
        old.push((place.value(), id.value().to_owned()));
    }
    for (place, id) in old {
        tables.ids_by_age.remove(place)?;
        tables.ids.remove((stream, id.as_str()))?;
    }
    Ok(())
}

/// Drops what is older than `before`, and the oldest until `bytes` more fit into `most`. False if they do not fit.
fn make_room(
    tables: &mut Tables<'_>,
    stream: u8,
    bytes: u64,
    before: i64,
    most: u64,
) -> Result<bool, redb::Error> {
    let (count, held) = tally(tables, stream)?;
    let mut over = (held + bytes).saturating_sub(most);
    let mut dropped = Vec::new();
    for row in tables.messages.range((stream, 0)..=(stream, u64::MAX))?.take(MOST_LOOKED_AT) {
        let (place, message) = row?;
        let (at, id, subject, headers, body) = message.value();
        if (at >= before && over == 0) || dropped.len() == MOST_DROPPED {
            break;
        }
        if tables.pending.get(place.value())?.is_none() {
            let size = row_size(id, subject, headers, body);
            over = over.saturating_sub(size);
            dropped.push((place.value(), size));
        }
    }
    if over > 0 {
        return Ok(false);
    }
    let freed: u64 = dropped.iter().map(|(_, size)| size).sum();
    tables
        .tallies
        .insert(stream, (count.saturating_sub(dropped.len() as u64), held.saturating_sub(freed)))?;
    for (place, _) in dropped {
        tables.messages.remove(place)?;
    }
    Ok(true)
}

fn tally(tables: &Tables<'_>, stream: u8) -> Result<(u64, u64), redb::Error> {
    Ok(tables.tallies.get(stream)?.map_or((0, 0), |tally| tally.value()))
}

fn size(message: &NewMessage) -> u64 {
    row_size(&message.id, &message.subject, &message.headers, &message.body)
}

fn row_size(id: &str, subject: &str, headers: &str, body: &[u8]) -> u64 {
    (id.len() + subject.len() + headers.len() + body.len()) as u64 + OVERHEAD_BYTES
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A kept message and its id.
pub(super) type Found = (Followed, String);

/// One message, if it is still there.
pub(super) fn read(
    transaction: &ReadTransaction,
    stream: Stream,
    sequence: u64,
) -> Result<Option<Found>, redb::Error> {
    let found = transaction.open_table(MESSAGES)?.get((number(stream), sequence))?;
    Ok(found.map(|row| followed(sequence, row.value())))
}

/// Up to `most` messages after a sequence that the pattern matches, and the last sequence that was looked at.
pub(super) fn read_after(
    transaction: &ReadTransaction,
    stream: Stream,
    pattern: &str,
    after: u64,
    most: usize,
) -> Result<(Vec<Followed>, u64), redb::Error> {
    let messages = transaction.open_table(MESSAGES)?;
    let (mut found, mut seen) = (Vec::new(), after);
    for row in messages.range((number(stream), after.saturating_add(1))..=(number(stream), u64::MAX))? {
        let (place, message) = row?;
        seen = place.value().1;
        if subjects::matches(pattern, message.value().2) {
            found.push(followed(seen, message.value()).0);
        }
        if found.len() == most {
            break;
        }
    }
    Ok((found, seen))
}

pub(super) fn last_sequence(transaction: &ReadTransaction, stream: Stream) -> Result<u64, redb::Error> {
    tables::read_number(transaction, last_sequence_name(stream))
}

/// Unacknowledged messages and how often each was delivered.
pub(super) fn pending(transaction: &ReadTransaction, stream: Stream) -> Result<Vec<(u64, u64)>, redb::Error> {
    let pending = transaction.open_table(PENDING)?;
    let rows = pending.range((number(stream), 0)..=(number(stream), u64::MAX))?;
    rows.map(|row| row.map(|(place, times)| (place.value().1, times.value())).map_err(redb::Error::from))
        .collect()
}

fn followed(sequence: u64, (at, id, subject, headers, body): (i64, &str, &str, &str, &[u8])) -> Found {
    // We wrote these headers ourselves; what cannot be read back is left out rather than holding up the message.
    let headers: Headers = serde_json::from_str(headers).unwrap_or_default();
    let body = Bytes::copy_from_slice(body);
    let at = Some(Timestamp::from_millis(at));
    (Followed { sequence, subject: subject.to_owned(), headers, body, at }, id.to_owned())
}
