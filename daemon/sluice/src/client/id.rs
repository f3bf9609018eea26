//! Ids that never repeat.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 32 hexadecimal digits. The standard library seeds each `RandomState` from the system's random numbers; this is for
/// telling messages apart and no secret.
pub fn fresh_id() -> String {
    let half = || RandomState::new().build_hasher().finish();
    // The second state differs from the first by one only, so the clock's nanoseconds go in too.
    let mut second = RandomState::new().build_hasher();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    second.write_u128(since.as_nanos());
    second.write_u32(std::process::id());
    format!("{:016x}{:016x}", half(), second.finish())
}
