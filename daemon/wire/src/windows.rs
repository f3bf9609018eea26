//! WINDOWS.jsonl, one window of one pod a line, and the answer of `judge`.
//!
//! [`WindowLines`] takes lines one by one (so a stream works like a file) and gives whole windows: lines with one `at`
//! are one window, both versions at once. [`Judging`] carries windows to an answer. Neither reads nor writes anything;
//! every fault names its line.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_analyzers::kayenta::Class;
use sluice_analyzers::score::ScoreClass;
use sluice_analyzers::{
    Arm, Baseline, Bucket, Evidence, Plan, PodWindow, Report, Verdict, Window, WindowError,
};
use sluice_analyzers::{judge, report};

/// The first window has no window before it to tell its length.
const FIRST_WINDOW_MS: i64 = 1_000;
/// A window of more pods is refused.
const MOST_PODS: usize = 100_000;

/// What one pod counted within the window that ends at `at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowLine {
    /// Seconds since 1970.
    pub at: f64,
    /// 1-based; 0 is history from before the rollout.
    pub step: u32,
    pub arm: ArmName,
    pub pod: String,
    #[serde(default)]
    pub requests: u64,
    #[serde(default)]
    pub errors: u64,
    /// Cumulative, by upper boundary in seconds, `+Inf` included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<String, u64>,
    /// Gauges; null where the source had none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Option<f64>>,
    /// Route, method or zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<String>,
    /// Seconds since the pod became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_for: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArmName {
    Stable,
    Canary,
}

/// A line that cannot be counted; judging stops there.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineFault {
    pub line: usize,
    pub why: String,
}

/// Lines in, windows out.
#[derive(Debug, Clone, Default)]
pub struct WindowLines {
    line: usize,
    open: Option<Open>,
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Open {
    first_line: usize,
    end_ms: i64,
    step: u32,
    pods: Vec<PodWindow>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    end_ms: i64,
    length_ms: i64,
    history: bool,
}

/// A window and the line that it began on.
#[derive(Debug, Clone, PartialEq)]
pub struct LinedWindow {
    pub first_line: usize,
    pub window: Window,
}

impl WindowLines {
    /// Takes the next line, empty ones included; gives the window that it closed.
    pub fn push(&mut self, text: &str) -> Result<Option<LinedWindow>, LineFault> {
        self.line += 1;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let fault = |why: String| LineFault { line: self.line, why };
        let line: WindowLine = serde_json::from_str(text).map_err(|error| fault(plain(&error)))?;
        let end_ms = end_ms(line.at).map_err(fault)?;
        let step = line.step;
        let pod = line.pod().map_err(fault)?;
        pod.check().map_err(|error| fault(error.to_string()))?;
        match &mut self.open {
            Some(open) if open.end_ms == end_ms => {
                if open.step != step {
                    let why =
                        format!("step {step} in a window of step {}: a window never spans steps", open.step);
                    return Err(LineFault { line: self.line, why });
                }
                if open.pods.len() >= MOST_PODS {
                    let why = format!("more than {MOST_PODS} pods in one window: sum them up first");
                    return Err(LineFault { line: self.line, why });
                }
                open.pods.push(pod);
                Ok(None)
            }
            Some(_) | None => {
                let closed = self.close(Some(end_ms));
                self.open = Some(Open { first_line: self.line, end_ms, step, pods: vec![pod] });
                Ok(closed)
            }
        }
    }

    /// The last window, when no more lines come.
    pub fn finish(&mut self) -> Option<LinedWindow> {
        self.close(None)
    }

    fn close(&mut self, next_end_ms: Option<i64>) -> Option<LinedWindow> {
        let open = self.open.take()?;
        let start_ms = self.start_ms(&open, next_end_ms);
        let (end_ms, step) = (open.end_ms, open.step);
        if self.last.is_none_or(|last| end_ms > last.end_ms) {
            self.last = Some(Last { end_ms, length_ms: end_ms - start_ms, history: step == 0 });
        }
        let window = Window { step, start_ms, end_ms, pods: open.pods };
        Some(LinedWindow { first_line: open.first_line, window })
    }

