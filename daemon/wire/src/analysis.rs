//! The policy's `analysis:` block and its conversion into a plan of the analyzers.
//!
//! Everything has a default; what an expert can set is here and nowhere else. [`Analysis::plan`] answers with a plan that
//! can be judged by, or with the field that is wrong, why, and what would be right.

mod gauges;
mod written;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_analyzers::PlanError;
use sluice_analyzers::plan::{
    Compare, ErrorsPlan, LATENCY_WEIGHT, LatencyPlan, Objective, Plan, Pods, RestartsPlan, Risk, SloLimit,
    SloOf, SloSource, Weighted,
};

use crate::units::{Percent, Span};

/// What a threshold calls the canary's share of failed requests.
const ERRORS: &str = "errors";

pub use gauges::{Direction, EffectMeasure, EffectSize, Gauge, GaugeMethod, Nan, Score, Threshold};
pub use written::{Ratio, WorseBy};

/// How the windows are judged. Everything has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Analysis {
    /// The chance that a healthy rollout is ever aborted.
    pub false_abort: Percent,
    /// The chance, a step, that a canary at the tolerance is passed.
    pub false_pass: Percent,
    /// How much worse than stable a canary may be; each metric may have its own.
    pub worse_by: WorseBy,
    pub risk: RiskSpec,
    pub pods: PodsSpec,
    /// For so long after a pod is ready its latencies are left out.
    pub warmup: Span,
    /// The service's requests a second; measured before the rollout if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    pub errors: ErrorsSpec,
    pub latency: LatencySpec,
    pub slo: SloSpec,
    pub restarts: RestartsSpec,
    /// Rules that somebody insists on; how often they stop a healthy release is theirs to answer for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<Threshold>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gauges: Vec<Gauge>,
    pub score: Score,
}

/// The harm budget: what opening further may cost at worst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RiskSpec {
    pub bad_requests: f64,
    pub within: Span,
    pub share: Percent,
}

/// What is done about uneven pods and bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PodsSpec {
    Ignore,
    Dispersion,
    #[default]
    RandomEffect,
}

/// Failed requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ErrorsSpec {
    pub enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse_by: Option<WorseBy>,
    /// Alternatives to look for, as multiples of stable's rate, equally weighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratios: Option<Vec<f64>>,
    /// Alternatives of the proof that the canary is good enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_ratios: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsSpec>,
    /// Aborts by evidence that wastes nothing above the bar: some requests sooner. With `pods: ignore` only.
    #[serde(skip_serializing_if = "is_off")]
    pub overshoot: bool,
    /// This metric's share of falseAbort, relative to the others'.
    pub weight: f64,
}

fn is_off(flag: &bool) -> bool {
    !flag
}

/// Slow requests, from histograms; without one they are not judged unless asked for by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LatencySpec {
    pub enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Span>,
    #[serde(rename = "p99.9", skip_serializing_if = "Option::is_none")]
    pub p999: Option<Span>,
    /// Compare with stable at every boundary; objectives are judged anyway.
    pub compare: bool,
    /// How much longer requests may take: compares the canary one boundary up. 1x compares like with like.
    pub slower_by: Ratio,
    /// How many more requests may be slow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse_by: Option<WorseBy>,
    /// Odds ratios to look for beyond the margin, equally weighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odds: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass_ratios: Option<Vec<f64>>,
    /// Where the canary must be proven good enough; chosen from stable's own latencies if left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gating: Vec<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Span>,
    pub weight: f64,
}

/// Absolute limits; where none is named and no stable runs beside the canary, stable's own past is the limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SloSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Percent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowSpec>,
    pub weight: f64,
}

/// Restarts of containers, where the source tells them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestartsSpec {
    pub enabled: bool,
    pub worse_by: Ratio,
    pub weight: f64,
}

impl Default for RestartsSpec {
    fn default() -> Self {
        let plan = RestartsPlan::default();
        Self { enabled: true, worse_by: Ratio(plan.worse_by), weight: plan.weight }
    }
}

impl RestartsSpec {
    fn plan(self) -> RestartsPlan {
        RestartsPlan { worse_by: self.worse_by.0, weight: self.weight }
    }
}

/// `{share: 1%, over: 500ms}`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowSpec {
    pub share: Percent,
    pub over: Span,
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            false_abort: Percent(0.01),
            false_pass: Percent(0.05),
            worse_by: WorseBy::default(),
            risk: RiskSpec::default(),
            pods: PodsSpec::default(),
            warmup: Span::from_secs(60),
            requests_per_second: None,
            errors: ErrorsSpec::default(),
            latency: LatencySpec::default(),
            slo: SloSpec::default(),
            restarts: RestartsSpec::default(),
            thresholds: Vec::new(),
            gauges: Vec::new(),
            score: Score::default(),
        }
    }
}

impl Default for RiskSpec {
    fn default() -> Self {
        Self { bad_requests: 10.0, within: Span::from_secs(60), share: Percent(0.001) }
    }
}

