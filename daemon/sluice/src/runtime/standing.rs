//! Since when the weight at the target stands. Windows never span a weight change: what is sampled after a write began (or
//! after somebody else's weight was seen) and before it was read back belongs to neither weight and is evidence for none.
//!
//! ```text
//!   samples ──── counted ────┤ write begins      read back ├──── starting points, then counted ────▶
//!                            └── held: at most MOST_HELD ──┘
//! ```

use std::time::Duration;

use sluice_rollout::{Timestamp, Weight};

/// A write that hangs for longer holds nothing up: at most one of the windows since then can span its moment, and a canary
/// that goes bad meanwhile must be seen.
const MOST_HELD: Duration = Duration::from_secs(10);

/// What the target's lane knows, by our clock. Samples carry the source's; the two are taken to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// As read last.
    weight: Option<Weight>,
    /// When it was read back; nothing: it stood so before this start.
    since: Option<Timestamp>,
    doubt: Option<Doubt>,
}

/// The weight may be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    from: Timestamp,
    noticed: Timestamp,
    /// Another weight has been seen: even if the former one is read again, it did not stand all the time.
    left: bool,
}

impl Standing {
    /// At a start: as read from the target. `unsure`: it was being written, or is not what the record says, since then.
    pub fn found_at_start(weight: Option<Weight>, unsure: Option<Timestamp>, now: Timestamp) -> Standing {
        let doubt = unsure.map(|from| Doubt { from, noticed: now, left: true });
        Standing { weight, since: None, doubt }
    }

    /// A write begins. One that only raises the fence changes no weight.
    pub fn writing(&mut self, weight: Weight, now: Timestamp) {
        if self.weight != Some(weight) && self.doubt.is_none() {
            self.doubt = Some(Doubt { from: now, noticed: now, left: false });
        }
    }

    /// News of a watch, which may be late.
    pub fn rumour(&mut self, weight: Weight, now: Timestamp) {
        if self.weight != Some(weight) && self.doubt.is_none() {
            self.doubt = Some(Doubt { from: now, noticed: now, left: true });
        }
    }

    /// Read just now.
    pub fn found(&mut self, weight: Weight, now: Timestamp) {
        let left = self.doubt.is_some_and(|doubt| doubt.left);
        if self.weight != Some(weight) || left {
            (self.weight, self.since) = (Some(weight), Some(now));
        }
        self.doubt = None;
    }

    /// When the present weight had been read back in this start.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Samples later than this say nothing yet.
    pub fn held(&self, now: Timestamp) -> Option<Timestamp> {
        self.doubt.filter(|doubt| now.since(doubt.noticed) < MOST_HELD).map(|doubt| doubt.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn percent(percent: f64) -> Weight {
        Weight::from_percent(percent).unwrap_or_default()
    }

    fn standing() -> Standing {
        let mut standing = Standing::default();
        standing.found(percent(5.0), at(1));
        standing
    }

    #[test]
    fn what_is_sampled_while_a_weight_is_written_is_held_until_it_is_read_back() {
        let mut standing = standing();
        standing.writing(percent(25.0), at(10));
        assert_eq!(standing.held(at(11)), Some(at(10)));
        standing.found(percent(25.0), at(12));
        assert_eq!((standing.held(at(12)), standing.since()), (None, Some(at(12))));
    }

    #[test]
    fn a_write_that_did_not_come_about_or_only_raised_the_fence_leaves_all_as_it_was() {
        let mut failed = standing();
        failed.writing(percent(25.0), at(10));
        failed.found(percent(5.0), at(12));
        let mut fence = standing();
        fence.writing(percent(5.0), at(10));
        assert_eq!((failed, fence.held(at(11))), (standing(), None));
    }

    #[test]
    fn after_somebody_elses_weight_the_own_one_stands_anew() {
        let mut standing = standing();
        standing.rumour(percent(0.0), at(10));
        assert_eq!(standing.held(at(11)), Some(at(10)));
        standing.writing(percent(5.0), at(11));
        standing.found(percent(5.0), at(12));
        assert_eq!((standing.held(at(12)), standing.since()), (None, Some(at(12))));
    }

    #[test]
    fn a_write_that_hangs_holds_nothing_up_for_long() {
        let mut standing = standing();
        standing.writing(percent(25.0), at(10));
        assert_eq!(standing.held(at(19)), Some(at(10)));
        assert_eq!(standing.held(at(20)), None);
    }
}
