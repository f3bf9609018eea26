//! Keeps the decision records: what owners and observers hand over goes to one writer, which numbers, chains and batches
//! it. Nothing waits for it, an abort least of all: what finds no room is counted, and the record says that it is not
//! whole.
//!
//! ```text
//!   owner, observer ──try_send──▶ queue ──▶ writer: a buffer a rollout ──▶ store, a batch at a time
//! ```
//!
//! A decision is written at once, windows that decided nothing within seconds: after a crash at most these are missing,
//! and they are read again from the source.

mod session;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::value::RawValue;
use sluice_analyzers::{Baseline, Evidence, Plan};
use sluice_rollout::{RolloutId, State};
use sluice_wire::decisions::{Decided, Judged, Planned, RecordPage, Resumed, Synced, Taken};
use tokio::sync::{mpsc, oneshot};

use self::writer::Writer;
use super::{ledger::Ledger, meters::Meters};
use crate::control::ControlError;

/// Entries that wait for the writer.
const QUEUE: usize = 4_096;
/// One answer to who reads a record; with one batch more it still fits into a message.
const PAGE_BYTES: usize = 384 * 1024;

/// All records of a daemon.
#[derive(Clone)]
pub struct Records {
    notes: mpsc::Sender<Message>,
    meters: Arc<Meters>,
}

/// One rollout's way to its record.
#[derive(Clone)]
pub struct Recorder {
    id: RolloutId,
    records: Records,
    losses: Arc<Losses>,
}

/// What one session lacks, and who has to say again where things stand.
struct Losses {
    entries: AtomicU64,
    /// A session's first entry, until it has found room: without it what follows would stand behind another session.
    taken: Mutex<Option<Box<Taken>>>,
    state: AtomicBool,
    evidence: AtomicBool,
    meters: Arc<Meters>,
}

impl Losses {
    fn of(meters: Arc<Meters>) -> Arc<Losses> {
        let (entries, taken, state, evidence) = Default::default();
        Arc::new(Losses { entries, taken, state, evidence, meters })
    }

    fn lost(&self, entries: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.out_of_step();
    }

    /// Who replays it does not know any more where things stand.
    fn out_of_step(&self) {
        self.state.store(true, Ordering::Relaxed);
        self.evidence.store(true, Ordering::Relaxed);
    }
}

impl Drop for Losses {
    /// A beginning that never found room went with its owner.
    fn drop(&mut self) {
        if self.taken.get_mut().is_ok_and(|taken| taken.is_some()) {
            self.meters.drop_one("record");
        }
    }
}

enum Message {
    Note { id: RolloutId, losses: Arc<Losses>, note: Note },
    Close(oneshot::Sender<()>),
}

/// What is handed over; sums are made by the writer.
enum Note {
    Taken(Box<Taken>),
    Planned(Box<Planned>),
    Resumed(Box<Resumed>),
    Judged(Box<Judged>, Box<Evidence>),
    Decided(Box<Decided>, Box<State>),
    Synced(Box<Synced>),
    /// What was saved just now rests on what waits here.
    Flush,
    Settled,
}

impl Records {
    pub fn start(ledger: Ledger, meters: Arc<Meters>) -> Records {
        let (notes, inbox) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(ledger, meters.clone()).work(inbox));
        Records { notes, meters }
    }

    /// A new session of this rollout's record.
    pub fn session(&self, id: &RolloutId, taken: Taken) -> Recorder {
        let losses = Losses::of(self.meters.clone());
        let recorder = Recorder { id: id.clone(), records: self.clone(), losses };
        recorder.note(Note::Taken(Box::new(taken)));
        recorder
    }

    /// Writes what waits; gives up after `within`.
    pub async fn close(&self, within: Duration) {
        let (done, written) = oneshot::channel();
        let closing = async {
            if self.notes.send(Message::Close(done)).await.is_ok() {
                // An error is a writer that has ended.
                let _ = written.await;
            }
        };
        if tokio::time::timeout(within, closing).await.is_err() {
            tracing::warn!("decision records could not be written to their end; a replay will say so");
        }
    }
}

