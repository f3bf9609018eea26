//! How often a failure is told that may come many times a second: the first at once, then once a minute with how many there
//! were, and in the end that a minute has passed without one. Plain bookkeeping: `now` is given.

use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Option<Instant>,
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// It failed. How many failures nobody was told of since the last word, if this one is to be told.
    pub(super) fn failed(&mut self, now: Instant) -> Option<u64> {
        self.last = Some(now);
        if self.said.is_some_and(|said| now.duration_since(said) < AGAIN) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// It worked. The same, if it is to be told that it works again.
    pub(super) fn worked(&mut self, now: Instant) -> Option<u64> {
        let quiet = self.last.is_some_and(|last| now.duration_since(last) >= AGAIN);
        quiet.then(|| std::mem::take(self).unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_then_one_a_minute_and_the_end_once() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut complaints = Complaints::default();
        assert_eq!(complaints.worked(at(0)), None, "nothing had failed");
        assert_eq!(complaints.failed(at(0)), Some(0));
        for second in 1..60 {
            assert_eq!(complaints.failed(at(second)), None);
            assert_eq!(complaints.worked(at(second)), None, "small writes may pass meanwhile");
        }
        assert_eq!(complaints.failed(at(60)), Some(59));
        assert_eq!(complaints.failed(at(61)), None);
        assert_eq!((complaints.worked(at(120)), complaints.worked(at(121))), (None, Some(1)));
        assert_eq!(complaints.worked(at(122)), None, "told once");
        assert_eq!(complaints.failed(at(123)), Some(0), "another trouble");
    }
}
