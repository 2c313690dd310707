//! Points in time.

use minicbor::{Decode, Encode};

/// A point in time as file systems store it: seconds since 1970 (negative before) and nanoseconds (0..10^9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    #[n(0)]
    pub secs: i64,
    /// Nanoseconds past the second, less than 10^9.
    #[n(1)]
    pub nanos: u32,
}

impl Time {
    /// Returns the point in time `secs` seconds later, or the last that fits.
    pub fn plus_secs(self, secs: u64) -> Self {
        Self { secs: self.secs.saturating_add(i64::try_from(secs).unwrap_or(i64::MAX)), nanos: self.nanos }
    }
}
