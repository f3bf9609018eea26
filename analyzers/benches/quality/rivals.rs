//! The rules of today's tools, on the same windows.
//!
//! Set up as their documentation does: Flagger (one check a minute, a bar for the share of bad requests, five failed checks),
//! Argo Rollouts (a measurement a minute, the same bar, failureLimit 3), Kayenta's judge once an hour (one-minute shares,
//! tolerance 0.25, confidence 0.98), and the z-test for two proportions at 1 % as a dashboard would run it: looked at
//! again and again.

use sluice_analyzers::kayenta::{Class, Direction, GaugePlan};
use sluice_analyzers::rate_ratio::{Count, Pair};
use sluice_analyzers::{Arm, Window};

pub const NAMES: [&str; 4] = ["Flagger, 5 checks", "Argo, limit 3", "Kayenta hourly", "z-test, repeated"];

/// What the rivals look at.
#[derive(Debug, Clone, Copy)]
pub struct Bars {
    pub measure: Measure,
    /// Flagger and Argo want no larger share of the canary's requests to be bad.
    pub most: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Errors,
    /// Slower than half a second for the bar (Flagger's default for p99, with a `most` of 1 %), than a quarter in comparisons.
    Slow,
}

#[derive(Debug)]
pub struct Rivals {
    bars: Bars,
    /// Of the bar.
    minute: Pair,
    /// Of comparisons, as `total`.
    compared: Pair,
    minute_ms: u64,
    total: Pair,
    below: u32,
    stable: Vec<f64>,
    canary: Vec<f64>,
}

const MINUTE_MS: u64 = 60_000;
const STEP_MINUTES: usize = 60;

impl Rivals {
    pub fn new(bars: Bars) -> Rivals {
        let (minute, compared, total) = (Pair::default(), Pair::default(), Pair::default());
        Rivals { bars, minute, compared, total, minute_ms: 0, below: 0, stable: vec![], canary: vec![] }
    }

    /// Which of them abort now, in the order of [`NAMES`].
    pub fn window(&mut self, window: &Window) -> [bool; 4] {
        self.minute.add(bad(window, self.bars.measure, 0.5));
        let compared = bad(window, self.bars.measure, 0.25);
        self.compared.add(compared);
        self.total.add(compared);
        self.minute_ms += window.length_ms();
        let kayenta = self.minute_ms >= MINUTE_MS && self.close_minute();
        [self.below >= 5, self.below >= 4, kayenta, z(self.total) > 2.326]
    }

    fn close_minute(&mut self) -> bool {
        let minute = std::mem::take(&mut self.minute);
        let compared = std::mem::take(&mut self.compared);
        self.minute_ms = 0;
        self.below += u32::from(minute.canary.rate().is_some_and(|rate| rate > self.bars.most));
        self.canary.extend(compared.canary.rate());
        self.stable.extend(compared.stable.rate());
        if self.canary.len().min(self.stable.len()) < STEP_MINUTES {
            return false;
        }
        let judge = GaugePlan { direction: Direction::Increase, ..GaugePlan::named("errors") };
        let class = judge.classify(&self.canary, &self.stable).class;
        (self.canary, self.stable) = (Vec::new(), Vec::new());
        class == Class::High
    }
}

/// Errors, or requests slower than `le` seconds.
pub fn bad(window: &Window, measure: Measure, le: f64) -> Pair {
    let count = |arm| {
        window.of(arm).fold(Count::default(), |mut sum, pod| {
            let within =
                pod.buckets.iter().find(|bucket| bucket.le >= le).map_or(pod.requests, |it| it.count);
            let bad = match measure {
                Measure::Errors => pod.errors,
                Measure::Slow => pod.requests - within,
            };
            sum.add(Count::new(pod.requests, bad));
            sum
        })
    };
    Pair { canary: count(Arm::Canary), stable: count(Arm::Stable) }
}

fn z(pair: Pair) -> f64 {
    let (Some(canary), Some(stable)) = (pair.canary.rate(), pair.stable.rate()) else { return 0.0 };
    let (n_c, n_s) = (pair.canary.n as f64, pair.stable.n as f64);
    let pooled = (pair.canary.x + pair.stable.x) as f64 / (n_c + n_s);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n_c + 1.0 / n_s)).sqrt();
    if spread > 0.0 { (canary - stable) / spread } else { 0.0 }
}
