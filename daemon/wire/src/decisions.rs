//! A rollout's decision record: all that its decisions came from, so that they can be made again, bit for bit, on any
//! machine.
//!
//! ```text
//!   charter (policy, resolved)                                          once
//!   taken    an owner began with this state, under these versions  ─┐
//!   planned  what was measured before, and the plan it froze        │  a session: from one start of an owner
//!   resumed  evidence that was read from the store                  │  to the next
//!   judged   one window, and what came of it                        │
//!   decided  one event at one time, and what came of it             │
//!   synced   where a session goes on after something was lost      ─┘
//! ```
//!
//! The lines of a session are numbered and chained: each has a sum over itself and the line before it, so a changed bit,
//! a line that is missing and one that was put in are found. What could not be kept is said by [`Entry::Lost`]; it is
//! never passed over in silence.
//!
//! Exported, a record is text: its head is the first line, then one entry a line. In the store lines come in batches.
//! Both carry [`VERSION`]; an unknown newer one is refused with the reason.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use sluice_analyzers::{Baseline, Evidence, Plan, Window};
use sluice_rollout::{Answered, Event, Numbered, Reason, State, Timestamp, Weight};

use crate::record::{Charter, Owner};

/// The version of the records that this Sluice writes.
pub const VERSION: u32 = 1;
/// What the first line of an export says it is.
pub const KIND: &str = "sluice-decision-record";
/// The longest line that is read.
pub const MOST_LINE_BYTES: usize = 8 * 1024 * 1024;

/// A SHA-256 in hexadecimal, over the JSON of a value: 64 characters.
pub type Sum = String;

/// The first line of an exported record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`KIND`].
    kind: String,
    version: u32,
    /// Over the charter's text.
    sum: Sum,
    charter: Box<RawValue>,
}

/// One entry with its place in the session and its link in the chain. The entry's text is kept as it was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Counted from 0 in each session.
    pub n: u64,
    /// Over the sum of the line before (none before the first), `n`, and the entry's text.
    pub sum: Sum,
    entry: Box<RawValue>,
}

/// Lines as they are kept in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub version: u32,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    Taken(Box<Taken>),
    Planned(Box<Planned>),
    Resumed(Box<Resumed>),
    Judged(Box<Judged>),
    Decided(Box<Decided>),
    Lost(Lost),
    Synced(Box<Synced>),
}

/// An owner began: a new session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    pub at: Timestamp,
    /// The program's version, the machine's and the analysis'.
    pub sluice: String,
    pub machine: u32,
    pub analysis: u32,
    pub owner: Owner,
    /// See [`sum_of_charter`].
    pub charter: Sum,
    pub state: State,
}

impl Taken {
    /// Where a session of this build begins.
    pub fn of(charter: &Charter, owner: Owner, state: State, at: Timestamp) -> Taken {
        Taken {
            at,
            sluice: env!("CARGO_PKG_VERSION").to_owned(),
            machine: sluice_rollout::VERSION,
            analysis: sluice_analyzers::VERSION,
            owner,
            charter: sum_of_charter(charter),
            state,
        }
    }
}

/// The baseline was measured, and the plan frozen from it and the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// None where it is too large to be kept.
    pub baseline: Option<Baseline>,
    pub plan: Plan,
}

/// Plan and evidence as an earlier session had saved them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resumed {
    pub plan: Plan,
    pub evidence: Evidence,
}

/// One window was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The step that was watched, counted from 0 as the machine does.
    pub step: usize,
    pub window: Window,
    /// What the owner was told.
    pub event: Event,
    /// Over the evidence after it.
    pub evidence: Sum,
}

/// The machine was given an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// The time that the machine was told.
    pub now: Timestamp,
    pub event: Event,
    pub revision: u64,
    pub phase: String,
    pub weight: Weight,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Numbered>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answered>,
    /// Whether the state was in the store by then: an abort goes on without.
    pub saved: bool,
    /// Over the state after it.
    pub state: Sum,
}

/// Entries that are not in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub entries: u64,
    pub why: String,
}

/// What a replay goes on from after a loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Synced {
    State(Box<State>),
    Evidence(Box<Resumed>),
}

/// A part of a record, as the doors give it: batches are passed on as they are, whatever their version.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordPage {
    pub charter: Charter,
    pub batches: Vec<Box<RawValue>>,
    /// Ask for what comes after this place; nothing: that was all.
    pub next: Option<u64>,
}

/// Why a record cannot be read. Nothing of it is guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error(
        "the record has version {found} and this Sluice reads up to {VERSION}: it was written by a newer Sluice; replay it with that one"
    )]
    Newer { found: u32 },
    #[error("line {line} is no line of a decision record: {why}")]
    Line { line: usize, why: String },
    #[error(
        "line 1 is not the head of a decision record: {why}; `sluice record ROLLOUT > FILE` writes a whole one"
    )]
    Head { why: String },
    #[error("line {line} has more than {MOST_LINE_BYTES} bytes")]
    TooLong { line: usize },
    #[error("the record is empty")]
    Empty,
}

impl Head {
    pub fn new(charter: &Charter) -> Result<Head, serde_json::Error> {
        let charter = serde_json::value::to_raw_value(charter)?;
        let sum = sum_of_bytes(charter.get().as_bytes());
        Ok(Head { kind: KIND.to_owned(), version: VERSION, sum, charter })
    }

    /// The charter, if it is as it was written.
    pub fn charter(&self) -> Result<Charter, RecordError> {
        let wrong = |why: String| RecordError::Head { why };
        if self.sum != sum_of_bytes(self.charter.get().as_bytes()) {
            return Err(wrong("its charter is not as it was written: its sum is another".to_owned()));
        }
        serde_json::from_str(self.charter.get()).map_err(|error| wrong(error.to_string()))
    }
}

