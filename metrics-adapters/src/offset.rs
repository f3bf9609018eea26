//! How far a source's clock is from ours, told by the `Date` of its answers. Pure.
//!
//! ```text
//!   sent ──── the answer was dated, truncated to a second ──── received        (our clock)
//!   source - ours  lies between  date - received  and  date + 1 s - sent
//! ```
//! Each answer gives such an interval; what lies in all of them is left. The offset that is used is the one nearest to 0:
//! clocks that agree as far as can be told are taken to agree, and a slow answer only says less.
//!
//! Source of the header: RFC 9110, section 6.6.1.

/// Clocks drift apart: what was learned holds to one part in so many.
const DRIFT: i64 = 1_000;
/// The header's resolution.
const SECOND_MS: i64 = 1_000;
/// A clock farther away is told and not followed: a proxy's date may be anybody's, and samples older than five minutes are
/// none to Prometheus.
const MOST_FOLLOWED_MS: i64 = 240_000;

/// What is known of one source's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offset {
    bounds: Option<Bounds>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    least_ms: i64,
    most_ms: i64,
    learned_ms: i64,
}

impl Offset {
    /// One answer: when it was asked for and came, by our clock, and the source's date.
    pub(crate) fn learn(&mut self, sent_ms: i64, received_ms: i64, date_ms: i64) {
        let (least_ms, most_ms) = (date_ms - received_ms, date_ms + SECOND_MS - sent_ms);
        let told = Bounds { least_ms, most_ms, learned_ms: received_ms };
        if least_ms > most_ms {
            return; // Our own clock was set back meanwhile.
        }
        let agreed = self.bounds.map(|known| {
            let drift = received_ms.abs_diff(known.learned_ms) as i64 / DRIFT;
            let (least, most) = (known.least_ms - drift, known.most_ms + drift);
            Bounds { least_ms: least.max(least_ms), most_ms: most.min(most_ms), ..told }
        });
        // No agreement: a clock was set.
        self.bounds = Some(agreed.filter(|bounds| bounds.least_ms <= bounds.most_ms).unwrap_or(told));
    }

    /// The source's clock less ours, in milliseconds.
    pub(crate) fn millis(self) -> i64 {
        match self.bounds {
            Some(Bounds { least_ms, .. }) if least_ms > 0 => least_ms,
            Some(Bounds { most_ms, .. }) if most_ms < 0 => most_ms,
            Some(_) | None => 0,
        }
    }

    /// The part of it that is worked with.
    pub(crate) fn followed_ms(self) -> i64 {
        self.millis().clamp(-MOST_FOLLOWED_MS, MOST_FOLLOWED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a clock that is `offset` ahead, each a little over a second after the last.
    fn learned(offset: i64, answers: i64, takes: i64) -> i64 {
        let mut clock = Offset::default();
        for n in 0..answers {
            let sent = 1_000_000 + n * 1_370;
            let dated = (sent + takes / 2 + offset).div_euclid(1_000) * 1_000;
            clock.learn(sent, sent + takes, dated);
        }
        clock.millis()
    }

    #[test]
    fn clocks_that_agree_as_far_as_can_be_told_are_taken_to_agree() {
        for takes in [1, 50, 3_000] {
            assert_eq!(learned(0, 30, takes), 0);
        }
        assert_eq!(Offset::default().millis(), 0);
    }

    #[test]
    fn an_offset_is_known_the_better_the_more_answers_came_and_never_overstated() {
        for offset in [7_300, 1_900, -12_400, -2_600] {
            let (one, many) = (learned(offset, 1, 10), learned(offset, 100, 10));
            let off = |told: i64| (offset - told) * offset.signum();
            assert!((0..=1_010).contains(&off(one)), "{offset}: {one}");
            assert!((0..=150).contains(&off(many)), "{offset}: {many}");
        }
    }

    #[test]
    fn a_clock_that_is_set_is_learned_anew() {
        let mut clock = Offset::default();
        (0..10).for_each(|n| clock.learn(n * 1_000, n * 1_000 + 5, n * 1_000 + 60_000));
        assert!((59_000..=60_000).contains(&clock.millis()), "{}", clock.millis());
        (10..20).for_each(|n| clock.learn(n * 1_000, n * 1_000 + 5, n * 1_000));
        assert_eq!(clock.millis(), 0);
    }

    #[test]
    fn a_date_that_is_nobodys_is_told_and_not_followed() {
        let mut clock = Offset::default();
        clock.learn(0, 10, 86_400_000);
        assert_eq!((clock.millis(), clock.followed_ms()), (86_399_990, MOST_FOLLOWED_MS));
    }
}
