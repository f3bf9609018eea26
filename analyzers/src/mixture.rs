//! How evidence is mixed: over alternatives, and over the moments at which a change may have begun.
//!
//! Per alternative the restart mixture keeps one number however many restarts there are,
//! `R <- L_t (R + v_t)`, and the evidence is `E = sum_rho w_rho R_rho + what is left of v`
//! (v fixed beforehand, its sum 1). One e-process, one alpha, for the whole life of a rollout: evidence is never started
//! over at a step, and yet a change that begins late is not buried under a healthy past.
//!
//! Promises: every number stays finite. Never mixes before the product over time is taken.

use serde::{Deserialize, Serialize};

/// ln of a weight that is used up; far below any evidence, and JSON can write it.
pub const LOG_NOTHING: f64 = -1.0e300;

/// What is left of v below this counts as nothing: it is rounding.
const NOTHING_LEFT: f64 = 1e-12;

/// ln(sum exp(terms)), shifted by the largest, in the order given.
pub fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = terms.clone().fold(LOG_NOTHING, f64::max);
    if top <= LOG_NOTHING {
        return LOG_NOTHING;
    }
    let sum = terms.fold(0.0, |sum, term| sum + libm::exp(term - top));
    top + libm::log(sum)
}

/// ln(e^a + e^b).
pub fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a >= b { (a, b) } else { (b, a) };
    if low <= LOG_NOTHING { high } else { high + libm::log1p(libm::exp(low - high)) }
}

/// Restarted products of one mixture's alternatives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartMix {
    /// ln R per alternative; meaningless until the first start.
    log_r: Vec<f64>,
    /// How much of v has been started.
    started: f64,
}

impl RestartMix {
    pub fn new(alternatives: usize) -> Self {
        Self { log_r: vec![LOG_NOTHING; alternatives], started: 0.0 }
    }

    /// Starts a share `v` of the mixture: from here on it counts as a change that begins now.
    pub fn start(&mut self, v: f64) {
        if v <= 0.0 {
            return;
        }
        let log_v = libm::log(v);
        for log_r in &mut self.log_r {
            *log_r = log_add(*log_r, log_v);
        }
        self.started += v;
    }

    pub fn multiply(&mut self, alternative: usize, log_factor: f64) {
        if self.started > 0.0 {
            self.log_r[alternative] += log_factor;
        }
    }

    /// ln of `sum_rho w_rho R_rho + what is left of v`.
    pub fn log_e(&self, log_weights: impl Iterator<Item = f64> + Clone) -> f64 {
        self.log_e_after(log_weights, |_| 0.0)
    }

    /// The same if each alternative were multiplied once more.
    pub fn log_e_after(
        &self,
        log_weights: impl Iterator<Item = f64> + Clone,
        log_factor: impl Fn(usize) -> f64 + Clone,
    ) -> f64 {
        if self.started <= 0.0 {
            return 0.0;
        }
        let left = 1.0 - self.started;
        let rest = if left > NOTHING_LEFT { libm::log(left) } else { LOG_NOTHING };
        let running = log_weights.zip(self.log_r.iter()).enumerate();
        let running = running.map(|(at, (log_weight, log_r))| log_weight + (log_r + log_factor(at)));
        log_add(log_sum_exp(running), rest)
    }

    pub fn len(&self) -> usize {
        self.log_r.len()
    }

    pub fn is_empty(&self) -> bool {
        self.log_r.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_start_is_the_plain_product() {
        let mut mix = RestartMix::new(2);
        mix.start(1.0);
        mix.multiply(0, 1.5);
        mix.multiply(1, -0.5);
        let half = 0.5f64.ln();
        let expected = (0.5 * 1.5f64.exp() + 0.5 * (-0.5f64).exp()).ln();
        assert!((mix.log_e([half, half].into_iter()) - expected).abs() < 1e-14);
    }

    #[test]
    fn a_restart_counts_as_a_change_that_begins_now() {
        let mut mix = RestartMix::new(1);
        mix.start(0.5);
        mix.multiply(0, -2.0);
        mix.start(0.25);
        mix.multiply(0, 1.0);
        let expected = (0.5 * (-1.0f64).exp() + 0.25 * 1f64.exp() + 0.25).ln();
        assert!((mix.log_e([0.0].into_iter()) - expected).abs() < 1e-14);
    }

    #[test]
    fn nothing_started_is_no_evidence() {
        assert_eq!(RestartMix::new(3).log_e([0.0; 3].into_iter()), 0.0);
    }

    #[test]
    fn log_sums_neither_overflow_nor_turn_infinite() {
        assert_eq!(log_sum_exp([LOG_NOTHING, LOG_NOTHING].into_iter()), LOG_NOTHING);
        assert!((log_sum_exp([5000.0, 5000.0].into_iter()) - (5000.0 + 2f64.ln())).abs() < 1e-9);
        assert_eq!(log_add(-4.0, LOG_NOTHING), -4.0);
    }
}
