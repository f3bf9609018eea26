//! Windows in, one answer of `judge` out. Pure; whatever is left out is told with its line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_analyzers::kayenta::Class;
use sluice_analyzers::score::ScoreClass;
use sluice_analyzers::{Baseline, Evidence, Plan, Report, Verdict, Window};
use sluice_analyzers::{judge, report};

use super::LinedWindow;

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
    /// Windows that changed nothing, the first [`MOST_TOLD`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many windows changed nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub windows_left_out: u64,
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
    /// What became of a rule of the policy; rules and gauges stand outside falseAbort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
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

/// Windows left out beyond so many are only counted.
const MOST_TOLD: usize = 20;

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A window that changed nothing, by the line that it begins on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    pub line: usize,
    pub why: String,
}

/// What was made of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    Counted(Verdict),
    LeftOut(LeftOut),
}

/// A window that cannot be judged; judging stops there.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the window that begins at line {line}: {why}")]
pub struct WindowFault {
    pub line: usize,
    pub why: String,
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
    /// The end of the last window of history.
    history_end_ms: Option<i64>,
    left_out: Vec<LeftOut>,
    windows_left_out: u64,
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
            history_end_ms: None,
            left_out: Vec::new(),
            windows_left_out: 0,
        }
    }

    /// Counts one window and says what was made of it. One that comes late, again or out of order changes nothing, nor does
    /// history that comes after the rollout began.
    pub fn window(&mut self, lined: &LinedWindow) -> Result<Made, WindowFault> {
        let LinedWindow { first_line, window } = lined;
        let wrong = |why: String| WindowFault { line: *first_line, why };
        if let Some(why) = self.useless(window) {
            return Ok(Made::LeftOut(self.leave_out(*first_line, why)));
        }
        if window.step == 0 {
            self.history.add(window).map_err(|error| wrong(error.to_string()))?;
            self.history_end_ms = Some(window.end_ms);
            return Ok(Made::Counted(self.verdict));
        }
        self.check_step(window.step).map_err(wrong)?;
        let evidence = self.evidence.get_or_insert_with(|| {
            self.plan = self.plan.clone().frozen(&self.history);
            Evidence::new(&self.plan)
        });
        self.verdict = judge(&self.plan, evidence, window).map_err(|error| wrong(error.to_string()))?;
        self.note(window);
        Ok(Made::Counted(self.verdict))
    }

    /// Why a window changes nothing, if so.
    fn useless(&self, window: &Window) -> Option<String> {
        let last = if window.step == 0 { self.history_end_ms } else { self.evidence.as_ref()?.last_end_ms() };
        if window.step == 0 && self.evidence.is_some() {
            return Some("history (step 0) after the rollout began: put it before".to_owned());
        }
        let last = last.filter(|last| window.end_ms <= *last)?;
        let seconds = |ms: i64| ms as f64 / 1000.0;
        Some(format!(
            "it ends at {}, no later than the window before it ({}): sort the lines by at, those of one window together",
            seconds(window.end_ms),
            seconds(last)
        ))
    }

    fn leave_out(&mut self, line: usize, why: String) -> LeftOut {
        let left_out = LeftOut { line, why };
        self.windows_left_out += 1;
        if self.left_out.len() < MOST_TOLD {
            self.left_out.push(left_out.clone());
        }
        left_out
    }

    /// The bake is the step after the last.
    fn check_step(&self, step: u32) -> Result<(), String> {
        let bake = u32::try_from(self.plan.steps.len()).unwrap_or(u32::MAX).saturating_add(1);
        if step <= bake {
            return Ok(());
        }
        let steps = bake - 1;
        let noun = if steps == 1 { "step" } else { "steps" };
        Err(format!(
            "step {step} is none of the policy's, which has {steps} {noun} and then the bake (step {bake}): name the policy that these windows were made under, or correct the step"
        ))
    }

    /// Whether there was anything to judge; history alone is not.
    pub fn has_begun(&self) -> bool {
        self.evidence.is_some()
    }

    /// Whether there was history.
    pub fn has_history(&self) -> bool {
        self.history_end_ms.is_some()
    }

    fn note(&mut self, window: &Window) {
        if self.failed_at.is_some() {
            return;
        }
        self.requests_seen |= window.pods.iter().any(|pod| pod.requests > 0);
        if window.step != self.step {
            (self.step, self.passed_at) = (window.step, None);
        }
        match self.verdict {
            Verdict::Fail => self.failed_at = Some(window.end_ms),
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
            left_out: self.left_out.clone(),
            windows_left_out: self.windows_left_out,
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
        rule: finding.rule,
        missing: finding.missing,
    };
    report.findings.into_iter().map(entry).collect()
}
