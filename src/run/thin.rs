//! Which of a watch's many snapshots stay.

use bkfs_store::owner::retention::{Age, Count, Policy};

/// The policy of a series that is watched: all of the last hour, one an hour for a day, and then what the profile keeps
/// of its snapshots, or else one a day for ever.
pub fn policy(of_profile: Option<Policy>) -> Policy {
    let mut policy = of_profile.unwrap_or_else(|| Policy { keep_daily: Some(Count::Unlimited), ..Policy::default() });
    policy.keep_within = policy.keep_within.or(Age::new(0, 0, 0, 1));
    policy.keep_within_hourly = policy.keep_within_hourly.or(Age::new(0, 0, 1, 0));
    policy
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        base::{
            id::{ClientId, SnapshotId},
            time::Time,
        },
        owner::retention::{Grouping, SnapshotRow, plan},
    };
    use jiff::tz::TimeZone;

    use super::*;

    /// How many of the snapshots of three days, one every half minute, stay.
    fn kept(policy: &Policy) -> usize {
        let row = |number: u64| SnapshotRow {
            received: Time { secs: 1_700_000_000 + number as i64 * 30, nanos: 0 },
            log_seq: number,
            id: SnapshotId([(number % 251) as u8; 32].map(|byte| byte ^ (number >> 8) as u8)),
            client: ClientId([1; 16]),
            host: "h".into(),
            target: "t".into(),
            paths: vec![],
            tags: vec!["watch".into()],
            bytes: 1,
            files: 1,
        };
        let mut rows: Vec<SnapshotRow> = (0..3 * 2880).map(row).collect();
        for (number, row) in rows.iter_mut().enumerate() {
            row.id.0[..8].copy_from_slice(&(number as u64).to_le_bytes());
        }
        let now = rows.last().unwrap().received;
        let plan = plan(&rows, policy, Grouping::default(), &TimeZone::UTC, now, &Default::default()).unwrap();
        plan.groups[0].decisions.iter().filter(|decision| decision.keeps()).count()
    }

    #[test]
    fn the_last_hour_and_an_hour_each_of_the_last_day_stay() {
        // 120 of the last hour, 24 of the hours before, and the days before.
        assert!((140..=150).contains(&kept(&policy(None))), "{}", kept(&policy(None)));
        let of_profile = Policy { keep_last: Some(Count::Number(200)), ..Policy::default() };
        assert!((215..=230).contains(&kept(&policy(Some(of_profile)))));
        let of_profile = Policy { keep_within: Age::new(0, 0, 1, 0), ..Policy::default() };
        assert!((2880..=2890).contains(&kept(&policy(Some(of_profile)))), "the profile keeps more");
    }
}
