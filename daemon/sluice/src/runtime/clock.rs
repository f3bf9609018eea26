//! The one clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_rollout::Timestamp;

/// The wall clock, read here and nowhere else.
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(at) = super::simulation::now() {
        return at;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
