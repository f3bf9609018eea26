//! What one sink has been told, and what it is to be told next. Plain bookkeeping: no IO, no clock; `now` is given.
//!
//! An alert is known by rollout and kind. Its entry holds the latest word about it:
//!
//! ```text
//!            fire                 delivered                    resolve             delivered
//!  (absent) ──────> firing, due ───────────> firing, kept up ─────────> resolved ───────────> (ended)
//!                        │ resolve before any delivery                   due
//!                        └──────────────────> (ended), nothing is sent; but where the sink took nothing then: missed, due
//! ```
//!
//! - The end of an alert waits until it has been up for as long as the sink needs to tell somebody. The end of an abort
//!   waits until the abort has been told at all: that it is over within a second is no reason to keep it from on-call.
//! - What was up and is over while the sink took nothing is told once it does, in one message with both times. Of such news
//!   the latest are kept. Whoever resolved it waits for that, so that the news outlives this process where that one keeps it.
//! - A later word about an alert takes the place of the former one; there is no queue of words to work off.
//! - The number of entries is bounded; what finds no room is counted.
//! - What failed is due again after a growing, jittered delay, for as long as it takes. A failed batch is halved, so that
//!   one alert that a sink chokes on does not hold up the others for ever.

mod entry;
mod outgoing;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sluice_rollout::{AlertKind, RolloutId};
use sluice_wire::alert::{Alert, AlertStatus};
use tokio::{sync::oneshot, time::Instant};

use self::entry::{Entry, Known, Waiter, answer};
use crate::{SinkError, receipt::Outcome};

/// How many ended alerts are remembered, so that a repeated resolve is not sent again.
const MOST_ENDED: usize = 1024;
/// How many alerts are remembered that were over before a sink was back.
const MOST_MISSED: usize = 256;

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
    pub fn forget(&mut self, rollout: &RolloutId, but: &[AlertKind]) {
        let dropped = |(of, kind): &&Key| of == rollout && !but.contains(kind);
        let keys: Vec<Key> = self.entries.keys().filter(dropped).cloned().collect();
        for key in keys {
            self.end(&key, Outcome::Needless);
        }
    }

    /// `elsewhere`: a replica of this sink has told it, so nobody has missed it.
    pub fn resolve(&mut self, alert: Alert, elsewhere: bool, waiter: Waiter, now: Instant) {
        let key = key(&alert);
        match self.entries.get_mut(&key) {
            Some(entry) if entry.missed => entry.await_news(waiter),
            Some(entry) if !entry.alert.is_firing() => entry.join(waiter),
            Some(entry) if !self.closed && entry.is_to_stay(self.rules.at_least, now) => {
                entry.end_later(alert, waiter, self.rules.at_least);
            }
            Some(entry) if entry.known == Known::Nothing && !entry.in_flight => {
                if elsewhere {
                    answer(waiter, Outcome::Needless);
                    self.end(&key, Outcome::Needless)
                } else {
                    self.untold(&key, alert, vec![waiter], now)
                }
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

    /// An alert that was over before a former process could tell it, or could be sure that it had: told once, with both times.
    pub fn missed(&mut self, resolved: Alert, now: Instant) {
        let fires = self.rules.repeat.is_some();
        let firing = Alert { status: AlertStatus::Firing, ..resolved.clone() };
        if let Some(entry) = self.keep(firing, Known::Perhaps, now) {
            entry.miss(resolved, fires, Vec::new());
            self.bound_missed();
        }
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

    /// Whether the sink has heard of it, or may have.
    pub fn has_told(&self, alert: &Alert) -> bool {
        self.entries.get(&key(alert)).is_some_and(|entry| entry.known != Known::Nothing)
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
            missed: false,
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
        entry.missed = false;
        entry.alert = alert;
        entry.word = self.words;
        entry.due = Some(if entry.unsaid { entry.due.unwrap_or(now) } else { now + self.rules.window });
        entry.unsaid = true;
        entry.waiting.push(waiter);
    }

    /// It is over, and the sink has not heard of it. If that is the sink's doing, on-call learns of it once it is back.
    /// `waiting`: for the word that it is over.
    fn untold(&mut self, key: &Key, resolved: Alert, waiting: Vec<Waiter>, now: Instant) {
        let away = self.failing.is_some();
        match self.entries.get_mut(key) {
            Some(entry) if !self.closed && (away || entry.attempts > 0) => {
                self.words += 1;
                entry.word = self.words;
                entry.due = entry.due.or(Some(now));
                // Who keeps alerts up tells nobody of what does not fire.
                entry.miss(resolved, self.rules.repeat.is_some(), waiting);
                self.bound_missed();
            }
            Some(_) | None => {
                waiting.into_iter().for_each(|waiter| answer(waiter, Outcome::Needless));
                self.end(key, Outcome::Needless)
            }
        }
    }

    /// The oldest such news goes; alerts that fire now need the room.
    fn bound_missed(&mut self) {
        let missed = || self.entries.iter().filter(|(_, entry)| entry.missed);
        if missed().count() <= MOST_MISSED {
            return;
        }
        let waiting = missed().filter(|(_, entry)| !entry.in_flight);
        if let Some(key) = waiting.min_by_key(|(_, entry)| entry.word).map(|(key, _)| key.clone()) {
            self.counts.dropped += 1;
            self.end(&key, Outcome::Dropped);
        }
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

fn key(alert: &Alert) -> Key {
    (alert.rollout.clone(), alert.kind)
}
