//! The collateral analyzer: is *stable* worse since the canary runs beside it than it was before?
//!
//! A canary can break the old version through what they share, a database above all: N-1 compatibility. Both versions
//! then fail alike and no comparison between them shows it. Stable now is held against its own past, by the formula of
//! [`crate::slo`] with a limit frozen from history. Time is a confounder (the hour, an incident), so it never aborts by
//! itself: it withholds the pass and alarms.

use crate::dispersion::Dispersion;
use crate::errors::Phi;
use crate::plan::Plan;
use crate::rate_ratio::Count;
use crate::slo::Ceiling;
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Stable's limit: the upper bound of its own past rate, times this.
pub const MARGIN: f64 = 1.5;
/// How seldom an unchanged stable version raises the alarm.
pub const FALSE_ALARM: f64 = 0.01;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollateralEvidence {
    pub(crate) ceiling: Ceiling,
    #[serde(default)]
    running: Dispersion,
}

impl CollateralEvidence {
    pub fn new(limit: f64) -> Self {
        Self { ceiling: Ceiling::new(limit), running: Dispersion::default() }
    }

    pub fn start(&mut self, share: f64) {
        self.ceiling.start(share);
    }

    pub fn add(&mut self, plan: &Plan, window: &Window) {
        // The limit stands only where there is history; a short one says nothing of dispersion.
        let frozen = plan.errors.as_ref().and_then(|errors| errors.dispersion);
        let phi = Phi::of(plan.pods, frozen, &self.running);
        let count = window.of(Arm::Stable).fold(Count::default(), |mut sum, pod| {
            sum.add(Count::new(pod.requests, pod.errors));
            sum
        });
        self.ceiling.add(count, phi);
        self.running.add(window.of(Arm::Stable).map(|pod| Count::new(pod.requests, pod.errors)));
    }

    /// Whether stable is surely worse than it was.
    pub fn alarms(&self) -> bool {
        self.ceiling.log_abort() >= -libm::log(FALSE_ALARM)
    }
}
