//! Everything that the judge is told beforehand: tolerances, error rates, alternatives, steps, what history froze.
//!
//! Promises: a plan that passes [`Plan::check`] cannot make [`crate::judge`] divide by zero or lose its guarantee.
//! Never changes while a rollout runs: whatever is measured is frozen into it before the canary has traffic.

use crate::gauge::WatchPlan;
use crate::kayenta::GaugePlan;
use crate::rate_ratio::Alternative;
use crate::score::ScoreBars;
use crate::threshold::ThresholdPlan;
use serde::{Deserialize, Serialize};

/// Alternatives of the abort direction, as multiples of the margin r.
pub const ABORT_GRID: [f64; 6] = [1.2, 1.5, 2.0, 3.0, 6.0, 20.0];
/// Alternatives of the pass direction, as multiples of the margin r.
pub const PASS_GRID: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.75, 0.85];
/// Odds ratios that the latency e-variable looks for, beyond its null's.
pub const ODDS_GRID: [f64; 6] = [1.1, 1.25, 1.5, 2.0, 4.0, 10.0];

/// Errors get two thirds of falseAbort: a slow request tells more than a good one does of errors, and costs less.
pub const LATENCY_WEIGHT: f64 = 0.5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// alpha: the chance that a healthy rollout is ever aborted.
    pub false_abort: f64,
    /// alpha': the chance, a step, that a canary at the tolerance is passed.
    pub false_pass: f64,
    pub risk: Risk,
    /// The steps' weights as fractions, ascending; 1 is a flip, with no stable beside it.
    pub steps: Vec<f64>,
    /// The canary's weight while it bakes: 0.95 with a holdback of 5 %, 1 without.
    pub bake_weight: f64,
    /// The service's requests a second, measured before the canary had traffic; measured at the start if unknown.
    pub requests_per_second: Option<f64>,
    pub pods: Pods,
    /// For so long after a pod is ready its latencies are left out.
    pub warmup_ms: u64,
    pub errors: Option<ErrorsPlan>,
    pub latency: Option<LatencyPlan>,
    #[serde(default)]
    pub slo: Vec<SloLimit>,
    /// Counted if the source tells restarts.
    #[serde(default)]
    pub restarts: Option<RestartsPlan>,
    /// Stable's limit beside a canary, frozen from its own past; without history there is none.
    #[serde(default)]
    pub collateral: Option<f64>,
    /// Rules of the range-and-failures kind, outside falseAbort.
    #[serde(default)]
    pub thresholds: Vec<ThresholdPlan>,
    /// Gauges that are watched and alarm only.
    #[serde(default)]
    pub watched: Vec<WatchPlan>,
    /// Judged once a step, outside falseAbort.
    #[serde(default)]
    pub gauges: Vec<GaugePlan>,
    #[serde(default)]
    pub score: ScoreBars,
    /// Whether history froze this plan; without it the dispersion is estimated while the rollout runs.
    #[serde(default)]
    pub history: bool,
    /// How often this release was tried before; see [`crate::onset`].
    #[serde(default)]
    pub retries: u32,
}

/// The harm budget: what opening further may cost at worst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Risk {
    pub bad_requests: f64,
    pub within_s: f64,
    /// As a fraction of all requests.
    pub share: f64,
}

/// The canary may fail `ratio` times as often as stable, and `plus` (a fraction of requests) more.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    pub ratio: f64,
    pub plus: f64,
}

/// What is done about uneven pods and bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pods {
    /// Requests are taken as independent.
    Ignore,
    /// Evidence is divided by the dispersion over stable's pods and windows.
    Dispersion,
    /// And pods may differ by nature, as far as stable's did.
    #[default]
    RandomEffect,
}

/// One alternative: the canary's rate as a multiple of stable's, and its share of the mixture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    pub ratio: f64,
    pub weight: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorsPlan {
    pub worse_by: Margin,
    /// Each above `worse_by.ratio`.
    pub alternatives: Vec<Weighted>,
    /// Each below `worse_by.ratio`; 0 is allowed.
    pub pass_alternatives: Vec<Weighted>,
    /// phi, frozen from history; at least 1.
    pub dispersion: Option<f64>,
    /// How far pods differ by nature, frozen from history.
    #[serde(default)]
    pub pod_spread: Option<PodSpread>,
    /// In place of the plan's.
    #[serde(default)]
    pub pods: Option<Pods>,
    /// Whether the abort decides by evidence that wastes nothing above the bar; see [`crate::overshoot`].
    #[serde(default)]
    pub overshoot: bool,
    /// This metric's share of falseAbort, relative to the others'.
    pub weight: f64,
}

