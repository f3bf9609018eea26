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

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::value::RawValue;
use sluice_analyzers::{Baseline, Evidence, Plan};
use sluice_rollout::{RolloutId, State};
use sluice_wire::decisions::{
    Decided, Entry, Judged, Line, Lost, Planned, RecordPage, Resumed, Sum, Synced, Taken, VERSION, sum,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{ledger::Ledger, meters::Meters};
use crate::control::ControlError;

/// Entries that wait for the writer.
const QUEUE: usize = 4_096;
/// A batch is written before it grows beyond this, and an entry alone may not.
const MOST_BATCH_BYTES: usize = 256 * 1024;
const MOST_ENTRY_BYTES: usize = 440 * 1024;
/// What waits in all buffers while the store is away.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// One answer to who reads a record; with one batch more it still fits into a message.
const PAGE_BYTES: usize = 384 * 1024;
/// Decisions of one moment go together.
const AT_ONCE: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(10);
/// A store that failed is tried again after so long.
const STORE_AGAIN: Duration = Duration::from_secs(2);

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
#[derive(Debug, Default)]
struct Losses {
    entries: AtomicU64,
    state: AtomicBool,
    evidence: AtomicBool,
}

impl Losses {
    fn lost(&self, entries: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.state.store(true, Ordering::Relaxed);
        self.evidence.store(true, Ordering::Relaxed);
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
        let writer = Writer {
            ledger,
            meters: meters.clone(),
            sessions: BTreeMap::new(),
            waiting: 0,
            away_until: Instant::now(),
            due: None,
        };
        tokio::spawn(writer.work(inbox));
        Records { notes, meters }
    }

    /// A new session of this rollout's record.
    pub fn session(&self, id: &RolloutId, taken: Taken) -> Recorder {
        let recorder = Recorder { id: id.clone(), records: self.clone(), losses: Arc::default() };
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

    /// Never waits.
    fn note(&self, note: Note) {
        let message = Message::Note { id: self.id.clone(), losses: self.losses.clone(), note };
        if self.records.notes.try_send(message).is_err() {
            self.losses.lost(1);
            self.records.meters.drop_one("record");
        }
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

struct Session {
    losses: Arc<Losses>,
    next: u64,
    before: Sum,
    lines: Vec<String>,
    bytes: usize,
    due: Option<Instant>,
    settled: bool,
}

struct Writer {
    ledger: Ledger,
    meters: Arc<Meters>,
    sessions: BTreeMap<RolloutId, Session>,
    /// Bytes in all buffers.
    waiting: usize,
    away_until: Instant,
    /// No buffer is due earlier.
    due: Option<Instant>,
}

impl Writer {
    async fn work(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(Message::Note { id, losses, note }) => self.take(&id, losses, note).await,
                    Some(Message::Close(done)) => {
                        self.write_all().await;
                        // Whoever asked may have given up.
                        let _ = done.send(());
                    }
                    None => return self.write_all().await,
                },
                () = until(due) => self.write_due().await,
            }
        }
    }

    async fn take(&mut self, id: &RolloutId, losses: Arc<Losses>, note: Note) {
        let begins = matches!(note, Note::Taken(_));
        // What comes after the end says nothing of the rollout; what comes without a beginning has lost it.
        if !begins && !self.sessions.contains_key(id) && losses.entries.load(Ordering::Relaxed) == 0 {
            return;
        }
        let session = self.sessions.entry(id.clone()).or_insert_with(|| Session::new(losses.clone()));
        if begins {
            session.restart(losses);
        }
        let at_once = match &note {
            Note::Judged(..) => false,
            Note::Decided(decided, _) => decided.saved,
            Note::Taken(_)
            | Note::Planned(_)
            | Note::Resumed(_)
            | Note::Synced(_)
            | Note::Flush
            | Note::Settled => true,
        };
        session.settled |= matches!(note, Note::Settled);
        let room = MOST_WAITING_BYTES.saturating_sub(self.waiting);
        let (bytes, dropped) = session.add(note, room);
        self.waiting += bytes;
        (0..dropped).for_each(|_| self.meters.drop_one("record"));
        let soon = Instant::now() + if at_once { AT_ONCE } else { LATER };
        let due = session.due.map_or(soon, |due| due.min(soon));
        session.due = Some(due);
        self.due = Some(self.due.map_or(due, |earliest| earliest.min(due)));
        if session.bytes >= MOST_BATCH_BYTES && Instant::now() >= self.away_until {
            self.write(id).await;
        }
    }

    async fn write_due(&mut self) {
        let now = Instant::now();
        if now < self.away_until {
            self.due = Some(self.away_until);
            return;
        }
        let due = |session: &Session| session.due.is_some_and(|due| due <= now);
        let ids: Vec<RolloutId> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.write(&id).await;
            if Instant::now() < self.away_until {
                break;
            }
        }
        self.due = self.sessions.values().filter_map(|session| session.due).min();
        if let Some(due) = &mut self.due {
            *due = (*due).max(self.away_until);
        }
    }

    async fn write_all(&mut self) {
        let ids: Vec<RolloutId> = self.sessions.keys().cloned().collect();
        for id in ids {
            self.write(&id).await;
        }
    }

    /// Writes one rollout's buffer; what fails stays in it.
    async fn write(&mut self, id: &RolloutId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        while !session.lines.is_empty() {
            let count = session.next_batch();
            let batch = batch_text(&session.lines[..count]);
            if let Err(error) = self.ledger.append_record(id, batch.into()).await {
                tracing::warn!(rollout = %id, %error, "its decision record waits for the store");
                self.away_until = Instant::now() + STORE_AGAIN;
                return;
            }
            let bytes = session.lines.drain(..count).map(|line| line.len()).sum::<usize>();
            session.bytes -= bytes;
            self.waiting -= bytes;
        }
        session.due = None;
        if session.settled {
            self.forget(id);
        }
    }

    /// What is left in its buffer is lost with it.
    fn forget(&mut self, id: &RolloutId) {
        if let Some(session) = self.sessions.remove(id) {
            self.waiting -= session.bytes;
            session.lines.iter().for_each(|_| self.meters.drop_one("record"));
        }
    }
}

