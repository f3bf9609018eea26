//! Alerts that a former process raised, as far as the record knows what came of them.

use sluice_rollout::{Effect, Firing, Numbered, State};
use sluice_wire::alert::{Alert, AlertStatus};

use crate::runtime::{edge::Edge, lanes::alert_message};

/// To the sinks, before anything new is said.
pub fn hand_on(edge: &Edge, state: &State) {
    let (told, doubtful) = alerts_of_before(edge, state);
    edge.alerts.restore(&told);
    edge.alerts.doubt(&doubtful);
    edge.alerts.missed(&missed_before(edge, state));
}

/// The alerts that are up: those told before this start, which are kept up and not told anew; and those that are still to be
/// told, which a former owner may have told without having it saved.
fn alerts_of_before(edge: &Edge, state: &State) -> (Vec<Alert>, Vec<Alert>) {
    let untold = |kind| {
        state.outstanding.iter().any(|one| matches!(one.effect, Effect::Alert { kind: of, .. } if of == kind))
    };
    let message = |firing: &Firing| {
        alert_message(edge, firing.kind, AlertStatus::Firing, &firing.summary, firing.since)
    };
    let (doubtful, told): (Vec<_>, Vec<_>) = state.alerts.iter().partition(|firing| untold(firing.kind));
    (told.into_iter().map(message).collect(), doubtful.into_iter().map(message).collect())
}

/// What was up and is over, and was told to nobody, or not to everybody, when the former process ended.
fn missed_before(edge: &Edge, state: &State) -> Vec<Alert> {
    let missed = |one: &Numbered| match &one.effect {
        Effect::ResolveAlert { kind, summary, since, untold: Some(over) } => {
            let alert = alert_message(edge, *kind, AlertStatus::Resolved, summary, *since);
            Some(Alert { at: *over, ..alert })
        }
        _ => None,
    };
    state.outstanding.iter().filter_map(missed).collect()
}
