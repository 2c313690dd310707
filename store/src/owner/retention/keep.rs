//! The rules, applied to one group.

use std::collections::HashSet;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    calendar::{Period, PeriodKey, timestamp},
    hold::is_future,
    policy::{Count, Policy},
    reason::Reason,
    row::SnapshotRow,
};
use crate::base::time::Time;

/// Returns for each of a group's snapshots, newest first, why it is kept. A snapshot without a reason is not kept.
pub(super) fn reasons(rows: &[&SnapshotRow], policy: &Policy, zone: &TimeZone, now: Time) -> Vec<Vec<Reason>> {
    let mut reasons = vec![Vec::new(); rows.len()];
    // The rows are sorted newest first, so those from the future lead.
    let future = rows.iter().take_while(|row| is_future(row.received, now)).count();
    let (ahead, counted) = reasons.split_at_mut(future);
    ahead.iter_mut().for_each(|of| of.push(Reason::Future));
    for (row, of) in rows.iter().zip(ahead.iter_mut().chain(counted.iter_mut())) {
        let lists = policy.keep_tag.iter().filter(|list| list.fits(&row.tags));
        of.extend(lists.cloned().map(Reason::Tags));
    }

    let times: Vec<Timestamp> = rows[future..].iter().map(|row| timestamp(row.received)).collect();
    let Some((newest, oldest)) = times.first().zip(times.len().checked_sub(1)) else { return reasons };
    if let Some(count) = policy.last() {
        for (i, of) in counted.iter_mut().enumerate().take_while(|(i, _)| count.exceeds(*i)) {
            of.push(Reason::Last { nth: i + 1, of: count });
        }
    }
    for period in Period::ALL {
        if let Some(count) = policy.every(period) {
            every(period, count, &times, zone, counted);
        }
    }
    if let Some(age) = policy.keep_within {
        let since = age.before(*newest, zone);
        for (of, _) in counted.iter_mut().zip(&times).take_while(|(_, time)| **time > since) {
            of.push(Reason::Within { age });
        }
    }
    for period in Period::ALL {
        let Some(age) = policy.every_within(period) else { continue };
        let since = age.before(*newest, zone);
        let mut seen: HashSet<PeriodKey> = HashSet::new();
        for (i, time) in times.iter().enumerate().take_while(|(_, time)| **time > since) {
            if seen.insert(period.of(*time, zone)) {
                counted[i].push(Reason::EveryWithin { period, age });
            } else if i == oldest {
                counted[i].push(Reason::OldestEveryWithin { period, age });
            }
        }
    }
    reasons
}

/// Keeps the newest snapshot of each of the last `count` periods, and the oldest of the group while there are fewer.
fn every(period: Period, count: Count, times: &[Timestamp], zone: &TimeZone, reasons: &mut [Vec<Reason>]) {
    let mut seen: HashSet<PeriodKey> = HashSet::new();
    for (i, (time, of)) in times.iter().zip(reasons).enumerate() {
        if !count.exceeds(seen.len()) {
            return;
        }
        if seen.insert(period.of(*time, zone)) {
            of.push(Reason::Every { period, nth: seen.len(), of: count });
        } else if i + 1 == times.len() {
            of.push(Reason::OldestEvery { period, of: count });
        }
    }
}
