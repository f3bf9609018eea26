//! Formula 1: an e-variable for "the canary's rate is at most r times stable's, plus d", and for the other direction.
//!
//! ```text
//! a = (rho/r) (r n_c + n_s) / (rho n_c + n_s)        b = (r n_c + n_s) / (rho n_c + n_s)
//! logE(rho) = x_c ln a + x_s ln b - n_c d (a - 1)
//! ```
//!
//! Promises: for binomial or Poisson counts E[E] <= 1 under the null, whatever stable's rate is and however it drifts,
//! at any predictable split of the traffic. With rho > r the null is `p_c <= r p_s + d` (abort); with rho < r, rho = 0
//! included, it is `p_c >= r p_s + d` (pass). No asymptotics, no plug-in.
//! With d = 0 it is the conditional-binomial likelihood ratio of Lindon and Malek, "Anytime-valid inference for
//! multinomial count data" (NeurIPS 2022), one-sided and with a margin.
//!
//! Numerics: one logarithm per rho; nothing here is ever infinite, since rho = 0 with a canary event is a kill, not a
//! number.

use serde::{Deserialize, Serialize};

/// Exposure (requests, pod-milliseconds) and events among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Count {
    pub n: u64,
    pub x: u64,
}

impl Count {
    pub fn new(n: u64, x: u64) -> Self {
        Self { n, x }
    }

    pub fn add(&mut self, other: Count) {
        self.n = self.n.saturating_add(other.n);
        self.x = self.x.saturating_add(other.x);
    }

    /// Events per exposure; none without exposure.
    pub fn rate(self) -> Option<f64> {
        (self.n > 0).then(|| self.x as f64 / self.n as f64)
    }
}

/// Both versions' counts over the same span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pair {
    pub canary: Count,
    pub stable: Count,
}

impl Pair {
    pub fn new(canary: (u64, u64), stable: (u64, u64)) -> Self {
        Self { canary: Count::new(canary.0, canary.1), stable: Count::new(stable.0, stable.1) }
    }

    pub fn add(&mut self, other: Pair) {
        self.canary.add(other.canary);
        self.stable.add(other.stable);
    }

    /// A window with one arm empty says nothing about a ratio.
    pub fn has_both(self) -> bool {
        self.canary.n > 0 && self.stable.n > 0
    }
}

/// One alternative of the mixture, with what does not change from window to window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// The canary's rate as a multiple of stable's.
    pub rho: f64,
    /// ln(rho / r); 0 when rho = 0, where it is never used.
    pub log_ratio: f64,
    /// ln of its share of the mixture.
    pub log_weight: f64,
}

impl Alternative {
    pub fn new(rho: f64, r: f64, weight: f64) -> Self {
        let log_ratio = if rho > 0.0 { libm::log(rho / r) } else { 0.0 };
        Self { rho, log_ratio, log_weight: libm::log(weight) }
    }
}

/// The three numbers of formula 1 for one alternative and one split of the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    /// Meaningless when rho = 0.
    pub ln_a: f64,
    pub ln_b: f64,
    pub a_minus_1: f64,
}

/// Requires `n_c > 0`, `n_s > 0`, `r > 0`.
pub fn factors(r: f64, alternative: &Alternative, n_c: f64, n_s: f64) -> Factors {
    let rho = alternative.rho;
    let ln_b = -libm::log1p((rho - r) * n_c / (r * n_c + n_s));
    let a_minus_1 = (rho - r) * n_s / (r * (rho * n_c + n_s));
    Factors { ln_a: alternative.log_ratio + ln_b, ln_b, a_minus_1 }
}

/// What one window adds to logE, split so that every `d` comes from one state: logE(d) = S1 + d S2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Increment {
    pub s1: f64,
    pub s2: f64,
    /// rho = 0 met a canary event: this alternative is out for ever.
    pub killed: bool,
}

/// The increment of one window with both arms; see the module's head for the formula.
pub fn increment(r: f64, alternative: &Alternative, pair: Pair) -> Increment {
    let (n_c, n_s) = (pair.canary.n as f64, pair.stable.n as f64);
    let (x_c, x_s) = (pair.canary.x as f64, pair.stable.x as f64);
    let f = factors(r, alternative, n_c, n_s);
    let s2 = -n_c * f.a_minus_1;
    if alternative.rho > 0.0 {
        return Increment { s1: x_c * f.ln_a + x_s * f.ln_b, s2, killed: false };
    }
    Increment { s1: x_s * f.ln_b, s2, killed: pair.canary.x > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_e(r: f64, rho: f64, pair: Pair) -> f64 {
        increment(r, &Alternative::new(rho, r, 1.0), pair).s1
    }

    #[test]
    fn matches_the_conditional_binomial_likelihood_ratio() {
        let pair = Pair::new((100, 7), (900, 20));
        let (r, rho) = (1.0f64, 2.0f64);
        let share = |theta: f64| theta * 100.0 / (theta * 100.0 + 900.0);
        let expected =
            7.0 * (share(rho) / share(r)).ln() + 20.0 * ((1.0 - share(rho)) / (1.0 - share(r))).ln();
        assert!((log_e(r, rho, pair) - expected).abs() < 1e-12);
    }

    #[test]
    fn log_e_adds_over_windows_with_the_same_split() {
        let whole = log_e(1.25, 3.0, Pair::new((300, 9), (2700, 30)));
        let parts = log_e(1.25, 3.0, Pair::new((100, 4), (900, 10)))
            + log_e(1.25, 3.0, Pair::new((200, 5), (1800, 20)));
        assert!((whole - parts).abs() < 1e-12);
    }

    #[test]
    fn without_errors_the_pass_needs_ln_bar_over_d_requests() {
        let r = 1.25;
        let zero = Alternative::new(0.0, r, 1.0);
        let d = 0.001;
        let n = (20f64.ln() / d).ceil() as u64;
        let at = |n| increment(r, &zero, Pair::new((n, 0), (10 * n, 0)));
        assert!(at(n).s1 + d * at(n).s2 >= 20f64.ln());
        assert!(at(n - 1).s1 + d * at(n - 1).s2 < 20f64.ln());
    }

    #[test]
    fn rho_zero_dies_of_a_canary_event_and_stays_finite() {
        let step = increment(1.25, &Alternative::new(0.0, 1.25, 1.0), Pair::new((10, 1), (90, 2)));
        assert!(step.killed && step.s1.is_finite() && step.s2.is_finite());
    }
}
