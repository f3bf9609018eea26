//! The threshold analyzer, of the kind that Flagger and Argo Rollouts have: a range, and so many failures.
//!
//! For rules that somebody insists on. It stands outside falseAbort: how often it stops a healthy release depends on
//! where the bar lies, and with a bar at the base rate it stops every one.

use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdPlan {
    /// A gauge by name, or `errors` for the canary's share of failed requests.
    pub name: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// So many windows outside the range abort; one more than Argo's failureLimit, as many as Flagger's threshold.
    pub failures: u32,
    /// Whether a window inside the range begins the count anew.
    pub consecutive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ThresholdEvidence {
    pub failures: u32,
}

impl ThresholdPlan {
    /// The canary's mean value in a window; none without readings, which is neither in nor out.
    pub fn value(&self, window: &Window) -> Option<f64> {
        if self.name == "errors" {
            let requests = window.requests(Arm::Canary);
            let errors: u64 = window.of(Arm::Canary).map(|pod| pod.errors).sum();
            return (requests > 0).then(|| errors as f64 / requests as f64);
        }
        mean(window, Arm::Canary, &self.name)
    }

    /// What it is called among the findings: a metric may have its name.
    pub fn label(&self) -> String {
        format!("threshold {}", self.name)
    }

    /// "above 0.01", "outside 0.1 to 0.9".
    fn beyond(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("outside {min} to {max}"),
            (Some(min), None) => format!("below {min}"),
            (None, Some(max)) => format!("above {max}"),
            (None, None) => "outside a range without ends".to_owned(),
        }
    }

    pub fn allows(&self, value: f64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
    }
}

impl ThresholdEvidence {
    pub fn add(&mut self, plan: &ThresholdPlan, window: &Window) {
        match plan.value(window).map(|value| plan.allows(value)) {
            Some(false) => self.failures = self.failures.saturating_add(1),
            Some(true) if plan.consecutive => self.failures = 0,
            Some(true) | None => {}
        }
    }

    /// "the canary was above 0.01 in 2 of 3 windows that abort: a rule of the policy, outside falseAbort".
    pub fn words(&self, plan: &ThresholdPlan) -> String {
        let (beyond, most) = (plan.beyond(), plan.failures.max(1));
        let row = if plan.consecutive { " in a row" } else { "" };
        let (seen, noun) = (self.failures.min(most), if most == 1 { "window" } else { "windows" });
        format!(
            "the canary was {beyond} in {seen} of the {most} {noun}{row} that abort: a rule of the policy, outside falseAbort"
        )
    }

    pub fn failed(&self, plan: &ThresholdPlan) -> bool {
        self.failures >= plan.failures.max(1)
    }
}

/// The mean of one gauge over a version's pods, in an order that does not depend on theirs.
pub(crate) fn mean(window: &Window, arm: Arm, name: &str) -> Option<f64> {
    let named = |pod: &crate::window::PodWindow| {
        pod.values.iter().find(|(of, _)| of == name).map(|(_, value)| *value).filter(|value| !value.is_nan())
    };
    let mut values: Vec<f64> = window.of(arm).filter_map(named).collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::PodWindow;

    fn failures(consecutive: bool, errors: &[u64]) -> u32 {
        let plan =
            ThresholdPlan { name: "errors".into(), min: None, max: Some(0.01), failures: 3, consecutive };
        let mut evidence = ThresholdEvidence::default();
        for (at, errors) in errors.iter().enumerate() {
            let (start_ms, end_ms) = (at as i64, at as i64 + 1);
            let pods = vec![PodWindow::new(Arm::Canary, "c", 100, *errors)];
            evidence.add(&plan, &Window { step: 1, start_ms, end_ms, pods });
        }
        evidence.failures
    }

    #[test]
    fn failures_add_up_or_must_follow_one_another() {
        assert_eq!(failures(false, &[2, 0, 2, 1, 2]), 3);
        assert_eq!(failures(true, &[2, 0, 2, 1, 2]), 1);
    }

    #[test]
    fn no_reading_is_neither_in_nor_out() {
        let plan =
            ThresholdPlan { name: "cpu".into(), min: None, max: Some(1.0), failures: 1, consecutive: true };
        let mut evidence = ThresholdEvidence { failures: 0 };
        evidence.add(&plan, &Window::default());
        assert!(!evidence.failed(&plan));
    }
}
