//! The one writer of all records: a buffer a rollout, and from there into the store, several rollouts at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use sluice_rollout::RolloutId;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Losses, Message, Note,
    session::{MOST_BATCH_BYTES, Session},
};
use crate::runtime::{ledger::Ledger, meters::Meters};

/// What waits in all buffers while the store is away.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Decisions of one moment go together.
const AT_ONCE: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(10);
/// Rollouts whose batches are under way at once; of each rollout one batch is.
const WRITTEN_AT_ONCE: usize = 32;
/// Sessions are looked through first when there are so many, and again when they have doubled.
const FIRST_SWEEP: usize = 256;
/// A store that failed is tried again after so long.
const STORE_AGAIN: Duration = Duration::from_secs(2);
/// The same at a stop, which does not wait for long.
const SOON_AGAIN: Duration = Duration::from_millis(100);

pub struct Writer {
    ledger: Ledger,
    meters: Arc<Meters>,
    pub(super) sessions: BTreeMap<RolloutId, Session>,
    /// Sessions from which on those are looked for whose owner has gone.
    sweep_at: usize,
    /// Bytes in all buffers.
    waiting: usize,
    away_until: Instant,
    /// No buffer is due earlier.
    due: Option<Instant>,
}

impl Writer {
    pub fn new(ledger: Ledger, meters: Arc<Meters>) -> Writer {
        let (sessions, away_until) = (BTreeMap::new(), Instant::now());
        Writer { ledger, meters, sessions, sweep_at: FIRST_SWEEP, waiting: 0, away_until, due: None }
    }

    pub async fn work(mut self, mut inbox: mpsc::Receiver<Message>) {
        loop {
            let due = self.due;
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(Message::Note { id, losses, note }) => self.take(&id, losses, note).await,
                    Some(Message::Close(done)) => {
                        self.write_out().await;
                        // Whoever asked may have given up.
                        let _ = done.send(());
                    }
                    None => return self.write_all().await,
                },
                () = until(due) => self.write_due().await,
            }
        }
    }

    pub(super) async fn take(&mut self, id: &RolloutId, losses: Arc<Losses>, note: Note) {
        if matches!(note, Note::Taken(_)) {
            match self.sessions.get_mut(id) {
                Some(former) => self.waiting += former.restart(losses.clone()),
                None => drop(self.sessions.insert(id.clone(), Session::new(losses.clone()))),
            }
            self.sweep();
        }
        // What comes after the end says nothing of the rollout; what a former session still says is its successor's no more.
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.is_of(&losses)) else {
            return;
        };
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
        let added = session.add(note, MOST_WAITING_BYTES.saturating_sub(self.waiting));
        self.waiting += added.bytes;
        (0..added.dropped).for_each(|_| self.meters.drop_one("record"));
        let soon = Instant::now() + if at_once { AT_ONCE } else { LATER };
        let due = session.due.map_or(soon, |due| due.min(soon));
        session.due = Some(due);
        let full = session.bytes >= MOST_BATCH_BYTES;
        self.is_due(due);
        if full && Instant::now() >= self.away_until {
            self.write_each(std::slice::from_ref(id)).await;
        }
    }

    fn is_due(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |earliest| earliest.min(at)));
    }

    /// Of those whose owner has gone without a last word (disowned, say) what they lack is written, and they are forgotten.
    fn sweep(&mut self) {
        if self.sessions.len() < self.sweep_at {
            return;
        }
        let now = Instant::now();
        for session in self.sessions.values_mut().filter(|session| !session.is_alive()) {
            self.waiting += session.say_lost();
            session.due = Some(now);
        }
        self.sweep_at = (self.sessions.len() * 2).max(FIRST_SWEEP);
        self.is_due(now);
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
        self.write_each(&ids).await;
        self.due = self.sessions.values().filter_map(|session| session.due).min();
        if let Some(due) = &mut self.due {
            *due = (*due).max(self.away_until);
        }
    }

    /// The last chance: a store that failed just then is tried again. Whoever waits for it sets the limit.
    async fn write_out(&mut self) {
        self.write_all().await;
        while !self.sessions.values().all(Session::is_written) {
            tokio::time::sleep(SOON_AGAIN).await;
            self.write_all().await;
        }
    }

    pub(super) async fn write_all(&mut self) {
        let ids: Vec<RolloutId> = self.sessions.keys().cloned().collect();
        self.write_each(&ids).await;
    }

    /// Writes these buffers. What fails stays in its buffer, and the rest waits with it.
    async fn write_each(&mut self, ids: &[RolloutId]) {
        for some in ids.chunks(WRITTEN_AT_ONCE) {
            let mut left = some.to_vec();
            let mut failed = false;
            while !left.is_empty() {
                let batches = left.iter().map(|id| self.write_batch(id));
                let written = join_all(batches).await;
                (left, failed) = self.note_written(left, written, failed);
            }
            if failed {
                return;
            }
        }
    }

    /// How many lines of it are in the store now; nothing if it failed.
    async fn write_batch(&self, id: &RolloutId) -> Option<usize> {
        let batch = self.sessions.get(id).and_then(Session::next_batch);
        let Some((count, text)) = batch else { return Some(0) };
        match self.ledger.append_record(id, text.into()).await {
            Ok(()) => Some(count),
            Err(error) => {
                tracing::warn!(rollout = %id, %error, "its decision record waits for the store");
                None
            }
        }
    }

    /// Answers those that have more to write, and whether any failed.
    fn note_written(
        &mut self,
        ids: Vec<RolloutId>,
        written: Vec<Option<usize>>,
        mut failed: bool,
    ) -> (Vec<RolloutId>, bool) {
        let mut more = Vec::new();
        for (id, count) in ids.into_iter().zip(written) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let Some(count) = count else {
                failed = true;
                self.away_until = Instant::now() + STORE_AGAIN;
                continue;
            };
            self.waiting -= session.written(count);
            if !session.is_written() {
                more.push(id);
                continue;
            }
            session.due = None;
            if !session.settled && session.is_alive() {
                continue;
            }
            // The last word of what has gone: what it lacks.
            match session.say_lost() {
                0 => drop(self.sessions.remove(&id)),
                bytes => {
                    self.waiting += bytes;
                    more.push(id);
                }
            }
        }
        (more, failed)
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
