//! The restarts analyzer: formula 1 with the pods' time as exposure.
//!
//! A crashed pod takes its counters with it, so a release that dies before it answers shows in no error rate. It shares
//! falseAbort from when the source first tells restarts ([`crate::joined`]). Never gates a step.

use crate::joined::Joined;
use crate::mixture::RestartMix;
use crate::plan::{ABORT_GRID, RestartsPlan, alternatives, grid};
use crate::rate_ratio::{Alternative, Count, Pair, increment};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartsEvidence {
    r: f64,
    grid: Vec<Alternative>,
    mix: RestartMix,
    pub(crate) totals: Pair,
    #[serde(alias = "told")]
    pub(crate) joined: Joined,
}

impl RestartsEvidence {
    pub fn new(plan: &RestartsPlan) -> Self {
        let r = plan.worse_by;
        let grid: Vec<Alternative> = alternatives(&grid(&ABORT_GRID, r), r).collect();
        Self { r, mix: RestartMix::new(grid.len()), grid, totals: Pair::default(), joined: Joined::default() }
    }

    pub fn start(&mut self, share: f64) {
        self.mix.start(share);
    }

    pub fn add(&mut self, window: &Window) {
        let pair = Pair { canary: count(window, Arm::Canary), stable: count(window, Arm::Stable) };
        self.totals.add(pair);
        if !pair.has_both() {
            return;
        }
        for (at, alternative) in self.grid.iter().enumerate() {
            self.mix.multiply(at, increment(self.r, alternative, pair).s1);
        }
    }

    pub fn log_abort(&self) -> f64 {
        self.mix.log_e(self.grid.iter().map(|alternative| alternative.log_weight))
    }
}

/// Pod-milliseconds and restarts of the pods that can tell.
fn count(window: &Window, arm: Arm) -> Count {
    let length_ms = window.length_ms();
    window.of(arm).fold(Count::default(), |mut sum, pod| {
        if let Some(restarts) = pod.restarts {
            sum.add(Count::new(length_ms, restarts));
        }
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::PodWindow;

    #[test]
    fn a_crash_loop_is_seen_and_silence_is_not() {
        let plan = RestartsPlan::default();
        let mut evidence = RestartsEvidence::new(&plan);
        evidence.start(1.0);
        for at in 0..10 {
            let pod = |arm, name: &str, restarts| PodWindow {
                restarts: Some(restarts),
                ..PodWindow::new(arm, name, 0, 0)
            };
            let pods = vec![pod(Arm::Canary, "c", 1), pod(Arm::Stable, "s", 0), pod(Arm::Stable, "t", 0)];
            evidence.add(&Window { step: 1, start_ms: at * 15_000, end_ms: (at + 1) * 15_000, pods });
        }
        assert!(evidence.log_abort() > 100f64.ln(), "{}", evidence.log_abort());
        let mut silent = RestartsEvidence::new(&plan);
        silent.start(1.0);
        silent.add(&Window {
            step: 1,
            start_ms: 0,
            end_ms: 1,
            pods: vec![PodWindow::new(Arm::Canary, "c", 1, 0)],
        });
        assert_eq!((silent.totals, silent.log_abort()), (Pair::default(), 0.0));
    }
}
