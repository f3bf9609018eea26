//! Gauges judged as Kayenta's `NetflixACAJudge` judges them: transform, classify, score by groups.
//!
//! For teams that come from it: the same words, defaults and numbers (tolerance 0.25, confidence 0.98; groups' scores
//! weighted; a critical failure or half the metrics without data score 0). One deliberate difference: where both
//! versions are constant, Kayenta adds random noise to have ranks at all; here the difference itself decides, which is
//! what the noise almost surely says.
//!
//! Once a step, and outside falseAbort: the test is made for one look. Source of the rules: Spinnaker Kayenta,
//! `kayenta-judge`, and what its specifications expect.

use crate::mann_whitney::{Shift, common_language_effect, shift};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GaugePlan {
    pub name: String,
    pub direction: Direction,
    pub tolerance: f64,
    pub confidence: f64,
    pub critical: bool,
    /// Missing data fail the metric instead of leaving it out.
    pub must_have_data: bool,
    pub nan: Nan,
    /// Leaves out values beyond so many interquartile ranges (and beyond the 1st and 99th percentile).
    pub outlier_factor: Option<f64>,
    pub effect: EffectPlan,
    pub group: Option<String>,
    /// The group's weight, out of 100.
    pub weight: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    Increase,
    Decrease,
    #[default]
    Either,
}

/// What is done with points that the source did not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Nan {
    #[default]
    Remove,
    /// They count as 0.
    Replace,
}

/// How large a difference must be, besides being significant.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectPlan {
    pub measure: Measure,
    pub allowed_increase: Option<f64>,
    pub allowed_decrease: Option<f64>,
    pub critical_increase: Option<f64>,
    pub critical_decrease: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Measure {
    #[default]
    MeanRatio,
    Cles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Pass,
    High,
    Low,
    Nodata,
}

/// What was made of one gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classified {
    pub class: Class,
    /// The canary's mean over stable's; none where one of them is 0.
    pub ratio: Option<f64>,
    /// Fails the step whatever the score.
    pub critical: bool,
    /// Counts against its group although nothing was measured.
    pub missing_counts: bool,
    pub shift: Option<Shift>,
}

impl GaugePlan {
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            direction: Direction::Either,
            tolerance: 0.25,
            confidence: 0.98,
            critical: false,
            must_have_data: false,
            nan: Nan::Remove,
            outlier_factor: None,
            effect: EffectPlan::default(),
            group: None,
            weight: None,
        }
    }

    /// What of one reading is kept, if anything.
    pub fn reading(&self, value: f64) -> Option<f64> {
        match (value.is_nan(), self.nan) {
            (false, _) => Some(value),
            (true, Nan::Replace) => Some(0.0),
            (true, Nan::Remove) => None,
        }
    }

    /// Classifies the canary's readings against stable's; both without NaN.
    pub fn classify(&self, canary: &[f64], stable: &[f64]) -> Classified {
        let canary = without_outliers(canary, self.outlier_factor);
        let stable = without_outliers(stable, self.outlier_factor);
        if canary.is_empty() || stable.is_empty() {
            return self.nothing();
        }
        if same(&canary, &stable) {
            return Classified::pass(Some(1.0), None);
        }
        let (ratio, moved) = (mean_ratio(&canary, &stable), self.moved(&canary, &stable));
        let effect = match self.effect.measure {
            Measure::MeanRatio => ratio,
            Measure::Cles => Some(common_language_effect(&canary, &stable)),
        };
        let class = self.class(moved, effect);
        let critical = self.critical && self.is_critical(class, effect);
        Classified { class, ratio, critical, missing_counts: false, shift: Some(moved) }
    }

    fn nothing(&self) -> Classified {
        match self.nan {
            Nan::Replace => Classified::pass(Some(1.0), None),
            Nan::Remove => Classified {
                class: Class::Nodata,
                ratio: Some(1.0),
                critical: self.critical,
                missing_counts: self.must_have_data && !self.critical,
                shift: None,
            },
        }
    }

    fn moved(&self, canary: &[f64], stable: &[f64]) -> Shift {
        let constant = |of: &[f64]| of.iter().all(|value| *value == of[0]);
        if constant(canary) && constant(stable) {
            let difference = canary[0] - stable[0];
            return Shift { low: difference, high: difference, estimate: difference };
        }
        shift(canary, stable, self.confidence)
    }

    fn class(&self, moved: Shift, effect: Option<f64>) -> Class {
        let bound = self.tolerance * moved.estimate.abs();
        let (up, down) = (self.direction != Direction::Decrease, self.direction != Direction::Increase);
        let (allowed_up, allowed_down) = self.allowed();
        // An effect that cannot be computed is not held against the test.
        if up && moved.low > bound && effect.is_none_or(|effect| effect >= allowed_up) {
            return Class::High;
        }
        if down && moved.high < -bound && effect.is_none_or(|effect| effect <= allowed_down) {
            return Class::Low;
        }
        Class::Pass
    }

    fn is_critical(&self, class: Class, effect: Option<f64>) -> bool {
        let none = self.no_effect();
        match class {
            Class::High => {
                effect.is_none_or(|effect| effect >= self.effect.critical_increase.unwrap_or(none))
            }
            Class::Low => effect.is_none_or(|effect| effect <= self.effect.critical_decrease.unwrap_or(none)),
            Class::Pass => false,
            Class::Nodata => true,
        }
    }

    fn allowed(&self) -> (f64, f64) {
        let none = self.no_effect();
        (self.effect.allowed_increase.unwrap_or(none), self.effect.allowed_decrease.unwrap_or(none))
    }

    fn no_effect(&self) -> f64 {
        match self.effect.measure {
            Measure::MeanRatio => 1.0,
            Measure::Cles => 0.5,
        }
    }
}

