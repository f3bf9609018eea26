//! Waiting longer after each failure, with jitter, up to a bound.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is 75 to 125 % of its nominal length.
#[derive(Debug)]
pub struct Backoff {
    wait: Duration,
    most: Duration,
    attempts: u32,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { wait: first, most, attempts: 0 }
    }

    /// How often `next` was called.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn next(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        let nominal = self.wait;
        self.wait = (self.wait * 2).min(self.most);
        nominal.mul_f64(0.75 + f64::from(fastrand::u32(0..=50)) / 100.0)
    }
}
