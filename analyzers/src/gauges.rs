//! Gauges gathered over a step, for Kayenta's judge to look at once.
//!
//! A step's readings are looked at when everything else says that the step may be left and there are enough of them;
//! a marginal score is looked at again when there are twice as many, not at every window. All this stands outside
//! falseAbort, and the report says so.

use crate::kayenta::{Classified, GaugePlan};
use crate::plan::Plan;
use crate::score::{ScoreClass, score};
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Readings of each version before a first look: what Kayenta's authors recommend.
const LEAST_READINGS: usize = 50;
/// Readings kept a version and step; later ones are left out.
const MOST_READINGS: usize = 5_000;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GaugesEvidence {
    readings: Vec<Readings>,
    /// The next look needs so many readings.
    due: usize,
    pub(crate) failed: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Readings {
    canary: Vec<f64>,
    stable: Vec<f64>,
}

impl GaugesEvidence {
    pub fn new(plans: &[GaugePlan]) -> Self {
        Self { readings: vec![Readings::default(); plans.len()], due: LEAST_READINGS, failed: false }
    }

    pub fn enter_step(&mut self) {
        *self = Self {
            readings: vec![Readings::default(); self.readings.len()],
            due: LEAST_READINGS,
            failed: self.failed,
        };
    }

    pub fn add(&mut self, plans: &[GaugePlan], window: &Window) {
        // Sums over readings must not depend on the order of pods within a window.
        for (plan, readings) in plans.iter().zip(&mut self.readings) {
            readings.add(plan, window, Arm::Canary);
            readings.add(plan, window, Arm::Stable);
        }
    }

    pub fn classified<'a>(
        &'a self,
        plans: &'a [GaugePlan],
    ) -> impl Iterator<Item = (&'a GaugePlan, Classified)> + Clone + 'a {
        plans.iter().zip(&self.readings).map(|(plan, of)| (plan, plan.classify(&of.canary, &of.stable)))
    }

    /// The step's score so far; none without gauges.
    pub fn score(&self, plans: &[GaugePlan]) -> Option<f64> {
        (!plans.is_empty()).then(|| score(self.classified(plans)))
    }

    /// Looks if a look is due: the score's class, or none to wait for more readings.
    pub(crate) fn look(&mut self, plan: &Plan) -> Option<ScoreClass> {
        if plan.gauges.is_empty() {
            return Some(ScoreClass::Pass);
        }
        let fewest = self.readings.iter().map(|of| of.canary.len().min(of.stable.len())).min();
        if fewest.is_none_or(|fewest| fewest < self.due) {
            return None;
        }
        let class = plan.score.classify(score(self.classified(&plan.gauges)));
        match class {
            ScoreClass::Pass => {}
            ScoreClass::Marginal => self.due = (self.due * 2).min(MOST_READINGS),
            ScoreClass::Fail => self.failed = true,
        }
        Some(class)
    }
}

impl Readings {
    fn add(&mut self, plan: &GaugePlan, window: &Window, arm: Arm) {
        let into = match arm {
            Arm::Canary => &mut self.canary,
            Arm::Stable => &mut self.stable,
        };
        let begin = into.len();
        let named = |pod: &crate::window::PodWindow| {
            pod.values.iter().find(|(name, _)| *name == plan.name).map(|(_, value)| *value)
        };
        let kept = window.of(arm).filter_map(named).filter_map(|value| plan.reading(value));
        into.extend(kept.take(MOST_READINGS - begin));
        into[begin..].sort_by(f64::total_cmp);
    }
}
