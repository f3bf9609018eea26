//! `history`: what happened, oldest first.

use sluice_wire::record::HistoryLine;

use crate::cli::{Exit, Global, HistoryArgs};
use crate::client::Client;
use crate::picture::clock;

use super::{Failure, Screen};

pub async fn perform(
    args: &HistoryArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    for line in client.history(&args.rollout.aim(global)).await? {
        tell(&line, screen)?;
    }
    Ok(Exit::Well)
}

/// One line, as `start --wait` prints it too.
pub(super) fn tell(line: &HistoryLine, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() { screen.value(line) } else { screen.line(&words(line)) }
}

fn words(line: &HistoryLine) -> String {
    let refused = if line.accepted == Some(false) { "refused: " } else { "" };
    // A reason that names the person already need not do so twice.
    let actor = line.actor.as_ref().filter(|actor| !line.reason.contains(actor.as_str()));
    let actor = actor.map(|actor| format!("{actor}: ")).unwrap_or_default();
    let effects =
        if line.effects.is_empty() { String::new() } else { format!("  → {}", line.effects.join(", ")) };
    let weight = format!("{} %", line.weight);
    format!(
        "{}  {:>4}  {:<10} {weight:>7}  {actor}{refused}{}{effects}",
        clock(line.at),
        line.revision,
        line.phase,
        line.reason
    )
}
