//! The rules, applied to one group.

use std::collections::HashSet;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    age::Age,
    calendar::{Period, PeriodKey, timestamp},
    hold::is_future,
    policy::{Count, Policy},
    reason::Reason,
    row::SnapshotRow,
};
use crate::base::time::Time;

/// Returns for each of a group's snapshots, newest first, why it is kept. A snapshot without a reason is not kept.
///
/// The order of the rows decides which snapshot is the newest, of all and of a period. The receive time decides only
/// which period a snapshot is in, and its age. If the store's clock was set back or ran ahead, times do not follow the
/// order, so nothing here relies on sorted times.
pub(super) fn reasons(rows: &[&SnapshotRow], policy: &Policy, zone: &TimeZone, now: Time) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); rows.len()];
    let mut counted: Vec<Counted> = Vec::with_capacity(rows.len());
    for (row, (of, snapshot)) in reasons.iter_mut().zip(rows).enumerate() {
        match is_future(snapshot.received, now) {
            true => of.push(Reason::Future),
            false => counted.push(Counted { row, time: timestamp(snapshot.received) }),
        }
        let lists = policy.keep_tag.iter().filter(|list| list.fits(&snapshot.tags));
        of.extend(lists.cloned().map(Reason::Tags));
    }
    let (Some(newest), Some(oldest)) = (counted.first().copied(), counted.last().copied()) else { return reasons };
    if let Some(count) = policy.last() {
        for (i, counted) in counted.iter().enumerate().take_while(|(i, _)| count.exceeds(*i)) {
            reasons[counted.row].push(Reason::Last { nth: i + 1, of: count });
        }
    }
    for period in Period::ALL {
        if let Some(count) = policy.every(period) {
            every(period, count, &counted, zone, &mut reasons);
        }
    }
    let within = |age: &Age| {
        let since = age.before(newest.time, zone);
        counted.iter().filter(move |counted| counted.time > since)
    };
    if let Some(age) = policy.keep_within {
        for counted in within(&age) {
            reasons[counted.row].push(Reason::Within { age });
        }
    }
    for period in Period::ALL {
        let Some(age) = policy.every_within(period) else { continue };
        let mut seen: HashSet<PeriodKey> = HashSet::new();
        for counted in within(&age) {
            if seen.insert(period.of(counted.time, zone)) {
                reasons[counted.row].push(Reason::EveryWithin { period, age });
            } else if counted.row == oldest.row {
                reasons[counted.row].push(Reason::OldestEveryWithin { period, age });
            }
        }
    }
    reasons
}

/// A snapshot that is not from the future.
#[derive(Clone, Copy)]
struct Counted {
    /// The index of its row.
    row: usize,
    /// When the store received it.
    time: Timestamp,
}

/// Keeps the newest snapshot of each of the last `count` periods, and the oldest of the group while there are fewer.
fn every(period: Period, count: Count, counted: &[Counted], zone: &TimeZone, reasons: &mut [Vec<Reason>]) {
    let mut seen: HashSet<PeriodKey> = HashSet::new();
    for (i, Counted { row, time }) in counted.iter().enumerate() {
        if !count.exceeds(seen.len()) {
            return;
        }
        if seen.insert(period.of(*time, zone)) {
            reasons[*row].push(Reason::Every { period, nth: seen.len(), of: count });
        } else if i + 1 == counted.len() {
            reasons[*row].push(Reason::OldestEvery { period, of: count });
        }
    }
}
