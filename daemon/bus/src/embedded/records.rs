//! Keys, logs and answers in the file.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table};

use bytes::Bytes;

use super::order::Outcome;
use super::tables::{
    ANSWER_BYTES, ANSWERS, BATCH_BYTES, KEYS, LINE, LINE_BYTES, LINES, REVISION, STATE_BYTES, Tables,
};
use crate::Entry;
use crate::plan::{Limits, StreamLimits};

/// Lines and answers dropped for one new one at most; more go with the next.
const MOST_DROPPED: usize = 64;

/// What is appended to: each has its own limits, so that one never pushes the other's lines out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Log,
    Records,
}

impl Shelf {
    /// Limits of all lines together, and lines of one log.
    fn limits(self, limits: &Limits) -> (StreamLimits, u64) {
        match self {
            Shelf::Log => (limits.log, limits.log_lines),
            Shelf::Records => (limits.records, limits.record_batches),
        }
    }

    fn bytes(self) -> &'static str {
        match self {
            Shelf::Log => LINE_BYTES,
            Shelf::Records => BATCH_BYTES,
        }
    }

    fn by_age<'a, 't>(self, tables: &'a mut Tables<'t>) -> &'a mut ByAge<'t> {
        match self {
            Shelf::Log => &mut tables.lines_by_age,
            Shelf::Records => &mut tables.batches_by_age,
        }
    }
}

