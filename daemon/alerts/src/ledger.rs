//! What one sink has been told, and what it is to be told next. Plain bookkeeping: no IO, no clock; `now` is given.
//!
//! An alert is known by rollout and kind. Its entry holds the latest word about it:
//!
//! ```text
//!            fire                 delivered                    resolve             delivered
//!  (absent) ──────> firing, due ───────────> firing, kept up ─────────> resolved ───────────> (ended)
//!                        │ resolve before any delivery                   due
//!                        └──────────────────> (ended), nothing is sent
//! ```
//!
//! - The end of an alert waits until it has been up for as long as the sink needs to tell somebody. The end of an abort
//!   waits until the abort has been told at all: that it is over within a second is no reason to keep it from on-call.
//! - A later word about an alert takes the place of the former one; there is no queue of words to work off.
//! - The number of entries is bounded; what finds no room is counted.
//! - What failed is due again after a growing, jittered delay, for as long as it takes. A failed batch is halved, so that
//!   one alert that a sink chokes on does not hold up the others for ever.

mod entry;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use sluice_rollout::{AlertKind, RolloutId};
use sluice_wire::alert::Alert;
use tokio::{sync::oneshot, time::Instant};

use self::entry::{Entry, Known, Waiter, answer};
use crate::{SinkError, receipt::Outcome};

/// How many ended alerts are remembered, so that a repeated resolve is not sent again.
const MOST_ENDED: usize = 1024;
/// A doubling delay reaches its maximum within so many attempts.
const DOUBLINGS: u32 = 7;

/// What does not change while a sink lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Alerts that come within this time go together.
    pub window: Duration,
    /// Firing alerts are said again this often.
    pub repeat: Option<Duration>,
    /// What was said to fire stays up for so long.
    pub at_least: Duration,
    /// Most entries.
    pub capacity: usize,
    /// Most alerts in one message.
    pub batch: usize,
}

type Key = (RolloutId, AlertKind);

/// Alerts that go to the sink in one message.
#[derive(Debug)]
pub(crate) struct Batch {
    pub alerts: Vec<Alert>,
    words: Vec<(Key, u64)>,
}

/// Counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub messages: u64,
    pub alerts: u64,
    pub failed: u64,
    pub refused: u64,
    pub dropped: u64,
}

/// Since when the sink takes nothing, and why.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    pub since: Instant,
    pub why: String,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    rules: Rules,
    entries: BTreeMap<Key, Entry>,
    /// What came of the last ones: a repeated resolve gets the first answer again.
    ended: VecDeque<(Key, Outcome)>,
    words: u64,
    /// Most alerts in the next message: halved by a failure, whole again after a success.
    batch: usize,
    failures: u32,
    not_before: Option<Instant>,
    failing: Option<Failing>,
    counts: Counts,
    closed: bool,
}

impl Ledger {
    pub fn new(rules: Rules) -> Ledger {
        Ledger {
            rules,
            entries: BTreeMap::new(),
            ended: VecDeque::new(),
            words: 0,
            batch: rules.batch,
            failures: 0,
            not_before: None,
            failing: None,
            counts: Counts::default(),
            closed: false,
        }
    }

    pub fn fire(&mut self, alert: Alert, waiter: Waiter, now: Instant) {
        let key = key(&alert);
        match self.entries.get_mut(&key) {
            Some(entry) if entry.says(&alert) => {
                if entry.end.is_some() {
                    entry.drop_end(&Outcome::Needless);
                    entry.due =
                        if entry.unsaid { entry.due } else { self.rules.repeat.map(|repeat| now + repeat) };
                }
                entry.join(waiter);
            }
            Some(_) => self.replace(&key, alert, waiter, now),
            None => {
                self.ended.retain(|(ended, _)| *ended != key);
                self.insert(key, alert, Known::Nothing, waiter, now);
            }
        }
    }

    /// Drops what is known of a rollout's alerts; whoever waits for word of them is told that none was needed.
    pub fn forget(&mut self, rollout: &RolloutId) {
        let keys: Vec<Key> = self.entries.keys().filter(|(of, _)| of == rollout).cloned().collect();
        for key in keys {
            self.end(&key, Outcome::Needless);
        }
    }

    pub fn resolve(&mut self, alert: Alert, waiter: Waiter, now: Instant) {
        let key = key(&alert);
        match self.entries.get_mut(&key) {
            Some(entry) if !entry.alert.is_firing() => entry.join(waiter),
            Some(entry) if !self.closed && entry.is_to_stay(self.rules.at_least, now) => {
                entry.end_later(alert, waiter, self.rules.at_least);
            }
            Some(entry) if entry.known == Known::Nothing && !entry.in_flight => {
                answer(waiter, Outcome::Needless);
                self.end(&key, Outcome::Needless);
            }
            Some(_) => self.replace(&key, alert, waiter, now),
            None => match self.ended.iter().find(|(ended, _)| *ended == key) {
                Some((_, outcome)) => answer(waiter, outcome.clone()),
                // A former process may have fired it.
                None => self.insert(key, alert, Known::Perhaps, waiter, now),
            },
        }
    }

