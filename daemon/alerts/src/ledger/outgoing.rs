//! Words that go out: which are due, and what came of a message.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use sluice_wire::alert::Alert;
use tokio::time::Instant;

use super::{
    Batch, Failing, Key, Ledger,
    entry::{Entry, Known},
};
use crate::receipt::Outcome;

/// A doubling delay reaches its maximum within so many attempts.
const DOUBLINGS: u32 = 7;

impl Ledger {
    pub(super) fn earliest(&self, of: impl Fn(&Entry) -> bool) -> Option<Instant> {
        let waiting = self.entries.values().filter(|entry| !entry.in_flight && of(entry));
        let due = waiting.filter_map(|entry| entry.due).min()?;
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    /// Least tried first, then by time. What is due soon goes along.
    pub(super) fn chosen(&self, now: Instant) -> Vec<Key> {
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

    pub(super) fn delivered(&mut self, batch: &Batch, now: Instant) {
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

    pub(super) fn failed(
        &mut self,
        batch: &Batch,
        why: String,
        after: Option<Duration>,
        perhaps: bool,
        now: Instant,
    ) {
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
        if entry.known == Known::Nothing && !entry.alert.is_firing() && !entry.missed {
            // It was over before this attempt had failed.
            let (resolved, waiting) = (entry.alert.clone(), std::mem::take(&mut entry.waiting));
            self.untold(key, resolved, waiting, now);
        } else if entry.word == word {
            entry.due = Some(now + delay(entry.attempts));
        }
    }

    /// Of several nobody knows which one it was: each goes by itself next.
    pub(super) fn refused(&mut self, batch: &Batch, why: String, now: Instant) {
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

/// 1 s, 2 s, 4 s … 60 s, each with a random share of itself on top.
fn delay(attempt: u32) -> Duration {
    let delays = ExponentialBuilder::new().with_jitter().without_max_times().build();
    delays.take(attempt.clamp(1, DOUBLINGS) as usize).last().unwrap_or(Duration::from_secs(60))
}