impl Classified {
    fn pass(ratio: Option<f64>, shift: Option<Shift>) -> Self {
        Self { class: Class::Pass, ratio, critical: false, missing_counts: false, shift }
    }
}

fn same(a: &[f64], b: &[f64]) -> bool {
    let sorted = |of: &[f64]| {
        let mut of = of.to_vec();
        of.sort_by(f64::total_cmp);
        of
    };
    let constant = a.iter().chain(b).all(|value| *value == a[0]);
    constant || sorted(a) == sorted(b)
}

fn mean_ratio(canary: &[f64], stable: &[f64]) -> Option<f64> {
    let (canary, stable) = (mean(canary), mean(stable));
    (canary != 0.0 && stable != 0.0).then(|| canary / stable)
}

/// In two passes, the second taking the first one's rounding back.
fn mean(of: &[f64]) -> f64 {
    let n = of.len() as f64;
    let first = of.iter().sum::<f64>() / n;
    first + of.iter().map(|value| value - first).sum::<f64>() / n
}

fn without_outliers(of: &[f64], factor: Option<f64>) -> Vec<f64> {
    let Some(factor) = factor.filter(|_| !of.is_empty()) else { return of.to_vec() };
    let mut ascending = of.to_vec();
    ascending.sort_by(f64::total_cmp);
    let (p25, p75) = (percentile(&ascending, 25.0), percentile(&ascending, 75.0));
    let reach = factor * (p75 - p25);
    let low = (p25 - reach).min(percentile(&ascending, 1.0));
    let high = (p75 + reach).max(percentile(&ascending, 99.0));
    of.iter().copied().filter(|value| (low..=high).contains(value)).collect()
}

/// Linear between the closest ranks (type 7 of Hyndman and Fan 1996), as R's default.
fn percentile(ascending: &[f64], p: f64) -> f64 {
    let place = (ascending.len() - 1) as f64 * p / 100.0;
    let below = libm::floor(place) as usize;
    let above = (below + 1).min(ascending.len() - 1);
    ascending[below] + (place - below as f64) * (ascending[above] - ascending[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_kayentas() {
        let data = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5];
        assert!((percentile(&data, 5.0) - 0.175).abs() < 1e-12);
        assert_eq!((percentile(&data, 50.0), percentile(&data, 100.0)), (1.75, 3.5));
        let mut nist = [
            95.1772, 95.1567, 95.1937, 95.1959, 95.1442, 95.0610, 95.1591, 95.1195, 95.1772, 95.0925,
            95.1990, 95.1682,
        ];
        nist.sort_by(f64::total_cmp);
        assert!((percentile(&nist, 90.0) - 95.19568).abs() < 1e-10);
    }

    #[test]
    fn outliers_are_left_out_only_if_asked() {
        let data = [21.0, 23.0, 24.0, 25.0, 5000.0, 29.0, 23.0, 21.0];
        assert_eq!(without_outliers(&data, None).len(), 8);
        // The 99th percentile of eight values lies below the largest, the fence far below it.
        assert_eq!(without_outliers(&data, Some(3.0)), [21.0, 23.0, 24.0, 25.0, 29.0, 23.0, 21.0]);
    }

    #[test]
    fn nothing_measured_is_nodata_or_as_good_as_zero() {
        let gauge = GaugePlan::named("cpu");
        assert_eq!(gauge.classify(&[], &[1.0]).class, Class::Nodata);
        let replace = GaugePlan { nan: Nan::Replace, ..gauge.clone() };
        assert_eq!(replace.classify(&[], &[1.0]).class, Class::Pass);
        assert_eq!((replace.reading(f64::NAN), gauge.reading(f64::NAN)), (Some(0.0), None));
        let critical = GaugePlan { critical: true, ..gauge.clone() };
        assert!(critical.classify(&[], &[1.0]).critical);
        let wanted = GaugePlan { must_have_data: true, ..gauge };
        assert!(wanted.classify(&[], &[1.0]).missing_counts);
    }

    #[test]
    fn constants_that_differ_are_told_apart_and_equal_ones_pass() {
        let gauge = GaugePlan::named("version");
        assert_eq!(gauge.classify(&[2.0; 9], &[1.0; 9]).class, Class::High);
        assert_eq!(gauge.classify(&[1.0; 9], &[2.0; 9]).class, Class::Low);
        assert_eq!(gauge.classify(&[1.0; 9], &[1.0; 5]).class, Class::Pass);
    }
}
