//! `demo`: plays four releases on loopback, with a live picture, and tells how they came out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_rollout::Outcome;
use sluice_wire::view::RolloutView;

use crate::cli::{DemoOptions, Exit};
use crate::demo::tour::{ACTS, Ending, Pace, Tour};
use crate::picture::{Live, clock, view_line};

use super::{Failure, Screen};

/// At most so often a picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

pub async fn perform(options: &DemoOptions, screen: &mut Screen) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| {
        Failure::server(
            format!("{error:#}"),
            "the demo needs free ports on 127.0.0.1 and an idle core or two",
        )
    };
    let tour =
        Tour::start(Pace { step: options.step.0, requests: options.requests }).await.map_err(failed)?;
    let mut stage = Stage::open(screen)?;
    let played = tour.play(|view| stage.show(view)).await;
    stage.close()?;
    tour.stop().await;
    let endings = played.map_err(failed)?;
    tell(&endings, screen)?;
    Ok(if endings.iter().all(Ending::is_as_expected) { Exit::Well } else { Exit::WentBadly })
}

/// Where the play is seen: a live picture, plain lines, or nowhere (JSON).
struct Stage<'a> {
    live: Option<Live>,
    lines: Option<&'a mut Screen>,
    views: BTreeMap<String, RolloutView>,
    told: BTreeMap<String, String>,
    drawn: Option<Instant>,
}

impl Stage<'_> {
    fn open(screen: &mut Screen) -> std::io::Result<Stage<'_>> {
        let live = if screen.json() {
            None
        } else {
            Live::open("four releases at once; each is judged on live traffic")?
        };
        let lines = (live.is_none() && !screen.json()).then_some(screen);
        Ok(Stage { live, lines, views: BTreeMap::new(), told: BTreeMap::new(), drawn: None })
    }

    /// A picture that cannot be drawn spoils nothing.
    fn show(&mut self, view: &RolloutView) {
        let name = view.rollout.name().to_owned();
        self.views.insert(name.clone(), view.clone());
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) || view.outcome.is_some();
        if let Some(live) = self.live.as_mut().filter(|_| due) {
            self.drawn = Some(Instant::now());
            let _ = live.show(&in_order(&self.views));
        }
        let line = view_line(view);
        if let Some(screen) = self.lines.as_mut().filter(|_| self.told.get(&name) != Some(&line)) {
            let _ = screen.line(&format!("{}  {line}", clock(view.changed)));
            self.told.insert(name, line);
        }
    }

    fn close(self) -> std::io::Result<()> {
        self.live.map_or(Ok(()), |live| live.close(&in_order(&self.views)))
    }
}

/// In the order of the acts, whatever changes first.
fn in_order(views: &BTreeMap<String, RolloutView>) -> Vec<RolloutView> {
    ACTS.iter().filter_map(|act| views.get(act.name).cloned()).collect()
}

fn tell(endings: &[Ending], screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() {
        return endings.iter().try_for_each(|ending| screen.value(ending));
    }
    screen.text("\nWhat happened\n")?;
    for (act, ending) in ACTS.iter().zip(endings) {
        let mark = if ending.is_as_expected() { "as it should" } else { "NOT AS IT SHOULD" };
        screen.line(&format!(
            "  {:<12} {:<30} {:<9} after {:>4.1} s, {mark}; {} of {} requests failed",
            act.name,
            act.about,
            outcome(ending.outcome),
            ending.seconds,
            ending.errors,
            ending.requests
        ))?;
        screen.line(&format!("  {:<12} {}", "", ending.reason))?;
    }
    screen.text("\nNext\n  mkdir policies && cp deploy/examples/policies/haproxy.yaml policies/   begin with an example\n  sluice validate policies/        check a policy of your own\n  sluice run --policies policies/  run the daemon\n  sluice start NAME --version v2 --wait   announce a release\n  sluice watch                     look on; pause, promote and abort take over\n")
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promoted => "promoted",
        Outcome::Reverted => "reverted",
        Outcome::Failed => "failed",
    }
}
