//! Holds: what looks wrong with a group, so that nothing of it should be forgotten before a person confirms.
//!
//! **A target that shrinks.** The newest snapshot has less than half of the bytes, or of the files, of the median of
//! the [`BASE`] snapshots before it. A disk may not have been mounted, an exclusion may be wrong, an intruder may have
//! deleted files. *Before it* means before the last run: however many small snapshots follow, they are compared with
//! what was there when nothing looked wrong, until a person confirms. Small targets often change by half, so a median
//! below [`FILES_MIN`] files or [`BYTES_MIN`] bytes only counts if nothing is left.
//!
//! **A clock that jumps.** Retention counts by the store's clock: if that clock runs ahead, new snapshots look old. A
//! group is held if its receive times do not follow the order of the log, if it has snapshots from the future, or if
//! its last run was in the future. A jump ahead that is over leaves one trace: a gap between the snapshots that the
//! last run saw and the ones since. A gap is held if it is longer than [`GAP_SECS`] and more than half of the snapshots
//! that the last run kept would go together. A machine that was switched off for months looks the same, and is worth a
//! look, too, before its history is thinned out.
//!
//! Clocks are adjusted a little now and then: differences up to [`SKEW_SECS`] are ignored.
//!
//! What a person has confirmed is below [`LastRun::confirmed_len`] in the log, and does not hold the group again. That
//! is a length of the log, because the log cannot jump.

use std::fmt;

use super::row::SnapshotRow;
use crate::{
    base::{id::SnapshotId, time::Time},
    format::snapshot::SUSPICIOUS,
};

/// How many seconds a clock may be wrong before a group is held.
pub const SKEW_SECS: i64 = 600;
/// A gap in a group's receive times that is worth a look, in seconds: a week, which is more than a long weekend.
const GAP_SECS: i64 = 7 * 86_400;
/// From how many snapshots before the newest the usual size is computed.
const BASE: usize = 5;
/// Smaller medians of files only count if nothing is left.
const FILES_MIN: u64 = 10;
/// Smaller medians of bytes only count if nothing is left.
const BYTES_MIN: u64 = 64 * 1024;

/// What is remembered of the last run of automatic forgetting on a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    /// When it was.
    pub at: Time,
    /// Length of the log that it saw, in records.
    pub log_len: u64,
    /// Length of the log that a person confirmed when the group was held; 0 if that never happened.
    pub confirmed_len: u64,
}

/// One thing that looks wrong with a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The newest snapshot has far fewer bytes than usual.
    FewerBytes {
        /// The newest snapshot.
        snapshot: SnapshotId,
        /// Its bytes.
        bytes: u64,
        /// The median of the snapshots before it.
        usual: u64,
    },
    /// The newest snapshot has far fewer files than usual.
    FewerFiles {
        /// The newest snapshot.
        snapshot: SnapshotId,
        /// Its files.
        files: u64,
        /// The median of the snapshots before it.
        usual: u64,
    },
    /// Snapshots were received in the future.
    Future {
        /// The newest.
        snapshot: SnapshotId,
        /// How many seconds ahead it is.
        ahead_secs: i64,
    },
    /// A snapshot that is later in the log was received earlier.
    OutOfOrder {
        /// The one that is first in the log.
        first: SnapshotId,
        /// The one that is later in the log.
        later: SnapshotId,
        /// By how many seconds it was received earlier.
        back_secs: i64,
    },
    /// A push found that many files had become unreadable, as if they were encrypted.
    Suspicious {
        /// The first of its snapshots that nobody confirmed.
        snapshot: SnapshotId,
    },
    /// The last run was in the future.
    RunInFuture {
        /// How many seconds ahead.
        ahead_secs: i64,
    },
    /// After a long time without snapshots, most of those that the last run kept would go together.
    Gap {
        /// How long no snapshot was received, in seconds.
        gap_secs: i64,
        /// How many of the snapshots that the last run kept would be forgotten.
        forgotten: usize,
        /// How many snapshots the last run kept.
        of: usize,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::FewerBytes { snapshot, bytes, usual } => {
                write!(
                    f,
                    "snapshot {} has {bytes} bytes where {usual} are usual: is anything missing?",
                    snapshot.short()
                )
            }
            Hold::FewerFiles { snapshot, files, usual } => {
                write!(
                    f,
                    "snapshot {} has {files} files where {usual} are usual: is anything missing?",
                    snapshot.short()
                )
            }
            Hold::Future { snapshot, ahead_secs } => write!(
                f,
                "snapshot {} was received {} in the future: check the clocks of the server and of this machine",
                snapshot.short(),
                Secs(*ahead_secs)
            ),
            Hold::OutOfOrder { first, later, back_secs } => write!(
                f,
                "snapshot {} was received {} before {}, which it follows in the log: the server's clock was set back",
                later.short(),
                Secs(*back_secs),
                first.short()
            ),
            Hold::Suspicious { snapshot } => write!(
                f,
                "in snapshot {} many files became unreadable, as if somebody had encrypted them: the snapshots before \
                 it may be the last good ones",
                snapshot.short()
            ),
            Hold::RunInFuture { ahead_secs } => {
                write!(f, "the last run was {} in the future: check the clock", Secs(*ahead_secs))
            }
            Hold::Gap { gap_secs, forgotten, of } => write!(
                f,
                "nothing was received for {}, and {forgotten} of the {of} snapshots from before would go together: \
                 was the machine off, or did the server's clock jump?",
                Secs(*gap_secs)
            ),
        }
    }
}

/// Seconds, in units for people.
struct Secs(i64);

