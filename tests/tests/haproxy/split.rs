//! The weights as HAProxy told them, and the requests that each version counted while they stood.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_rig::Service;
use sluice_rig::haproxy::{Change, WeightLog};
use tokio::task::JoinHandle;

/// After a change of weight, requests that were sent before it are still being answered.
const ON_THEIR_WAY: Duration = Duration::from_millis(150);
/// Weights that stood for less are not counted under.
const SHORTEST: Duration = Duration::from_millis(500);

/// What both versions had counted (stable, canary), noted every few milliseconds until dropped.
#[derive(Debug)]
pub struct Tally {
    seen: Arc<Mutex<Vec<(Instant, [u64; 2])>>>,
    task: JoinHandle<()>,
}

/// While one weight stood.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub percent: f64,
    pub stable: u64,
    pub canary: u64,
}

impl Tally {
    pub fn start(stable: Arc<Service>, canary: Arc<Service>) -> Tally {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                let counts = [stable.counts().requests, canary.counts().requests];
                notes.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), counts));
            }
        });
        Tally { seen, task }
    }

    fn at(&self, when: Instant) -> [u64; 2] {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = seen.partition_point(|(at, _)| *at <= when);
        seen[..place].last().map_or([0, 0], |(_, counts)| *counts)
    }

    /// What was counted while each weight stood.
    pub fn stretches(&self, log: &WeightLog) -> Vec<Stretch> {
        let changes = settled(log.timed());
        let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([Instant::now()]);
        let mut stretches = Vec::new();
        for ((begun, weights), end) in changes.iter().zip(ends) {
            if end.duration_since(*begun) > SHORTEST {
                let (first, last) = (self.at(*begun + ON_THEIR_WAY), self.at(end));
                let [stable, canary] = [last[0] - first[0], last[1] - first[1]];
                stretches.push(Stretch { percent: percent(weights), stable, canary });
            }
        }
        stretches
    }

    /// Under every weight the canary got its share of the requests, as far as chance allows.
    pub fn check(&self, log: &WeightLog) -> Result<()> {
        for stretch in self.stretches(log) {
            stretch.check()?;
        }
        Ok(())
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stretch {
    /// Five standard deviations of a binomial, and the few requests that end on the wrong side of the change.
    fn check(&self) -> Result<()> {
        let (share, all) = (self.percent / 100.0, (self.stable + self.canary) as f64);
        let expected = share * all;
        let room = 5.0 * (all * share * (1.0 - share)).sqrt() + 3.0;
        ensure!(
            (self.canary as f64 - expected).abs() <= room,
            "the canary got another share than its weight says: {self:?}"
        );
        Ok(())
    }
}

/// The canary's shares in percent, one after the other, as `log_weights(&["canary", "stable"])` saw them.
pub fn path(log: &WeightLog) -> Vec<f64> {
    settled(log.timed()).iter().map(|(_, weights)| percent(weights)).collect()
}

/// Two servers' weights are set by two commands in one line. Who asks just in between sees one of them: not a weight
/// that anybody wanted.
fn settled(changes: Vec<Change>) -> Vec<Change> {
    let between = |index: usize| {
        let [before, now, after] = [index.checked_sub(1), Some(index), Some(index + 1)]
            .map(|index| index.and_then(|index| changes.get(index)).map(|(_, weights)| weights.as_slice()));
        matches!((before, now, after), (Some([c0, s0]), Some([c1, s1]), Some([c2, s2]))
            if (c1, s1) == (c0, s2) || (c1, s1) == (c2, s0))
    };
    (0..changes.len()).filter(|index| !between(*index)).map(|index| changes[index].clone()).collect()
}

fn percent(weights: &[u16]) -> f64 {
    let all: u16 = weights.iter().sum();
    let canary = weights.first().copied().unwrap_or_default();
    (1000.0 * f64::from(canary) / f64::from(all.max(1))).round() / 10.0
}
