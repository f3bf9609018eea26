//! What a plan must be before it may judge: every refusal names the field, the reason and what would be right.

use crate::kayenta::GaugePlan;
use crate::plan::{ErrorsPlan, LatencyPlan, Margin, Plan, PlanError, Pods, Risk, SloLimit, Weighted};
use crate::threshold::ThresholdPlan;

type Checked = Result<(), PlanError>;

impl Plan {
    /// Whether the judge can work by this plan; the first field that cannot be right is named.
    pub fn check(&self) -> Checked {
        probability("falseAbort", self.false_abort)?;
        probability("falsePass", self.false_pass)?;
        check_risk(&self.risk)?;
        self.check_steps()?;
        if let Some(q) = self.requests_per_second {
            positive("requestsPerSecond", q)?;
        }
        self.errors.iter().try_for_each(check_errors)?;
        self.check_overshoot()?;
        self.latency.iter().try_for_each(check_latency)?;
        self.slo.iter().enumerate().try_for_each(|(at, limit)| check_slo(at, limit))?;
        if let Some(restarts) = &self.restarts {
            check_margin("restarts.worseBy", Margin { ratio: restarts.worse_by, plus: 0.0 })?;
            positive("restarts.weight", restarts.weight)?;
        }
        self.thresholds.iter().enumerate().try_for_each(|(at, threshold)| check_threshold(at, threshold))?;
        self.gauges.iter().enumerate().try_for_each(|(at, gauge)| check_gauge(at, gauge))?;
        self.check_score()?;
        self.check_something_judges()
    }

    fn check_overshoot(&self) -> Checked {
        let asked = self.errors.as_ref().filter(|errors| errors.overshoot);
        let independent = |errors: &ErrorsPlan| {
            errors.pods.unwrap_or(self.pods) == Pods::Ignore && errors.worse_by.plus == 0.0
        };
        if asked.is_none_or(independent) {
            return Ok(());
        }
        let (why, remedy) = (
            "holds for independent requests only",
            "set errors.pods: ignore and a worseBy without +, or leave overshoot out",
        );
        refuse("errors.overshoot", true, why, remedy)
    }

    fn check_score(&self) -> Checked {
        let (pass, marginal) = (self.score.pass, self.score.marginal);
        if 0.0 <= marginal && marginal <= pass && pass <= 100.0 {
            return Ok(());
        }
        let value = format!("pass {pass}, marginal {marginal}");
        refuse(
            "score",
            value,
            "is no pair of bars",
            "give 0 <= marginal <= pass <= 100, 95 and 75 by default",
        )
    }

    fn check_steps(&self) -> Checked {
        let mut before = 0.0;
        for (at, weight) in self.steps.iter().enumerate() {
            let field = format!("steps[{at}].weight");
            if !(*weight > 0.0 && *weight <= 1.0) {
                return refuse(
                    field,
                    weight,
                    "is no share of the traffic",
                    "give more than 0 and at most 1 (100 %)",
                );
            }
            if *weight <= before {
                return refuse(
                    field,
                    weight,
                    "does not rise",
                    "each step must carry more traffic than the one before",
                );
            }
            before = *weight;
        }
        if self.steps.is_empty() {
            return refuse("steps", "[]", "is empty", "give at least one step, for example weight 0.05");
        }
        if !(self.bake_weight > 0.0 && self.bake_weight <= 1.0) {
            let (why, remedy) = ("is no share of the traffic", "give 1 less the holdback, for example 0.95");
            return refuse("bakeWeight", self.bake_weight, why, remedy);
        }
        Ok(())
    }

    fn check_something_judges(&self) -> Checked {
        if self.errors.is_none()
            && self.latency.is_none()
            && self.slo.is_empty()
            && self.gauges.is_empty()
            && self.thresholds.is_empty()
        {
            let (why, remedy) = ("has no metric", "judge errors, latency, an slo or a gauge");
            return refuse("analysis", "{}", why, remedy);
        }
        Ok(())
    }
}

