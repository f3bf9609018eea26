//! One window in, one verdict out.
//!
//! The order of work: check the window; leave it out if it is late or came before; enter its step; count it in every
//! metric; decide. Fail is looked for first: when both bars are crossed, abort wins. Once failed, always failed.

use crate::errors::ErrorsEvidence;
use crate::evidence::Evidence;
use crate::joined::Joined;
use crate::mixture::{LOG_NOTHING, log_add};
use crate::plan::Plan;
use crate::report::culprits;
use crate::score::ScoreClass;
use crate::window::{Arm, Window, WindowError};
use serde::{Deserialize, Serialize};

/// Five different things; nothing but `Pass` ever advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every gating metric is proven good enough for the current step's tolerance.
    Pass,
    /// The combined abort evidence reached 1 / falseAbort, or what of it this attempt has.
    Fail,
    Undecided,
    /// A version that should have had requests had none, or a metric that must be judged was not there.
    NoData,
    /// The source did not answer. The judge never says so: its caller does.
    SourceDown,
}

/// Judges one window. The plan must have passed [`Plan::check`], and the evidence must have been made from it.
///
/// An error leaves the evidence as it was. A window that ends no later than the last one changes nothing and gets the
/// last verdict again. After a fail windows count on, and those to blame stay those of the fail.
pub fn judge(plan: &Plan, evidence: &mut Evidence, window: &Window) -> Result<Verdict, WindowError> {
    window.check()?;
    if window.step == 0 {
        return Err(WindowError::History);
    }
    if let Some(last_end_ms) = evidence.last_end_ms {
        if window.end_ms <= last_end_ms {
            return Ok(evidence.verdict);
        }
        if window.start_ms < last_end_ms {
            return Err(WindowError::Overlap { start_ms: window.start_ms, last_end_ms });
        }
    }
    evidence.enter(plan, window);
    evidence.add(plan, window);
    let bar = plan.abort_bar();
    evidence.failed |= evidence.log_abort_at_most(plan) >= bar && evidence.log_decides(plan) >= bar;
    evidence.verdict = decide(plan, evidence, window);
    if evidence.failed && evidence.culprits.is_empty() {
        evidence.culprits = culprits(plan, evidence);
    }
    Ok(evidence.verdict)
}

fn decide(plan: &Plan, evidence: &mut Evidence, window: &Window) -> Verdict {
    evidence.failed |= evidence.advice.broken(plan).next().is_some();
    if evidence.failed {
        return Verdict::Fail;
    }
    if lacks_data(plan, evidence, window) {
        return Verdict::NoData;
    }
    let bar = plan.advance_bar();
    match evidence.log_advance(plan) {
        Some(_) | None if evidence.advice.withholds() => Verdict::Undecided,
        Some(weakest) if weakest < bar => Verdict::Undecided,
        None if plan.gauges.is_empty() => Verdict::Undecided,
        Some(_) | None => decide_by_gauges(plan, evidence),
    }
}

/// Everything else would let the step be left.
fn decide_by_gauges(plan: &Plan, evidence: &mut Evidence) -> Verdict {
    match evidence.gauges.look(plan) {
        Some(ScoreClass::Pass) => Verdict::Pass,
        Some(ScoreClass::Fail) => {
            evidence.failed = true;
            Verdict::Fail
        }
        Some(ScoreClass::Marginal) | None => Verdict::Undecided,
    }
}

fn lacks_data(plan: &Plan, evidence: &Evidence, window: &Window) -> bool {
    let compared = plan.stable_beside(window.step) && (plan.errors.is_some() || plan.latency.is_some());
    let counted = compared || plan.errors.is_some() || plan.latency.is_some() || !plan.slo.is_empty();
    let nobody =
        counted && (window.requests(Arm::Canary) == 0 || (compared && window.requests(Arm::Stable) == 0));
    let no_histogram = match (&plan.latency, &evidence.latency) {
        (Some(_), Some(latency)) if latency.seen => latency.blind.is_some(),
        (Some(how), Some(_)) => how.required,
        (Some(_) | None, _) => false,
    };
    let beside = plan.stable_beside(window.step);
    let limits = plan.slo.iter().zip(&evidence.slo).filter(|(limit, _)| limit.judges(beside));
    nobody || no_histogram || limits.map(|(_, slo)| slo).any(|slo| slo.blind)
}

/// One metric's part in the decision to abort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    pub(crate) weight: f64,
    /// What its evidence is multiplied by, as a logarithm; see [`crate::joined`].
    pub(crate) head: f64,
    pub(crate) log_e: f64,
}

impl Share {
    fn of(weight: f64, log_e: f64) -> Share {
        Share { weight, head: 0.0, log_e }
    }

