//! The wall clock of a push, which tests may replace.

use std::time::SystemTime;

use bkfs_store::base::time::Time;

/// Returns the time, as [`now`] does.
pub type Clock = fn() -> Time;

/// The time now, by the wall clock.
pub fn now() -> Time {
    let since = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = since(SystemTime::now());
    Time { secs: now.as_secs() as i64, nanos: now.subsec_nanos() }
}