impl Recorder {
    pub fn planned(&self, baseline: &Baseline, plan: &Plan) {
        let planned = Planned { baseline: Some(baseline.clone()), plan: plan.clone() };
        self.note(Note::Planned(Box::new(planned)));
    }

    pub fn resumed(&self, plan: &Plan, evidence: &Evidence) {
        self.note(Note::Resumed(Box::new(Resumed { plan: plan.clone(), evidence: evidence.clone() })));
    }

    /// `judged` without its sum.
    pub fn judged(&self, judged: Judged, plan: &Plan, evidence: &Evidence) {
        self.note(Note::Judged(Box::new(judged), Box::new(evidence.clone())));
        if self.losses.evidence.swap(false, Ordering::Relaxed) {
            let resumed = Resumed { plan: plan.clone(), evidence: evidence.clone() };
            self.note(Note::Synced(Box::new(Synced::Evidence(Box::new(resumed)))));
        }
    }

    /// `decided` without its sum.
    pub fn decided(&self, decided: Decided, state: &State) {
        self.note(Note::Decided(Box::new(decided), Box::new(state.clone())));
        if self.losses.state.swap(false, Ordering::Relaxed) {
            self.note(Note::Synced(Box::new(Synced::State(Box::new(state.clone())))));
        }
    }

    pub fn flush(&self) {
        self.note(Note::Flush);
    }

    pub fn settled(&self) {
        self.note(Note::Settled);
    }

    /// Never waits. A beginning that found no room goes before anything that follows it.
    fn note(&self, note: Note) {
        let mut waiting = self.losses.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = waiting.take() {
            *waiting = self.hand_over(Note::Taken(taken)).err().and_then(beginning);
        }
        let lost = if waiting.is_some() { Err(note) } else { self.hand_over(note) };
        let Err(note) = lost else { return };
        match beginning(note) {
            Some(taken) => *waiting = Some(taken),
            None => {
                self.losses.lost(1);
                self.records.meters.drop_one("record");
            }
        }
    }

    /// What found no room comes back.
    fn hand_over(&self, note: Note) -> Result<(), Note> {
        let message = Message::Note { id: self.id.clone(), losses: self.losses.clone(), note };
        self.records.notes.try_send(message).map_err(|error| match error.into_inner() {
            Message::Note { note, .. } => note,
            Message::Close(_) => Note::Flush,
        })
    }
}

fn beginning(note: Note) -> Option<Box<Taken>> {
    match note {
        Note::Taken(taken) => Some(taken),
        Note::Planned(_)
        | Note::Resumed(_)
        | Note::Judged(..)
        | Note::Decided(..)
        | Note::Synced(_)
        | Note::Flush
        | Note::Settled => None,
    }
}

/// A part of a rollout's record; none if nothing is known of the rollout.
pub async fn page(ledger: &Ledger, id: &RolloutId, after: u64) -> Result<Option<RecordPage>, ControlError> {
    let failed = |why: String| ControlError::Store(why);
    let Some(charter) = ledger.charter(id).await.map_err(|error| failed(error.to_string()))? else {
        return Ok(None);
    };
    let read = ledger.record(id, after, PAGE_BYTES).await.map_err(|error| failed(error.to_string()))?;
    let next = read.last().map(|(place, _)| *place);
    let raw = |(_, batch): (u64, bytes::Bytes)| {
        let text = String::from_utf8(batch.into()).map_err(|error| failed(error.to_string()))?;
        RawValue::from_string(text).map_err(|error| failed(format!("a batch of its record: {error}")))
    };
    let batches = read.into_iter().map(raw).collect::<Result<_, _>>()?;
    Ok(Some(RecordPage { charter: charter.shown(), batches, next }))
}
