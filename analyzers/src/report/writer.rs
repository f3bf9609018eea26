//! One finding for each metric, from the evidence and the plan.

use super::Finding;
use crate::curve::Curve;
use crate::errors::ErrorsEvidence;
use crate::evidence::Evidence;
use crate::forecast::{more_requests, typical, typical_alone};
use crate::kayenta::{Class, Classified, GaugePlan};
use crate::latency::LatencyEvidence;
use crate::plan::{ErrorsPlan, LatencyPlan, Plan, SloLimit, SloOf};
use crate::rate_ratio::{Count, Pair};
use crate::restarts::RestartsEvidence;
use crate::slo::{Ahead, SloEvidence};
use crate::threshold::{ThresholdEvidence, ThresholdPlan};

/// Most likely ratios from this share of a curve's reach on are its end.
const NEAR_THE_END: f64 = 0.996;

pub(super) struct Writer<'a> {
    pub(super) plan: &'a Plan,
    pub(super) evidence: &'a Evidence,
    pub(super) d: f64,
    /// Integrated once.
    pub(super) of_errors: f64,
}

impl Writer<'_> {
    /// In the order of [`Evidence::shares`].
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut of = Vec::new();
        let mut bars = self.bars();
        let mut bar = || bars.next().unwrap_or_else(|| self.plan.abort_bar());
        if let (Some(how), Some(errors)) = (&self.plan.errors, &self.evidence.errors) {
            of.push(self.errors(how, errors, bar()));
        }
        if let (Some(how), Some(latency)) = (&self.plan.latency, &self.evidence.latency) {
            self.latency(how, latency, &mut bar, &mut of);
        }
        of.extend(
            self.plan.slo.iter().zip(&self.evidence.slo).map(|(limit, slo)| self.slo(limit, slo, bar())),
        );
        if let Some(restarts) = &self.evidence.restarting {
            of.push(self.restarts(restarts, bar()));
        }
        of.extend(
            self.evidence.gauges.classified(&self.plan.gauges).map(|(plan, found)| self.gauge(plan, &found)),
        );
        let thresholds = self.plan.thresholds.iter().zip(&self.evidence.advice.thresholds);
        of.extend(thresholds.map(|(plan, seen)| self.threshold(plan, *seen)));
        of
    }

    /// Where each metric alone would abort, in the order of [`Evidence::shares_by`].
    fn bars(&self) -> impl Iterator<Item = f64> {
        let (base, total) = (self.plan.abort_bar(), self.evidence.total_weight(self.plan));
        let shares = self.evidence.shares_by(self.plan, |_| 0.0);
        shares.map(move |share| {
            if share.weight > 0.0 { base - share.head - libm::log(share.weight / total) } else { base }
        })
    }

    fn restarts(&self, restarts: &RestartsEvidence, bar: f64) -> Finding {
        let mut of = self.blank("restarts");
        of.abort_bar = bar;
        of.log_abort = restarts.log_abort();
        (of.canary, of.stable) = (restarts.totals.canary, restarts.totals.stable);
        of.ratio = ratio(restarts.totals);
        of.missing = (!restarts.joined.has()).then(|| "the source tells no restarts".to_owned());
        self.with_forecast(of)
    }

    fn gauge(&self, plan: &GaugePlan, found: &Classified) -> Finding {
        let mut of = self.blank(plan.name.clone());
        (of.classification, of.ratio, of.gates) = (Some(found.class), found.ratio, true);
        of.missing = (found.class == Class::Nodata).then(|| "no readings of both versions".to_owned());
        of
    }

    fn threshold(&self, plan: &ThresholdPlan, seen: ThresholdEvidence) -> Finding {
        Finding { rule: Some(seen.words(plan)), ..self.blank(plan.label()) }
    }

    fn blank(&self, metric: impl Into<String>) -> Finding {
        Finding {
            metric: metric.into(),
            place: None,
            log_abort: 0.0,
            log_abort_corrected: None,
            abort_bar: self.plan.abort_bar(),
            log_advance: 0.0,
            advance_bar: self.plan.advance_bar(),
            gates: false,
            ratio: None,
            ratio_low: None,
            ratio_high: None,
            confidence: 1.0 - self.plan.false_abort,
            canary: Count::default(),
            stable: Count::default(),
            needed: None,
            needed_to_abort: None,
            needed_to_advance: None,
            minutes: None,
            classification: None,
            rule: None,
            needs_more_pods: false,
            culprit: false,
            missing: None,
        }
    }

    fn errors(&self, how: &ErrorsPlan, errors: &ErrorsEvidence, bar: f64) -> Finding {
        let mut of = self.blank("errors");
        of.abort_bar = bar;
        (of.canary, of.stable) = (errors.totals.canary, errors.totals.stable);
        (of.log_abort, of.log_advance) = (self.of_errors, errors.log_advance(self.d));
        of.log_abort_corrected = errors.overshoot();
        of.gates = self.beside();
        of.missing = self.missing(errors.last);
        self.write_interval(&mut of, &errors.curve, errors.totals, 1);
        let phi = errors.phi(self.plan.pods, how);
        if let Some(like) = typical(errors.totals, self.split()) {
            let (d, bars) = (how.worse_by.plus + self.d, (of.abort_bar, of.advance_bar));
            of.needed_to_abort = more_requests(like, bars.0, |times| {
                errors.log_abort_after(self.of_errors, times, like, phi.abort)
            });
            of.needed_to_advance =
                more_requests(like, bars.1, |times| errors.proof.log_e_after(d, times, like, phi.pass));
        }
        let worse = of.ratio.filter(|ratio| *ratio > how.worse_by.ratio);
        of.needs_more_pods = worse.is_some_and(|ratio| errors.saturates_below(of.abort_bar, ratio));
        self.with_forecast(of)
    }

    /// The ratio and its confidence sequence, one of `places` that hold together.
    fn write_interval(&self, of: &mut Finding, curve: &Curve, totals: Pair, places: usize) {
        if let Some(interval) = curve.interval(self.plan.false_abort / places.max(1) as f64) {
            // Beyond the curve's reach the counts themselves say more.
            let within =
                libm::log(interval.most_likely.max(f64::MIN_POSITIVE)) < NEAR_THE_END * curve.reach();
            let likely = if within { Some(interval.most_likely) } else { ratio(totals) };
            of.ratio = likely.filter(|_| totals.stable.x > 0);
            (of.ratio_low, of.ratio_high) = (Some(interval.low), interval.high);
        }
    }

    fn latency(
        &self,
        how: &LatencyPlan,
        latency: &LatencyEvidence,
        mut bar: impl FnMut() -> f64,
        of: &mut Vec<Finding>,
    ) {
        if how.compare.is_some() {
            of.push(self.compared(how, latency, bar()));
        }
        for objective in &latency.objectives {
            let percent = objective.objective.quantile * 100.0;
            let mut finding = self.blank(format!("latency-p{percent}"));
            finding.place = objective.le.map(|le| format!("slower than {le} s"));
            (finding.canary, finding.stable) = (objective.ceiling.totals, objective.totals.stable);
            finding.log_abort = objective.log_abort();
            finding.log_advance = objective.log_advance(how.worse_by.plus, self.d);
            finding.gates = how.required || latency.seen;
            self.write_interval(&mut finding, &objective.curve, objective.totals, 1);
            finding.missing = self.no_histogram(latency);
            finding.abort_bar = bar();
            if let Some((le, like)) =
                objective.le.zip(self.typical_of(objective.totals, objective.ceiling.totals))
            {
                let phi = objective.phi(self.plan, how, le);
                finding.needed_to_abort = more_requests(like, finding.abort_bar, |times| {
                    objective.log_abort_after(times, like, phi)
                });
                finding.needed_to_advance = more_requests(like, finding.advance_bar, |times| {
                    objective.log_advance_after(how.worse_by.plus, self.d, (times, like, phi))
                });
            }
            of.push(self.with_forecast(finding));
        }
    }

    /// Beside stable both versions, else the canary alone.
    fn typical_of(&self, both: Pair, alone: Count) -> Option<Pair> {
        if self.beside() { typical(both, self.split()) } else { typical_alone(alone) }
    }

    fn compared(&self, how: &LatencyPlan, latency: &LatencyEvidence, bar: f64) -> Finding {
        let mut of = self.blank("latency");
        of.abort_bar = bar;
        of.log_abort = latency.log_abort();
        of.log_advance = latency.log_advance(how.worse_by.plus + self.d).unwrap_or(0.0);
        of.gates = self.beside() && (how.required || latency.seen);
        of.missing = self.no_histogram(latency);
        if let Some(loudest) = latency.loudest() {
            of.place = Some(format!("slower than {} s", loudest.le_canary));
            (of.canary, of.stable) = (loudest.totals.canary, loudest.totals.stable);
            self.write_interval(&mut of, &loudest.curve, loudest.totals, latency.compared());
            let (phi, shared) = (loudest.phi(self.plan, how).abort, latency.compared().max(1) as f64);
            of.needed_to_abort = typical(loudest.totals, self.split()).and_then(|like| {
                more_requests(like, bar + libm::log(shared), |times| {
                    loudest.log_e_after(how, times, like, phi)
                })
            });
        }
        let gates = latency.gates.iter().map(|gate| {
            let like = typical(gate.totals, self.split())?;
            let d = how.worse_by.plus + self.d;
            more_requests(like, of.advance_bar, |times| gate.proof.log_e_after(d, times, like, 1.0))
        });
        let slowest = gates.reduce(|a, b| Some(a?.max(b?)));
        of.needed_to_advance = slowest.flatten();
        self.with_forecast(of)
    }

    fn slo(&self, limit: &SloLimit, slo: &SloEvidence, bar: f64) -> Finding {
        let mut of = self.blank(match limit.of {
            SloOf::Errors => "slo-errors".to_owned(),
            SloOf::SlowerThan { .. } => "slo-latency".to_owned(),
        });
        of.place = slo.le.map(|le| format!("slower than {le} s"));
        of.canary = slo.ceiling.totals;
        (of.log_abort, of.log_advance) = (slo.ceiling.log_abort(), slo.ceiling.log_advance(self.d));
        of.gates = limit.judges(self.beside());
        of.ratio = slo.ceiling.totals.rate().map(|rate| rate / limit.limit);
        of.missing = slo
            .blind
            .then(|| "the canary had requests and no bucket at this limit in the last window".to_owned());
        of.abort_bar = bar;
        if let Some(like) = typical_alone(slo.ceiling.totals) {
            let phi = slo.phi(limit, self.plan);
            let ahead = |times: f64, phi: f64| Ahead::of(like.canary, times, phi);
            of.needed_to_abort =
                more_requests(like, bar, |times| slo.ceiling.log_abort_after(ahead(times, phi.abort)));
            of.needed_to_advance = more_requests(like, of.advance_bar, |times| {
                slo.ceiling.log_advance_after(self.d, ahead(times, phi.pass))
            });
        }
        self.with_forecast(of)
    }

    fn beside(&self) -> bool {
        self.plan.stable_beside(self.evidence.current)
    }

    /// Stable's requests for each of the canary's in the current step.
    fn split(&self) -> Option<f64> {
        let traffic = &self.evidence.traffic;
        let both = traffic.canary_in_step > 0 && traffic.stable_in_step > 0;
        both.then(|| traffic.stable_in_step as f64 / traffic.canary_in_step as f64)
    }

    /// Reached bars need nothing, and a rollout that has failed needs nothing more; otherwise whichever decision comes
    /// first, in the minutes of today's traffic.
    fn with_forecast(&self, mut of: Finding) -> Finding {
        if self.evidence.failed {
            (of.needed, of.needed_to_abort, of.needed_to_advance, of.minutes) =
                (Some(0), Some(0), None, Some(0.0));
            return of;
        }
        let reached = |log_e: f64, bar: f64, more: Option<u64>| if log_e >= bar { Some(0) } else { more };
        of.needed_to_abort = reached(of.log_abort, of.abort_bar, of.needed_to_abort);
        of.needed_to_advance = reached(of.log_advance, of.advance_bar, of.needed_to_advance);
        of.needed = [of.needed_to_abort, of.needed_to_advance].into_iter().flatten().min();
        let per_second = self.evidence.traffic.canary_per_second();
        of.minutes = of.needed.zip(per_second).map(|(needed, per_second)| needed as f64 / per_second / 60.0);
        of
    }

    fn missing(&self, last: Pair) -> Option<String> {
        match (last.canary.n, last.stable.n, self.beside()) {
            (0, 0, true) => Some("neither version had requests in the last window".to_owned()),
            (0, _, _) => Some("the canary had no requests in the last window".to_owned()),
            (_, 0, true) => Some("stable had no requests in the last window".to_owned()),
            (_, _, _) => None,
        }
    }

    fn no_histogram(&self, latency: &LatencyEvidence) -> Option<String> {
        if !latency.seen {
            return Some("no histogram was seen".to_owned());
        }
        if let Some(blind) = &latency.blind {
            return Some(blind.to_string());
        }
        let waiting = latency.boundaries.is_empty();
        waiting.then(|| "no warm pod of both versions had a histogram yet".to_owned())
    }
}

fn ratio(pair: Pair) -> Option<f64> {
    let (canary, stable) = (pair.canary.rate()?, pair.stable.rate()?);
    (stable > 0.0).then(|| canary / stable)
}
