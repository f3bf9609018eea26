//! From a window to what the machine is told of it. Pure: the observer runs it as windows close, a replay runs it again.

use std::time::Duration;

use sluice_analyzers as analyzers;
use sluice_analyzers::{Evidence, Finding, Plan, Report, Window};
use sluice_rollout::{Event, Timestamp, Verdict};

/// The window over a gap (an outage of ours or of the source) counts for its requests, but not for hours of watching.
const MOST_COUNTED: Duration = Duration::from_secs(60);

/// What came of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// `Event::Evidence`.
    pub event: Event,
    /// None where the window was refused: the evidence is as it was before.
    pub report: Option<Report>,
}

/// Counts the window in the evidence. `step` is the machine's, counted from 0.
pub fn judge(plan: &Plan, evidence: &mut Evidence, step: usize, window: &Window) -> Judgement {
    let (verdict, report, words) = match analyzers::judge(plan, evidence, window) {
        Ok(verdict) => {
            let report = analyzers::report(plan, evidence);
            let words = headline(&report);
            (translate(verdict), Some(report), words)
        }
        Err(error) => (Verdict::NoData, None, error.to_string()),
    };
    let counted = match verdict {
        Verdict::NoData | Verdict::SourceDown => Duration::ZERO,
        Verdict::Pass | Verdict::Fail | Verdict::Undecided => {
            let length = u64::try_from(window.end_ms.saturating_sub(window.start_ms)).unwrap_or(0);
            Duration::from_millis(length).min(MOST_COUNTED)
        }
    };
    let until = Timestamp::from_millis(window.end_ms);
    let alarms = report.as_ref().map(|report| report.alarms.clone());
    Judgement { verdict, event: Event::Evidence { step, verdict, counted, until, words, alarms }, report }
}

/// One line: who is to blame, or what is still missing. The whole report stands beside it.
fn headline(report: &Report) -> String {
    let words = |wanted: &dyn Fn(&Finding) -> bool| {
        let said: Vec<String> =
            report.findings.iter().filter(|finding| wanted(finding)).map(Finding::words).collect();
        said.join("; ")
    };
    let text = match report.verdict {
        analyzers::Verdict::Fail => words(&|finding| report.culprits.contains(&finding.metric)),
        analyzers::Verdict::Pass => "good enough for this step, in every metric".to_owned(),
        analyzers::Verdict::Undecided => {
            words(&|finding| finding.gates && finding.log_advance < finding.advance_bar)
        }
        analyzers::Verdict::NoData | analyzers::Verdict::SourceDown => {
            words(&|finding| finding.missing.is_some())
        }
    };
    match (text.is_empty(), report.verdict) {
        (false, _) => text,
        (true, analyzers::Verdict::NoData) => "a version had no requests in the last window".to_owned(),
        (true, _) => report.words().lines().next().unwrap_or_default().to_owned(),
    }
}

fn translate(verdict: analyzers::Verdict) -> Verdict {
    match verdict {
        analyzers::Verdict::Pass => Verdict::Pass,
        analyzers::Verdict::Fail => Verdict::Fail,
        analyzers::Verdict::Undecided => Verdict::Undecided,
        analyzers::Verdict::NoData => Verdict::NoData,
        analyzers::Verdict::SourceDown => Verdict::SourceDown,
    }
}
