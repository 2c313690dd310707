//! Retention against a reference model, which reaches the same answers in another way, over small random worlds.
//!
//! The model counts days since 1970 and computes dates from them itself. It decides for each snapshot by itself whether
//! each rule keeps it, without sorting the snapshots or walking through them.

use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::*;

/// What the model knows of a period: the number of the period that contains a local time in seconds.
type PeriodOf = fn(i64) -> i64;

/// Year, month and day of a day since 1970, proleptic Gregorian, counted from 1 March of the year 0.
fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (0..400).rev().find(|y| y * 365 + y / 4 - y / 100 <= of_era).unwrap();
    let mut left = of_era - (year * 365 + year / 4 - year / 100);
    let mut month = 3;
    for len in [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    let year = era * 400 + year + i64::from(month > 12);
    (year, if month > 12 { month - 12 } else { month }, left + 1)
}

/// The day since 1970 of a date. A day past the end of its month becomes the month's last.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let (years, month) = (year + (month - 1).div_euclid(12), (month - 1).rem_euclid(12) + 1);
    let guess = (years - 1970) * 365 + (years - 1970).div_euclid(4) - 40;
    let fits = |d: &i64| civil(*d).0 == years && civil(*d).1 == month && civil(*d).2 <= day;
    (guess..guess + 450).rev().find(fits).unwrap()
}

const PERIODS: [PeriodOf; 5] = [
    |secs| secs.div_euclid(3600),
    |secs| secs.div_euclid(86_400),
    |secs| (secs.div_euclid(86_400) + 3).div_euclid(7),
    |secs| civil(secs.div_euclid(86_400)).0 * 12 + civil(secs.div_euclid(86_400)).1,
    |secs| civil(secs.div_euclid(86_400)).0,
];

/// A policy as plain numbers.
#[derive(Debug, Clone, Default)]
struct Rules {
    last: Option<u32>,
    every: [Option<u32>; 5],
    within: Option<[u32; 4]>,
    every_within: [Option<[u32; 4]>; 5],
    tag: bool,
}

const NOW: i64 = 1_800_000_000;
const UNLIMITED: u32 = 1_000_000;

impl Rules {
    fn policy(&self) -> Policy {
        let count = |n: Option<u32>| n.map(|n| if n == UNLIMITED { Count::Unlimited } else { Count::Number(n) });
        let age = |a: Option<[u32; 4]>| a.and_then(|[y, m, d, h]| bkfs_store::owner::retention::Age::new(y, m, d, h));
        Policy {
            keep_last: count(self.last),
            keep_hourly: count(self.every[0]),
            keep_daily: count(self.every[1]),
            keep_weekly: count(self.every[2]),
            keep_monthly: count(self.every[3]),
            keep_yearly: count(self.every[4]),
            keep_within: age(self.within),
            keep_within_hourly: age(self.every_within[0]),
            keep_within_daily: age(self.every_within[1]),
            keep_within_weekly: age(self.every_within[2]),
            keep_within_monthly: age(self.every_within[3]),
            keep_within_yearly: age(self.every_within[4]),
            keep_tag: if self.tag { vec![TagList(vec!["t".to_owned()])] } else { Vec::new() },
        }
    }

    /// How many rules keep a snapshot of a group, in a zone `east` seconds east of UTC.
    fn keeps(&self, row: &SnapshotRow, group: &[SnapshotRow], east: i64) -> usize {
        let tags = usize::from(self.tag && row.tags == ["t"]);
        if row.received.secs > NOW + 600 {
            return 1 + tags;
        }
        let key = |r: &SnapshotRow| r.log_seq;
        let group: Vec<_> = group.iter().filter(|r| r.received.secs <= NOW + 600).collect();
        let newer: Vec<_> = group.iter().filter(|r| key(r) > key(row)).collect();
        let oldest = group.iter().all(|r| key(r) >= key(row));
        let latest = group.iter().max_by_key(|r| key(r)).unwrap().received.secs + east;
        let inside = |row: &SnapshotRow, [y, m, d, h]: [u32; 4]| {
            let (year, month, day) = civil(latest.div_euclid(86_400));
            let day = day_of(year - i64::from(y), month - i64::from(m), day) - i64::from(d);
            let since = day * 86_400 + latest.rem_euclid(86_400) - i64::from(h) * 3600;
            row.received.secs + east > since
        };
        let mut rules = tags + usize::from(self.last.is_some_and(|n| newer.len() < n as usize));
        rules += usize::from(self.within.is_some_and(|age| inside(row, age)));
        for (i, period) in PERIODS.iter().enumerate() {
            let of = |r: &SnapshotRow| period(r.received.secs + east);
            let newest = newer.iter().all(|r| of(r) != of(row));
            let mut later: Vec<_> = newer.iter().map(|r| of(r)).collect();
            later.sort_unstable();
            later.dedup();
            rules += usize::from(self.every[i].is_some_and(|n| (newest || oldest) && later.len() < n as usize));
            let within = |age| {
                let newest = newer.iter().all(|r| of(r) != of(row) || !inside(r, age));
                (newest || oldest) && inside(row, age)
            };
            rules += usize::from(self.every_within[i].is_some_and(within));
        }
        rules
    }
}

