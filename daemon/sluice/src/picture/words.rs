//! Short words for parts of a view.

use sluice_rollout::{Outcome, Timestamp, Verdict};
use sluice_wire::view::RolloutView;

use super::line::{Tone, clean};

/// `2026-11-21T10:00:00Z`
pub fn clock(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.millis());
    time.map_or_else(
        |_| format!("{} ms", at.millis()),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// `2/4`, `bake`, `-`
pub fn step(view: &RolloutView) -> String {
    match view.step {
        Some(step) if step > view.steps.len() => "bake".to_owned(),
        Some(step) => format!("{step}/{}", view.steps.len()),
        None => "-".to_owned(),
    }
}

/// `5 %`, or `5 % (25 % wanted)` until it has been read back.
pub fn weight(view: &RolloutView) -> String {
    match view.read_back {
        Some(read) if read != view.weight => format!("{read} ({} wanted)", view.weight),
        Some(_) | None => view.weight.to_string(),
    }
}

/// One plain line for one change.
pub fn view_line(view: &RolloutView) -> String {
    let verdict = view.verdict.map_or("-", verdict);
    let (step, weight) = (step(view), weight(view));
    let line = format!(
        "{}  revision {:<4} {:<10} step {step:<5} {weight:<8} {verdict:<11} {}",
        view.rollout, view.revision, view.phase, view.reason
    );
    clean(line.trim_end())
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Undecided => "undecided",
        Verdict::NoData => "no-data",
        Verdict::SourceDown => "source-down",
    }
}

pub(super) fn verdict_tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Undecided => Tone::Plain,
        Verdict::NoData | Verdict::SourceDown => Tone::Wary,
    }
}

pub(super) fn phase_tone(view: &RolloutView) -> Tone {
    match view.outcome {
        Some(Outcome::Promoted) => Tone::Good,
        Some(Outcome::Reverted | Outcome::Failed) => Tone::Bad,
        None if view.phase == "reverting" => Tone::Bad,
        None if view.phase == "paused" || !view.alerts.is_empty() => Tone::Wary,
        None => Tone::Strong,
    }
}

/// `2m05s`
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
