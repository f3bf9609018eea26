//! Rollouts one a line.

use sluice_wire::view::RolloutView;

use super::line::{Line, Tone, columns};
use super::words::{phase_tone, step, verdict, verdict_tone, weight};

pub(super) fn table(views: &[RolloutView]) -> Vec<Line> {
    let name =
        views.iter().map(|view| columns(&view.rollout.to_string())).max().unwrap_or(0).clamp(7, 48) + 2;
    let weights = views.iter().map(|view| columns(&weight(view))).max().unwrap_or(0).max(6) + 2;
    let stops = [name, name + 12, name + 19, name + 19 + weights, name + 32 + weights];
    let heads = ["PHASE", "STEP", "WEIGHT", "VERDICT", "WHY"];
    let head = heads
        .iter()
        .zip(stops)
        .fold(Line::new(Tone::Faint, "ROLLOUT"), |line, (text, stop)| line.to(stop).and(Tone::Faint, text));
    std::iter::once(head).chain(views.iter().map(|view| row(view, stops))).collect()
}

fn row(view: &RolloutView, stops: [usize; 5]) -> Line {
    let [phase, at, share, said, why] = stops;
    let line = Line::new(Tone::Strong, view.rollout.to_string()).to(phase).and(phase_tone(view), &view.phase);
    let line = line.to(at).and(Tone::Plain, step(view)).to(share).and(Tone::Plain, weight(view)).to(said);
    let line = match view.verdict {
        Some(verdict_of) => line.and(verdict_tone(verdict_of), verdict(verdict_of)),
        None => line.and(Tone::Faint, "-"),
    };
    line.to(why).and(Tone::Plain, &view.reason)
}