fn counts() -> impl Strategy<Value = Option<u32>> {
    option::of(prop_oneof![4 => 1..6_u32, 1 => Just(UNLIMITED)])
}

fn ages() -> impl Strategy<Value = Option<[u32; 4]>> {
    let age = (0..3_u32, 0..15_u32, 0..40_u32, 0..50_u32).prop_map(|(y, m, d, h)| [y, m, d, h]);
    option::of(age.prop_filter("no age", |age| *age != [0; 4]))
}

fn rules() -> impl Strategy<Value = Rules> {
    let every = (counts(), counts(), counts(), counts(), counts());
    let within = (ages(), ages(), ages(), ages(), ages());
    (counts(), every, ages(), within, any::<bool>())
        .prop_map(|(last, e, w, ew, tag)| Rules {
            last,
            every: [e.0, e.1, e.2, e.3, e.4],
            within: w,
            every_within: [ew.0, ew.1, ew.2, ew.3, ew.4],
            tag,
        })
        .prop_filter("empty", |rules| !rules.policy().is_empty())
}

/// Snapshots of one or two clients: minutes, hours, days or months apart, some at the same moment, some in the future.
/// Now and then the store's clock was set back or ran ahead, so the times do not follow the order of the log.
fn snapshots() -> impl Strategy<Value = Vec<SnapshotRow>> {
    let step = prop_oneof![
        2 => Just(0), 2 => 1..7200_i64, 2 => 1..200_000_i64, 2 => 1..9_000_000_i64, 1 => -9_000_000..0_i64
    ];
    vec((step, 1..3_u8, any::<bool>()), 1..40).prop_map(|steps| {
        let mut secs = NOW + 100_000;
        let total = steps.len() as u64;
        steps
            .into_iter()
            .enumerate()
            .map(|(i, (step, client, tagged))| {
                secs -= step;
                let tags = if tagged { vec!["t".to_owned()] } else { Vec::new() };
                SnapshotRow { client: ClientId([client; 16]), tags, ..row(total - i as u64, secs) }
            })
            .collect()
    })
}

/// Plans with `rules`. They must keep something of every group, because a policy that keeps nothing is refused.
fn planned(rows: &[SnapshotRow], rules: &Rules, grouping: Grouping, east: i32) -> Plan {
    let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(east).unwrap());
    let now = Time { secs: NOW, nanos: 0 };
    plan(rows, &rules.policy(), grouping, &zone, now, &BTreeMap::new()).unwrap()
}

fn kept_ids(plan: &Plan) -> std::collections::BTreeSet<SnapshotId> {
    let decisions = plan.groups.iter().flat_map(|g| &g.decisions);
    decisions.filter(|d| d.keeps()).map(|d| d.snapshot.id).collect()
}

fn never_empty(rules: Rules) -> Rules {
    Rules { last: rules.last.or(Some(1)), ..rules }
}

