//! What a replay came to, in words and as JSON.

use std::fmt::{self, Debug, Display};

use serde::Serialize;
use sluice_rollout::{RolloutId, State};
use sluice_wire::decisions::Taken;

/// More gaps and notes than these are only counted.
const MOST_SAID: usize = 20;
/// A value in words is cut here.
const MOST_CHARS: usize = 400;

/// Where in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    Head,
    /// Sessions are counted from 1, lines within one from 0.
    Line {
        session: u64,
        n: u64,
    },
}

/// The first thing that came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Difference {
    pub place: Place,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
}

/// Something to know that is no difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub place: Place,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    pub rollout: RolloutId,
    /// Starts of an owner.
    pub sessions: u64,
    /// Made again, and the same.
    pub decisions: u64,
    pub windows: u64,
    /// Not made again: what they rested on is not in the record.
    pub unchecked: u64,
    /// What the record lacks; it is complete if there is nothing.
    pub gaps: Vec<Remark>,
    pub notes: Vec<Remark>,
    /// Gaps and notes that are not listed.
    pub more: u64,
    /// Where the record ends.
    pub phase: Option<String>,
    pub revision: Option<u64>,
    pub reason: Option<String>,
}

impl Difference {
    pub(super) fn at(place: Place, what: String) -> Difference {
        Difference { place, what, recorded: None, replayed: None }
    }

    pub(super) fn values(
        place: Place,
        what: String,
        recorded: &dyn Debug,
        replayed: &dyn Debug,
    ) -> Difference {
        let (recorded, replayed) = (Some(short(recorded)), Some(short(replayed)));
        Difference { place, what: format!("{what} is another"), recorded, replayed }
    }
}

fn short(value: &dyn Debug) -> String {
    let text = format!("{value:?}");
    if text.chars().count() <= MOST_CHARS {
        return text;
    }
    format!("{}…", text.chars().take(MOST_CHARS).collect::<String>())
}

impl ReplayReport {
    pub(super) fn new(rollout: RolloutId) -> ReplayReport {
        ReplayReport {
            rollout,
            sessions: 0,
            decisions: 0,
            windows: 0,
            unchecked: 0,
            gaps: Vec::new(),
            notes: Vec::new(),
            more: 0,
            phase: None,
            revision: None,
            reason: None,
        }
    }

    /// Nothing of the rollout is missing from the record.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.unchecked == 0
    }

    pub(super) fn gap(&mut self, place: Place, what: String) {
        if self.gaps.len() < MOST_SAID { self.gaps.push(Remark { place, what }) } else { self.more += 1 }
    }

    pub(super) fn note(&mut self, place: Place, what: String) {
        if self.notes.len() < MOST_SAID { self.notes.push(Remark { place, what }) } else { self.more += 1 }
    }

    /// Other versions may decide otherwise, and rightly so.
    pub(super) fn decided_by(&mut self, taken: &Taken) {
        let ours = (sluice_rollout::VERSION, sluice_analyzers::VERSION);
        if (taken.machine, taken.analysis) != ours {
            let what = format!(
                "decided by Sluice {} (machine {}, analysis {}), replayed by {} (machine {}, analysis {}): a difference may come from that",
                taken.sluice,
                taken.machine,
                taken.analysis,
                env!("CARGO_PKG_VERSION"),
                ours.0,
                ours.1
            );
            self.note(Place::Line { session: self.sessions, n: 0 }, what);
        }
    }

    pub(super) fn ended(&mut self, state: Option<&State>) {
        let Some(state) = state else { return };
        self.phase = Some(state.phase.name().to_owned());
        self.revision = Some(state.revision);
        self.reason = match &state.phase {
            sluice_rollout::Phase::Done { reason, .. } | sluice_rollout::Phase::Reverting { reason, .. } => {
                Some(reason.to_string())
            }
            _ => None,
        };
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Head => write!(f, "head"),
            Place::Line { session, n } => write!(f, "session {session}, line {n}"),
        }
    }
}