fn check_risk(risk: &Risk) -> Checked {
    positive("risk.within", risk.within_s)?;
    if !(risk.bad_requests >= 0.0 && risk.bad_requests.is_finite()) {
        let (why, remedy) = ("is no number of requests", "give 0 or more, 10 by default");
        return refuse("risk.badRequests", risk.bad_requests, why, remedy);
    }
    if !(risk.share >= 0.0 && risk.share < 1.0) {
        return refuse(
            "risk.share",
            risk.share,
            "is no share",
            "give 0 or more and less than 1, 0.001 by default",
        );
    }
    if risk.share == 0.0 && risk.bad_requests == 0.0 {
        let (why, remedy) =
            ("leaves no harm at all", "with nothing allowed nothing can be proven: give one above 0");
        return refuse("risk", "badRequests 0 and share 0", why, remedy);
    }
    Ok(())
}

fn check_errors(errors: &ErrorsPlan) -> Checked {
    check_margin("errors.worseBy", errors.worse_by)?;
    check_ratios("errors.ratios", &errors.alternatives, |ratio| ratio > errors.worse_by.ratio)?;
    check_ratios("errors.passRatios", &errors.pass_alternatives, |ratio| {
        ratio >= 0.0 && ratio < errors.worse_by.ratio
    })?;
    if let Some(phi) = errors.dispersion
        && !(phi >= 1.0 && phi.is_finite())
    {
        return refuse(
            "errors.dispersion",
            phi,
            "is below 1",
            "a dispersion is 1 (independent requests) or more",
        );
    }
    positive("errors.weight", errors.weight)
}

fn check_latency(latency: &LatencyPlan) -> Checked {
    check_margin("latency.worseBy", latency.worse_by)?;
    check_ratios("latency.passRatios", &latency.pass_alternatives, |ratio| {
        ratio >= 0.0 && ratio < latency.worse_by.ratio
    })?;
    for (at, le) in latency.gating.iter().enumerate() {
        positive(&format!("latency.gating[{at}]"), *le)?;
    }
    for (at, objective) in latency.objectives.iter().enumerate() {
        probability(&format!("latency.objectives[{at}].quantile"), objective.quantile)?;
        positive(&format!("latency.objectives[{at}].limit"), objective.limit_s)?;
    }
    if let Some(compare) = &latency.compare {
        if !(compare.slower_by >= 1.0 && compare.slower_by.is_finite()) {
            let (why, remedy) =
                ("asks for a faster canary", "give 1 (like with like) or more, for example 1.25");
            return refuse("latency.slowerBy", compare.slower_by, why, remedy);
        }
        if compare.odds.is_empty() || compare.odds.iter().any(|odds| !(*odds > 1.0 && odds.is_finite())) {
            let (why, remedy) = ("are no alternatives", "give at least one, each above 1");
            return refuse("latency.odds", format!("{:?}", compare.odds), why, remedy);
        }
    }
    positive("latency.weight", latency.weight)
}

fn check_slo(at: usize, limit: &SloLimit) -> Checked {
    probability(&format!("slo[{at}].limit"), limit.limit)?;
    positive(&format!("slo[{at}].weight"), limit.weight)
}

fn check_threshold(at: usize, threshold: &ThresholdPlan) -> Checked {
    let (min, max) = (threshold.min.unwrap_or(f64::NEG_INFINITY), threshold.max.unwrap_or(f64::INFINITY));
    let open = threshold.min.is_none() && threshold.max.is_none();
    if open || min.is_nan() || max.is_nan() || min > max {
        let value = format!("min {min}, max {max}");
        return refuse(
            format!("thresholds[{at}]"),
            value,
            "is no range",
            "give min, max or both, min below max",
        );
    }
    Ok(())
}

fn check_gauge(at: usize, gauge: &GaugePlan) -> Checked {
    probability(&format!("gauges[{at}].confidence"), gauge.confidence)?;
    if !(gauge.tolerance >= 0.0 && gauge.tolerance.is_finite()) {
        let (why, remedy) = ("is no tolerance", "give 0 or more, 0.25 by default");
        return refuse(format!("gauges[{at}].tolerance"), gauge.tolerance, why, remedy);
    }
    if let Some(factor) = gauge.outlier_factor {
        positive(&format!("gauges[{at}].outlierFactor"), factor)?;
    }
    match gauge.weight {
        Some(weight) if !(0.0..=100.0).contains(&weight) => {
            let (why, remedy) = ("is no weight", "give 0 to 100, the groups' weights summing to 100");
            refuse(format!("gauges[{at}].weight"), weight, why, remedy)
        }
        Some(_) | None => Ok(()),
    }
}

