//! When a pod is scraped next, told from the times of its samples. Pure.
//!
//! Prometheus scrapes each target at a fixed phase of a fixed interval, and a sample's time is when its scrape began.
//! So the next read comes just after the scrape that completes the next window: the canary's last pod is scraped, then
//! each pod of stable's not before it. A window that ended with the canary could not accuse it (an incident that begins
//! between the two scrapes looks like its fault alone), and would wait for stable's next one, an interval later. How long
//! a sample takes until a query sees it is learned: a read that came too early lengthens the wait, others shorten it.
//!
//! Two samples that were read far apart may have others between them, so their gap may be several intervals: taken for
//! one, reads would become rarer and rarer. Only a gap whose reads were close together can lengthen an interval.

use std::collections::BTreeMap;

use sluice_analyzers::Arm;

use crate::PodSample;

/// While nothing is known of the interval: short, since a gap that is learned from rare reads would be a multiple of it.
const GUESS_MS: i64 = 250;
const LONGEST_GUESS_MS: i64 = 1_000;
const SHORTEST_MS: i64 = 20;
const RETRY_MS: i64 = 20;
const LONGEST_MS: i64 = 300_000;
/// How long after its time a sample can be read, at first and at least.
const FIRST_DELAY_MS: f64 = 40.0;
const LEAST_DELAY_MS: f64 = 5.0;

/// The scrapes of one rollout's pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase {
    pods: BTreeMap<(Arm, String), Seen>,
    delay_ms: Option<f64>,
    /// When it was read last; a source forgets those that nobody reads.
    pub(crate) read_ms: i64,
    /// The scrape that the next read waits for, and how many reads came too early for it.
    expected: Option<(Arm, i64)>,
    misses: u32,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at_ms: i64,
    /// The shortest gap between its samples, until longer ones are shown to be the interval.
    every_ms: Option<i64>,
    /// The shortest of the longer gaps of late, and how many in a row: a scrape that failed makes one, too.
    longer: Option<(i64, u32)>,
}

/// So many longer gaps in a row are the interval's, not failed scrapes'.
const LONGER_IN_A_ROW: u32 = 4;

impl Phase {
    /// Learns from what was read at `at_ms` and says when to read again, always after `at_ms`. `every_ms` is what other
    /// pods of the same source taught.
    pub(crate) fn next(&mut self, at_ms: i64, samples: &[PodSample], every_ms: Option<i64>) -> i64 {
        self.learn_delay(at_ms, samples);
        let since_read = at_ms.saturating_sub(self.read_ms);
        let guess = self.every_ms().or(every_ms);
        self.read_ms = at_ms;
        self.pods =
            samples.iter().map(|sample| (key(sample), self.seen(sample, since_read, guess))).collect();
        let guess = self.every_ms().or(every_ms);
        let completing = self.completing(guess.unwrap_or(GUESS_MS));
        self.expected = completing.filter(|_| guess.is_some());
        let due = completing.map(|(_, due)| due);
        let next = match due {
            Some(due) if due > at_ms => due.saturating_add(self.delay()),
            Some(due) => {
                at_ms.saturating_add(overdue(at_ms.saturating_sub(due), guess.unwrap_or(LONGEST_GUESS_MS)))
            }
            None => at_ms + GUESS_MS,
        };
        next.clamp(at_ms + SHORTEST_MS, at_ms + LONGEST_MS)
    }

    /// The scrape that completes the next window, and whose it is.
    fn completing(&self, guess_ms: i64) -> Option<(Arm, i64)> {
        let canary = self.of(Arm::Canary).map(|seen| seen.due(guess_ms)).max();
        let newest = self.of(Arm::Canary).map(|seen| seen.at_ms).max().unwrap_or(i64::MIN);
        // A read that came too early for stable's scrape has the canary's already: that scrape still completes the window.
        let behind = |seen: &&Seen| seen.at_ms < newest;
        let late = self.of(Arm::Stable).filter(behind).map(|seen| seen.first_from(newest, guess_ms)).max();
        let from = canary.unwrap_or(i64::MIN);
        let stable = late.or_else(|| self.of(Arm::Stable).map(|seen| seen.first_from(from, guess_ms)).max());
        stable.map(|due| (Arm::Stable, due)).or(canary.map(|due| (Arm::Canary, due)))
    }

    fn of(&self, arm: Arm) -> impl Iterator<Item = &Seen> {
        self.pods.iter().filter(move |((of, _), _)| *of == arm).map(|(_, seen)| seen)
    }

    /// The shortest interval of its pods.
    pub(crate) fn every_ms(&self) -> Option<i64> {
        self.pods.values().filter_map(|seen| seen.every_ms).min()
    }

    fn delay(&self) -> i64 {
        self.delay_ms.unwrap_or(FIRST_DELAY_MS).ceil() as i64
    }

