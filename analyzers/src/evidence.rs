//! What the analyzers make of all windows so far: everything that a decision rests on, and nothing else.
//!
//! Promises: serialized and read back it is the same to the last bit (JSON needs `serde_json`'s `float_roundtrip`); no
//! number in it is infinite or NaN. Its size is bounded: it does not grow with the number of windows.

use crate::advice::Advice;
use crate::errors::ErrorsEvidence;
use crate::gauges::GaugesEvidence;
use crate::joined::Joined;
use crate::judge::Verdict;
use crate::latency::LatencyEvidence;
use crate::mix::Mix;
use crate::onset::{Onset, Onsets};
use crate::plan::Plan;
use crate::restarts::RestartsEvidence;
use crate::slo::SloEvidence;
use crate::window::{Arm, Window};
use serde::{Deserialize, Serialize};

/// Traffic is measured over so long before it is frozen, where the plan does not know it.
const TRAFFIC_MS: u64 = 30_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The highest step entered; 0 before the first window.
    pub(crate) step: u32,
    /// The step of the last window.
    pub(crate) current: u32,
    pub(crate) last_end_ms: Option<i64>,
    pub(crate) windows: u64,
    /// The largest combined abort evidence crossed its bar: it stays so.
    pub(crate) failed: bool,
    /// What made it fail, as it stood then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) culprits: Vec<String>,
    pub(crate) verdict: Verdict,
    pub(crate) traffic: Traffic,
    /// When latencies took their share of falseAbort.
    #[serde(alias = "latencyShares")]
    pub(crate) latency_joined: Joined,
    pub(crate) errors: Option<ErrorsEvidence>,
    pub(crate) latency: Option<LatencyEvidence>,
    pub(crate) slo: Vec<SloEvidence>,
    #[serde(default)]
    pub(crate) restarting: Option<RestartsEvidence>,
    #[serde(default)]
    pub(crate) advice: Advice,
    #[serde(default)]
    pub(crate) gauges: GaugesEvidence,
    #[serde(default, skip_serializing_if = "Mix::is_empty")]
    pub(crate) mix: Mix,
    #[serde(default)]
    onsets: Onsets,
}

/// Requests a second: the service's, and the canary's in the current step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Traffic {
    requests: u64,
    ms: u64,
    /// The service's requests a second, frozen.
    pub(crate) measured: Option<f64>,
    pub(crate) canary_in_step: u64,
    pub(crate) stable_in_step: u64,
    pub(crate) ms_in_step: u64,
}

impl Evidence {
    pub fn new(plan: &Plan) -> Self {
        Self {
            step: 0,
            current: 0,
            last_end_ms: None,
            windows: 0,
            failed: false,
            culprits: Vec::new(),
            verdict: Verdict::NoData,
            traffic: Traffic::default(),
            latency_joined: Joined::default(),
            errors: plan.errors.as_ref().map(|errors| ErrorsEvidence::new(errors, plan.pods)),
            latency: plan.latency.as_ref().map(LatencyEvidence::new),
            slo: plan.slo.iter().map(SloEvidence::new).collect(),
            restarting: plan.restarts.as_ref().map(RestartsEvidence::new),
            advice: Advice::new(plan),
            gauges: GaugesEvidence::new(&plan.gauges),
            mix: Mix::default(),
            onsets: Onsets::new(plan),
        }
    }

    /// The end of the last window that counted.
    pub fn last_end_ms(&self) -> Option<i64> {
        self.last_end_ms
    }

    /// How many windows counted.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// The verdict of the last window that counted.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Enters the window's step, and opens what of the evidence begins with it.
    pub(crate) fn enter(&mut self, plan: &Plan, window: &Window) {
        let step = window.step;
        let onset = if step == self.current {
            self.onsets.go_on(window.start_ms)
        } else {
            self.current = step;
            self.traffic.enter_step();
            self.gauges.enter_step();
            self.advice.enter_step();
            self.onsets.enter(step, self.step, window.start_ms)
        };
        self.step = self.step.max(step);
        if let Some(onset) = onset {
            self.start(plan, onset, window);
        }
    }

