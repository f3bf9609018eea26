//! What is known, for people and programs: every metric's evidence and bar, the ratio and its doubt, what is missing.

mod writer;

use crate::errors::ErrorsEvidence;
use crate::evidence::Evidence;
use crate::judge::{Share, Verdict};
use crate::kayenta::Class;
use crate::mix::StratumCounts;
use crate::plan::Plan;
use crate::rate_ratio::Count;
use crate::score::ScoreClass;
use serde::{Deserialize, Serialize};
use writer::Writer;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub verdict: Verdict,
    pub step: u32,
    pub windows: u64,
    /// Combined over the metrics, with its bar; fail once it is reached.
    pub log_abort: f64,
    pub abort_bar: f64,
    /// What of the current step's share of requests a canary may still be worse, beyond the margin.
    pub tolerance: f64,
    /// Whether dispersion was measured before the rollout; without it falseAbort is not promised.
    pub history: bool,
    /// How often the release was tried before.
    #[serde(default)]
    pub retries: u32,
    pub findings: Vec<Finding>,
    /// Kayenta's score of the current step's gauges, 0 to 100, and what its bars say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_class: Option<ScoreClass>,
    /// What somebody should look at, in plain language; alarms never abort.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// What was compared with its like only; empty where the windows have no strata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<StratumCounts>,
    /// The metrics that made a fail: the largest share of the evidence, and all above a tenth of it.
    pub culprits: Vec<String>,
}

/// One metric; every logarithm is natural and finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// `errors`, `latency`, `latency-p99`, `slo-errors`, ….
    pub metric: String,
    /// Where it was found: `slower than 0.5 s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub log_abort: f64,
    /// The evidence with the overshoot taken out, by which this metric decides where the policy asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_abort_corrected: Option<f64>,
    /// At which this metric alone would abort.
    pub abort_bar: f64,
    pub log_advance: f64,
    pub advance_bar: f64,
    /// Whether the step cannot be left before this metric passes.
    pub gates: bool,
    /// The canary's rate over stable's, and its confidence sequence: valid however often one looks, and for latencies at
    /// all boundaries together.
    pub ratio: Option<f64>,
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    /// 1 - falseAbort.
    #[serde(default = "usual_confidence")]
    pub confidence: f64,
    pub canary: Count,
    pub stable: Count,
    /// More canary requests until a decision, if what was seen goes on; none if it would decide nothing.
    pub needed: Option<u64>,
    pub needed_to_abort: Option<u64>,
    pub needed_to_advance: Option<u64>,
    /// What `needed` takes at today's traffic.
    pub minutes: Option<f64>,
    /// A gauge's class; gauges stand outside falseAbort and have no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Class>,
    /// What became of a rule of the policy, which stands outside falseAbort and has no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Fewer pods than it takes: requests alone can never decide this ratio.
    #[serde(default)]
    pub needs_more_pods: bool,
    /// Whether this made the fail.
    #[serde(default)]
    pub culprit: bool,
    /// Why there is no evidence, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Of a report that an older daemon wrote.
fn usual_confidence() -> f64 {
    0.99
}

/// The whole picture after the last window that counted.
pub fn report(plan: &Plan, evidence: &Evidence) -> Report {
    let writer = writer(plan, evidence);
    let of_errors = writer.of_errors;
    let mut findings = writer.findings();
    let score = evidence.gauges.score(&plan.gauges);
    let culprits = &evidence.culprits;
    findings.iter_mut().for_each(|finding| finding.culprit = culprits.contains(&finding.metric));
    Report {
        verdict: evidence.verdict,
        step: evidence.current,
        windows: evidence.windows,
        log_abort: evidence.combine(plan, |_| of_errors),
        abort_bar: plan.abort_bar(),
        tolerance: writer.d,
        history: plan.history,
        retries: plan.retries,
        findings,
        score,
        alarms: evidence.advice.alarms(plan, plan.weight_at(evidence.current)),
        score_class: score.map(|score| plan.score.classify(score)),
        strata: evidence.mix.told(),
        culprits: culprits.clone(),
    }
}

/// The metrics that make a fail now: rules that are broken, gauges that failed, or else the largest share of the evidence and all above a
/// tenth of it.
pub(crate) fn culprits(plan: &Plan, evidence: &Evidence) -> Vec<String> {
    let broken: Vec<String> = evidence.advice.broken(plan).collect();
    if !broken.is_empty() {
        return broken;
    }
    let writer = writer(plan, evidence);
    let of_errors = writer.of_errors;
    let findings = writer.findings();
    if evidence.gauges.failed {
        let failed = |finding: &&Finding| finding.classification.is_some_and(|class| class != Class::Pass);
        return findings.iter().filter(failed).map(|finding| finding.metric.clone()).collect();
    }
    let floor = evidence.combine(plan, |_| of_errors) - std::f64::consts::LN_10;
    let total = evidence.total_weight(plan);
    let named = findings.iter().zip(evidence.shares_by(plan, move |_| of_errors));
    let weighed = |share: &Share| share.weight > 0.0 && share.log_part(total) >= floor;
    let mut of: Vec<_> = named.filter(|(_, share)| weighed(share)).collect();
    of.sort_by(|a, b| b.1.log_e.total_cmp(&a.1.log_e));
    of.into_iter().map(|(finding, _)| finding.metric.clone()).collect()
}

/// With the errors' evidence integrated once.
fn writer<'a>(plan: &'a Plan, evidence: &'a Evidence) -> Writer<'a> {
    let d = plan.tolerance_at(evidence.current, evidence.traffic.measured);
    let of_errors = evidence.errors.as_ref().map_or(0.0, ErrorsEvidence::log_abort);
    Writer { plan, evidence, d, of_errors }
}