    /// An alert that a former process has fired and that still stands: kept up, not told anew.
    pub fn restore(&mut self, alert: Alert, now: Instant) {
        let repeat = self.rules.repeat;
        if let Some(entry) = self.keep(alert, Known::Firing, now) {
            entry.unsaid = false;
            entry.due = repeat.map(|_| now);
        }
    }

    /// An alert that a former process was about to fire, and may have fired: it is said (again), and its end in any case.
    pub fn doubt(&mut self, alert: Alert, now: Instant) {
        self.keep(alert, Known::Perhaps, now);
    }

    /// A former process's alert, for which nobody waits here; nothing where it is known already.
    fn keep(&mut self, alert: Alert, known: Known, now: Instant) -> Option<&mut Entry> {
        let key = key(&alert);
        if self.entries.contains_key(&key) {
            return None;
        }
        let (waiter, _) = oneshot::channel();
        self.insert(key.clone(), alert, known, waiter, now);
        let entry = self.entries.get_mut(&key)?;
        entry.waiting.clear();
        Some(entry)
    }

    /// When there is something to do, if nothing comes in between.
    pub fn next(&self) -> Option<Instant> {
        self.earliest(|_| true)
    }

    /// The same for what has not been said at all yet.
    pub fn next_unsaid(&self) -> Option<Instant> {
        self.earliest(|entry| entry.unsaid)
    }

    pub fn unsaid(&self) -> usize {
        self.entries.values().filter(|entry| entry.unsaid || entry.end.is_some()).count()
    }

    pub fn firing(&self) -> usize {
        self.entries.values().filter(|entry| entry.alert.is_firing()).count()
    }

    /// Everything unsaid is due at once; nothing new is taken.
    pub fn close(&mut self, now: Instant) {
        self.closed = true;
        self.not_before = None;
        for entry in self.entries.values_mut().filter(|entry| entry.unsaid) {
            entry.due = Some(now);
        }
    }

    /// Nobody says anything any more: whoever waits is told so.
    pub fn stop(&mut self) {
        for entry in self.entries.values_mut() {
            entry.stop();
        }
    }

    /// The next message, if one is due. It must be settled before another one is taken.
    pub fn take(&mut self, now: Instant) -> Option<Batch> {
        if self.next()? > now {
            return None;
        }
        self.ripen(now);
        let chosen = self.chosen(now);
        let mut batch = Batch { alerts: Vec::new(), words: Vec::new() };
        for key in chosen {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.in_flight = true;
                batch.alerts.push(entry.alert.clone());
                batch.words.push((key, entry.word));
            }
        }
        Some(batch)
    }

    /// What came of a message.
    pub fn settle(&mut self, batch: &Batch, result: Result<(), SinkError>, now: Instant) {
        for (key, _) in &batch.words {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.in_flight = false;
            }
        }
        match result {
            Ok(()) => self.delivered(batch, now),
            Err(SinkError::Passing { why, after }) => self.failed(batch, why, after, false, now),
            Err(SinkError::Unanswered { why }) => self.failed(batch, why, None, true, now),
            Err(SinkError::Final { why }) => self.refused(batch, why, now),
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }
}

/// Words that come in.
impl Ledger {
    fn insert(&mut self, key: Key, alert: Alert, known: Known, waiter: Waiter, now: Instant) {
        if self.closed {
            return answer(waiter, Outcome::Stopped);
        }
        if self.entries.len() >= self.rules.capacity {
            self.counts.dropped += 1;
            return answer(waiter, Outcome::Dropped);
        }
        self.words += 1;
        let entry = Entry {
            alert,
            word: self.words,
            known,
            unsaid: true,
            in_flight: false,
            due: Some(now + self.rules.window),
            attempts: 0,
            alone: false,
            waiting: vec![waiter],
            said: None,
            end: None,
        };
        self.entries.insert(key, entry);
    }

    fn replace(&mut self, key: &Key, mut alert: Alert, waiter: Waiter, now: Instant) {
        if self.closed {
            return answer(waiter, Outcome::Stopped);
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.words += 1;
        // The episode began when it was first fired, whatever a later word says; its end may be on the way already.
        let ending = entry.in_flight && !entry.alert.is_firing();
        if !ending {
            alert.since = entry.alert.since;
        }
        entry.answer_all(&Outcome::Needless);
        entry.drop_end(&Outcome::Needless);
        entry.alert = alert;
        entry.word = self.words;
        entry.due = Some(if entry.unsaid { entry.due.unwrap_or(now) } else { now + self.rules.window });
        entry.unsaid = true;
        entry.waiting.push(waiter);
    }

    /// Ends that have waited long enough become the words to say.
    fn ripen(&mut self, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| !entry.in_flight && !entry.unsaid) {
            if entry.end.is_some() && !entry.is_to_stay(self.rules.at_least, now) {
                self.words += 1;
                entry.word = self.words;
                entry.end_now();
                entry.due = Some(now);
            }
        }
    }

