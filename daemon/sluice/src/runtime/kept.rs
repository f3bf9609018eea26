//! Stored commands that this daemon has given back to the bus, because another one acts on them or acted when it died. After a
//! takeover they come again in whatever order their times are up; here it is known which of a rollout's was first, so that
//! a pause and the resume after it are carried out in the order in which they were sent.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::PolicyName;

/// Commands of which the order is known at once.
const MOST: usize = 10_000;
/// One that has not come again for so long was acknowledged elsewhere, or has left its stream: nobody waits for it.
const GONE_AFTER: Duration = Duration::from_secs(10);

type Sequence = u64;

#[derive(Debug, Default)]
pub struct Kept {
    commands: Mutex<BTreeMap<(PolicyName, Sequence), Instant>>,
}

impl Kept {
    /// Given back now. `false`: too many are, and the order of this one is not kept.
    pub fn keep(&self, place: &PolicyName, sequence: Sequence, now: Instant) -> bool {
        let mut commands = self.lock();
        commands.retain(|_, seen| now.duration_since(*seen) < GONE_AFTER);
        if commands.len() >= MOST {
            return false;
        }
        commands.insert((place.clone(), sequence), now);
        true
    }

    /// Carried out, or somebody else's for good.
    pub fn forget(&self, place: &PolicyName, sequence: Sequence) {
        self.lock().remove(&(place.clone(), sequence));
    }

    /// Whether a command that was sent before this one has still to come again.
    pub fn is_behind(&self, place: &PolicyName, sequence: Sequence, now: Instant) -> bool {
        let earlier = (place.clone(), 0)..(place.clone(), sequence);
        self.lock().range(earlier).any(|(_, seen)| now.duration_since(*seen) < GONE_AFTER)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(PolicyName, Sequence), Instant>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PolicyName {
        ("shop".to_owned(), name.to_owned())
    }

    #[test]
    fn a_later_command_waits_for_the_one_that_was_sent_before_it() {
        let (kept, now) = (Kept::default(), Instant::now());
        assert!(kept.keep(&place("checkout"), 7, now) && kept.keep(&place("checkout"), 9, now));
        assert!(kept.is_behind(&place("checkout"), 9, now));
        assert!(!kept.is_behind(&place("checkout"), 7, now) && !kept.is_behind(&place("cart"), 9, now));
        kept.forget(&place("checkout"), 7);
        assert!(!kept.is_behind(&place("checkout"), 9, now));
    }

    #[test]
    fn nobody_waits_for_one_that_does_not_come_again() {
        let (kept, now) = (Kept::default(), Instant::now());
        assert!(kept.keep(&place("checkout"), 7, now));
        assert!(!kept.is_behind(&place("checkout"), 9, now + GONE_AFTER));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let (kept, now) = (Kept::default(), Instant::now());
        assert!((0..10_000).all(|sequence| kept.keep(&place("checkout"), sequence, now)));
        assert!(!kept.keep(&place("checkout"), 10_000, now));
        assert!(kept.keep(&place("checkout"), 10_001, now + GONE_AFTER), "those that are gone make room");
    }
}
