//! The system's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::time::Time;

/// The time now. A clock that is set before 1970 counts as 1970.
pub(super) fn system_time() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
