//! The pass direction: evidence that the canary is good enough for a tolerance, kept for every tolerance at once.
//!
//! Per alternative rho < r two sums, so that logE(d) = S1 + d S2 answers for the tolerance of every step. Evidence is
//! kept over steps and never restarted.

use crate::mixture::{LOG_NOTHING, log_sum_exp};
use crate::rate_ratio::{Alternative, Pair, increment};
use serde::{Deserialize, Serialize};

/// Evidence that `p_c < r p_s + d`, by formula 1 with alternatives below r.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    r: f64,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    alternative: Alternative,
    s1: f64,
    s2: f64,
    killed: bool,
}

impl Proof {
    pub fn new(r: f64, alternatives: impl Iterator<Item = Alternative>) -> Self {
        let line = |alternative| Line { alternative, s1: 0.0, s2: 0.0, killed: false };
        Self { r, lines: alternatives.map(line).collect() }
    }

    /// Adds one window or stratum; `phi` is the dispersion known before it.
    pub fn add(&mut self, pair: Pair, phi: f64) {
        if !pair.has_both() {
            return;
        }
        for line in &mut self.lines {
            let step = increment(self.r, &line.alternative, pair);
            line.s1 += step.s1 / phi;
            line.s2 += step.s2 / phi;
            line.killed |= step.killed;
        }
    }

    pub fn log_e(&self, d: f64) -> f64 {
        self.log_e_after(d, 0.0, Pair::default(), 1.0)
    }

    /// The evidence if `times` more windows like `like` came; with `times` = 0 the evidence as it is.
    pub fn log_e_after(&self, d: f64, times: f64, like: Pair, phi: f64) -> f64 {
        log_sum_exp(self.lines.iter().map(|line| {
            let more = if times > 0.0 { Some(increment(self.r, &line.alternative, like)) } else { None };
            let (s1, s2) = more.map_or((0.0, 0.0), |step| (step.s1 * times / phi, step.s2 * times / phi));
            if line.killed || more.is_some_and(|step| step.killed) {
                return LOG_NOTHING;
            }
            line.alternative.log_weight + line.s1 + s1 + d * (line.s2 + s2)
        }))
    }
}