    /// A window begins where the one before it ended; the first one, and the first after history, is as long as its
    /// neighbour.
    fn start_ms(&self, open: &Open, next_end_ms: Option<i64>) -> i64 {
        match self.last {
            Some(last) if last.end_ms < open.end_ms && last.history == (open.step == 0) => last.end_ms,
            Some(last) if last.end_ms < open.end_ms => last.end_ms.max(open.end_ms - last.length_ms),
            Some(last) => open.end_ms - last.length_ms,
            None => {
                let length =
                    next_end_ms.map(|next| next.saturating_sub(open.end_ms)).filter(|length| *length > 0);
                open.end_ms - length.unwrap_or(FIRST_WINDOW_MS)
            }
        }
    }
}

impl WindowLine {
    fn pod(self) -> Result<PodWindow, String> {
        let arm = match self.arm {
            ArmName::Stable => Arm::Stable,
            ArmName::Canary => Arm::Canary,
        };
        let mut pod = PodWindow::new(arm, self.pod, self.requests, self.errors);
        pod.buckets = buckets(&self.buckets)?;
        pod.values = self.values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect();
        pod.stratum = self.stratum.unwrap_or_default();
        pod.restarts = self.restarts;
        pod.ready_for_ms = self.ready_for.map(|seconds| (seconds * 1000.0) as u64);
        Ok(pod)
    }
}

fn buckets(written: &BTreeMap<String, u64>) -> Result<Vec<Bucket>, String> {
    let bucket = |(le, count): (&String, &u64)| match le.parse::<f64>() {
        Ok(value) if !value.is_nan() => Ok(Bucket { le: value, count: *count }),
        Ok(_) | Err(_) => {
            Err(format!("bucket {le:?} is no boundary: write seconds such as \"0.5\", and \"+Inf\""))
        }
    };
    let mut buckets: Vec<Bucket> = written.iter().map(bucket).collect::<Result<_, _>>()?;
    buckets.sort_by(|a, b| a.le.total_cmp(&b.le));
    Ok(buckets)
}

fn end_ms(at: f64) -> Result<i64, String> {
    // Milliseconds since 1970 written by mistake would be beyond the year 5000.
    if !(0.0..1e11).contains(&at) {
        return Err(format!("at = {at} is no time: write seconds since 1970, for example 1790000000"));
    }
    Ok((at * 1000.0).round() as i64)
}

/// The reader's words without its own line number, which is always 1.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    format!("{} (column {})", &text[..cut], error.column())
}

/// The answer of `judge`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgeAnswer {
    pub decision: Decision,
    /// Seconds since 1970: the end of the first window at which the decision stood; of the last one if it is hold.
    pub at: Option<f64>,
    pub step: u32,
    /// How many windows counted, history left out.
    pub windows: u64,
    pub evidence: Vec<EvidenceEntry>,
    /// Kayenta's score of the last step's gauges, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What somebody should look at; alarms never decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// In plain language.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Abort,
    Advance,
    Hold,
}

/// One metric; logarithms are natural.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceEntry {
    pub metric: String,
    pub log_abort: f64,
    pub abort_bar: f64,
    pub log_advance: f64,
    pub advance_bar: f64,
    pub ratio: Option<f64>,
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    /// More canary requests until a decision.
    pub needed: Option<u64>,
    pub minutes: Option<f64>,
    /// A gauge's class in Kayenta's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<ClassName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassName {
    Pass,
    High,
    Low,
    Nodata,
}

impl From<Class> for ClassName {
    fn from(class: Class) -> Self {
        match class {
            Class::Pass => ClassName::Pass,
            Class::High => ClassName::High,
            Class::Low => ClassName::Low,
            Class::Nodata => ClassName::Nodata,
        }
    }
}

/// Windows in, one answer out: history into the baseline, the rest to the judge.
#[derive(Debug, Clone)]
pub struct Judging {
    plan: Plan,
    history: Baseline,
    evidence: Option<Evidence>,
    failed_at: Option<i64>,
    /// In the step of the last window.
    passed_at: Option<i64>,
    step: u32,
    /// Whether any window of the rollout had requests; a file of gauges alone is judged by them alone.
    requests_seen: bool,
    verdict: Verdict,
}

