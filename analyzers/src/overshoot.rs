//! What the last window wastes: evidence that jumps over the bar proves no more than evidence that reaches it.
//!
//! A process M runs beside the mixture E. Each window multiplies it as it does E, g = E_t / E_(t-1); but where some outcome
//! would take it beyond C = 1/alpha it is capped there, and the rest is raised by the f that solves
//! ```text
//! E[min(f M g, C) | x_c + x_s] = M
//! ```
//! over the canary's part of the window's errors, which is binomial for Poisson counts. So M is a martingale under the
//! null's edge, below it smaller (g rises with x_c), never below E until it stops, and reaches C exactly.
//!
//! Exact for Poisson counts; requests fail or do not, so it is used where at most 1 % of them fail, and decides at
//! C / 0.998. For requests taken as independent only (`pods: ignore`), without a `plus`. Never part of
//! `logAbort`.

use crate::mixture::{LOG_NOTHING, RestartMix};
use crate::rate_ratio::{Alternative, Pair, factors};
use serde::{Deserialize, Serialize};

/// Where more of the requests failed so far, windows multiply M as they do E.
const MOST_FAILING: f64 = 0.01;
/// So do windows with more errors than these: a single one of theirs takes no step that matters.
const MOST_ERRORS: u64 = 512;
/// What binomial counts may add to the chance of an abort: alpha is kept to 0.998 of itself.
const SAFETY: f64 = 1.0 / 0.998;

/// M, and what came before the window at hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overshoot {
    log_m: f64,
}

/// The mixture before a window, and the window.
pub(crate) struct Ahead<'a> {
    pub(crate) r: f64,
    pub(crate) grid: &'a [Alternative],
    pub(crate) mix: &'a RestartMix,
    /// ln of the whole mixture.
    pub(crate) log_e: f64,
    pub(crate) pair: Pair,
    /// Both versions' rate so far.
    pub(crate) rate: Option<f64>,
}

impl Default for Overshoot {
    fn default() -> Self {
        Self { log_m: 0.0 }
    }
}

impl Overshoot {
    /// At the metric's bar it decides.
    pub fn log_e(self) -> f64 {
        self.log_m - libm::log(SAFETY)
    }

    /// Takes one window in; `bar` is ln(1/alpha) for this metric.
    pub(crate) fn add(&mut self, ahead: &Ahead, bar: f64) {
        let cap = bar + libm::log(SAFETY);
        let plain = self.log_m + ahead.log_growth(ahead.pair.canary.x);
        let fits = ahead.rate.is_some_and(|rate| rate <= MOST_FAILING) && ahead.errors() <= MOST_ERRORS;
        let raised = if fits && self.log_m < cap { ahead.log_raise(self.log_m, cap) } else { 0.0 };
        self.log_m = if fits { (plain + raised).min(cap.max(self.log_m)) } else { plain };
    }
}

