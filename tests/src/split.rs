//! Requests as both versions counted them, held against the weights that stood meanwhile: what share really went to the
//! canary, and how long after a write a new weight was in effect. Nothing here believes the router.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinHandle;

/// How often both counters are noted.
const EVERY: Duration = Duration::from_millis(5);
/// Weights that stood for less are not counted under.
const SHORTEST: Duration = Duration::from_millis(500);
/// How long after its write a weight is looked for.
const LATEST: Duration = Duration::from_secs(5);
/// After the change itself, for requests that are still under way.
const SETTLED: Duration = Duration::from_millis(200);

type Note = (Instant, [u64; 2]);

/// What both versions had counted (stable, canary), noted every few milliseconds until dropped.
#[derive(Debug)]
pub struct Tally {
    notes: Arc<Mutex<Vec<Note>>>,
    task: JoinHandle<()>,
}

/// What was counted while one weight stood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// The canary's share as the router was told.
    pub percent: f64,
    pub stable: u64,
    pub canary: u64,
}

impl Tally {
    /// `count` gives the requests that stable and canary have answered so far.
    pub fn of(count: impl Fn() -> [u64; 2] + Send + 'static) -> Tally {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let ours = notes.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                lock(&ours).push((Instant::now(), count()));
            }
        });
        Tally { notes, task }
    }

    /// What was counted while each weight stood, given when each was written. A stretch begins `late` after its write, or
    /// when the weight was in effect, if that was later: routers take their time on a busy machine, and say nothing of it.
    /// The last weight counts until now.
    pub fn stretches(&self, written: &[(Instant, f64)], late: Duration) -> Vec<Stretch> {
        let ends = written.iter().skip(1).map(|(at, _)| *at).chain([Instant::now()]);
        let formers = [None].into_iter().chain(written.iter().map(|(_, percent)| Some(*percent)));
        let each = written.iter().zip(ends).zip(formers).filter_map(|(((written, percent), end), former)| {
            let effect = former.and_then(|former| self.in_effect_between(*written, end, former, *percent));
            let begun = *written + effect.map_or(late, |effect| late.max(effect + SETTLED));
            (end.saturating_duration_since(begun) > SHORTEST).then(|| self.between(*percent, begun, end))
        });
        each.collect()
    }

    fn between(&self, percent: f64, begun: Instant, end: Instant) -> Stretch {
        let (first, last) = (self.at(begun), self.at(end));
        let [stable, canary] = [0, 1].map(|arm: usize| last[arm].saturating_sub(first[arm]));
        Stretch { percent, stable, canary }
    }

    fn at(&self, when: Instant) -> [u64; 2] {
        let notes = lock(&self.notes);
        let place = notes.partition_point(|(at, _)| *at <= when);
        notes[..place].last().map_or([0, 0], |(_, counts)| *counts)
    }

    /// How long after `written` the canary's share changed from `former` to `new` percent: the instant that explains
    /// best (maximum likelihood) which version answered which request. `None` if nobody sent any.
    pub fn in_effect_after(&self, written: Instant, former: f64, new: f64) -> Option<Duration> {
        self.in_effect_between(written, written + LATEST, former, new)
    }

    /// The same, looked for until `end` at most: what came with the next weight says nothing of this one.
    fn in_effect_between(&self, written: Instant, end: Instant, former: f64, new: f64) -> Option<Duration> {
        let notes = lock(&self.notes);
        let near = |at: &Instant| *at >= written && *at <= end.min(written + LATEST);
        let around: Vec<&Note> = notes.iter().filter(|(at, _)| near(at)).collect();
        let (mut best, mut now): (Option<(f64, Instant)>, f64) = (None, 0.0);
        for pair in around.windows(2) {
            let [(_, before), (at, after)] = pair else { continue };
            let [stable, canary] = [0, 1].map(|arm: usize| after[arm].saturating_sub(before[arm]));
            // What is gained by calling this slice the former weight's, too.
            now += likelihood(former, stable, canary) - likelihood(new, stable, canary);
            if stable + canary > 0 && best.is_none_or(|(most, _)| now > most) {
                best = Some((now, *at));
            }
        }
        let answered = around.last()?.1 != around.first()?.1;
        // If no slice is better explained by the former weight, the new one was there from the start.
        answered.then(|| best.filter(|(gain, _)| *gain > 0.0).map_or(Duration::ZERO, |(_, at)| at - written))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stretch {
    /// The canary got its share, as far as chance allows: five standard deviations of a binomial, and the few requests
    /// that end on the wrong side of a change.
    pub fn check(&self) -> Result<()> {
        let (share, all) = (self.percent / 100.0, (self.stable + self.canary) as f64);
        let room = 5.0 * (all * share * (1.0 - share)).sqrt() + 3.0;
        let off = (self.canary as f64 - share * all).abs();
        ensure!(off <= room, "the canary got another share than its weight says: {self:?}");
        Ok(())
    }
}

/// Logarithm, for requests at this share. A share of 0 or 100 % allows a stray.
fn likelihood(percent: f64, stable: u64, canary: u64) -> f64 {
    let share = (percent / 100.0).clamp(1e-4, 1.0 - 1e-4);
    canary as f64 * share.ln() + stable as f64 * (1.0 - share).ln()
}

fn lock(notes: &Mutex<Vec<Note>>) -> MutexGuard<'_, Vec<Note>> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand requests a second, shares from a table of (milliseconds, percent).
    fn tally(shares: &[(u64, f64)]) -> (Tally, Instant) {
        let (begun, mut counts, mut notes) = (Instant::now(), [0u64; 2], Vec::new());
        let mut owed = 0.0;
        for ms in 0..4_000 {
            let share =
                shares.iter().rev().find(|(from, _)| *from <= ms).map_or(0.0, |(_, percent)| *percent);
            owed += share / 100.0;
            let canary = owed >= 1.0;
            owed -= if canary { 1.0 } else { 0.0 };
            counts[usize::from(canary)] += 1;
            notes.push((begun + Duration::from_millis(ms), counts));
        }
        (Tally { notes: Arc::new(Mutex::new(notes)), task: tokio::spawn(async {}) }, begun)
    }

    #[tokio::test]
    async fn the_instant_at_which_a_weight_took_effect_is_found() {
        for (former, new) in [(0.0, 10.0), (10.0, 25.0), (25.0, 50.0), (50.0, 0.0)] {
            let (tally, begun) = tally(&[(0, former), (1_200, new)]);
            let found = tally.in_effect_after(begun + Duration::from_secs(1), former, new).unwrap();
            let off = found.as_millis().abs_diff(200);
            assert!(off <= 40, "{former} to {new}: {found:?}");
        }
    }

    #[tokio::test]
    async fn a_share_that_is_not_the_weights_is_found() {
        let (tally, begun) = tally(&[(0, 5.0), (2_000, 40.0)]);
        let at = |ms| begun + Duration::from_millis(ms);
        let good = tally.between(5.0, at(0), at(1_999));
        assert!(good.check().is_ok() && good.stable + good.canary == 1_999, "{good:?}");
        assert!(tally.between(25.0, at(2_000), at(3_999)).check().is_err());
    }
}
