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
/// Readings kept of a gauge, version and step; later ones are left out.
const MOST_READINGS: usize = 5_000;
/// Readings kept of all gauges of a step, so that evidence fits into one value of the store (about 20 bytes each).
const MOST_IN_ALL: usize = 20_000;

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
        let most = most_readings(plans.len());
        for (plan, readings) in plans.iter().zip(&mut self.readings) {
            readings.add(plan, window, Arm::Canary, most);
            readings.add(plan, window, Arm::Stable, most);
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
            ScoreClass::Marginal => self.due = (self.due * 2).min(most_readings(plan.gauges.len())),
            ScoreClass::Fail => self.failed = true,
        }
        Some(class)
    }
}

/// Of one gauge and version, where there are so many gauges: enough for a look always.
fn most_readings(gauges: usize) -> usize {
    (MOST_IN_ALL / (2 * gauges.max(1))).clamp(LEAST_READINGS, MOST_READINGS)
}

impl Readings {
    /// Keeps the first `most`: a look at others each time would be a test each time.
    fn add(&mut self, plan: &GaugePlan, window: &Window, arm: Arm, most: usize) {
        let into = match arm {
            Arm::Canary => &mut self.canary,
            Arm::Stable => &mut self.stable,
        };
        let begin = into.len();
        let named = |pod: &crate::window::PodWindow| {
            pod.values.iter().find(|(name, _)| *name == plan.name).map(|(_, value)| *value)
        };
        let kept = window.of(arm).filter_map(named).filter_map(|value| plan.reading(value));
        into.extend(kept.take(most.saturating_sub(begin)));
        into[begin..].sort_by(f64::total_cmp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::PodWindow;

    #[test]
    fn evidence_of_many_gauges_fits_into_one_value_of_the_store_and_is_enough_for_a_look() {
        let plans: Vec<GaugePlan> = (0..40).map(|n| GaugePlan::named(format!("gauge{n}"))).collect();
        let mut evidence = GaugesEvidence::new(&plans);
        let pod = |arm, name: usize, value: f64| PodWindow {
            values: plans.iter().map(|plan| (plan.name.clone(), value)).collect(),
            ..PodWindow::new(arm, name.to_string(), 0, 0)
        };
        for minute in 0..1_000_i64 {
            let value = (minute as f64 + 0.1).sqrt();
            let pods =
                (0..3).flat_map(|n| [pod(Arm::Canary, n, value), pod(Arm::Stable, n, value)]).collect();
            evidence.add(
                &plans,
                &Window { step: 1, start_ms: minute * 1_000, end_ms: minute * 1_000 + 1_000, pods },
            );
        }
        let bytes = serde_json::to_vec(&evidence).unwrap().len();
        assert!((100_000..512_000).contains(&bytes), "{bytes}");
        assert!(
            evidence
                .readings
                .iter()
                .all(|of| of.canary.len() >= LEAST_READINGS && of.stable.len() >= LEAST_READINGS)
        );
    }
}
