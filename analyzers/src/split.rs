//! The split analyzer: is the traffic divided as the weight says? This finds the route that says 10 % and sends 0 %.
//!
//! ```text
//! logE = lnB(k theta + S) - lnB(k theta) - sum S ln theta        S = (canary, stable), theta = (share, 1 - share)
//! ```
//! the Dirichlet-multinomial e-process (Lindon and Malek 2022; k = 100), against the share within the tolerance nearest
//! to what was seen. Requests of one connection go one way, so each counts as a tenth. Alarm only: a wrong split says
//! nothing about the release.

use crate::rate_ratio::Count;
use serde::{Deserialize, Serialize};

/// Weights are kept roughly by every router; beyond this factor something is wrong.
const TOLERANCE: f64 = 1.5;
const PRIOR: f64 = 100.0;
/// Requests that count as one.
const PER_CONNECTION: f64 = 10.0;
/// How seldom a split that is right raises the alarm, in one step.
pub const FALSE_ALARM: f64 = 0.001;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitEvidence {
    canary: u64,
    stable: u64,
}

impl SplitEvidence {
    pub fn enter_step(&mut self) {
        *self = Self::default();
    }

    pub fn add(&mut self, canary: u64, stable: u64) {
        self.canary = self.canary.saturating_add(canary);
        self.stable = self.stable.saturating_add(stable);
    }

    /// The canary's share among all requests of the step.
    pub fn seen(&self) -> Option<f64> {
        Count::new(self.canary.saturating_add(self.stable), self.canary).rate()
    }

    /// Evidence that the canary's share is not the step's weight, give or take the tolerance.
    pub fn log_e(&self, weight: f64) -> f64 {
        let Some(seen) = self.seen().filter(|_| weight > 0.0 && weight < 1.0) else { return 0.0 };
        let most = (weight * TOLERANCE).min(1.0 - (1.0 - weight) / TOLERANCE).max(weight);
        let null = seen.clamp(weight / TOLERANCE, most);
        let (c, s) = (self.canary as f64 / PER_CONNECTION, self.stable as f64 / PER_CONNECTION);
        let prior = (PRIOR * null, PRIOR * (1.0 - null));
        log_beta(prior.0 + c, prior.1 + s)
            - log_beta(prior.0, prior.1)
            - c * libm::log(null)
            - s * libm::log(1.0 - null)
    }
}

fn log_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_savvis() {
        // savvi 0.3.1, S = [20, 80], theta = [.1, .9], k = 100; ours counts tenths.
        let (c, s): (f64, f64) = (20.0, 80.0);
        let log_e = log_beta(10.0 + c, 90.0 + s) - log_beta(10.0, 90.0) - c * 0.1f64.ln() - s * 0.9f64.ln();
        assert!((log_e - 1.920_724_002_169_663_4).abs() < 1e-10, "{log_e}");
    }

    #[test]
    fn a_route_that_sends_nothing_is_found_and_a_rough_one_is_not() {
        let (mut none, mut rough) = (SplitEvidence::default(), SplitEvidence::default());
        none.add(0, 3_000);
        rough.add(1_200, 8_800);
        assert!(none.log_e(0.1) > -FALSE_ALARM.ln(), "{}", none.log_e(0.1));
        assert!(rough.log_e(0.1) < 0.0, "{}", rough.log_e(0.1));
    }
}