    fn start(&mut self, plan: &Plan, onset: Onset, window: &Window) {
        let share = onset.share();
        let errors = self.errors.iter_mut().zip(&plan.errors);
        errors.for_each(|(errors, how)| errors.start(onset, how, window));
        self.latency.iter_mut().for_each(|latency| latency.start(share));
        self.slo.iter_mut().for_each(|slo| slo.ceiling.start(share));
        self.restarting.iter_mut().for_each(|restarts| restarts.start(share));
        self.advice.start(share);
    }

    /// What the source need not tell takes its share of falseAbort when it is told, before its counts are looked at; what has
    /// to be judged has it from the first window on.
    fn let_in(&mut self, plan: &Plan, window: &Window) {
        let told = plan.latency.as_ref().is_some_and(|latency| {
            let past = latency.required || !latency.history.is_empty();
            past || window.pods.iter().any(|pod| !pod.buckets.is_empty())
        });
        let restarts = window.pods.iter().any(|pod| pod.restarts.is_some());
        let waits = |restarting: &RestartsEvidence| restarts && !restarting.joined.has();
        let restarts = self.restarting.as_ref().is_some_and(waits);
        if !(restarts || told && !self.latency_joined.has()) {
            return;
        }
        let combined = if self.windows == 0 { 0.0 } else { self.log_abort(plan) };
        if told {
            self.latency_joined.join(combined);
        }
        if restarts {
            self.restarting.iter_mut().for_each(|restarting| restarting.joined.join(combined));
        }
    }

    /// Where errors alone would abort; asked for by the correction of the overshoot only.
    fn bar_of_errors(&self, plan: &Plan) -> f64 {
        match plan.errors.as_ref().filter(|errors| errors.overshoot) {
            Some(errors) => plan.abort_bar() - libm::log(errors.weight / self.total_weight(plan)),
            None => plan.abort_bar(),
        }
    }

    /// Counts a window that was checked; nothing in here can fail.
    pub(crate) fn add(&mut self, plan: &Plan, window: &Window) {
        let stable_beside = plan.stable_beside(window.step);
        self.let_in(plan, window);
        let bar = self.bar_of_errors(plan);
        if let (Some(errors), Some(how)) = (&mut self.errors, &plan.errors) {
            errors.add(plan.pods, how, window, bar);
        }
        if let (Some(latency), Some(how)) = (&mut self.latency, &plan.latency) {
            latency.add(plan, how, window, stable_beside);
        }
        for (slo, limit) in self.slo.iter_mut().zip(&plan.slo) {
            if limit.judges(stable_beside) {
                slo.add(limit, plan, window);
            }
        }
        if stable_beside {
            self.restarting.iter_mut().for_each(|restarts| restarts.add(window));
        }
        self.advice.add(plan, window);
        self.gauges.add(&plan.gauges, window);
        self.traffic.add(window);
        self.mix.add(window);
        self.windows += 1;
        self.last_end_ms = Some(window.end_ms);
    }
}

impl Traffic {
    fn enter_step(&mut self) {
        (self.canary_in_step, self.stable_in_step, self.ms_in_step) = (0, 0, 0);
    }

    fn add(&mut self, window: &Window) {
        let (canary, stable) = (window.requests(Arm::Canary), window.requests(Arm::Stable));
        self.canary_in_step = self.canary_in_step.saturating_add(canary);
        self.stable_in_step = self.stable_in_step.saturating_add(stable);
        self.ms_in_step = self.ms_in_step.saturating_add(window.length_ms());
        if self.measured.is_some() {
            return;
        }
        self.requests = self.requests.saturating_add(canary).saturating_add(stable);
        self.ms = self.ms.saturating_add(window.length_ms());
        if self.ms >= TRAFFIC_MS && self.requests > 0 {
            self.measured = Some(self.requests as f64 * 1000.0 / self.ms as f64);
        }
    }

    /// The canary's requests a second in the current step.
    pub(crate) fn canary_per_second(&self) -> Option<f64> {
        let per_second = self.canary_in_step as f64 * 1000.0 / self.ms_in_step as f64;
        (self.canary_in_step > 0).then_some(per_second)
    }
}
