//! Modification times, and what rounding makes of them.

use bkfs_store::base::time::Time;
use rustix::fs::Stat;

/// The most by which rounding moves a time, in nanoseconds: FAT has two seconds.
const ROUNDED_MAX: i128 = 2_000_000_000;

/// Returns the modification time in a file's state.
pub(super) fn mtime(stat: &Stat) -> Time {
    Time { secs: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}

/// Returns whether `kept` is what rounding makes of `wanted`.
pub(super) fn is_rounded(wanted: Time, kept: Time) -> bool {
    let nanos = |time: Time| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    (nanos(wanted) - nanos(kept)).abs() <= ROUNDED_MAX
}