impl Line {
    /// The line that follows one with the sum `before`; the first one of a session follows the empty sum.
    pub fn after(before: &str, n: u64, entry: &Entry) -> Result<Line, serde_json::Error> {
        Ok(Line::with(before, n, serde_json::value::to_raw_value(entry)?))
    }

    /// The same with an [`Entry`] that is text already.
    pub fn with(before: &str, n: u64, entry: Box<RawValue>) -> Line {
        Line { n, sum: link(before, n, entry.get()), entry }
    }

    /// Whether it is as it was written, and follows a line with the sum `before`.
    pub fn follows(&self, before: &str) -> bool {
        self.sum == link(before, self.n, self.entry.get())
    }

    pub fn entry(&self) -> Result<Entry, serde_json::Error> {
        serde_json::from_str(self.entry.get())
    }
}

fn link(before: &str, n: u64, entry: &str) -> Sum {
    sum_of_bytes(format!("{before} {n} {entry}").as_bytes())
}

/// Of what a rollout is decided by: sessions of one record agree in it.
pub fn sum_of_charter(charter: &Charter) -> Sum {
    let Charter { id, release, actor, key, policy_hash, announced, .. } = charter;
    sum(&(id, release, actor, key, policy_hash, announced))
}

/// SHA-256 over the value's JSON. The same value gives the same text on any machine: fields have an order, maps are
/// sorted, and numbers are written in one way.
pub fn sum<T: Serialize>(value: &T) -> Sum {
    // A value of ours is always JSON; one that were not would match nothing.
    let text = serde_json::to_vec(value).unwrap_or_default();
    hex(&Sha256::digest(text))
}

/// SHA-256 of bytes, as the charter has it of its policy.
pub fn sum_of_bytes(bytes: &[u8]) -> Sum {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> Sum {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Reads an exported record line by line.
#[derive(Debug, Default)]
pub struct RecordReader {
    line: usize,
}

/// What a line of an export is.
#[derive(Debug, Clone)]
pub enum Part {
    Head(Box<Head>),
    Line(Line),
}

impl RecordReader {
    /// The head comes first. Empty lines say nothing.
    pub fn read(&mut self, text: &str) -> Result<Option<Part>, RecordError> {
        self.line += 1;
        let line = self.line;
        if text.len() > MOST_LINE_BYTES {
            return Err(RecordError::TooLong { line });
        }
        let text = text.trim();
        if line == 1 {
            return head(text).map(|head| Some(Part::Head(Box::new(head))));
        }
        if text.is_empty() {
            return Ok(None);
        }
        let read = serde_json::from_str(text).map(|line| Some(Part::Line(line)));
        read.map_err(|error| RecordError::Line { line, why: error.to_string() })
    }

    /// An export without a single line is none.
    pub fn finish(self) -> Result<(), RecordError> {
        if self.line == 0 { Err(RecordError::Empty) } else { Ok(()) }
    }
}

/// The version is looked at before all else: a newer head may have any other form.
fn head(text: &str) -> Result<Head, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        kind: String,
        version: u32,
    }
    let wrong = |why: String| RecordError::Head { why };
    let versioned: Versioned = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if versioned.kind != KIND {
        return Err(wrong(format!("its kind is {:?}, not {KIND:?}", short(&versioned.kind))));
    }
    known(versioned.version)?;
    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
}

/// Reads a batch as the store has it.
pub fn batch(text: &str) -> Result<Batch, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = parse(text)?;
    known(versioned.version)?;
    parse(text)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, RecordError> {
    serde_json::from_str(text).map_err(|error| RecordError::Line { line: 1, why: error.to_string() })
}

fn known(version: u32) -> Result<(), RecordError> {
    match version {
        0 => Err(RecordError::Head { why: "there is no version 0".to_owned() }),
        1..=VERSION => Ok(()),
        found => Err(RecordError::Newer { found }),
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(before: &str, n: u64, entries: u64) -> Line {
        Line::after(before, n, &Entry::Lost(Lost { entries, why: "a full queue".into() })).unwrap()
    }

    #[test]
    fn a_chain_holds_only_in_its_order_and_only_unchanged() {
        let first = lost("", 0, 1);
        let second = lost(&first.sum, 1, 2);
        assert!(first.follows("") && second.follows(&first.sum));
        assert!(!second.follows(""), "a line is missing before it");
        let other = lost(&first.sum, 1, 3);
        assert!(!Line { entry: other.entry, ..second.clone() }.follows(&first.sum), "its entry was changed");
        assert!(!Line { n: 2, ..second }.follows(&first.sum), "its number was changed");
    }

    #[test]
    fn a_newer_version_is_refused_whatever_else_it_has() {
        let newer = format!(r#"{{"kind":"{KIND}","version":9,"shape":["nobody","knows"]}}"#);
        let refused = RecordReader::default().read(&newer).unwrap_err();
        assert_eq!(refused, RecordError::Newer { found: 9 });
        assert!(refused.to_string().contains("version 9") && refused.to_string().contains("newer Sluice"));
        assert_eq!(batch(r#"{"version":9,"x":1}"#).unwrap_err(), RecordError::Newer { found: 9 });
    }

    #[test]
    fn what_is_no_record_is_refused_with_its_line() {
        let mut reader = RecordReader::default();
        let refused = reader.read("GIF89a").unwrap_err().to_string();
        assert!(refused.contains("line 1") && refused.contains("sluice record"), "{refused}");
        assert_eq!(RecordReader::default().finish(), Err(RecordError::Empty));
        let refused = RecordReader { line: 4 }.read(r#"{"n":1}"#).unwrap_err().to_string();
        assert!(refused.contains("line 5") && refused.contains("sum"), "{refused}");
    }
}
