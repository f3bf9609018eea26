//! The states that the store had by a record's word: a later session begins with the last of them.

use std::collections::VecDeque;

use sluice_rollout::State;
use sluice_wire::decisions::{Sum, sum};

/// Decisions since the last one that was saved: bookkeeping, and what came of an abort without the store.
const MOST_UNSAVED: usize = 256;

#[derive(Default)]
pub struct Stored {
    /// As they are handed over.
    saved: Vec<Sum>,
    /// Those after them: the save of one may have come through although its answer was lost, or have come later on.
    unsaved: VecDeque<State>,
}

/// What a session's first state is to the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There are none.
    Nothing,
    /// The one that the record leads to.
    Latest,
    /// An older one, from a copy of the store.
    Older,
    /// The record does not lead to it.
    Unknown,
}

impl Stored {
    pub fn saved(&mut self, state: &State) {
        self.saved.push(handed_over(state));
        self.unsaved.clear();
    }

    pub fn decided(&mut self, state: &State) {
        self.unsaved.push_back(state.clone());
        if self.unsaved.len() > MOST_UNSAVED {
            self.unsaved.pop_front();
        }
    }

    pub fn before(&self, state: &State) -> Before {
        let found = handed_over(state);
        match self.saved.iter().rposition(|saved| *saved == found) {
            _ if self.saved.is_empty() => Before::Nothing,
            Some(at) if at + 1 == self.saved.len() => Before::Latest,
            _ if self.unsaved.iter().any(|unsaved| handed_over(unsaved) == found) => Before::Latest,
            Some(_) => Before::Older,
            None => Before::Unknown,
        }
    }
}

/// A new owner has a higher epoch, and numbers its effects from further on.
fn handed_over(state: &State) -> Sum {
    sum(&State { epoch: 0, seq: 0, ..state.clone() })
}
