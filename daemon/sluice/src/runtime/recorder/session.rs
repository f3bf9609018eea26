//! One session of a rollout's record: its lines, numbered and chained, until they are written.

use std::sync::{Arc, atomic::Ordering};

use serde_json::value::{RawValue, to_raw_value};
use sluice_wire::decisions::{Decided, Entry, Judged, Line, Lost, Planned, Sum, VERSION, sum};
use tokio::time::Instant;

use super::{Losses, Note};

/// A batch is written before it grows beyond this, and an entry alone may not.
pub const MOST_BATCH_BYTES: usize = 256 * 1024;
const MOST_ENTRY_BYTES: usize = 440 * 1024;
const BEHIND: &str = "the writer was behind";

pub struct Session {
    losses: Arc<Losses>,
    next: u64,
    before: Sum,
    lines: Vec<String>,
    pub bytes: usize,
    pub due: Option<Instant>,
    pub settled: bool,
}

/// What a note came to in the buffer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Added {
    pub bytes: usize,
    /// Entries that found no room.
    pub dropped: u64,
}

impl Session {
    pub fn new(losses: Arc<Losses>) -> Session {
        let (next, before, lines) = (0, Sum::new(), Vec::new());
        Session { losses, next, before, lines, bytes: 0, due: None, settled: false }
    }

    /// Whether its owner (or something of the owner's) still has a way to it.
    pub fn is_alive(&self) -> bool {
        Arc::strong_count(&self.losses) > 1
    }

    pub fn is_of(&self, losses: &Arc<Losses>) -> bool {
        Arc::ptr_eq(&self.losses, losses)
    }

    pub fn is_written(&self) -> bool {
        self.lines.is_empty()
    }

    /// A new chain; what a former session left in the buffer goes before it. Answers the bytes that this took.
    pub fn restart(&mut self, losses: Arc<Losses>) -> usize {
        let bytes = self.say_lost();
        (self.losses, self.next, self.before, self.settled) = (losses, 0, Sum::new(), false);
        bytes
    }

    /// What the record lacks by now, said in the record itself. Answers the bytes that this took.
    pub fn say_lost(&mut self) -> usize {
        match self.losses.entries.swap(0, Ordering::Relaxed) {
            0 => 0,
            entries => self.line(&Entry::Lost(Lost { entries, why: BEHIND.to_owned() })),
        }
    }

    /// What was lost comes before what is said now; but a session's own beginning comes first of all, since what was lost
    /// came after it.
    pub fn add(&mut self, note: Note, room: usize) -> Added {
        let begins = matches!(note, Note::Taken(_));
        let before = if begins { 0 } else { self.say_lost() };
        let added = entry(note).map_or_else(Added::default, |entry| self.entry(entry, room));
        let after = self.say_lost_unless(added.dropped > 0);
        Added { bytes: before + added.bytes + after, ..added }
    }

    /// What has just found no room is said with the next note, which may find some.
    fn say_lost_unless(&mut self, dropped: bool) -> usize {
        if dropped { 0 } else { self.say_lost() }
    }

    fn entry(&mut self, entry: Entry, room: usize) -> Added {
        let text = to_raw_value(&entry).ok();
        let size = text.as_ref().map_or(usize::MAX, |text| text.get().len());
        if let Some(text) = text.filter(|_| size <= MOST_ENTRY_BYTES && size <= room) {
            return Added { bytes: self.text(text), dropped: 0 };
        }
        match entry {
            // The plan alone says less, and still all that judging rests on.
            Entry::Planned(planned) if size <= room && planned.baseline.is_some() => {
                let smaller = Planned { baseline: None, ..*planned };
                Added { bytes: self.line(&Entry::Planned(Box::new(smaller))), dropped: 0 }
            }
            // A session needs a first line all the same, unlike that of any other session.
            Entry::Taken(taken) => {
                let entries = self.losses.entries.swap(0, Ordering::Relaxed) + 1;
                self.losses.out_of_step();
                let (at, epoch) = (taken.at.millis(), taken.owner.epoch);
                let why = format!(
                    "where the session of epoch {epoch} began ({at} ms since 1970) found no room, and what came with it"
                );
                Added { bytes: self.line(&Entry::Lost(Lost { entries, why })), dropped: 1 }
            }
            Entry::Planned(_)
            | Entry::Resumed(_)
            | Entry::Judged(_)
            | Entry::Decided(_)
            | Entry::Lost(_)
            | Entry::Synced(_) => {
                self.losses.lost(1);
                Added { bytes: 0, dropped: 1 }
            }
        }
    }

    fn line(&mut self, entry: &Entry) -> usize {
        match to_raw_value(entry) {
            Ok(text) => self.text(text),
            Err(_) => {
                self.losses.lost(1);
                0
            }
        }
    }

    /// An entry's text becomes the next line.
    fn text(&mut self, entry: Box<RawValue>) -> usize {
        let line = Line::with(&self.before, self.next, entry);
        let Ok(text) = serde_json::to_string(&line) else {
            self.losses.lost(1);
            return 0;
        };
        self.next += 1;
        self.before = line.sum;
        let bytes = text.len();
        self.bytes += bytes;
        self.lines.push(text);
        bytes
    }

    /// The oldest lines as a `Batch`, and how many they are: at least one, where there are any.
    pub fn next_batch(&self) -> Option<(usize, String)> {
        let mut bytes = 0;
        let fits = |line: &&String| {
            bytes += line.len();
            bytes <= MOST_BATCH_BYTES
        };
        let count = self.lines.iter().take_while(fits).count().max(1);
        let lines = self.lines.get(..count)?;
        Some((count, format!(r#"{{"version":{VERSION},"lines":[{}]}}"#, lines.join(","))))
    }

    /// So many of the oldest lines are in the store. Answers their bytes.
    pub fn written(&mut self, count: usize) -> usize {
        let bytes = self.lines.drain(..count).map(|line| line.len()).sum::<usize>();
        self.bytes -= bytes;
        bytes
    }
}

/// Sums are made here, so that no owner waits for them.
fn entry(note: Note) -> Option<Entry> {
    Some(match note {
        Note::Taken(taken) => Entry::Taken(taken),
        Note::Planned(planned) => Entry::Planned(planned),
        Note::Resumed(resumed) => Entry::Resumed(resumed),
        Note::Judged(judged, evidence) => {
            Entry::Judged(Box::new(Judged { evidence: sum(&evidence), ..*judged }))
        }
        Note::Decided(decided, state) => Entry::Decided(Box::new(Decided { state: sum(&state), ..*decided })),
        Note::Synced(synced) => Entry::Synced(synced),
        Note::Flush | Note::Settled => return None,
    })
}
