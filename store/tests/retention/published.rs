//! The examples that restic and borg publish about their retention: which dates of a series are kept. Only the facts
//! are taken from them: from "Removing snapshots according to a policy" in restic's manual, and from "borg prune
//! visualized" in borg's.

use jiff::{ToSpan, civil::date};

use super::*;

fn restic_sundays() -> Vec<SnapshotRow> {
    daily(date(2019, 9, 1).series(1.week()).take(12), 11)
}

/// Twelve Sundays, `--keep-daily 4`: days without a snapshot do not count.
#[test]
fn restic_four_dailies_of_sundays() {
    let policy = Policy { keep_daily: number(4), ..Policy::default() };
    let kept = kept(&run(&restic_sundays(), &policy));
    assert_eq!(dates(&kept), ["2019-11-17", "2019-11-10", "2019-11-03", "2019-10-27"]);
    assert_eq!(kept[3].1, ["daily 4 of 4"]);
}

/// One snapshot a day for a hundred years, `--keep-daily 7 --keep-weekly 5 --keep-monthly 12 --keep-yearly 75`. The
/// last day is a Sunday, as the manual's count of weekly snapshots requires.
#[test]
fn restic_a_hundred_years() {
    let last = date(2019, 11, 17);
    let rows = daily(date(1919, 11, 18).series(1.day()).take_while(|day| *day <= last), 11);
    assert!(rows.len() > 36_500);
    let policy = Policy {
        keep_daily: number(7),
        keep_weekly: number(5),
        keep_monthly: number(12),
        keep_yearly: number(75),
        ..Policy::default()
    };
    let kept = kept(&run(&rows, &policy));
    let of = |word: &str| kept.iter().filter(|(_, r)| r.iter().any(|r| r.starts_with(word))).count();
    let only = |word: &str| kept.iter().filter(|(_, r)| r.iter().all(|r| r.starts_with(word))).count();
    assert_eq!((of("daily"), of("weekly"), of("monthly"), of("yearly")), (7, 5, 12, 75));
    assert_eq!(only("weekly"), 4, "one of the five is among the dailies");
    assert_eq!(only("monthly"), 10, "the newest is a daily; 31 December is a yearly too");
    assert_eq!(only("yearly"), 73);
    assert_eq!(kept.len(), 7 + 4 + 11 + 73);
    assert!(!kept.iter().any(|(_, r)| r.iter().any(|r| r.starts_with("oldest"))), "all counts are filled");
    let months: Vec<_> = dates(&kept).into_iter().filter(|d| *d >= "2018-12" && d.ends_with("31")).collect();
    assert_eq!(
        months,
        ["2019-10-31", "2019-08-31", "2019-07-31", "2019-05-31", "2019-03-31", "2019-01-31", "2018-12-31"]
    );
    assert_eq!(dates(&kept).last(), Some(&"1945-12-31"));
}

/// The same by age: `--keep-within-daily 7d --keep-within-weekly 1m --keep-within-monthly 1y --keep-within-yearly 75y`.
#[test]
fn restic_a_hundred_years_by_age() {
    let last = date(2019, 11, 17);
    let rows = daily(date(1919, 11, 18).series(1.day()).take_while(|day| *day <= last), 11);
    let policy = Policy {
        keep_within_daily: "7d".parse().ok(),
        keep_within_weekly: "1m".parse().ok(),
        keep_within_monthly: "1y".parse().ok(),
        keep_within_yearly: "75y".parse().ok(),
        ..Policy::default()
    };
    let kept = kept(&run(&rows, &policy));
    let of = |reason: &str| kept.iter().filter(|(_, r)| r.iter().any(|r| r == reason)).count();
    assert_eq!(of("daily within 7d"), 7, "11 to 17 November; the 10th at the same hour is seven days old");
    assert_eq!(of("weekly within 1m"), 5, "the Sundays 17, 10 and 3 November, 27 and 20 October");
    assert_eq!(of("monthly within 1y"), 13, "November 2019 back to November 2018");
    assert_eq!(of("yearly within 75y"), 76, "2019 back to 1944");
}

/// As long as fewer periods are filled than wanted, the oldest snapshot is kept, too.
#[test]
fn restic_keeps_the_oldest_while_counts_are_left() {
    let rows = restic_sundays();
    let policy = Policy { keep_monthly: number(4), ..Policy::default() };
    let four = kept(&run(&rows, &policy));
    assert_eq!(dates(&four), ["2019-11-17", "2019-10-27", "2019-09-29", "2019-09-01"]);
    assert_eq!(four[3].1, ["oldest, until 4 months have one"]);
    let policy = Policy { keep_monthly: number(3), ..Policy::default() };
    assert_eq!(dates(&kept(&run(&rows, &policy))), ["2019-11-17", "2019-10-27", "2019-09-29"]);
    let policy = Policy { keep_yearly: Some(Count::Unlimited), ..Policy::default() };
    assert_eq!(dates(&kept(&run(&rows, &policy))), ["2019-11-17", "2019-09-01"]);
    let policy = Policy { keep_within_monthly: "1y".parse().ok(), ..Policy::default() };
    assert_eq!(dates(&kept(&run(&rows, &policy))), dates(&four));
    let policy = Policy { keep_within_monthly: "2m".parse().ok(), ..Policy::default() };
    assert_eq!(dates(&kept(&run(&rows, &policy))), ["2019-11-17", "2019-10-27", "2019-09-29"], "the oldest is too old");
}

/// Each day of 2015 except 19 December.
fn borg_year() -> Vec<SnapshotRow> {
    let days = date(2015, 1, 1).series(1.day()).take(365).filter(|day| *day != date(2015, 12, 19));
    daily(days, 20)
}

const BORG_DAILIES: [&str; 14] = [
    "2015-12-31",
    "2015-12-30",
    "2015-12-29",
    "2015-12-28",
    "2015-12-27",
    "2015-12-26",
    "2015-12-25",
    "2015-12-24",
    "2015-12-23",
    "2015-12-22",
    "2015-12-21",
    "2015-12-20",
    "2015-12-18",
    "2015-12-17",
];
const BORG_MONTHLIES: [&str; 6] = ["2015-11-30", "2015-10-31", "2015-09-30", "2015-08-31", "2015-07-31", "2015-06-30"];
const BORG_YEARLIES: [&str; 1] = ["2015-01-01"];

/// `--keep-daily 14 --keep-monthly 6 --keep-yearly 1`: borg skips the December and the 2015 that the daily rule keeps.
/// Here they count, so each of the coarser rules needs one more for the same result.
#[test]
fn borg_year_with_room_for_what_finer_rules_keep() {
    let policy =
        Policy { keep_daily: number(14), keep_monthly: number(7), keep_yearly: number(2), ..Policy::default() };
    let kept = kept(&run(&borg_year(), &policy));
    assert_eq!(dates(&kept), [&BORG_DAILIES[..], &BORG_MONTHLIES, &BORG_YEARLIES].concat());
    assert_eq!(kept[0].1, ["daily 1 of 14", "monthly 1 of 7", "yearly 1 of 2"]);
    assert_eq!(kept[20].1, ["oldest, until 2 years have one"]);
}

/// With borg's own numbers, exactly the last month and the oldest snapshot are missing.
#[test]
fn borg_year_with_borgs_numbers() {
    let policy =
        Policy { keep_daily: number(14), keep_monthly: number(6), keep_yearly: number(1), ..Policy::default() };
    let kept = kept(&run(&borg_year(), &policy));
    assert_eq!(dates(&kept), [&BORG_DAILIES[..], &BORG_MONTHLIES[..5]].concat());
}
