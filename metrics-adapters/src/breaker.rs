//! A circuit breaker: a server that keeps failing is left alone for a while, then probed by one question.
//!
//! Pure: time comes in, in milliseconds of a clock that never goes back.

/// So many failures in a row open the circuit.
const FAILURES: u32 = 5;
const FIRST_WAIT_MS: u64 = 1_000;
/// A source that comes back is found within this time.
const LONGEST_WAIT_MS: u64 = 8_000;

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// No question before this time.
    closed_until: u64,
    probing: bool,
    /// Lets several daemons' probes fall apart.
    seed: u64,
}

/// Why a question is not asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) failures: u32,
    pub(crate) wait_ms: u64,
}

impl Breaker {
    pub(crate) fn new(seed: u64) -> Breaker {
        Breaker { seed, ..Breaker::default() }
    }

    /// May one more question be asked? After the wait, one at a time.
    pub(crate) fn admit(&mut self, now: u64) -> Result<(), Refusal> {
        let refuse = |wait_ms| Err(Refusal { failures: self.failures, wait_ms });
        if self.failures < FAILURES {
            return Ok(());
        }
        if now < self.closed_until {
            return refuse(self.closed_until - now);
        }
        if self.probing {
            return refuse(FIRST_WAIT_MS / 4);
        }
        self.probing = true;
        Ok(())
    }

    pub(crate) fn succeeded(&mut self) {
        (self.failures, self.probing) = (0, false);
    }

    pub(crate) fn failed(&mut self, now: u64) {
        self.failures = self.failures.saturating_add(1);
        self.probing = false;
        if self.failures >= FAILURES {
            let doublings = (self.failures - FAILURES).min(16);
            let wait = (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS);
            self.closed_until = now + wait / 2 + self.draw(wait / 2);
        }
    }

    /// The asker went away before an answer came: neither good nor bad.
    pub(crate) fn abandoned(&mut self) {
        self.probing = false;
    }

    /// From 0 up to `below`; splitmix64, which is enough to spread probes.
    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_closes_it_again() {
        let mut breaker = Breaker::new(7);
        for _ in 0..FAILURES {
            assert_eq!(breaker.admit(0), Ok(()));
            breaker.failed(0);
        }
        let refusal = breaker.admit(1).unwrap_err();
        assert!((1..=FIRST_WAIT_MS).contains(&refusal.wait_ms), "{refusal:?}");
        assert_eq!(breaker.admit(FIRST_WAIT_MS), Ok(()), "the probe");
        assert!(breaker.admit(FIRST_WAIT_MS).is_err(), "one probe at a time");
        breaker.succeeded();
        assert_eq!(breaker.admit(FIRST_WAIT_MS), Ok(()));
    }

    #[test]
    fn failed_probes_wait_longer_but_never_beyond_the_bound() {
        let mut breaker = Breaker::new(7);
        let mut now = 0;
        for _ in 0..100 {
            while let Err(refusal) = breaker.admit(now) {
                assert!(refusal.wait_ms <= LONGEST_WAIT_MS);
                now += refusal.wait_ms;
            }
            breaker.failed(now);
        }
    }

    #[test]
    fn a_probe_whose_asker_went_away_does_not_block_the_next() {
        let mut breaker = Breaker::new(7);
        (0..FAILURES).for_each(|_| breaker.failed(0));
        assert_eq!(breaker.admit(LONGEST_WAIT_MS), Ok(()));
        breaker.abandoned();
        assert_eq!(breaker.admit(LONGEST_WAIT_MS), Ok(()));
    }
}