fn check_margin(field: &str, margin: Margin) -> Checked {
    if !(margin.ratio >= 1.0 && margin.ratio.is_finite()) {
        let (why, remedy) = ("asks for a canary better than stable", "give 1x or more, 1.25x by default");
        return refuse(field, margin.ratio, why, remedy);
    }
    if !(margin.plus >= 0.0 && margin.plus < 1.0) {
        let (why, remedy) =
            ("is no share of the requests", "give 0 or more and less than 1, for example 0.001");
        return refuse(format!("{field}.plus"), margin.plus, why, remedy);
    }
    Ok(())
}

fn check_ratios(field: &str, of: &[Weighted], allowed: impl Fn(f64) -> bool) -> Checked {
    if of.is_empty() {
        return refuse(field, "[]", "is empty", "give at least one ratio");
    }
    for (at, one) in of.iter().enumerate() {
        if !(one.ratio.is_finite() && allowed(one.ratio)) {
            let (why, remedy) =
                ("is on the wrong side of worseBy", "ratios must lie above it to abort and below it to pass");
            return refuse(format!("{field}[{at}]"), one.ratio, why, remedy);
        }
        positive(&format!("{field}[{at}].weight"), one.weight)?;
    }
    Ok(())
}

fn probability(field: &str, value: f64) -> Checked {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    refuse(field, value, "is no probability", "give more than 0 and less than 1, for example 0.01")
}

fn positive(field: &str, value: f64) -> Checked {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    refuse(field, value, "is not above 0", "give a finite number above 0")
}

fn refuse(
    field: impl Into<String>,
    value: impl ToString,
    why: &'static str,
    remedy: &'static str,
) -> Checked {
    Err(PlanError { field: field.into(), value: value.to_string(), why, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = Plan::new(vec![0.01, 0.05]);
        change(&mut plan);
        plan.check().expect_err("must be refused").field
    }

    #[test]
    fn the_defaults_can_be_judged_by() {
        assert_eq!(Plan::new(vec![0.01, 0.05, 0.25, 0.5]).check(), Ok(()));
        assert_eq!(Plan::new(vec![1.0]).check(), Ok(()));
    }

    #[test]
    fn each_refusal_names_its_field() {
        assert_eq!(refused(|plan| plan.false_abort = 0.0), "falseAbort");
        assert_eq!(refused(|plan| plan.false_pass = f64::NAN), "falsePass");
        assert_eq!(refused(|plan| plan.steps = vec![0.05, 0.05]), "steps[1].weight");
        assert_eq!(refused(|plan| plan.steps = vec![1.5]), "steps[0].weight");
        assert_eq!(refused(|plan| plan.steps.clear()), "steps");
        assert_eq!(refused(|plan| plan.bake_weight = 0.0), "bakeWeight");
        assert_eq!(refused(|plan| plan.requests_per_second = Some(0.0)), "requestsPerSecond");
        assert_eq!(
            refused(|plan| plan.risk = Risk { bad_requests: 0.0, within_s: 60.0, share: 0.0 }),
            "risk"
        );
    }

    #[test]
    fn alternatives_must_lie_on_their_side_of_the_margin() {
        let with = |change: fn(&mut ErrorsPlan)| refused(|plan| plan.errors.iter_mut().for_each(change));
        assert_eq!(with(|errors| errors.alternatives[0].ratio = 1.25), "errors.ratios[0]");
        assert_eq!(with(|errors| errors.pass_alternatives[1].ratio = 1.25), "errors.passRatios[1]");
        assert_eq!(with(|errors| errors.worse_by.ratio = 0.9), "errors.worseBy");
        assert_eq!(with(|errors| errors.dispersion = Some(0.5)), "errors.dispersion");
        assert_eq!(with(|errors| errors.overshoot = true), "errors.overshoot");
    }

    #[test]
    fn a_plan_without_metrics_judges_nothing() {
        assert_eq!(refused(|plan| (plan.errors, plan.latency) = (None, None)), "analysis");
    }
}
