//! How an instant is written in messages.

use sluice_rollout::Timestamp;

/// RFC 3339 in UTC; what lies outside the calendar is written as 1970.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
