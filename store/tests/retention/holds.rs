//! When automatic forgetting must wait for a person, and what happens after the person has confirmed.

use bkfs_store::owner::retention::{Hold, Reason};

use super::*;

const DAY: i64 = 86_400;

fn policy() -> Policy {
    Policy { keep_last: number(3), keep_within_daily: "10d".parse().ok(), ..Policy::default() }
}

/// A target that is pushed to and thinned out, as a nightly job sees it.
struct Job {
    rows: Vec<SnapshotRow>,
    runs: BTreeMap<Group, LastRun>,
    next: u64,
}

impl Job {
    /// Ten daily pushes, and a run that nothing holds.
    fn new() -> Self {
        let mut job = Job { rows: Vec::new(), runs: BTreeMap::new(), next: 0 };
        (0..10).for_each(|day| job.push(day * DAY, 1000));
        assert_eq!(job.night(9 * DAY + 3600, false), []);
        job
    }

    fn push(&mut self, secs: i64, files: u64) {
        let bytes = files << 20;
        self.rows.push(SnapshotRow { files, bytes, ..row(self.next, secs) });
        self.next += 1;
    }

    /// Plans; executes if nothing holds or a person confirms; returns what held.
    fn night(&mut self, now: i64, confirmed: bool) -> Vec<Hold> {
        let plan = plan_at(&self.rows, &policy(), now, &self.runs).unwrap();
        self.runs = plan.runs(&self.runs, Time { secs: now, nanos: 0 }, confirmed);
        let group = plan.groups.into_iter().next().unwrap();
        if group.holds.is_empty() || confirmed {
            self.rows = group.decisions.into_iter().filter(|d| d.keeps()).map(|d| d.snapshot).collect();
        }
        group.holds
    }
}

#[test]
fn ordinary_nights_are_not_held() {
    let mut job = Job::new();
    for day in 10..40 {
        job.push(day * DAY, 1000 + day as u64);
        assert_eq!(job.night(day * DAY + 3600, false), [], "day {day}");
    }
    assert_eq!(job.rows.len(), 10, "and snapshots are forgotten");
}

#[test]
fn a_target_that_shrinks_is_held_however_often_it_is_pushed() {
    let mut job = Job::new();
    for hour in 0..48 {
        job.push(10 * DAY + hour * 3600, 499);
        if hour % 24 == 23 {
            let holds = job.night(10 * DAY + hour * 3600 + 60, false);
            assert!(
                matches!(holds[..], [Hold::FewerBytes { .. }, Hold::FewerFiles { files: 499, usual: 1000, .. }]),
                "{holds:?}"
            );
            assert!(holds[1].to_string().contains("499 files where 1000 are usual"));
        }
    }
    assert_eq!(job.rows.len(), 58, "nothing was forgotten");
    assert!(!job.night(13 * DAY, true).is_empty());
    assert!(job.rows.len() < 20, "a person confirmed");
    // From now on, the new size is the usual one.
    job.push(13 * DAY + 60, 490);
    assert_eq!(job.night(13 * DAY + 120, false), []);
    job.push(13 * DAY + 180, 200);
    assert_eq!(job.night(13 * DAY + 240, false).len(), 2);
}

#[test]
fn a_confirmed_size_is_usual_from_then_on() {
    let mut job = Job::new();
    job.push(10 * DAY, 400);
    assert_eq!(job.night(10 * DAY + 60, false).len(), 2);
    assert_eq!(job.night(10 * DAY + 120, true).len(), 2);
    job.push(11 * DAY, 390);
    assert_eq!(job.night(11 * DAY + 60, false), [], "the four larger ones before it no longer set the usual size");
    job.push(12 * DAY, 190);
    assert_eq!(job.night(12 * DAY + 60, false).len(), 2);
}

#[test]
fn half_is_not_held_and_a_recovery_ends_the_hold() {
    let mut job = Job::new();
    job.push(10 * DAY, 500);
    assert_eq!(job.night(10 * DAY + 60, false), []);
    job.push(11 * DAY, 3);
    assert_eq!(job.night(11 * DAY + 60, false).len(), 2);
    job.push(12 * DAY, 1000);
    assert_eq!(job.night(12 * DAY + 60, false), []);
}

#[test]
fn small_targets_may_shrink_but_not_vanish() {
    let mut rows: Vec<_> = (0..5).map(|n| SnapshotRow { files: 4, bytes: 900, ..row(n, n as i64 * DAY) }).collect();
    rows.push(SnapshotRow { files: 1, bytes: 100, ..row(5, 5 * DAY) });
    assert_eq!(run(&rows, &policy()).groups[0].holds, []);
    rows[5].bytes = 0;
    assert!(matches!(run(&rows, &policy()).groups[0].holds[..], [Hold::FewerBytes { bytes: 0, usual: 900, .. }]));
}