impl Judging {
    /// The plan as the policy gives it, not yet frozen: the windows of step 0 do that.
    pub fn new(plan: Plan) -> Self {
        let history = Baseline::new();
        let verdict = Verdict::NoData;
        Self {
            plan,
            history,
            evidence: None,
            failed_at: None,
            passed_at: None,
            step: 0,
            requests_seen: false,
            verdict,
        }
    }

    /// Counts one window and says what was made of it. History that comes after the rollout began changes nothing.
    pub fn window(&mut self, window: &Window) -> Result<Verdict, WindowError> {
        if window.step == 0 {
            if self.evidence.is_none() {
                self.history.add(window)?;
            }
            return Ok(self.verdict);
        }
        let evidence = self.evidence.get_or_insert_with(|| {
            self.plan = self.plan.clone().frozen(&self.history);
            Evidence::new(&self.plan)
        });
        let before = evidence.windows();
        self.verdict = judge(&self.plan, evidence, window)?;
        if evidence.windows() > before {
            self.note(window);
        }
        Ok(self.verdict)
    }

    fn note(&mut self, window: &Window) {
        self.requests_seen |= window.pods.iter().any(|pod| pod.requests > 0);
        if window.step != self.step {
            (self.step, self.passed_at) = (window.step, None);
        }
        match self.verdict {
            Verdict::Fail => self.failed_at = self.failed_at.or(Some(window.end_ms)),
            Verdict::Pass => self.passed_at = self.passed_at.or(Some(window.end_ms)),
            Verdict::Undecided | Verdict::NoData | Verdict::SourceDown => {}
        }
    }

    /// Everything that is known so far; none before the first window of the rollout.
    pub fn report(&self) -> Option<Report> {
        self.evidence.as_ref().map(|evidence| report(&self.plan, evidence))
    }

    /// Abort if the canary ever failed; advance if it passed in the step of the last window; hold otherwise. The end of
    /// the input is a step's end, at which its gauges are looked at, however few readings there are.
    pub fn answer(&self) -> JudgeAnswer {
        let last = self.evidence.as_ref().and_then(Evidence::last_end_ms);
        let report = self.report();
        let score = report.as_ref().and_then(|report| report.score_class);
        let only_gauges = !self.requests_seen && !self.plan.gauges.is_empty();
        let (decision, at) = match (self.failed_at, score, self.passed_at) {
            (Some(at), _, _) => (Decision::Abort, Some(at)),
            (None, Some(ScoreClass::Fail), _) => (Decision::Abort, last),
            (None, Some(ScoreClass::Marginal), _) => (Decision::Hold, last),
            (None, Some(ScoreClass::Pass), None) if only_gauges => (Decision::Advance, last),
            (None, Some(ScoreClass::Pass) | None, Some(at)) => (Decision::Advance, Some(at)),
            (None, Some(ScoreClass::Pass) | None, None) => (Decision::Hold, last),
        };
        JudgeAnswer {
            decision,
            at: at.map(|ms| ms as f64 / 1000.0),
            step: self.step,
            score: report.as_ref().and_then(|report| report.score),
            windows: report.as_ref().map_or(0, |report| report.windows),
            alarms: report.as_ref().map(|report| report.alarms.clone()).unwrap_or_default(),
            words: report.as_ref().map_or_else(|| "no window of the rollout".to_owned(), Report::words),
            evidence: report.map(entries).unwrap_or_default(),
        }
    }
}

fn entries(report: Report) -> Vec<EvidenceEntry> {
    let entry = |finding: sluice_analyzers::Finding| EvidenceEntry {
        metric: finding.metric,
        log_abort: finding.log_abort,
        abort_bar: finding.abort_bar,
        log_advance: finding.log_advance,
        advance_bar: finding.advance_bar,
        ratio: finding.ratio,
        ratio_low: finding.ratio_low,
        ratio_high: finding.ratio_high,
        needed: finding.needed,
        minutes: finding.minutes,
        classification: finding.classification.map(Into::into),
        missing: finding.missing,
    };
    report.findings.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