impl Default for ErrorsSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            worse_by: None,
            ratios: None,
            pass_ratios: None,
            pods: None,
            overshoot: false,
            weight: 1.0,
        }
    }
}

impl Default for LatencySpec {
    fn default() -> Self {
        Self {
            enabled: true,
            p50: None,
            p90: None,
            p95: None,
            p99: None,
            p999: None,
            compare: true,
            slower_by: Ratio(1.0),
            worse_by: None,
            odds: None,
            pass_ratios: None,
            gating: Vec::new(),
            pods: None,
            warmup: None,
            weight: LATENCY_WEIGHT,
        }
    }
}

impl Default for SloSpec {
    fn default() -> Self {
        Self { errors: None, slow: None, weight: 1.0 }
    }
}

impl Analysis {
    /// The plan for these weights (fractions); no steps is a flip. Not yet frozen: history comes later.
    pub fn plan(&self, steps: &[f64], bake_weight: f64) -> Result<Plan, PlanError> {
        let steps = if steps.is_empty() { vec![1.0] } else { steps.to_vec() };
        let plan = Plan {
            false_abort: self.false_abort.0,
            false_pass: self.false_pass.0,
            risk: self.risk.risk(),
            bake_weight,
            requests_per_second: self.requests_per_second,
            pods: self.pods.into(),
            warmup_ms: millis(self.latency.warmup.unwrap_or(self.warmup)),
            errors: self.errors.enabled.then(|| self.errors.plan(self.worse_by)),
            latency: self.latency.enabled.then(|| self.latency.plan(self.worse_by)),
            slo: self.slo.limits(),
            restarts: self.restarts.enabled.then(|| self.restarts.plan()),
            thresholds: self.thresholds.iter().map(Threshold::plan).collect(),
            watched: self.gauges.iter().filter_map(Gauge::watch).collect(),
            gauges: self.gauges.iter().filter_map(Gauge::plan).collect(),
            score: self.score.into(),
            ..Plan::new(steps)
        };
        plan.check()?;
        Ok(plan)
    }
}

/// A value that the analysis needs and no counter tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaugeQuery<'a> {
    /// Where it stands in the policy: `spec.analysis.gauges[0]`.
    pub place: (&'static str, usize),
    pub name: &'a str,
    pub query: Option<&'a str>,
}

impl Analysis {
    /// Every value that the daemon has to read, once by name.
    pub fn gauge_queries(&self) -> Vec<GaugeQuery<'_>> {
        let gauges = self.gauges.iter().enumerate().map(|(at, gauge)| GaugeQuery {
            place: ("spec.analysis.gauges", at),
            name: &gauge.name,
            query: gauge.query.as_deref(),
        });
        let rules = self.thresholds.iter().enumerate().filter(|(_, rule)| rule.name != ERRORS);
        let rules = rules.map(|(at, rule)| GaugeQuery {
            place: ("spec.analysis.thresholds", at),
            name: &rule.name,
            query: rule.query.as_deref(),
        });
        let mut queries: Vec<GaugeQuery<'_>> = Vec::new();
        for one in gauges.chain(rules) {
            match queries.iter_mut().find(|known| known.name == one.name) {
                Some(known) if known.query.is_none() => *known = one,
                Some(_) => {}
                None => queries.push(one),
            }
        }
        queries
    }
}

impl RiskSpec {
    fn risk(self) -> Risk {
        Risk { bad_requests: self.bad_requests, within_s: seconds(self.within), share: self.share.0 }
    }
}

impl ErrorsSpec {
    fn plan(&self, worse_by: WorseBy) -> ErrorsPlan {
        let mut plan = ErrorsPlan::with_margin(self.worse_by.unwrap_or(worse_by).into());
        if let Some(ratios) = &self.ratios {
            plan.alternatives = equal(ratios);
        }
        if let Some(ratios) = &self.pass_ratios {
            plan.pass_alternatives = equal(ratios);
        }
        plan.pods = self.pods.map(Into::into);
        plan.overshoot = self.overshoot;
        plan.weight = self.weight;
        plan
    }
}

impl LatencySpec {
    fn plan(&self, worse_by: WorseBy) -> LatencyPlan {
        let mut plan = LatencyPlan::with_margin(self.worse_by.unwrap_or(worse_by).into());
        let odds = self.odds.clone().or_else(|| plan.compare.take().map(|compare| compare.odds));
        let compare = Compare { slower_by: self.slower_by.0, odds: odds.unwrap_or_default() };
        plan.compare = self.compare.then_some(compare);
        if let Some(ratios) = &self.pass_ratios {
            plan.pass_alternatives = equal(ratios);
        }
        plan.gating = self.gating.iter().map(|le| seconds(*le)).collect();
        plan.objectives = self.objectives();
        plan.required = !plan.objectives.is_empty() || !plan.gating.is_empty();
        plan.pods = self.pods.map(Into::into);
        plan.weight = self.weight;
        plan
    }

