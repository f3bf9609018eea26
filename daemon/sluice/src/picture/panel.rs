//! One rollout in full.

use serde::Deserialize;
use sluice_analyzers::{Finding, Report};
use sluice_wire::view::RolloutView;

use super::bar::{bar, reached};
use super::line::{Line, Tone, columns, wrapped};
use super::words::{phase_tone, span, verdict, verdict_tone};

/// Where the second column begins.
const INDENT: usize = 12;
const LONG_BAR: usize = 40;
const SHORT_BAR: usize = 12;

pub(super) fn panel(view: &RolloutView, width: usize) -> Vec<Line> {
    let mut lines = vec![heading(view, width)];
    if view.outcome.is_none() {
        lines.push(steps(view));
        lines.push(weight(view));
        lines.extend(watched(view));
        lines.extend(evidence(view));
        lines.extend(clock(view));
    }
    lines.extend(why(view, width));
    lines.extend(view.cluster.as_ref().map(|name| labelled("cluster", Tone::Plain).and(Tone::Plain, name)));
    lines.extend(
        view.waits_for.as_ref().map(|what| labelled("waits for", Tone::Plain).and(Tone::Plain, what)),
    );
    lines.extend(view.alerts.iter().map(|alert| labelled("ALERT", Tone::Wary).and(Tone::Wary, alert)));
    lines
}

/// In full once it has ended: that is what one looks for then.
fn why(view: &RolloutView, width: usize) -> Vec<Line> {
    let first = labelled("why", Tone::Plain);
    if view.outcome.is_none() {
        return vec![first.and(Tone::Plain, &view.reason)];
    }
    let broken = wrapped(&view.reason, width.saturating_sub(INDENT).max(INDENT));
    let label = std::iter::once(first).chain(std::iter::repeat(Line::default().to(INDENT)));
    label.zip(broken).map(|(label, text)| label.and(Tone::Plain, text)).collect()
}

fn labelled(label: &str, tone: Tone) -> Line {
    let tone = if tone == Tone::Plain { Tone::Faint } else { tone };
    Line::new(tone, format!("  {label}")).to(INDENT)
}

/// The name to the left; phase, revision and age to the right if there is room.
fn heading(view: &RolloutView, width: usize) -> Line {
    let release = view.release.as_ref().map(|release| format!("  {release}")).unwrap_or_default();
    let age = view.changed.since(view.started).as_secs_f64();
    let rest = format!(" · revision {} · {}", view.revision, span(age));
    let line = Line::new(Tone::Strong, view.rollout.to_string()).and(Tone::Plain, release);
    let right = columns(&view.phase) + columns(&rest);
    let column = width.saturating_sub(right).max(line.columns() + 2);
    line.to(column).and(phase_tone(view), &view.phase).and(Tone::Faint, rest)
}

/// `1 ─ 5 ─ [25] ─ 50 ─ bake 95`: what is passed, where it is, what is to come.
fn steps(view: &RolloutView) -> Line {
    let here = view.step.unwrap_or(usize::MAX);
    let mut line = labelled("steps", Tone::Plain);
    let weights = view.steps.iter().map(|weight| format!("{weight}"));
    let bake = view.bake.map(|weight| format!("bake {weight}"));
    for (index, text) in weights.chain(bake).enumerate() {
        if index > 0 {
            line = line.and(Tone::Faint, " ─ ");
        }
        line = match (index + 1).cmp(&here) {
            std::cmp::Ordering::Less => line.and(Tone::Good, text),
            std::cmp::Ordering::Equal => line.and(Tone::Strong, format!("[{text}]")),
            std::cmp::Ordering::Greater => line.and(Tone::Faint, text),
        };
    }
    line
}

fn weight(view: &RolloutView) -> Line {
    let shown = view.read_back.unwrap_or(view.weight);
    let line = labelled("weight", Tone::Plain).and(Tone::Plain, bar(shown.fraction(), LONG_BAR));
    let line = line.and(Tone::Strong, format!(" {shown}"));
    match view.read_back {
        Some(read) if read == view.weight => line,
        Some(_) => line.and(Tone::Wary, format!("  {} wanted", view.weight)),
        None => line.and(Tone::Wary, "  not read back yet"),
    }
}

fn watched(view: &RolloutView) -> Option<Line> {
    let (seconds, needed) = (view.watched_seconds?, view.needed_seconds?);
    let share = if needed > 0.0 { seconds / needed } else { 1.0 };
    let line = labelled("watched", Tone::Plain).and(Tone::Plain, bar(share, LONG_BAR));
    let line = line.and(Tone::Plain, format!(" {} of {}", span(seconds), span(needed)));
    Some(match view.verdict {
        Some(said) => line.and(Tone::Plain, "  ").and(verdict_tone(said), verdict(said)),
        None => line,
    })
}

/// Every metric: how much of the bar for an abort, and of the one for advancing, is reached.
fn evidence(view: &RolloutView) -> Vec<Line> {
    let Some(report) = report(view) else { return Vec::new() };
    let left = view.deadline.map(|deadline| deadline.since(view.changed).as_secs_f64() / 60.0);
    report
        .findings
        .iter()
        .flat_map(|finding| {
            let late = late(finding, left).map(|text| labelled("", Tone::Wary).and(Tone::Wary, text));
            let said = labelled("", Tone::Plain).and(Tone::Faint, said(finding));
            [bars(finding), said].into_iter().chain(late)
        })
        .collect()
}

/// Of a metric that the step waits for and that its deadline, so many minutes away, will not see decided.
pub(crate) fn late(finding: &Finding, minutes_left: Option<f64>) -> Option<String> {
    let left = minutes_left.filter(|left| finding.is_late(*left))?;
    Some(format!("the deadline is in {}: not decided before it", span(left * 60.0)))
}

/// Where the source's clock is not ours.
fn clock(view: &RolloutView) -> Option<Line> {
    let seconds = view.evidence["clockOffsetSeconds"].as_f64()?;
    let side = if seconds < 0.0 { "behind" } else { "ahead of" };
    let words = format!("the source's is {} {side} ours; windows are on its clock", span(seconds.abs()));
    Some(labelled("clock", Tone::Wary).and(Tone::Wary, words))
}

/// The analyzers' report in a view, if there is one.
pub(super) fn report(view: &RolloutView) -> Option<Report> {
    Report::deserialize(view.evidence.as_ref()).ok()
}

fn bars(finding: &Finding) -> Line {
    if finding.rule.is_some() {
        return Line::new(Tone::Plain, format!("  {:<15}", finding.metric));
    }
    let abort = reached(finding.log_abort, finding.abort_bar);
    let tone = if abort >= 0.5 { Tone::Bad } else { Tone::Plain };
    let line = Line::new(Tone::Plain, format!("  {:<15}", finding.metric)).and(Tone::Faint, "abort ");
    let line = line.and(tone, format!("{}│{:>4.0} %", bar(abort, SHORT_BAR), (abort * 100.0).floor()));
    if !finding.gates {
        return line;
    }
    let advance = reached(finding.log_advance, finding.advance_bar);
    let tone = if advance >= 1.0 { Tone::Good } else { Tone::Plain };
    line.and(Tone::Faint, "   advance ")
        .and(tone, format!("{}│{:>4.0} %", bar(advance, SHORT_BAR), (advance * 100.0).floor()))
}

/// The finding in words, without the name that stands before it already.
fn said(finding: &Finding) -> String {
    let words = finding.words();
    words.strip_prefix(&format!("{}: ", finding.metric)).map_or(words.clone(), str::to_owned)
}