impl Session {
    fn new(losses: Arc<Losses>) -> Session {
        let (next, before, lines) = (0, Sum::new(), Vec::new());
        Session { losses, next, before, lines, bytes: 0, due: None, settled: false }
    }

    /// A new chain; what a former session left in the buffer goes before it.
    fn restart(&mut self, losses: Arc<Losses>) {
        (self.losses, self.next, self.before, self.settled) = (losses, 0, Sum::new(), false);
    }

    /// Answers the bytes that it took, and how many entries found no room.
    fn add(&mut self, note: Note, room: usize) -> (usize, u64) {
        let lost = self.losses.entries.swap(0, Ordering::Relaxed);
        let mut bytes = 0;
        if lost > 0 {
            bytes += self.line(&Entry::Lost(Lost { entries: lost, why: "the writer was behind".into() }));
        }
        let Some(entry) = entry(note) else { return (bytes, 0) };
        let size = serde_json::to_vec(&entry).map_or(usize::MAX, |text| text.len());
        if size <= MOST_ENTRY_BYTES && size <= room {
            return (bytes + self.line(&entry), 0);
        }
        match entry {
            // The plan alone says less, and still all that judging rests on.
            Entry::Planned(planned) if size <= room && planned.baseline.is_some() => {
                let smaller = Planned { baseline: None, ..*planned };
                (bytes + self.line(&Entry::Planned(Box::new(smaller))), 0)
            }
            _ => {
                self.losses.lost(1);
                (bytes, 1)
            }
        }
    }

    fn line(&mut self, entry: &Entry) -> usize {
        let written = Line::after(&self.before, self.next, entry)
            .and_then(|line| serde_json::to_string(&line).map(|text| (line.sum, text)));
        let Ok((sum, text)) = written else {
            self.losses.lost(1);
            return 0;
        };
        self.next += 1;
        self.before = sum;
        let bytes = text.len();
        self.bytes += bytes;
        self.lines.push(text);
        bytes
    }

    /// How many of the oldest lines go into one batch: at least one.
    fn next_batch(&self) -> usize {
        let mut bytes = 0;
        let fits = |line: &&String| {
            bytes += line.len();
            bytes <= MOST_BATCH_BYTES
        };
        self.lines.iter().take_while(fits).count().max(1)
    }
}

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

/// The text of a `Batch` from its lines' texts.
fn batch_text(lines: &[String]) -> String {
    format!(r#"{{"version":{VERSION},"lines":[{}]}}"#, lines.join(","))
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