    fn seen(&self, sample: &PodSample, since_read: i64, guess: Option<i64>) -> Seen {
        match self.pods.get(&key(sample)) {
            Some(before) if sample.at_ms > before.at_ms => before.followed(sample.at_ms, since_read, guess),
            Some(before) => *before,
            None => Seen { at_ms: sample.at_ms, every_ms: None, longer: None },
        }
    }

    /// This read waited for a scrape: is its sample there?
    fn learn_delay(&mut self, at_ms: i64, samples: &[PodSample]) {
        let Some((arm, expected)) = self.expected.filter(|(_, expected)| *expected < at_ms) else { return };
        let newest = samples.iter().filter(|sample| sample.arm == arm).map(|sample| sample.at_ms).max();
        if newest.unwrap_or(i64::MIN) < expected.saturating_sub(SHORTEST_MS) {
            self.misses = self.misses.saturating_add(1);
            return;
        }
        let most = self.every_ms().unwrap_or(GUESS_MS) as f64 / 2.0;
        let took = at_ms.saturating_sub(expected) as f64;
        let learned = if self.misses > 0 { took } else { self.delay_ms.unwrap_or(FIRST_DELAY_MS) * 0.98 };
        self.delay_ms = Some(learned.clamp(LEAST_DELAY_MS, most.max(LEAST_DELAY_MS)));
        self.misses = 0;
    }
}

impl Seen {
    /// The next sample that was seen, `since_read` after the last read. Scrapes `d` apart of which `k` lie between two
    /// reads need more than `(k - 1) d` between those: reads at most half the gap apart show that it is one interval.
    fn followed(self, at_ms: i64, since_read: i64, guess_ms: Option<i64>) -> Seen {
        let gap = at_ms.saturating_sub(self.at_ms);
        let shown = since_read <= gap / 2;
        let longer = self.every_ms.or(guess_ms).is_some_and(|every| gap > every + every / 2);
        match (longer, shown, self.every_ms) {
            (false, _, _) | (true, true, None) => Seen { at_ms, every_ms: Some(gap), longer: None },
            (true, false, _) => Seen { at_ms, ..self },
            (true, true, Some(_)) => {
                let (least, times) =
                    self.longer.map_or((gap, 1), |(least, times)| (least.min(gap), times + 1));
                if times >= LONGER_IN_A_ROW {
                    return Seen { at_ms, every_ms: Some(least), longer: None };
                }
                Seen { at_ms, longer: Some((least, times)), ..self }
            }
        }
    }

    /// The scrape after the last sample.
    fn due(&self, guess_ms: i64) -> i64 {
        self.at_ms.saturating_add(self.every_ms.unwrap_or(guess_ms).max(SHORTEST_MS))
    }

    /// The first scrape after the last sample that is not before `from_ms`.
    fn first_from(&self, from_ms: i64, guess_ms: i64) -> i64 {
        let due = self.due(guess_ms);
        let every = due.saturating_sub(self.at_ms).max(SHORTEST_MS);
        let missing = from_ms.saturating_sub(due).max(0);
        let intervals = missing / every + i64::from(missing % every > 0);
        due.saturating_add(intervals.saturating_mul(every))
    }
}

/// What is a little late is asked for again at once, what is very late once an interval.
fn overdue(late_ms: i64, every_ms: i64) -> i64 {
    (late_ms / 3).clamp(RETRY_MS, every_ms.max(RETRY_MS))
}

