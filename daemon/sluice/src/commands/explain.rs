//! `explain`: why it stands where it stands, and what can be done.

use serde_json::{Value, json};
use sluice_analyzers::{Finding, Report, mix::StratumCounts, rate_ratio::Count};
use sluice_wire::view::RolloutView;

use crate::cli::{Exit, ExplainArgs, Global};
use crate::client::Client;
use crate::picture::{late, report, span, wrapped};
use crate::runtime::clock::now;

use super::{Failure, Screen, history, replay};

/// The last lines of the history that help to understand.
const LAST_LINES: usize = 5;

pub async fn perform(
    args: &ExplainArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let aim = args.rollout.aim(global);
    let mut view = client.status(&aim).await?;
    if view.outcome.is_some() && view.evidence.is_null() {
        // Evidence is let go with the end; the record still leads to it.
        view.evidence = replay::evidence(client, &aim).await?.into();
    }
    if screen.json() {
        screen.value(&as_json(&view))?;
        return Ok(Exit::Well);
    }
    screen.board(std::slice::from_ref(&view), |board| board)?;
    told(&view, screen)?;
    let lines = client.history(&aim).await?;
    screen.text("\nLately\n")?;
    for line in lines.iter().skip(lines.len().saturating_sub(LAST_LINES)) {
        history::tell(line, screen)?;
    }
    advised(&view, screen)?;
    Ok(Exit::Well)
}

fn as_json(view: &RolloutView) -> Value {
    let words = report(view).map(|report| report.words());
    json!({
        "rollout": view.rollout, "phase": view.phase, "revision": view.revision, "weight": view.weight,
        "verdict": view.verdict, "reason": view.reason, "waitsFor": view.waits_for, "words": words,
        "evidence": *view.evidence, "alerts": view.alerts,
    })
}

fn told(view: &RolloutView, screen: &mut Screen) -> std::io::Result<()> {
    let Some(report) = report(view) else {
        return screen.text("\nNo evidence yet: nothing was judged in this phase.\n");
    };
    screen.text("\nEvidence\n")?;
    for finding in &report.findings {
        paragraph(&finding.words(), screen)?;
        paragraph(&against_its_bars(finding), screen)?;
        if view.outcome.is_none()
            && let Some(text) = forecast(finding, minutes_left(view))
        {
            paragraph(&text, screen)?;
        }
    }
    paragraph(&together(&report), screen)?;
    if let Some(seconds) = view.evidence["clockOffsetSeconds"].as_f64() {
        paragraph(&clock_words(seconds), screen)?;
    }
    if !report.strata.is_empty() {
        screen.line("  Requests were compared with their like only (errors of requests):")?;
    }
    report.strata.iter().try_for_each(|one| paragraph(&of_stratum(one), screen))
}

fn of_stratum(one: &StratumCounts) -> String {
    let share = |count: Count| match count.rate() {
        Some(rate) => format!("{} of {} ({:.2} %)", count.x, count.n, rate * 100.0),
        None => "none".to_owned(),
    };
    format!("  {}: canary {}, stable {}", one.stratum, share(one.canary), share(one.stable))
}

fn against_its_bars(finding: &Finding) -> String {
    let abort = format!("aborts at {:.1}, is at {:.1}", finding.abort_bar, finding.log_abort);
    if !finding.gates {
        return format!("{abort}; does not hold the step");
    }
    format!("{abort}; lets the step go at {:.1}, is at {:.1}", finding.advance_bar, finding.log_advance)
}

/// Until the step's deadline, or the bake's; none where nothing is to be decided by a time.
fn minutes_left(view: &RolloutView) -> Option<f64> {
    let left_ms = view.deadline?.millis().saturating_sub(now().millis());
    Some(left_ms.max(0) as f64 / 60_000.0)
}

/// What the finding's own words leave out: what the other decision would take, and whether there is time for either.
fn forecast(finding: &Finding, minutes_left: Option<f64>) -> Option<String> {
    let (mut said, late) = (finding.other_way(), late(finding, minutes_left));
    if let (Some(said), Some(late)) = (&mut said, &late) {
        said.push_str("; ");
        said.push_str(late);
    }
    said.or(late)
}

fn clock_words(seconds: f64) -> String {
    let side = if seconds < 0.0 { "behind" } else { "ahead of" };
    format!(
        "The source's clock is {} {side} ours. Windows are on its clock; put right whichever is wrong.",
        span(seconds.abs())
    )
}

fn together(report: &Report) -> String {
    let line = format!(
        "All metrics together abort at {:.1} and are at {:.1} (natural logarithms of e-values, after {} windows).",
        report.abort_bar, report.log_abort, report.windows
    );
    if report.history {
        line
    } else {
        format!(
            "{line} Nothing was measured before the rollout, so false aborts may be more frequent than stated."
        )
    }
}

fn paragraph(text: &str, screen: &mut Screen) -> std::io::Result<()> {
    for (number, line) in wrapped(text, screen.width().saturating_sub(4)).iter().enumerate() {
        screen.line(&format!("{}{line}", if number == 0 { "  " } else { "    " }))?;
    }
    Ok(())
}

/// What a person can type next.
fn advised(view: &RolloutView, screen: &mut Screen) -> std::io::Result<()> {
    let name = format!("{}/{}", view.rollout.namespace(), view.rollout.name());
    let promote = format!("sluice promote {name} --revision {} --reason '…'", view.revision);
    let abort = format!("sluice abort {name} --reason '…'");
    let lines = match (view.outcome.is_some(), view.phase.as_str()) {
        (true, "promoted") => vec![format!("sluice history {name}")],
        (true, _) => vec![format!("sluice retry {name}")],
        (false, "paused") if view.step.is_none() => vec![format!("sluice resume {name}"), abort],
        (false, "paused") => vec![format!("sluice resume {name}"), promote, abort],
        (false, "reverting") => vec![format!("sluice watch {name}")],
        (false, _) if view.step.is_none() => vec![format!("sluice pause {name}"), abort],
        (false, _) => vec![format!("sluice pause {name}"), promote, abort],
    };
    screen.text("\nNext\n")?;
    lines.iter().try_for_each(|line| screen.line(&format!("  {line}")))
}
