//! The rules of today's tools, on the same windows.
//!
//! As their documentation sets them up: Flagger (one check a minute, a success rate of 99 %, five failed checks), Argo
//! Rollouts (a measurement a minute, `result >= 0.99`, failureLimit 3), Kayenta's judge once a step (an hour of
//! one-minute error rates, tolerance 0.25, confidence 0.98), and the z-test for two proportions at 1 % as a dashboard
//! would run it: looked at again and again.

use sluice_analyzers::kayenta::{Class, Direction, GaugePlan};
use sluice_analyzers::rate_ratio::{Count, Pair};
use sluice_analyzers::{Arm, Window};

pub const NAMES: [&str; 4] =
    ["Flagger 99 %, 5 checks", "Argo 99 %, limit 3", "Kayenta hourly", "z-test, repeated"];

#[derive(Debug, Default)]
pub struct Rivals {
    minute: Pair,
    minute_ms: u64,
    total: Pair,
    below: u32,
    stable: Vec<f64>,
    canary: Vec<f64>,
}

const MINUTE_MS: u64 = 60_000;
const STEP_MINUTES: usize = 60;

impl Rivals {
    /// Which of them abort now, in the order of [`NAMES`].
    pub fn window(&mut self, window: &Window) -> [bool; 4] {
        let count = |arm| {
            let pods = window.of(arm).map(|pod| Count::new(pod.requests, pod.errors));
            pods.fold(Count::default(), |mut sum, pod| {
                sum.add(pod);
                sum
            })
        };
        let pair = Pair { canary: count(Arm::Canary), stable: count(Arm::Stable) };
        self.minute.add(pair);
        self.total.add(pair);
        self.minute_ms += window.length_ms();
        let kayenta = self.minute_ms >= MINUTE_MS && self.close_minute();
        [self.below >= 5, self.below >= 4, kayenta, z(self.total) > 2.326]
    }

    fn close_minute(&mut self) -> bool {
        let minute = std::mem::take(&mut self.minute);
        self.minute_ms = 0;
        self.below += u32::from(minute.canary.rate().is_some_and(|rate| rate > 0.01));
        self.canary.extend(minute.canary.rate());
        self.stable.extend(minute.stable.rate());
        if self.canary.len().min(self.stable.len()) < STEP_MINUTES {
            return false;
        }
        let judge = GaugePlan { direction: Direction::Increase, ..GaugePlan::named("errors") };
        let class = judge.classify(&self.canary, &self.stable).class;
        (self.canary, self.stable) = (Vec::new(), Vec::new());
        class == Class::High
    }
}

fn z(pair: Pair) -> f64 {
    let (Some(canary), Some(stable)) = (pair.canary.rate(), pair.stable.rate()) else { return 0.0 };
    let (n_c, n_s) = (pair.canary.n as f64, pair.stable.n as f64);
    let pooled = (pair.canary.x + pair.stable.x) as f64 / (n_c + n_s);
    let spread = (pooled * (1.0 - pooled) * (1.0 / n_c + 1.0 / n_s)).sqrt();
    if spread > 0.0 { (canary - stable) / spread } else { 0.0 }
}
