//! Gauges of the `analysis:` block, in the words of Kayenta's judge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_analyzers::gauge::WatchPlan;
use sluice_analyzers::kayenta::{self, EffectPlan, GaugePlan, Measure};
use sluice_analyzers::score::ScoreBars;
use sluice_analyzers::threshold::ThresholdPlan;

/// One gauge, judged once a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gauge {
    /// As the windows' `values` name it.
    pub name: String,
    /// What the daemon reads: a template (Jinja) of any PromQL expression, filled in for each version like
    /// `metrics.prometheus.queries`; each row is one reading. `sluice judge` needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(default)]
    pub method: GaugeMethod,
    /// Which change counts against the canary.
    #[serde(default)]
    pub direction: Direction,
    /// How far the interval of the difference must reach beyond zero, as a share of the larger bound.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// A failed critical gauge fails the step whatever the score.
    #[serde(default)]
    pub critical: bool,
    /// Fails the gauge if there are no readings, instead of leaving it out.
    #[serde(default)]
    pub must_have_data: bool,
    #[serde(default)]
    pub nan: Nan,
    /// Leaves out readings beyond so many interquartile ranges (Kayenta: 3); none left out by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_size: Option<EffectSize>,
    /// Gauges of one group share its weight in the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The group's weight in the score; groups without one share what is left of 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GaugeMethod {
    /// Kayenta's test, once a step; its score decides.
    #[default]
    MannWhitney,
    /// A confidence sequence of the difference; it alarms and never decides.
    Sequence,
}

/// A range, and so many failures: the kind of rule that Flagger and Argo Rollouts have. Outside falseAbort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Threshold {
    /// A gauge by name, or `errors` for the canary's share of failed requests.
    pub name: String,
    /// What the daemon reads where no gauge of that name has a query; see there. A condition is an expression, too: with
    /// `max: 0`, `(P99 > bool 0.5) * (RATE > bool 10)` fails where both hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// So many windows outside the range abort.
    #[serde(default = "one")]
    pub failures: u32,
    /// Whether a window inside the range begins the count anew.
    #[serde(default)]
    pub consecutive: bool,
}

impl Threshold {
    pub(super) fn plan(&self) -> ThresholdPlan {
        let (min, max, failures, consecutive) = (self.min, self.max, self.failures, self.consecutive);
        ThresholdPlan { name: self.name.clone(), min, max, failures, consecutive }
    }
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    Increase,
    Decrease,
    #[default]
    Either,
}

/// What is done with points that the source did not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Nan {
    #[default]
    Remove,
    /// They count as 0.
    Replace,
}

/// How large a difference must be to count.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EffectSize {
    pub measure: EffectMeasure,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_increase: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_decrease: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_increase: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_decrease: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EffectMeasure {
    #[default]
    MeanRatio,
    Cles,
}

/// The step's score, 0 to 100: `pass` or more passes, less than `marginal` fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Score {
    pub pass: f64,
    pub marginal: f64,
}

impl Default for Score {
    fn default() -> Self {
        Self { pass: 95.0, marginal: 75.0 }
    }
}

impl Gauge {
    /// The gauge as something watched, if that is its method.
    pub(super) fn watch(&self) -> Option<WatchPlan> {
        match self.method {
            GaugeMethod::MannWhitney => None,
            GaugeMethod::Sequence => Some(WatchPlan { name: self.name.clone(), tolerance: self.tolerance }),
        }
    }

    /// The gauge as Kayenta judges it, if that is its method.
    pub(super) fn plan(&self) -> Option<GaugePlan> {
        match self.method {
            GaugeMethod::Sequence => None,
            GaugeMethod::MannWhitney => Some(GaugePlan {
                name: self.name.clone(),
                direction: self.direction.into(),
                tolerance: self.tolerance,
                confidence: self.confidence,
                critical: self.critical,
                must_have_data: self.must_have_data,
                nan: self.nan.into(),
                outlier_factor: self.outlier_factor,
                effect: self.effect_size.unwrap_or_default().into(),
                group: self.group.clone(),
                weight: self.weight,
            }),
        }
    }
}

impl From<Score> for ScoreBars {
    fn from(score: Score) -> Self {
        Self { pass: score.pass, marginal: score.marginal }
    }
}

impl From<Direction> for kayenta::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Increase => kayenta::Direction::Increase,
            Direction::Decrease => kayenta::Direction::Decrease,
            Direction::Either => kayenta::Direction::Either,
        }
    }
}

impl From<Nan> for kayenta::Nan {
    fn from(nan: Nan) -> Self {
        match nan {
            Nan::Remove => kayenta::Nan::Remove,
            Nan::Replace => kayenta::Nan::Replace,
        }
    }
}

impl From<EffectSize> for EffectPlan {
    fn from(effect: EffectSize) -> Self {
        let measure = match effect.measure {
            EffectMeasure::MeanRatio => Measure::MeanRatio,
            EffectMeasure::Cles => Measure::Cles,
        };
        Self {
            measure,
            allowed_increase: effect.allowed_increase,
            allowed_decrease: effect.allowed_decrease,
            critical_increase: effect.critical_increase,
            critical_decrease: effect.critical_decrease,
        }
    }
}

fn default_tolerance() -> f64 {
    0.25
}

fn default_confidence() -> f64 {
    0.98
}
