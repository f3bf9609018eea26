//! The harm budget: how much worse than the margin a canary may still be for a step to be left.
//!
//! `d_k = max(share / w_next, B / (q w_next T))`: "sure that the next minute costs at most B bad requests, or at most
//! `share` of all, beyond the margin". Where little is at stake little evidence is needed; the last step needs most.

use crate::plan::{Plan, Risk};

/// The tolerance of a step whose next weight is `next`; `q` requests a second, if known.
pub fn tolerance(risk: &Risk, next: f64, q: Option<f64>) -> f64 {
    let by_share = risk.share / next;
    match q {
        Some(q) => by_share.max(risk.bad_requests / (q * next * risk.within_s)),
        None => by_share,
    }
}

impl Plan {
    /// The weight that opens after `step`: the next step's, and everything after the last.
    pub fn next_weight(&self, step: u32) -> f64 {
        self.steps.get(step as usize).copied().unwrap_or(1.0)
    }

    /// d_k of a step, with the traffic that the plan or else the evidence has measured.
    pub fn tolerance_at(&self, step: u32, measured: Option<f64>) -> f64 {
        tolerance(&self.risk, self.next_weight(step), self.requests_per_second.or(measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerance_shrinks_as_more_is_at_stake() {
        let mut plan = Plan::new(vec![0.01, 0.05, 0.25, 0.5]);
        plan.requests_per_second = Some(50.0);
        let d: Vec<f64> = (1..=5).map(|step| plan.tolerance_at(step, None)).collect();
        let ten_a_minute = 10.0 / (50.0 * 60.0);
        let expected = [0.05, 0.25, 0.5, 1.0, 1.0].map(|next| ten_a_minute / next);
        for (got, want) in d.iter().zip(expected) {
            assert!((got - want).abs() < 1e-15);
        }
    }

    #[test]
    fn large_services_are_bounded_by_the_share() {
        assert_eq!(tolerance(&Risk::default(), 0.5, Some(5000.0)), 0.002);
        assert_eq!(tolerance(&Risk::default(), 0.5, None), 0.002);
    }
}