/// The variance of ln rate between stable's pods, net of dispersion, and how many pods it was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpread {
    pub variance: f64,
    pub pods: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyPlan {
    /// Compare the canary's latencies with stable's at every boundary.
    pub compare: Option<Compare>,
    /// Boundaries (seconds) at which the canary must be proven good enough; empty: chosen from stable's own shares.
    pub gating: Vec<f64>,
    pub objectives: Vec<Objective>,
    /// The margin on the share of slow requests.
    pub worse_by: Margin,
    pub pass_alternatives: Vec<Weighted>,
    /// What stable's histogram looked like before the rollout.
    pub history: Vec<BoundaryHistory>,
    /// Whether a rollout without histograms may not pass.
    pub required: bool,
    /// In place of the plan's.
    #[serde(default)]
    pub pods: Option<Pods>,
    pub weight: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compare {
    /// 1.25 tolerates latencies 25 % longer by comparing the canary one boundary up; 1 compares like with like.
    pub slower_by: f64,
    /// Odds ratios of the mixture, each above 1, beyond the null's own.
    pub odds: Vec<f64>,
}

/// "p99 at most 500 ms".
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    pub quantile: f64,
    pub limit_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundaryHistory {
    pub le: f64,
    pub requests: u64,
    /// Requests slower than `le`.
    pub slow: u64,
    /// None where history was too short to tell.
    pub dispersion: Option<f64>,
}

/// An absolute limit, for when nothing runs beside the canary or when the policy names one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SloLimit {
    pub of: SloOf,
    /// The largest rate, as a fraction of requests.
    pub limit: f64,
    pub source: SloSource,
    /// phi of what is limited, frozen from history; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<f64>,
    pub weight: f64,
}

impl SloLimit {
    /// A named limit counts always, one frozen from stable's past only where no stable runs beside the canary.
    pub fn judges(&self, stable_beside: bool) -> bool {
        self.source == SloSource::Declared || !stable_beside
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SloOf {
    Errors,
    SlowerThan { seconds: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SloSource {
    /// Named by the policy: judged always.
    Declared,
    /// Stable's own rate before the rollout, upper bound times margin: judged only where no stable runs beside.
    Frozen,
}

/// The canary's pods may restart so many times as often as stable's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartsPlan {
    pub worse_by: f64,
    pub weight: f64,
}

impl Default for RestartsPlan {
    fn default() -> Self {
        Self { worse_by: 2.0, weight: 0.25 }
    }
}

/// A field of the plan that cannot work, and what would.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {value} {why}; {remedy}")]
pub struct PlanError {
    pub field: String,
    pub value: String,
    pub why: &'static str,
    pub remedy: &'static str,
}

impl Default for Risk {
    fn default() -> Self {
        Self { bad_requests: 10.0, within_s: 60.0, share: 0.001 }
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self { ratio: 1.25, plus: 0.0 }
    }
}

impl ErrorsPlan {
    pub fn with_margin(worse_by: Margin) -> Self {
        Self {
            worse_by,
            alternatives: grid(&ABORT_GRID, worse_by.ratio),
            pass_alternatives: grid(&PASS_GRID, worse_by.ratio),
            dispersion: None,
            pod_spread: None,
            pods: None,
            overshoot: false,
            weight: 1.0,
        }
    }
}

impl LatencyPlan {
    pub fn with_margin(worse_by: Margin) -> Self {
        Self {
            compare: Some(Compare { slower_by: 1.0, odds: ODDS_GRID.to_vec() }),
            gating: Vec::new(),
            objectives: Vec::new(),
            worse_by,
            pass_alternatives: grid(&PASS_GRID, worse_by.ratio),
            history: Vec::new(),
            required: false,
            pods: None,
            weight: LATENCY_WEIGHT,
        }
    }
}

impl Plan {
    /// The defaults of the policy: errors and latencies at 1.25x, 1 % and 5 %, the default harm budget.
    pub fn new(steps: Vec<f64>) -> Self {
        Self {
            false_abort: 0.01,
            false_pass: 0.05,
            risk: Risk::default(),
            steps,
            bake_weight: 0.95,
            requests_per_second: None,
            pods: Pods::default(),
            warmup_ms: 60_000,
            errors: Some(ErrorsPlan::with_margin(Margin::default())),
            latency: Some(LatencyPlan::with_margin(Margin::default())),
            slo: Vec::new(),
            restarts: Some(RestartsPlan::default()),
            collateral: None,
            thresholds: Vec::new(),
            watched: Vec::new(),
            gauges: Vec::new(),
            score: ScoreBars::default(),
            history: false,
            retries: 0,
        }
    }

    /// The bake is the step after the last.
    pub fn bake_step(&self) -> u32 {
        self.steps.len() as u32 + 1
    }

    /// The canary's weight in a step (1-based); every later one counts as the bake.
    pub fn weight_at(&self, step: u32) -> f64 {
        self.steps.get(step.saturating_sub(1) as usize).copied().unwrap_or(self.bake_weight)
    }

    /// Whether stable still carries traffic in that step.
    pub fn stable_beside(&self, step: u32) -> bool {
        self.weight_at(step) < 1.0
    }
}

/// Equal weights over multiples of `r`.
pub fn grid(multiples: &[f64], r: f64) -> Vec<Weighted> {
    let weight = 1.0 / multiples.len() as f64;
    multiples.iter().map(|multiple| Weighted { ratio: multiple * r, weight }).collect()
}

/// The mixture ready for formula 1 against the margin `r`, its weights scaled to sum 1.
pub fn alternatives(of: &[Weighted], r: f64) -> impl Iterator<Item = Alternative> {
    let total: f64 = of.iter().map(|one| one.weight).sum();
    of.iter().map(move |one| Alternative::new(one.ratio, r, one.weight / total))
}
