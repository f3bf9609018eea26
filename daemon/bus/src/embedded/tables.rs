//! What the file holds.

use redb::{Database, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::plan::Stream;

/// The version of this layout. A file with a newer one is left alone.
const LAYOUT: u64 = 1;

/// When it came (milliseconds since 1970), its id, subject, headers as JSON, body.
pub(super) type Message = (i64, &'static str, &'static str, &'static str, &'static [u8]);

pub(super) const MESSAGES: TableDefinition<(u8, u64), Message> = TableDefinition::new("messages");
/// Stored messages that are not acknowledged, and how often they were delivered.
pub(super) const PENDING: TableDefinition<(u8, u64), u64> = TableDefinition::new("pending");
/// Messages and bytes of a stream.
pub(super) const TALLIES: TableDefinition<u8, (u64, u64)> = TableDefinition::new("tallies");
/// Ids within the window: the sequence they got; and the same by age.
pub(super) const IDS: TableDefinition<(u8, &str), u64> = TableDefinition::new("ids");
pub(super) const IDS_BY_AGE: TableDefinition<(u8, i64, u64), &str> = TableDefinition::new("ids-by-age");
/// Keys: revision and value.
pub(super) const KEYS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("keys");
/// Lines of logs by log, and their order over all logs with age and bytes.
pub(super) const LINES: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("lines");
pub(super) const LINES_BY_AGE: TableDefinition<u64, (&str, i64, u64)> = TableDefinition::new("lines-by-age");
/// The order of the decision records' batches, whose lines stand beside the logs' under names of their own.
pub(super) const BATCHES_BY_AGE: TableDefinition<u64, (&str, i64, u64)> =
    TableDefinition::new("batches-by-age");
pub(super) const LINE_COUNTS: TableDefinition<&str, u64> = TableDefinition::new("line-counts");
/// Answers: when, bytes; and the same by age.
pub(super) const ANSWERS: TableDefinition<&str, (i64, &[u8])> = TableDefinition::new("answers");
pub(super) const ANSWERS_BY_AGE: TableDefinition<(i64, &str), ()> = TableDefinition::new("answers-by-age");
/// Single numbers.
pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// Names in [`NUMBERS`].
pub(super) const LAYOUT_NUMBER: &str = "layout";
pub(super) const REVISION: &str = "revision";
pub(super) const LINE: &str = "line";
pub(super) const LINE_BYTES: &str = "line-bytes";
pub(super) const BATCH_BYTES: &str = "batch-bytes";
pub(super) const STATE_BYTES: &str = "state-bytes";
pub(super) const ANSWER_BYTES: &str = "answer-bytes";

/// The stream's number in the tables. These are on disk: none may change.
pub(super) fn number(stream: Stream) -> u8 {
    match stream {
        Stream::Events => 0,
        Stream::Overrides => 1,
        Stream::Out => 2,
        Stream::Dead => 3,
        Stream::Log => 4,
        Stream::Records => 5,
    }
}

/// Name of a stream's last sequence in [`NUMBERS`].
pub(super) fn last_sequence_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Events => "last-event",
        Stream::Overrides => "last-override",
        Stream::Out => "last-out",
        Stream::Dead => "last-dead",
        Stream::Log => "last-log",
        Stream::Records => "last-record",
    }
}

/// All tables, open for writing.
pub(super) struct Tables<'t> {
    pub(super) messages: Table<'t, (u8, u64), Message>,
    pub(super) pending: Table<'t, (u8, u64), u64>,
    pub(super) tallies: Table<'t, u8, (u64, u64)>,
    pub(super) ids: Table<'t, (u8, &'static str), u64>,
    pub(super) ids_by_age: Table<'t, (u8, i64, u64), &'static str>,
    pub(super) keys: Table<'t, &'static str, (u64, &'static [u8])>,
    pub(super) lines: Table<'t, (&'static str, u64), &'static [u8]>,
    pub(super) lines_by_age: Table<'t, u64, (&'static str, i64, u64)>,
    pub(super) batches_by_age: Table<'t, u64, (&'static str, i64, u64)>,
    pub(super) line_counts: Table<'t, &'static str, u64>,
    pub(super) answers: Table<'t, &'static str, (i64, &'static [u8])>,
    pub(super) answers_by_age: Table<'t, (i64, &'static str), ()>,
    pub(super) numbers: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, redb::Error> {
        Ok(Tables {
            messages: transaction.open_table(MESSAGES)?,
            pending: transaction.open_table(PENDING)?,
            tallies: transaction.open_table(TALLIES)?,
            ids: transaction.open_table(IDS)?,
            ids_by_age: transaction.open_table(IDS_BY_AGE)?,
            keys: transaction.open_table(KEYS)?,
            lines: transaction.open_table(LINES)?,
            lines_by_age: transaction.open_table(LINES_BY_AGE)?,
            batches_by_age: transaction.open_table(BATCHES_BY_AGE)?,
            line_counts: transaction.open_table(LINE_COUNTS)?,
            answers: transaction.open_table(ANSWERS)?,
            answers_by_age: transaction.open_table(ANSWERS_BY_AGE)?,
            numbers: transaction.open_table(NUMBERS)?,
        })
    }

    pub(super) fn get_number(&self, name: &str) -> Result<u64, redb::Error> {
        Ok(self.numbers.get(name)?.map_or(0, |number| number.value()))
    }

    pub(super) fn set_number(&mut self, name: &str, number: u64) -> Result<(), redb::Error> {
        self.numbers.insert(name, number)?;
        Ok(())
    }

    /// The number after the one kept under `name`, kept as the new one.
    pub(super) fn next_number(&mut self, name: &str) -> Result<u64, redb::Error> {
        let next = self.get_number(name)? + 1;
        self.set_number(name, next)?;
        Ok(next)
    }
}

/// A number, for readers.
pub(super) fn read_number(transaction: &ReadTransaction, name: &str) -> Result<u64, redb::Error> {
    Ok(transaction.open_table(NUMBERS)?.get(name)?.map_or(0, |number| number.value()))
}

/// Makes the tables, and refuses a file of another layout.
pub(super) fn prepare(database: &Database) -> Result<(), String> {
    let layout = make_tables(database).map_err(|error| error.to_string())?;
    match layout {
        LAYOUT => Ok(()),
        other => Err(format!(
            "its layout is {other}, this Sluice knows {LAYOUT}; use the Sluice that wrote it, or a new file"
        )),
    }
}

fn make_tables(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let layout = {
        let mut tables = Tables::open(&transaction)?;
        if tables.get_number(LAYOUT_NUMBER)? == 0 {
            tables.set_number(LAYOUT_NUMBER, LAYOUT)?;
        }
        tables.get_number(LAYOUT_NUMBER)?
    };
    if layout == LAYOUT {
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(layout)
}