    fn joined(joined: Joined, weight: f64, log_e: f64) -> Share {
        Share { weight: if joined.has() { weight } else { 0.0 }, head: joined.head(), log_e }
    }

    /// Its part in the sum of all evidence, `total` being the sum of weights, as a logarithm.
    pub(crate) fn log_part(self, total: f64) -> f64 {
        if self.weight > 0.0 { libm::log(self.weight / total) + self.head + self.log_e } else { LOG_NOTHING }
    }
}

impl Evidence {
    /// ln of `sum w_m E_m`: valid under any dependence between the metrics.
    pub fn log_abort(&self, plan: &Plan) -> f64 {
        self.combine(plan, ErrorsEvidence::log_abort)
    }

    /// What the abort is decided by; see [`ErrorsEvidence::log_decides`].
    fn log_decides(&self, plan: &Plan) -> f64 {
        self.combine(plan, ErrorsEvidence::log_decides)
    }

    /// At least [`Evidence::log_decides`], quickly: most windows cannot decide.
    fn log_abort_at_most(&self, plan: &Plan) -> f64 {
        self.combine(plan, ErrorsEvidence::log_abort_at_most)
    }

    pub(crate) fn combine<'a>(
        &'a self,
        plan: &'a Plan,
        of_errors: impl Fn(&ErrorsEvidence) -> f64 + Copy + 'a,
    ) -> f64 {
        let total = self.total_weight(plan);
        if total <= 0.0 {
            return 0.0;
        }
        self.shares_by(plan, of_errors).map(|share| share.log_part(total)).fold(LOG_NOTHING, log_add)
    }

    /// What the shares are scaled by.
    pub(crate) fn total_weight(&self, plan: &Plan) -> f64 {
        self.shares_by(plan, |_| 0.0).map(|share| share.weight).sum()
    }

    /// Errors, latency, its objectives, the limits, restarts: always in this order.
    pub(crate) fn shares_by<'a>(
        &'a self,
        plan: &'a Plan,
        of_errors: impl Fn(&ErrorsEvidence) -> f64 + Copy + 'a,
    ) -> impl Iterator<Item = Share> + Clone + 'a {
        let errors = plan.errors.iter().zip(&self.errors);
        let errors = errors.map(move |(how, errors)| Share::of(how.weight, of_errors(errors)));
        let latency = plan.latency.iter().zip(&self.latency).flat_map(move |(how, latency)| {
            let compare = usize::from(how.compare.is_some());
            let parts = (compare + how.objectives.len()).max(1) as f64;
            let compared = std::iter::repeat_n(latency, compare).map(|latency| latency.log_abort());
            let objectives = latency.objectives.iter().map(|objective| objective.log_abort());
            let weight = how.weight / parts;
            // Before any window everybody is expected.
            let joined = if self.windows == 0 { Joined::FROM_THE_FIRST } else { self.latency_joined };
            compared.chain(objectives).map(move |log_e| Share::joined(joined, weight, log_e))
        });
        let slo = plan.slo.iter().zip(&self.slo);
        let slo = slo.map(|(limit, slo)| Share::of(limit.weight, slo.ceiling.log_abort()));
        let restarts = plan.restarts.iter().zip(&self.restarting);
        let restarts =
            restarts.map(|(how, restarts)| Share::joined(restarts.joined, how.weight, restarts.log_abort()));
        errors.chain(latency).chain(slo).chain(restarts)
    }

    /// The weakest gating metric's evidence for the current step's tolerance; none if nothing gates.
    pub fn log_advance(&self, plan: &Plan) -> Option<f64> {
        let d = plan.tolerance_at(self.current, self.traffic.measured);
        let beside = plan.stable_beside(self.current);
        let errors = plan.errors.iter().zip(&self.errors).filter(|_| beside);
        let errors = errors.map(|(_, errors)| errors.log_advance(d));
        let latency = plan.latency.iter().zip(&self.latency);
        let latency =
            latency.filter(|(how, latency)| how.required || latency.seen).flat_map(|(how, latency)| {
                let plus = how.worse_by.plus;
                let gate =
                    (beside && how.compare.is_some()).then(|| latency.log_advance(plus + d).unwrap_or(0.0));
                let objectives =
                    latency.objectives.iter().map(move |objective| objective.log_advance(plus, d));
                gate.into_iter().chain(objectives)
            });
        let slo = plan.slo.iter().zip(&self.slo);
        let slo = slo.filter(|(limit, _)| limit.judges(beside));
        let slo = slo.map(|(_, slo)| slo.ceiling.log_advance(d));
        errors.chain(latency).chain(slo).reduce(f64::min)
    }
}