    fn objectives(&self) -> Vec<Objective> {
        let named =
            [(0.5, self.p50), (0.9, self.p90), (0.95, self.p95), (0.99, self.p99), (0.999, self.p999)];
        let objective =
            |(quantile, limit): (f64, Option<Span>)| Some(Objective { quantile, limit_s: seconds(limit?) });
        named.into_iter().filter_map(objective).collect()
    }
}

impl SloSpec {
    fn limits(self) -> Vec<SloLimit> {
        let limit = |of, limit: Percent| {
            let (source, weight) = (SloSource::Declared, self.weight);
            SloLimit { of, limit: limit.0, source, dispersion: None, weight }
        };
        let errors = self.errors.map(|share| limit(SloOf::Errors, share));
        let slow = self.slow.map(|slow| limit(SloOf::SlowerThan { seconds: seconds(slow.over) }, slow.share));
        errors.into_iter().chain(slow).collect()
    }
}

impl From<PodsSpec> for Pods {
    fn from(spec: PodsSpec) -> Self {
        match spec {
            PodsSpec::Ignore => Pods::Ignore,
            PodsSpec::Dispersion => Pods::Dispersion,
            PodsSpec::RandomEffect => Pods::RandomEffect,
        }
    }
}

fn equal(ratios: &[f64]) -> Vec<Weighted> {
    let weight = 1.0 / ratios.len().max(1) as f64;
    ratios.iter().map(|ratio| Weighted { ratio: *ratio, weight }).collect()
}

fn seconds(span: Span) -> f64 {
    span.0.as_secs_f64()
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Analysis, String> {
        serde_saphyr::from_str(yaml).map_err(|error: serde_saphyr::Error| error.to_string())
    }

    #[test]
    fn nothing_written_is_the_plan_of_the_defaults() {
        let plan = Analysis::default().plan(&[0.01, 0.05], 0.95).unwrap();
        assert_eq!(plan, Plan::new(vec![0.01, 0.05]));
        assert_eq!(read("{}").unwrap(), Analysis::default());
    }

    #[test]
    fn the_designs_own_example_reads() {
        let analysis = read(
            "{falseAbort: 1%, falsePass: 5%, errors: {worseBy: 1.25x}, latency: {p99: 500ms}, \
             risk: {badRequests: 10, within: 60s, share: 0.1%}}",
        )
        .unwrap();
        let plan = analysis.plan(&[0.01, 0.05, 0.25, 0.5], 0.95).unwrap();
        let latency = plan.latency.unwrap();
        assert_eq!(latency.objectives, [Objective { quantile: 0.99, limit_s: 0.5 }]);
        assert!(latency.required && latency.compare.is_some());
    }

    #[test]
    fn an_expert_sets_what_the_defaults_set() {
        let analysis = read(
            "{worseBy: 1x, pods: ignore, warmup: 90s, errors: {worseBy: 1.5x + 0.1%, ratios: [2, 4], pods: dispersion}, \
             latency: {enabled: false}, slo: {errors: 2%, slow: {share: 1%, over: 500ms}}}",
        )
        .unwrap();
        let plan = analysis.plan(&[0.1], 1.0).unwrap();
        let errors = plan.errors.unwrap();
        assert_eq!((errors.worse_by.ratio, errors.worse_by.plus), (1.5, 0.001));
        assert_eq!(errors.alternatives.iter().map(|one| one.ratio).collect::<Vec<_>>(), [2.0, 4.0]);
        assert_eq!((errors.pods, plan.pods), (Some(Pods::Dispersion), Pods::Ignore));
        assert_eq!((plan.warmup_ms, plan.latency, plan.slo.len()), (90_000, None, 2));
    }

    #[test]
    fn a_ratio_on_the_wrong_side_is_refused_by_name() {
        let analysis = read("{errors: {ratios: [1.1, 2]}}").unwrap();
        let error = analysis.plan(&[0.1], 0.95).unwrap_err();
        assert_eq!(error.field, "errors.ratios[0]");
    }

    #[test]
    fn the_overshoot_is_taken_out_for_independent_requests_only() {
        let plan = |yaml| read(yaml).unwrap().plan(&[0.1], 0.95);
        let refused = plan("{errors: {overshoot: true}}").unwrap_err();
        assert_eq!(refused.field, "errors.overshoot");
        assert!(refused.remedy.contains("errors.pods: ignore"), "{refused}");
        let taken = plan("{errors: {overshoot: true, pods: ignore}}").unwrap();
        assert!(taken.errors.is_some_and(|errors| errors.overshoot));
    }

    #[test]
    fn unknown_fields_are_errors() {
        for yaml in ["{falseabort: 1%}", "{errors: {worse: 1x}}", "{risk: {requests: 3}}"] {
            assert!(read(yaml).is_err(), "{yaml} was taken");
        }
    }

    #[test]
    fn written_and_read_back_it_is_the_same() {
        let analysis =
            read("{errors: {worseBy: 1.25x + 0.1%}, latency: {p99.9: 2s, gating: [250ms]}}").unwrap();
        let again: Analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
        assert_eq!(again, analysis);
    }
}
