//! When a metric that the source need not tell takes its share of falseAbort.
//!
//! The combined evidence is `C = sum w_m E_m` over the metrics that have joined, their weights scaled to 1. One that joins
//! after the first window begins with what the others had before that window, at most 1:
//!
//! ```text
//! (W C + w min(1, C)) / (W + w) <= C          W the others' weights, w its own
//! ```
//! so C stays an e-process, whatever made the source begin to tell.

use serde::{Deserialize, Serialize};

/// None until it joins; then ln of what its evidence is multiplied by, at most 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Option<f64>")]
pub struct Joined(Option<f64>);

/// Older evidence says only whether the first window told it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    First(bool),
    Head(Option<f64>),
}

impl Joined {
    /// It has its share from the first window on.
    pub const FROM_THE_FIRST: Joined = Joined(Some(0.0));

    pub fn has(self) -> bool {
        self.0.is_some()
    }

    /// ln of what its evidence is multiplied by.
    pub fn head(self) -> f64 {
        self.0.unwrap_or(0.0)
    }

    /// Before the window that is the first to tell it is counted; `combined` is ln C.
    pub fn join(&mut self, combined: f64) {
        self.0.get_or_insert(combined.min(0.0));
    }
}

impl From<Stored> for Joined {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::First(true) => Self::FROM_THE_FIRST,
            Stored::First(false) => Self(None),
            Stored::Head(head) => Self(head),
        }
    }
}

impl From<Joined> for Option<f64> {
    fn from(joined: Joined) -> Self {
        joined.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_late_begins_with_no_more_than_the_others_have() {
        let (mut low, mut high) = (Joined::default(), Joined::default());
        low.join(-2.0);
        high.join(3.0);
        assert_eq!((low.head(), high.head()), (-2.0, 0.0));
        low.join(1.0);
        assert_eq!(low.head(), -2.0, "once");
    }

    #[test]
    fn what_was_stored_is_read_again_and_so_is_older_evidence() {
        for joined in [Joined::default(), Joined::FROM_THE_FIRST, Joined(Some(-0.25))] {
            let text = serde_json::to_string(&joined).unwrap();
            assert_eq!(serde_json::from_str::<Joined>(&text).unwrap(), joined);
        }
        let read = |text| serde_json::from_str::<Joined>(text).unwrap();
        assert_eq!((read("true"), read("false")), (Joined::FROM_THE_FIRST, Joined::default()));
    }
}
