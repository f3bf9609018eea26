//! Kayenta's summary score: groups' shares of passed gauges, weighted, 0 to 100.

use crate::kayenta::{Class, Classified, GaugePlan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// From so many percent of gauges without data on, the score is 0.
const TOO_MUCH_NODATA: f64 = 50.0;

/// `pass` or more passes, less than `marginal` fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScoreBars {
    pub pass: f64,
    pub marginal: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreClass {
    Pass,
    Marginal,
    Fail,
}

impl Default for ScoreBars {
    fn default() -> Self {
        Self { pass: 95.0, marginal: 75.0 }
    }
}

impl ScoreBars {
    pub fn classify(self, score: f64) -> ScoreClass {
        if score >= self.pass {
            ScoreClass::Pass
        } else if score >= self.marginal {
            ScoreClass::Marginal
        } else {
            ScoreClass::Fail
        }
    }
}

#[derive(Debug, Default)]
struct Group {
    passed: u32,
    counted: u32,
    weight: Option<f64>,
}

/// The score of one step's gauges. Gauges without a group are one group.
pub fn score<'a>(of: impl Iterator<Item = (&'a GaugePlan, Classified)> + Clone) -> f64 {
    let (mut gauges, mut nodata) = (0u32, 0u32);
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for (plan, classified) in of {
        if classified.critical && classified.class != Class::Pass {
            return 0.0;
        }
        gauges += 1;
        let missing = classified.class == Class::Nodata && !classified.missing_counts;
        nodata += u32::from(missing);
        let group = groups.entry(plan.group.as_deref().unwrap_or_default()).or_default();
        group.counted += u32::from(!missing);
        group.passed += u32::from(classified.class == Class::Pass);
        group.weight = group.weight.or(plan.weight);
    }
    if gauges == 0 || 100.0 * f64::from(nodata) / f64::from(gauges) >= TOO_MUCH_NODATA {
        return 0.0;
    }
    let given: f64 = groups.values().filter_map(|group| group.weight).sum();
    let others = groups.values().filter(|group| group.weight.is_none()).count();
    let share = if others > 0 { (100.0 - given) / others as f64 } else { 0.0 };
    let part = |group: &Group| group.score() * group.weight.unwrap_or(share) / 100.0;
    let sum: f64 = groups.values().map(part).sum();
    libm::round(sum * 100.0) / 100.0
}

impl Group {
    /// A group without any data does not count against the canary.
    fn score(&self) -> f64 {
        if self.counted == 0 { 100.0 } else { f64::from(self.passed) / f64::from(self.counted) * 100.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(gauges: &[(&str, Option<f64>, Class, bool)]) -> f64 {
        let plans: Vec<(GaugePlan, Classified)> = gauges
            .iter()
            .map(|(group, weight, class, critical)| {
                let plan = GaugePlan {
                    group: Some((*group).to_owned()),
                    weight: *weight,
                    ..GaugePlan::named("gauge")
                };
                let critical = *critical && *class != Class::Pass;
                (
                    plan,
                    Classified { class: *class, ratio: None, critical, missing_counts: false, shift: None },
                )
            })
            .collect();
        score(plans.iter().map(|(plan, classified)| (plan, *classified)))
    }

    /// The cases of Kayenta's own ScorerSuite.
    #[test]
    fn scores_are_kayentas() {
        use Class::{High, Low, Nodata, Pass};
        let (none, test) = (None, "test-group");
        assert_eq!(scored(&[(test, none, Pass, false)]), 100.0);
        assert_eq!(scored(&[(test, none, High, false)]), 0.0);
        assert_eq!(scored(&[(test, none, Pass, false), (test, none, High, false)]), 50.0);
        let three = [(test, none, Pass, false), (test, none, High, false), (test, none, Low, false)];
        assert_eq!(scored(&three), 33.33);
        let (one, two) = ("group-1", "group-2");
        let weighted =
            [(one, Some(75.0), Pass, false), (one, Some(75.0), Pass, false), (two, Some(25.0), High, false)];
        assert_eq!(scored(&weighted), 75.0);
        let halves =
            [(one, Some(50.0), Pass, false), (one, Some(50.0), High, false), (two, Some(50.0), High, false)];
        assert_eq!(scored(&halves), 25.0);
        assert_eq!(scored(&[(test, none, Nodata, false)]), 0.0);
        assert_eq!(scored(&[(test, none, Pass, false), (test, none, High, true)]), 0.0);
        assert_eq!(scored(&[(test, none, Low, false), (test, none, Pass, true)]), 50.0);
    }

    #[test]
    fn bars_are_inclusive() {
        let bars = ScoreBars::default();
        let classes = [95.0, 94.99, 75.0, 74.99].map(|score| bars.classify(score));
        assert_eq!(classes, [ScoreClass::Pass, ScoreClass::Marginal, ScoreClass::Marginal, ScoreClass::Fail]);
    }
}