impl fmt::Display for Secs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            secs if secs >= 2 * 86_400 => write!(f, "{} days", secs / 86_400),
            secs if secs >= 2 * 3_600 => write!(f, "{} hours", secs / 3_600),
            secs => write!(f, "{} minutes", secs / 60),
        }
    }
}

/// Whether a time is later than now by more than clocks may be wrong.
pub(super) fn is_future(time: Time, now: Time) -> bool {
    ahead_secs(time, now) > SKEW_SECS
}

/// By how many seconds a time is later than another.
fn ahead_secs(time: Time, than: Time) -> i64 {
    let borrow = i64::from(time.nanos < than.nanos);
    time.secs.saturating_sub(than.secs).saturating_sub(borrow)
}

/// Returns what looks wrong with a group. `rows` are its snapshots, newest first; `kept` has a flag for each row:
/// whether the snapshot is kept.
pub(super) fn holds(rows: &[&SnapshotRow], kept: &[bool], now: Time, run: Option<&LastRun>) -> Vec<Hold> {
    let mut holds = Vec::new();
    let mut by_log: Vec<(&SnapshotRow, bool)> = rows.iter().copied().zip(kept.iter().copied()).collect();
    by_log.sort_unstable_by_key(|(row, _)| row.log_seq);
    let confirmed = run.map_or(0, |run| run.confirmed_len);
    // If there was no run yet, all snapshots except the newest count as seen.
    let seen_len = run.map_or_else(|| by_log.last().map_or(0, |(row, _)| row.log_seq), |run| run.log_len);
    let (seen, new) = by_log.split_at(by_log.partition_point(|(row, _)| row.log_seq < seen_len));

    shrinks(seen, new, confirmed, &mut holds);
    let unconfirmed = &by_log[by_log.partition_point(|(row, _)| row.log_seq < confirmed)..];
    jumps(unconfirmed, now, &mut holds);
    let is_suspicious = |row: &SnapshotRow| row.tags.iter().any(|tag| tag == SUSPICIOUS);
    if let Some((row, _)) = unconfirmed.iter().find(|(row, _)| is_suspicious(row)) {
        holds.push(Hold::Suspicious { snapshot: row.id });
    }
    if let Some(ahead) = run.map(|run| ahead_secs(run.at, now)).filter(|ahead| *ahead > SKEW_SECS) {
        holds.push(Hold::RunInFuture { ahead_secs: ahead });
    }
    let last_seen = seen.iter().map(|(row, _)| row.received).max();
    let next = new.iter().map(|(row, _)| row.received).min();
    if let (Some(last_seen), Some(next)) = (last_seen, next) {
        let gap_secs = ahead_secs(next, last_seen);
        let forgotten = seen.iter().filter(|(_, kept)| !kept).count();
        if gap_secs > GAP_SECS && forgotten * 2 > seen.len() {
            holds.push(Hold::Gap { gap_secs, forgotten, of: seen.len() });
        }
    }
    holds
}

/// Compares the newest snapshot, if it is new, with the snapshots that the last run saw.
fn shrinks(seen: &[(&SnapshotRow, bool)], new: &[(&SnapshotRow, bool)], confirmed: u64, holds: &mut Vec<Hold>) {
    let Some((newest, _)) = new.last() else { return };
    // The confirmed size is that of the newest snapshot at the time: from there on it is the usual one.
    let since = confirmed.saturating_sub(1);
    let base = seen.iter().rev().take_while(|(row, _)| row.log_seq >= since).take(BASE);
    let (bytes, files): (Vec<u64>, Vec<u64>) = base.map(|(row, _)| (row.bytes, row.files)).unzip();
    let shrank = |value: u64, usual: u64, least: u64| value < usual.div_ceil(2) && (usual >= least || value == 0);
    if let Some(usual) = median(bytes).filter(|usual| shrank(newest.bytes, *usual, BYTES_MIN)) {
        holds.push(Hold::FewerBytes { snapshot: newest.id, bytes: newest.bytes, usual });
    }
    if let Some(usual) = median(files).filter(|usual| shrank(newest.files, *usual, FILES_MIN)) {
        holds.push(Hold::FewerFiles { snapshot: newest.id, files: newest.files, usual });
    }
}

/// Compares receive times with the order of the log and with now, and adds the worst difference of each kind. (If a
/// clock was set back to before what was confirmed, the time of the last run shows it.)
fn jumps(unconfirmed: &[(&SnapshotRow, bool)], now: Time, holds: &mut Vec<Hold>) {
    let ahead = unconfirmed.iter().map(|(row, _)| (ahead_secs(row.received, now), row.id)).max();
    if let Some((ahead_secs, snapshot)) = ahead.filter(|(ahead, _)| *ahead > SKEW_SECS) {
        holds.push(Hold::Future { snapshot, ahead_secs });
    }
    let mut latest: Option<&SnapshotRow> = None;
    let mut worst: Option<(i64, SnapshotId, SnapshotId)> = None;
    for (row, _) in unconfirmed {
        if let Some(first) = latest.filter(|first| first.received > row.received) {
            let back_secs = ahead_secs(first.received, row.received);
            if back_secs > SKEW_SECS && worst.is_none_or(|(worst, ..)| back_secs > worst) {
                worst = Some((back_secs, first.id, row.id));
            }
        } else {
            latest = Some(row);
        }
    }
    if let Some((back_secs, first, later)) = worst {
        holds.push(Hold::OutOfOrder { first, later, back_secs });
    }
}

/// Returns the median. Of an even number of values it is the higher of the middle two, so that a doubtful group is
/// held.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