#[test]
fn a_snapshot_from_the_future_is_kept_but_not_counted_and_causes_a_hold() {
    let mut job = Job::new();
    job.push(400 * DAY, 1000);
    job.push(10 * DAY, 1000);
    let plan = plan_at(&job.rows, &policy(), 10 * DAY + 60, &job.runs).unwrap();
    let decisions = &plan.groups[0].decisions;
    assert!(decisions[0].reasons.contains(&Reason::Last { nth: 1, of: Count::Number(3) }), "received last");
    assert_eq!(decisions[1].reasons, [Reason::Future]);
    let holds = job.night(10 * DAY + 60, false);
    assert!(
        matches!(holds[..], [Hold::Future { .. }, Hold::OutOfOrder { back_secs, .. }] if back_secs == 390 * DAY),
        "{holds:?}"
    );
    assert!(holds[0].to_string().contains("389 days in the future"), "{}", holds[0]);
    assert!(holds[1].to_string().contains("390 days before"), "{}", holds[1]);
    assert!(!job.night(10 * DAY + 120, true).is_empty());
    job.push(11 * DAY, 1000);
    assert_eq!(job.night(11 * DAY + 60, false), [], "one confirmation is enough");
    assert!(job.rows.iter().any(|r| r.received.secs == 400 * DAY));
}

#[test]
fn a_clock_that_is_a_few_minutes_off_is_forgiven() {
    let mut job = Job::new();
    job.push(10 * DAY, 1000);
    job.push(10 * DAY - 600, 1000);
    assert_eq!(job.night(10 * DAY - 600, false), []);
    job.push(10 * DAY - 601, 1000);
    assert!(matches!(job.night(10 * DAY, false)[..], [Hold::OutOfOrder { back_secs: 601, .. }]));
}

#[test]
fn a_run_in_the_future_holds_until_confirmed() {
    let mut job = Job::new();
    assert_eq!(job.night(100 * DAY, false), [], "a clock three months ahead, with nothing new, does nothing");
    job.push(10 * DAY, 1000);
    assert!(matches!(job.night(10 * DAY + 60, false)[..], [Hold::RunInFuture { .. }]));
    job.night(10 * DAY + 60, true);
    assert_eq!(job.night(10 * DAY + 120, false), []);
}

#[test]
fn a_gap_that_would_forget_most_of_the_past_is_held() {
    let mut job = Job::new();
    (0..4).for_each(|n| job.push(60 * DAY + n, 1000));
    let holds = job.night(60 * DAY + 60, false);
    assert!(matches!(holds[..], [Hold::Gap { forgotten: 10, of: 10, .. }]), "{holds:?}");
    assert!(holds[0].to_string().contains("51 days"), "{}", holds[0]);
    assert_eq!(job.rows.len(), 14);
    job.night(60 * DAY + 60, true);
    job.push(61 * DAY, 1000);
    assert_eq!(job.night(61 * DAY + 60, false), []);
}

#[test]
fn a_gap_that_forgets_little_and_a_long_weekend_are_not_held() {
    let generous = Policy { keep_last: number(9), ..Policy::default() };
    let job = Job::new();
    let after = |gap: i64, policy: &Policy| {
        let mut rows = job.rows.clone();
        rows.extend((0..4).map(|n| row(100 + n, 9 * DAY + gap + n as i64)));
        plan_at(&rows, policy, 9 * DAY + gap + 60, &job.runs).unwrap().groups.remove(0).holds
    };
    assert_eq!(after(60 * DAY, &generous), []);
    let strict = Policy { keep_last: number(2), ..Policy::default() };
    assert_eq!(after(7 * DAY, &strict), []);
    assert_eq!(after(7 * DAY + 1, &strict).len(), 1);
}

#[test]
fn a_hold_on_one_group_does_not_hold_another() {
    let mut rows: Vec<_> = (0..5).map(|n| row(n, n as i64)).collect();
    rows.extend((5..10).map(|n| SnapshotRow { target: "etc".to_owned(), ..row(n, n as i64) }));
    rows[4].files = 0;
    let plan = run(&rows, &policy());
    let held: Vec<_> = plan.groups.iter().map(|g| (g.group.target.as_deref().unwrap(), g.holds.len())).collect();
    assert_eq!(held, [("etc", 0), ("home", 1)]);
    let runs = plan.runs(&BTreeMap::new(), Time { secs: 100, nanos: 0 }, false);
    assert_eq!(runs.len(), 1, "only the run over etc went through");
    assert_eq!(runs[&plan.groups[0].group].log_len, 10);
}

#[test]
fn a_suspicious_snapshot_holds_everything_until_a_person_confirms() {
    let mut job = Job::new();
    job.push(10 * DAY, 1000);
    job.rows.last_mut().unwrap().tags.push("suspicious".into());
    let first = job.rows.last().unwrap().id;
    let kept = job.rows.len();
    for day in 11..20 {
        job.push(day * DAY, 1000);
        assert_eq!(job.night(day * DAY + 3600, false), [Hold::Suspicious { snapshot: first }], "day {day}");
    }
    assert_eq!(job.rows.len(), kept + 9, "nothing is forgotten");
    job.night(19 * DAY + 7200, true);
    job.push(20 * DAY, 1000);
    assert_eq!(job.night(20 * DAY + 3600, false), []);
    // The next one is another matter.
    job.push(21 * DAY, 1000);
    job.rows.last_mut().unwrap().tags.push("suspicious".into());
    assert_eq!(job.night(21 * DAY + 3600, false).len(), 1);
}
