//! The transition function (being written).
use crate::{Event, Numbered, Policy, Reason, State, Timestamp};

/// What an event makes of a state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub state: State,
    pub effects: Vec<Numbered>,
    pub reason: Reason,
}

/// Decides.
pub fn step(_policy: &Policy, state: State, _now: Timestamp, event: Event) -> Transition {
    Transition { state, effects: Vec::new(), reason: Reason::Stale { what: format!("{event:?}") } }
}