#[test]
fn the_models_calendar_is_a_calendar() {
    for (day, date) in [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11_016, (2000, 2, 29)), (20_777, (2026, 11, 20))] {
        assert_eq!(civil(day), date);
        assert_eq!(day_of(date.0, date.1, date.2), day);
    }
    assert_eq!(civil(day_of(2019, 2, 31)), (2019, 2, 28));
    assert_eq!(civil(day_of(2019, -1, 30)), (2018, 11, 30));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_the_model(rows in snapshots(), rules in rules().prop_map(never_empty), east in -50_000..50_000_i32) {
        let plan = planned(&rows, &rules, Grouping::default(), east);
        let mut seen = 0;
        for group in &plan.groups {
            let members: Vec<_> = rows.iter().filter(|r| Some(r.client) == group.group.client).cloned().collect();
            for decision in &group.decisions {
                let expected = rules.keeps(&decision.snapshot, &members, east.into());
                prop_assert_eq!(decision.reasons.len(), expected, "{:?}", decision);
                seen += 1;
            }
            for pair in group.decisions.windows(2) {
                let key = |i: usize| pair[i].snapshot.log_seq;
                prop_assert!(key(0) > key(1), "newest first");
            }
        }
        prop_assert_eq!(seen, rows.len());
    }

    #[test]
    fn order_of_input_does_not_matter(
        (rows, shuffled) in snapshots().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
        rules in rules().prop_map(never_empty),
    ) {
        prop_assert_eq!(
            planned(&rows, &rules, Grouping::default(), 0),
            planned(&shuffled, &rules, Grouping::default(), 0)
        );
    }

    #[test]
    fn a_more_generous_policy_keeps_no_less(
        rows in snapshots(),
        rules in rules().prop_map(never_empty),
        which in 0..13_usize,
        more in 1..4_u32,
        unit in 0..4_usize,
    ) {
        let mut generous = rules.clone();
        let count = |n: &mut Option<u32>| *n = Some(n.unwrap_or(0).saturating_add(more).min(UNLIMITED));
        let age = |a: &mut Option<[u32; 4]>| a.get_or_insert([0; 4])[unit] += more;
        match which {
            0 => count(&mut generous.last),
            1..=5 => count(&mut generous.every[which - 1]),
            6 => age(&mut generous.within),
            7..=11 => age(&mut generous.every_within[which - 7]),
            _ => generous.tag = true,
        }
        let less = planned(&rows, &rules, Grouping::default(), 0);
        let more = planned(&rows, &generous, Grouping::default(), 0);
        prop_assert!(kept_ids(&less).is_subset(&kept_ids(&more)));
    }

    #[test]
    fn keep_last_keeps_exactly_that_many(rows in snapshots(), n in 1..50_u32) {
        let rows: Vec<_> = rows.into_iter().filter(|r| r.received.secs <= NOW).collect();
        let plan = planned(&rows, &Rules { last: Some(n), ..Rules::default() }, Grouping::NONE, 0);
        prop_assert_eq!(kept_ids(&plan).len(), rows.len().min(n as usize));
    }

    #[test]
    fn an_older_snapshot_does_not_change_what_last_keeps(rows in snapshots(), n in 1..50_u32, at in any::<Index>()) {
        let last = Rules { last: Some(n), ..Rules::default() };
        let mut rows = rows;
        rows.sort_by_key(SnapshotRow::order);
        let at = at.index(rows.len());
        let (newer, with_older) = (&rows[at + 1..], &rows[at..]);
        let before = planned(newer, &last, Grouping::NONE, 0);
        let after = planned(with_older, &last, Grouping::NONE, 0);
        let decisions = before.groups.iter().flat_map(|g| &g.decisions);
        prop_assert!(decisions.eq(after.groups[0].decisions.iter().take(newer.len())));
    }

    #[test]
    fn no_client_can_displace_anothers_snapshots(
        rows in snapshots(),
        rules in rules().prop_map(never_empty),
        by_host in any::<bool>(),
    ) {
        let grouping = Grouping { client: true, host: by_host, ..Grouping::NONE };
        let mine: Vec<_> = rows.iter().filter(|r| r.client == ClientId([1; 16])).cloned().collect();
        let alone = planned(&mine, &rules, grouping, 0);
        let among = planned(&rows, &rules, grouping, 0);
        let of_mine: Vec<_> = among.groups.into_iter().filter(|g| g.group.client == Some(ClientId([1; 16]))).collect();
        prop_assert_eq!(alone.groups, of_mine);
    }

    #[test]
    fn parsing_text_never_panics(text in "[0-9ymdhw,unlimited -]{0,24}|\\PC{0,12}") {
        let age = text.parse::<bkfs_store::owner::retention::Age>();
        if let Ok(age) = age {
            prop_assert_eq!(age.to_string().parse(), Ok(age));
        }
        let _ = (text.parse::<Count>(), text.parse::<TagList>(), text.parse::<Grouping>());
    }
}
