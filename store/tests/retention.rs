//! Retention from outside: the examples that restic and borg publish for theirs, a reference model, and holds.

#![allow(clippy::unwrap_used)]

#[path = "retention/holds.rs"]
mod holds;
#[path = "retention/model.rs"]
mod model;
#[path = "retention/published.rs"]
mod published;

use std::collections::BTreeMap;

use bkfs_store::{
    base::{
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::snapshot::PathBytes,
    owner::retention::{Count, Group, Grouping, LastRun, Plan, Policy, RetentionError, SnapshotRow, TagList, plan},
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// Snapshot number `n` of one client and one target, received at `secs`.
fn row(n: u64, secs: i64) -> SnapshotRow {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    SnapshotRow {
        received: Time { secs, nanos: 0 },
        log_seq: n,
        id: SnapshotId(id),
        client: ClientId([1; 16]),
        host: "mopped".to_owned(),
        target: "home".to_owned(),
        paths: vec![PathBytes(b"/home/user/work".to_vec())],
        tags: Vec::new(),
        bytes: 1 << 30,
        files: 1000,
    }
}

/// One snapshot for each of the days, at the given hour, oldest first.
fn daily(days: impl Iterator<Item = Date>, hour: i8) -> Vec<SnapshotRow> {
    let at = |day: Date| day.at(hour, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp().as_second();
    days.enumerate().map(|(n, day)| row(n as u64, at(day))).collect()
}

fn number(n: u32) -> Option<Count> {
    Some(Count::Number(n))
}

/// Plans in UTC, one hour after the newest snapshot, with no earlier run.
fn run(rows: &[SnapshotRow], policy: &Policy) -> Plan {
    let now = rows.iter().map(|r| r.received.secs).max().unwrap_or(0) + 3600;
    plan_at(rows, policy, now, &BTreeMap::new()).unwrap()
}

fn plan_at(
    rows: &[SnapshotRow],
    policy: &Policy,
    now: i64,
    runs: &BTreeMap<Group, LastRun>,
) -> Result<Plan, RetentionError> {
    plan(rows, policy, Grouping::default(), &TimeZone::UTC, Time { secs: now, nanos: 0 }, runs)
}

/// The dates that the only group keeps, newest first, each with its reasons as text.
fn kept(plan: &Plan) -> Vec<(String, Vec<String>)> {
    assert_eq!(plan.groups.len(), 1);
    let decisions = plan.groups[0].decisions.iter().filter(|d| d.keeps());
    decisions
        .map(|d| {
            let date = Timestamp::from_second(d.snapshot.received.secs).unwrap().to_string();
            (date[..10].to_owned(), d.reasons.iter().map(ToString::to_string).collect())
        })
        .collect()
}

fn dates(kept: &[(String, Vec<String>)]) -> Vec<&str> {
    kept.iter().map(|(date, _)| date.as_str()).collect()
}

#[test]
fn an_empty_policy_is_refused() {
    let rows = [row(0, 0)];
    assert_eq!(plan_at(&rows, &Policy::default(), 10, &BTreeMap::new()), Err(RetentionError::EmptyPolicy));
    let zeros = Policy { keep_last: number(0), keep_daily: number(0), ..Policy::default() };
    assert_eq!(plan_at(&rows, &zeros, 10, &BTreeMap::new()), Err(RetentionError::EmptyPolicy));
}

#[test]
fn a_policy_that_keeps_nothing_of_a_group_is_refused() {
    let mut rows = [row(0, 0), row(1, 1), row(2, 2)];
    rows[0].tags.push("release".to_owned());
    let policy = Policy { keep_tag: vec![TagList(vec!["release".to_owned()])], ..Policy::default() };
    assert_eq!(dates(&kept(&run(&rows, &policy))).len(), 1);
    rows[2].target = "etc".to_owned();
    let error = plan_at(&rows, &policy, 10, &BTreeMap::new()).unwrap_err();
    assert!(matches!(&error, RetentionError::KeepsNothing { snapshots: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("target \"etc\""), "{error}");
    // It is not an error if there is nothing to plan for.
    assert_eq!(plan_at(&[], &policy, 10, &BTreeMap::new()), Ok(Plan::default()));
}

#[test]
fn groups_are_by_client_host_target_and_set_of_paths() {
    let mut rows: Vec<_> = (0..6).map(|n| row(n, n as i64)).collect();
    rows[1].client = ClientId([2; 16]);
    rows[2].host = "other".to_owned();
    rows[3].target = "etc".to_owned();
    rows[4].paths = vec![PathBytes(b"/b".to_vec()), PathBytes(b"/a".to_vec())];
    rows[5].paths = vec![PathBytes(b"/a".to_vec()), PathBytes(b"/b".to_vec()), PathBytes(b"/a".to_vec())];
    let policy = Policy { keep_last: number(1), ..Policy::default() };
    let sizes = |grouping: &str| {
        let now = Time { secs: 10, nanos: 0 };
        let grouping = grouping.parse().unwrap();
        let plan = plan(&rows, &policy, grouping, &TimeZone::UTC, now, &BTreeMap::new()).unwrap();
        let mut sizes: Vec<_> = plan.groups.iter().map(|g| g.decisions.len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!("client,host,target,paths".parse(), Ok(Grouping::default()));
    assert_eq!(sizes("host,target,paths"), [1, 1, 1, 1, 2], "the order of the paths does not matter");
    assert_eq!(sizes("host"), [1, 1, 4], "another client of the same host name is another host");
    assert_eq!(sizes("client"), [1, 5]);
    assert_eq!(sizes("target"), [1, 5]);
    assert_eq!(sizes(""), [6]);
    assert!("host,tags".parse::<Grouping>().unwrap_err().to_string().contains("\"tags\""));
}

#[test]
fn a_snapshot_given_twice_counts_once() {
    let rows = [row(0, 0), row(1, 1), row(1, 1)];
    let policy = Policy { keep_last: number(2), ..Policy::default() };
    assert_eq!(kept(&run(&rows, &policy)).len(), 2);
}

#[test]
fn periods_follow_the_time_zone() {
    // 23:30 and 00:30 in Berlin's winter: two days there, one day in UTC.
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    let rows = [row(0, at("2026-11-20T22:30:00Z")), row(1, at("2026-11-20T23:30:00Z"))];
    let policy = Policy { keep_daily: number(1), ..Policy::default() };
    let forgotten = |zone: TimeZone| {
        let now = Time { secs: at("2026-11-21T12:00:00Z"), nanos: 0 };
        let plan = plan(&rows, &policy, Grouping::default(), &zone, now, &BTreeMap::new()).unwrap();
        plan.groups[0].decisions.iter().filter(|d| !d.keeps()).count()
    };
    let two_days = Policy { keep_daily: number(2), ..Policy::default() };
    assert_eq!(forgotten(TimeZone::fixed(jiff::tz::offset(1))), 1);
    assert_eq!(kept(&run(&rows, &two_days))[1].1, ["oldest, until 2 days have one"], "one day in UTC");
}
