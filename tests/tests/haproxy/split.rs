//! The weights as HAProxy told them.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_rig::haproxy::{Change, WeightLog};
use sluice_tests::split::Tally;

/// After a change of weight, requests that were sent before it are still being answered.
const ON_THEIR_WAY: Duration = Duration::from_millis(150);

/// Under every weight the canary got its share of the requests.
pub fn check(tally: &Tally, log: &WeightLog) -> Result<()> {
    let written: Vec<(Instant, f64)> =
        settled(log.timed()).iter().map(|(at, weights)| (*at, percent(weights))).collect();
    tally.stretches(&written, ON_THEIR_WAY).iter().try_for_each(|stretch| stretch.check())
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