type ByAge<'t> = Table<'t, u64, (&'static str, i64, u64)>;

pub(super) fn put(
    tables: &mut Tables<'_>,
    key: &str,
    value: &[u8],
    expected: u64,
    most: u64,
) -> Result<Outcome, redb::Error> {
    let (revision, before) = tables.keys.get(key)?.map_or((0, 0), |row| (row.value().0, row.value().1.len()));
    if revision != expected {
        return Ok(Outcome::Conflict);
    }
    let name = if revision == 0 { key.len() as u64 } else { 0 };
    let bytes = tables.get_number(STATE_BYTES)?.saturating_sub(before as u64) + value.len() as u64 + name;
    if bytes > most {
        return Ok(Outcome::Full(
            "the saved state has reached its limit; delete what is over, or raise state_bytes",
        ));
    }
    let revision = tables.next_number(REVISION)?;
    tables.set_number(STATE_BYTES, bytes)?;
    tables.keys.insert(key, (revision, value))?;
    Ok(Outcome::Saved { revision })
}

pub(super) fn delete(tables: &mut Tables<'_>, key: &str) -> Result<Outcome, redb::Error> {
    let freed = tables.keys.remove(key)?.map(|row| (row.value().1.len() + key.len()) as u64);
    if let Some(freed) = freed {
        let bytes = tables.get_number(STATE_BYTES)?;
        tables.set_number(STATE_BYTES, bytes.saturating_sub(freed))?;
    }
    Ok(Outcome::Written)
}

pub(super) fn append(
    tables: &mut Tables<'_>,
    shelf: Shelf,
    log: &str,
    line: &[u8],
    at: i64,
    limits: &Limits,
) -> Result<Outcome, redb::Error> {
    let (all, most_lines) = shelf.limits(limits);
    let number = tables.next_number(LINE)?;
    tables.lines.insert((log, number), line)?;
    shelf.by_age(tables).insert(number, (log, at, line.len() as u64))?;
    let count = tables.line_counts.get(log)?.map_or(0, |count| count.value()) + 1;
    tables.line_counts.insert(log, count)?;
    let bytes = tables.get_number(shelf.bytes())? + line.len() as u64;
    tables.set_number(shelf.bytes(), bytes)?;
    if count > most_lines {
        drop_oldest_of(tables, shelf, log, count - most_lines)?;
    }
    let before = at.saturating_sub(i64::try_from(all.age.as_millis()).unwrap_or(i64::MAX));
    drop_oldest_lines(tables, shelf, before, all.bytes)?;
    Ok(Outcome::Written)
}

fn drop_oldest_of(tables: &mut Tables<'_>, shelf: Shelf, log: &str, over: u64) -> Result<(), redb::Error> {
    let over = usize::try_from(over).unwrap_or(MOST_DROPPED).min(MOST_DROPPED);
    let oldest = tables.lines.range((log, 0)..=(log, u64::MAX))?.take(over);
    let oldest: Vec<u64> =
        oldest.map(|row| row.map(|(place, _)| place.value().1)).collect::<Result<_, _>>()?;
    oldest.into_iter().try_for_each(|number| drop_line(tables, shelf, number))
}

fn drop_oldest_lines(
    tables: &mut Tables<'_>,
    shelf: Shelf,
    before: i64,
    most: u64,
) -> Result<(), redb::Error> {
    for _ in 0..MOST_DROPPED {
        let over = tables.get_number(shelf.bytes())? > most;
        let oldest = shelf.by_age(tables).first()?.map(|(number, row)| (number.value(), row.value().1));
        match oldest {
            Some((number, at)) if over || at < before => drop_line(tables, shelf, number)?,
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn drop_line(tables: &mut Tables<'_>, shelf: Shelf, number: u64) -> Result<(), redb::Error> {
    let row = shelf.by_age(tables).remove(number)?.map(|row| (row.value().0.to_owned(), row.value().2));
    let Some((log, size)) = row else { return Ok(()) };
    tables.lines.remove((log.as_str(), number))?;
    let bytes = tables.get_number(shelf.bytes())?;
    tables.set_number(shelf.bytes(), bytes.saturating_sub(size))?;
    let count = tables.line_counts.get(log.as_str())?.map_or(0, |count| count.value());
    if count > 1 {
        tables.line_counts.insert(log.as_str(), count - 1)?;
    } else {
        tables.line_counts.remove(log.as_str())?;
    }
    Ok(())
}

pub(super) fn answer(
    tables: &mut Tables<'_>,
    key: &str,
    body: &[u8],
    at: i64,
    limits: &Limits,
) -> Result<Outcome, redb::Error> {
    drop_answer(tables, key)?;
    tables.answers.insert(key, (at, body))?;
    tables.answers_by_age.insert((at, key), ())?;
    let bytes = tables.get_number(ANSWER_BYTES)? + (key.len() + body.len()) as u64;
    tables.set_number(ANSWER_BYTES, bytes)?;
    let before = at.saturating_sub(i64::try_from(limits.answers_age.as_millis()).unwrap_or(i64::MAX));
    drop_oldest_answers(tables, before, limits.answers_bytes)?;
    Ok(Outcome::Written)
}

fn drop_oldest_answers(tables: &mut Tables<'_>, before: i64, most: u64) -> Result<(), redb::Error> {
    for _ in 0..MOST_DROPPED {
        let over = tables.get_number(ANSWER_BYTES)? > most && tables.answers.len()? > 1;
        let oldest = tables.answers_by_age.first()?.map(|(row, _)| (row.value().0, row.value().1.to_owned()));
        match oldest {
            Some((at, key)) if over || at < before => drop_answer(tables, &key)?,
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn drop_answer(tables: &mut Tables<'_>, key: &str) -> Result<(), redb::Error> {
    let row = tables.answers.remove(key)?.map(|row| (row.value().0, row.value().1.len()));
    let Some((at, size)) = row else { return Ok(()) };
    tables.answers_by_age.remove((at, key))?;
    let bytes = tables.get_number(ANSWER_BYTES)?;
    tables.set_number(ANSWER_BYTES, bytes.saturating_sub((key.len() + size) as u64))
}

pub(super) fn read(transaction: &ReadTransaction, key: &str) -> Result<Option<(Bytes, u64)>, redb::Error> {
    let row = transaction.open_table(KEYS)?.get(key)?;
    Ok(row.map(|row| (Bytes::copy_from_slice(row.value().1), row.value().0)))
}

/// Keys with the prefix, in order; without their values unless they are wanted.
pub(super) fn scan(
    transaction: &ReadTransaction,
    prefix: &str,
    values: bool,
) -> Result<Vec<Entry>, redb::Error> {
    let mut entries = Vec::new();
    for row in transaction.open_table(KEYS)?.range(prefix..)? {
        let (key, row) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        let (revision, value) = row.value();
        let value = if values { Bytes::copy_from_slice(value) } else { Bytes::new() };
        entries.push(Entry { key: key.value().to_owned(), value, revision });
    }
    Ok(entries)
}

/// The last `most` lines, oldest first.
pub(super) fn lines(
    transaction: &ReadTransaction,
    log: &str,
    most: usize,
) -> Result<Vec<Bytes>, redb::Error> {
    let table = transaction.open_table(LINES)?;
    let rows = table.range((log, 0)..=(log, u64::MAX))?.rev().take(most);
    let mut lines: Vec<Bytes> = rows
        .map(|row| row.map(|(_, line)| Bytes::copy_from_slice(line.value())))
        .collect::<Result<_, _>>()?;
    lines.reverse();
    Ok(lines)
}

/// The batches after the place `after` that fit into `most_bytes`, and one at least.
pub(super) fn batches(
    transaction: &ReadTransaction,
    log: &str,
    after: u64,
    most_bytes: usize,
) -> Result<Vec<(u64, Bytes)>, redb::Error> {
    let table = transaction.open_table(LINES)?;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    for row in table.range((log, after.saturating_add(1))..=(log, u64::MAX))? {
        let (place, batch) = row?;
        bytes += batch.value().len();
        if !batches.is_empty() && bytes > most_bytes {
            break;
        }
        batches.push((place.value().1, Bytes::copy_from_slice(batch.value())));
    }
    Ok(batches)
}

pub(super) fn read_answer(transaction: &ReadTransaction, key: &str) -> Result<Option<Bytes>, redb::Error> {
    Ok(transaction.open_table(ANSWERS)?.get(key)?.map(|row| Bytes::copy_from_slice(row.value().1)))
}