    fn end(&mut self, key: &Key, outcome: Outcome) {
        if let Some(mut entry) = self.entries.remove(key) {
            entry.answer_all(&outcome);
            entry.drop_end(&outcome);
        }
        self.ended.push_back((key.clone(), outcome));
        if self.ended.len() > MOST_ENDED {
            self.ended.pop_front();
        }
    }
}

/// Words that go out.
impl Ledger {
    fn earliest(&self, of: impl Fn(&Entry) -> bool) -> Option<Instant> {
        let waiting = self.entries.values().filter(|entry| !entry.in_flight && of(entry));
        let due = waiting.filter_map(|entry| entry.due).min()?;
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// Least tried first, then by time. What is due soon goes along.
    fn chosen(&self, now: Instant) -> Vec<Key> {
        let mut ready: Vec<(&Key, &Entry)> =
            self.entries.iter().filter(|(_, entry)| self.goes(entry, now)).collect();
        ready.sort_by_key(|(_, entry)| (entry.attempts, entry.due));
        if ready.first().is_some_and(|(_, entry)| entry.alone) {
            ready.truncate(1);
        }
        let together = ready.iter().enumerate().filter(|(place, (_, entry))| *place == 0 || !entry.alone);
        together.take(self.batch).map(|(_, (key, _))| (*key).clone()).collect()
    }

    fn goes(&self, entry: &Entry, now: Instant) -> bool {
        let joins = if entry.unsaid { self.rules.window } else { self.rules.repeat.unwrap_or_default() / 10 };
        !entry.in_flight && entry.due.is_some_and(|due| due <= now + joins)
    }

    fn delivered(&mut self, batch: &Batch, now: Instant) {
        self.counts.messages += 1;
        self.counts.alerts += batch.alerts.len() as u64;
        (self.failures, self.not_before, self.failing) = (0, None, None);
        self.batch = self.rules.batch;
        for ((key, word), said) in batch.words.iter().zip(&batch.alerts) {
            self.delivered_one(key, *word, said, now);
        }
        if self.closed {
            self.ripen(now);
        }
    }

    fn delivered_one(&mut self, key: &Key, word: u64, said: &Alert, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.attempts = 0;
        entry.known = if said.is_firing() { Known::Firing } else { Known::Nothing };
        entry.said = said.is_firing().then(|| entry.said.unwrap_or(now));
        if entry.word == word && !said.is_firing() {
            self.end(key, Outcome::Told);
        } else if entry.word == word {
            entry.unsaid = false;
            entry.due = self.rules.repeat.map(|repeat| now + repeat);
            entry.answer_all(&Outcome::Told);
            entry.hurry(self.rules.at_least);
        }
    }

    fn failed(&mut self, batch: &Batch, why: String, after: Option<Duration>, perhaps: bool, now: Instant) {
        self.counts.failed += 1;
        self.failures = self.failures.saturating_add(1);
        self.batch = (batch.words.len() / 2).max(1);
        self.not_before = Some(now + after.unwrap_or_default().max(delay(self.failures)));
        let since = self.failing.as_ref().map_or(now, |failing| failing.since);
        self.failing = Some(Failing { since, why });
        for (key, word) in &batch.words {
            self.failed_one(key, *word, perhaps, now);
        }
    }

    fn failed_one(&mut self, key: &Key, word: u64, perhaps: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.attempts = entry.attempts.saturating_add(1);
        if perhaps && entry.known == Known::Nothing {
            entry.known = Known::Perhaps;
        }
        if entry.known == Known::Nothing && !entry.alert.is_firing() {
            self.end(key, Outcome::Needless);
        } else if entry.word == word {
            entry.due = Some(now + delay(entry.attempts));
        }
    }

    /// Of several nobody knows which one it was: each goes by itself next.
    fn refused(&mut self, batch: &Batch, why: String, now: Instant) {
        for (key, word) in &batch.words {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            if batch.words.len() > 1 {
                (entry.alone, entry.due) = (true, Some(now));
            } else if entry.word == *word {
                self.counts.refused += 1;
                self.end(key, Outcome::Refused { why: why.clone() });
            } else if entry.known == Known::Nothing && !entry.alert.is_firing() {
                self.end(key, Outcome::Needless);
            }
        }
    }
}

fn key(alert: &Alert) -> Key {
    (alert.rollout.clone(), alert.kind)
}

/// 1 s, 2 s, 4 s … 60 s, each with a random share of itself on top.
fn delay(attempt: u32) -> Duration {
    let delays = ExponentialBuilder::new().with_jitter().without_max_times().build();
    delays.take(attempt.clamp(1, DOUBLINGS) as usize).last().unwrap_or(Duration::from_secs(60))
}