fn key(sample: &PodSample) -> (Arm, String) {
    (sample.arm, sample.pod.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(arm: Arm, pod: &str, at_ms: i64) -> PodSample {
        PodSample {
            arm,
            pod: pod.to_owned(),
            at_ms,
            requests: 0,
            errors: 0,
            buckets: None,
            started_ms: None,
            ready_ms: None,
            strata: Vec::new(),
        }
    }

    /// Pods are scraped every `every` at their phases; a sample can be read `lag` later. Gives the reads of a minute.
    fn reads(every: i64, lag: i64, phases: &[(Arm, i64)], minutes: i64) -> Vec<i64> {
        let mut phase = Phase::default();
        let (mut at, mut reads) = (1_000_000, Vec::new());
        while at < 1_000_000 + minutes * 60_000 {
            let newest = |offset: i64| (at - lag - offset).div_euclid(every) * every + offset;
            let samples: Vec<PodSample> = phases
                .iter()
                .enumerate()
                .map(|(i, (arm, offset))| sample(*arm, &i.to_string(), newest(*offset)))
                .collect();
            reads.push(at);
            at = phase.next(at, &samples, None);
        }
        reads
    }

    /// The reads of ten minutes come once an interval, and in the end just after this phase of it.
    fn locks_on(every: i64, lag: i64, phases: &[(Arm, i64)], completing: i64) {
        let reads = reads(every, lag, phases, 10);
        let after = |at: &i64| (at - completing).rem_euclid(every);
        let worst = reads[reads.len() - 20..].iter().map(after).max().unwrap();
        assert!(
            worst <= lag * 3 / 2 + 45,
            "{every} ms, lag {lag}, {phases:?}: read {worst} ms after the scrape"
        );
        let (number, scrapes) = (reads.len() as i64, 600_000 / every);
        assert!(number <= scrapes * 3 / 2 + 20, "{number} reads for {scrapes} scrapes");
        assert!(number >= scrapes * 9 / 10, "{number} reads for {scrapes} scrapes, {phases:?}");
    }

    #[test]
    fn reads_lock_on_just_after_the_scrape_that_completes_a_window() {
        let (stable, canary) = (Arm::Stable, Arm::Canary);
        for (every, lag) in [(15_000, 30), (1_000, 5), (5_000, 200)] {
            let [early, middle, late] = [every / 7, every / 2, every * 4 / 5];
            locks_on(every, lag, &[(canary, early), (stable, middle)], middle);
            locks_on(every, lag, &[(stable, early), (canary, middle)], early);
            // The last of stable's before the canary's next.
            locks_on(every, lag, &[(stable, early), (canary, middle), (stable, late)], early);
            locks_on(every, lag, &[(canary, early), (stable, middle), (stable, late)], late);
            locks_on(every, lag, &[(canary, middle)], middle);
        }
    }

    #[test]
    fn a_source_that_stands_still_is_not_asked_in_a_hurry() {
        let mut phase = Phase::default();
        let still = [sample(Arm::Canary, "a", 0)];
        phase.next(0, &still, None);
        phase.next(15_000, &[sample(Arm::Canary, "a", 15_000)], None);
        let mut at = 30_100;
        let mut reads = 0;
        while at < 330_100 {
            at = phase.next(at, &[sample(Arm::Canary, "a", 15_000)], None);
            reads += 1;
        }
        assert!(reads < 40, "{reads} reads in five minutes");
    }

    #[test]
    fn an_interval_that_becomes_longer_is_learned_and_one_failed_scrape_is_not() {
        let mut phase = Phase::default();
        let mut at = 0;
        for gap in [5_000, 5_000, 10_000, 5_000] {
            at += gap;
            phase.next(at, &[sample(Arm::Canary, "a", at)], None);
        }
        assert_eq!(phase.every_ms(), Some(5_000), "one scrape failed");
        for _ in 0..4 {
            at += 15_000;
            phase.next(at, &[sample(Arm::Canary, "a", at)], None);
        }
        assert_eq!(phase.every_ms(), Some(5_000), "reads as far apart as the samples show nothing");
        for _ in 0..4 {
            for late in [5_000, 10_000] {
                phase.next(at + late, &[sample(Arm::Canary, "a", at)], None);
            }
            at += 15_000;
            phase.next(at, &[sample(Arm::Canary, "a", at)], None);
        }
        assert_eq!(phase.every_ms(), Some(15_000));
    }

    /// A read that waits for stable's second scrape sees every other sample of it.
    #[test]
    fn reads_that_skip_a_sample_do_not_become_rarer_and_rarer() {
        let mut phase = Phase::default();
        let (mut at, mut number) = (1_000_000, 0);
        let newest = |at: i64, offset: i64| (at - 5 - offset).div_euclid(1_000) * 1_000 + offset;
        while at < 1_060_000 {
            let pods = [sample(Arm::Stable, "s", newest(at, 300)), sample(Arm::Canary, "c", newest(at, 700))];
            at = phase.next(at, &pods, Some(1_000));
            number += 1;
        }
        assert!((55..=80).contains(&number), "{number} reads in a minute of scrapes each second");
    }

    #[test]
    fn a_read_that_came_too_early_for_stable_is_repeated_at_once_and_not_an_interval_later() {
        let mut phase = Phase::default();
        let pods =
            |stable: i64, canary: i64| [sample(Arm::Stable, "s", stable), sample(Arm::Canary, "c", canary)];
        phase.next(10_350, &pods(10_300, 9_700), Some(1_000));
        let due = phase.next(11_350, &pods(11_300, 10_700), Some(1_000));
        assert!((12_300..12_400).contains(&due), "{due}");
        // Stable's of 12,300 cannot be read yet.
        let again = phase.next(12_310, &pods(11_300, 11_700), Some(1_000));
        assert!(again < 12_400, "{again}");
    }

    #[test]
    fn what_other_pods_taught_is_used_for_a_new_one() {
        let mut phase = Phase::default();
        let next = phase.next(20_000, &[sample(Arm::Canary, "a", 18_000)], Some(15_000));
        assert_eq!(next, 33_000 + FIRST_DELAY_MS as i64);
    }

    #[test]
    fn the_next_read_is_always_later_than_this_one() {
        let mut phase = Phase::default();
        for (at, sampled) in [(0, i64::MIN / 2), (5, i64::MAX / 2), (6, 0), (7, 7)] {
            let next = phase.next(at, &[sample(Arm::Canary, "a", sampled)], None);
            assert!(next > at && next <= at + LONGEST_MS);
        }
    }
}