impl Ahead<'_> {
    fn errors(&self) -> u64 {
        self.pair.canary.x + self.pair.stable.x
    }

    /// ln g if `x` of the window's errors were the canary's.
    fn log_growth(&self, x: u64) -> f64 {
        let (n_c, n_s) = (self.pair.canary.n as f64, self.pair.stable.n as f64);
        let (x_c, x_s) = (x as f64, (self.errors() - x.min(self.errors())) as f64);
        let weights = self.grid.iter().map(|one| one.log_weight);
        let factor = |at: usize| {
            let of = self.grid.get(at).map(|one| factors(self.r, one, n_c, n_s));
            of.map_or(LOG_NOTHING, |of| x_c * of.ln_a + x_s * of.ln_b)
        };
        self.mix.log_e_after(weights, factor) - self.log_e
    }

    /// ln f: outcomes are capped from the largest down, as long as f takes the next one over the cap, too.
    fn log_raise(&self, log_m: f64, cap: f64) -> f64 {
        let errors = self.errors();
        let odds = self.r * self.pair.canary.n as f64 / self.pair.stable.n as f64;
        let mut at = errors;
        // P(x), beginning with all of the errors being the canary's.
        let mut log_part = -(errors as f64) * libm::log1p(1.0 / odds);
        let (mut capped, mut spared, mut log_f) = (0.0, 0.0, 0.0);
        loop {
            let log_growth = self.log_growth(at);
            if log_m + log_growth + log_f < cap {
                return log_f;
            }
            let part = libm::exp(log_part);
            (capped, spared) = (capped + part, spared + part * libm::exp(log_growth));
            let (left, grown) = (1.0 - capped * libm::exp(cap - log_m), 1.0 - spared);
            if at == 0 || left <= 0.0 || grown <= 0.0 {
                return log_f;
            }
            log_f = libm::log(left / grown).max(log_f);
            // P(x - 1) = P(x) x / ((N - x + 1) odds)
            log_part += libm::log(at as f64 / ((errors - at + 1) as f64 * odds));
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(r: f64) -> Vec<Alternative> {
        [1.2, 1.5, 2.0, 3.0, 6.0, 20.0].map(|multiple| Alternative::new(multiple * r, r, 1.0 / 6.0)).to_vec()
    }

    /// The mean of M after one window whose counts have these probabilities, over M before it.
    fn growth(log_before: f64, (n_c, canary): (u64, &[f64]), (n_s, stable): (u64, &[f64])) -> f64 {
        let (r, bar) = (1.0, 100f64.ln());
        let grid = grid(r);
        let mut mix = RestartMix::new(grid.len());
        mix.start(1.0);
        // As after some windows that spoke for three times the errors.
        for (at, log_factor) in [1.0, 2.0, 3.0, 3.5, 1.0, -9.0].into_iter().enumerate() {
            mix.multiply(at, log_factor);
        }
        let log_e = mix.log_e(grid.iter().map(|one| one.log_weight));
        let mut mean = 0.0;
        for (x_c, at_c) in canary.iter().enumerate() {
            for (x_s, at_s) in stable.iter().enumerate() {
                let mut overshoot = Overshoot { log_m: log_before };
                let pair = Pair::new((n_c, x_c as u64), (n_s, x_s as u64));
                let ahead = Ahead { r, grid: &grid, mix: &mix, log_e, pair, rate: Some(0.01) };
                overshoot.add(&ahead, bar);
                mean += at_c * at_s * libm::exp(overshoot.log_m - log_before);
            }
        }
        mean
    }

    fn poisson(mean: f64) -> Vec<f64> {
        (0..30)
            .scan(libm::exp(-mean), |part, x| {
                let now = *part;
                *part *= mean / f64::from(x + 1);
                Some(now)
            })
            .collect()
    }

    fn binomial(n: u64, p: f64) -> Vec<f64> {
        (0..30.min(n + 1))
            .scan(libm::pow(1.0 - p, n as f64), |part, x| {
                let now = *part;
                *part *= (n - x) as f64 / (x + 1) as f64 * p / (1.0 - p);
                Some(now)
            })
            .collect()
    }

    #[test]
    fn for_poisson_counts_nothing_is_lost_and_nothing_won() {
        for below in [0.01, 0.3, 1.0, 2.0, 4.0] {
            let (canary, stable) = (poisson(0.2), poisson(1.8));
            let mean = growth(100f64.ln() - below, (20, &canary), (180, &stable));
            assert!((mean - 1.0).abs() < 1e-9, "{below}: {mean}");
        }
    }

    #[test]
    fn for_requests_of_which_one_in_a_hundred_fails_its_safety_is_enough() {
        for below in [0.01, 0.3, 1.0, 2.0, 4.0] {
            for rate in [0.001, 0.01] {
                let (canary, stable) = (binomial(20, rate), binomial(180, rate));
                let mean = growth(100f64.ln() - below, (20, &canary), (180, &stable));
                assert!(mean < SAFETY, "{below} {rate}: {mean}");
                let better = growth(100f64.ln() - below, (20, &binomial(20, rate / 2.0)), (180, &stable));
                assert!(better < 1.0, "{below} {rate}: {better}");
            }
        }
    }

    #[test]
    fn at_the_bar_nothing_is_jumped_over() {
        let grid = grid(1.0);
        let mut mix = RestartMix::new(grid.len());
        mix.start(1.0);
        let (bar, mut overshoot, mut log_e) = (100f64.ln(), Overshoot::default(), 0.0);
        for window in 0..40u64 {
            let pair = Pair::new((20, 1 + window % 2), (180, 2));
            let ahead = Ahead { r: 1.0, grid: &grid, mix: &mix, log_e, pair, rate: Some(0.01) };
            overshoot.add(&ahead, bar);
            for (at, one) in grid.iter().enumerate() {
                mix.multiply(at, crate::rate_ratio::increment(1.0, one, pair).s1);
            }
            log_e = mix.log_e(grid.iter().map(|one| one.log_weight));
            assert!(overshoot.log_m >= log_e.min(bar) - 1e-9, "{window}: never below the mixture");
        }
        assert!(log_e > bar && (overshoot.log_e() - bar).abs() < 1e-9, "{log_e} {overshoot:?}");
    }
}
