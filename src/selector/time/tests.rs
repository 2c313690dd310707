//! Tests of times on the command line.

use proptest::prelude::*;

use super::*;
use crate::output::{time_json, time_local_in};

/// Europe, with its ambiguous hour; half an hour of summer time south of the equator; odd offsets; behind UTC.
const ZONES: [&str; 6] = [
    "UTC0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
    "<+0545>-5:45",
    "NST3:30NDT,M3.2.0,M11.1.0",
    "<-12>12",
];

fn zone(name: &str) -> TimeZone {
    TimeZone::posix(name).unwrap()
}

fn at(text: &str) -> Time {
    let moment: jiff::Timestamp = text.parse().unwrap();
    let nanos = moment.as_nanosecond();
    Time { secs: nanos.div_euclid(1_000_000_000) as i64, nanos: nanos.rem_euclid(1_000_000_000) as u32 }
}

fn find(text: &str, all: &[&str], local: &str) -> Vec<usize> {
    let all: Vec<Time> = all.iter().map(|text| at(text)).collect();
    text.parse::<TimePattern>().unwrap_or_else(|()| panic!("{text} is a time")).find(&all, &zone(local))
}

#[test]
fn a_time_without_a_zone_is_local() {
    let all = ["2026-11-20T22:59:59Z", "2026-11-20T23:00:00.5Z", "2026-11-21T09:00:00Z"];
    let berlin = ZONES[1];
    for (text, found) in [
        ("2026-11-20", vec![0]),
        ("2026-11-21", vec![1, 2]),
        ("2026-11-20Z", vec![0, 1]),
        ("2026-11", vec![0, 1, 2]),
        ("2026-11-21 00:00:00", vec![1]),
        ("2026-11-21T00:00", vec![1]),
        ("2026-11-21T00", vec![1]),
        ("2026-11-21t00:00:00.5", vec![1]),
        ("2026-11-21T000000", vec![1]),
        ("2026-11-20T23:00:00Z", vec![1]),
        ("2026-11-20T23:00:00.500000000z", vec![1]),
        ("2026-11-20T230000Z", vec![1]),
        ("2026-11-20T23Z", vec![1]),
        ("2026-11-21T04:45:00+05:45", vec![1]),
        ("2026-11-21T0445+0545", vec![1]),
        ("2026-11-20T18-05", vec![1]),
        ("2026-11-20T18:00:01-05:00", vec![]),
        ("@1795215600", vec![1]),
    ] {
        assert_eq!(find(text, &all, berlin), found, "{text}");
    }
    for bad in [
        "2026",
        "2026-1",
        "2026-13",
        "2026-11-2",
        "2026-11-20T",
        "2026-11-20T9",
        "2026-11-20T24",
        "@",
        "2026-11-20 09:60",
    ] {
        assert!(bad.parse::<TimePattern>().is_err(), "{bad}");
    }
}

#[test]
fn an_hour_that_a_clock_shows_twice_names_both_and_an_offset_names_one() {
    let all = ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
    let berlin = ZONES[1];
    assert_eq!(find("2026-10-25 02:30:00", &all, berlin), [0, 1]);
    for (index, text) in ["2026-10-25 02:30:00+02:00", "2026-10-25 02:30:00+01:00"].into_iter().enumerate() {
        assert_eq!(time_local_in(at(all[index]), &zone(berlin)), text, "what is printed is not ambiguous");
        assert_eq!(find(text, &all, berlin), [index]);
    }
    assert_eq!(find("2026-03-29 02:30:00", &["2026-03-29T01:30:00Z"], berlin), [0; 0], "no clock showed that");
}

#[test]
fn the_name_of_a_folder_names_what_the_folder_shows() {
    let all = ["2026-11-20T09:00:00.7Z", "2026-11-20T09:00:01Z", "2026-11-20T09:00:00.2Z", "2026-11-20T09:00:00Z"];
    for (text, index) in [("2026-11-20T090000Z", 0), ("2026-11-20T090000Z-2", 2), ("2026-11-20T090000Z-3", 3)] {
        assert_eq!(find(text, &all, ZONES[0]), [index]);
    }
    assert_eq!(find("2026-11-20T090000Z-4", &all, ZONES[0]), [0; 0]);
    assert_eq!(find("2026-11-20T09:00:00Z", &all, ZONES[0]), [0, 2, 3], "this is a time");
    assert_eq!(find("2026-11-20T09:00:00.2Z", &all, ZONES[0]), [2]);
}

fn any_time() -> impl Strategy<Value = Time> {
    // Around the ends of summer time in 2026, in any year, and beyond every calendar.
    let secs = prop_oneof![
        1_792_886_400..1_792_900_800_i64,
        1_775_300_000..1_775_330_000_i64,
        -62_000_000_000..250_000_000_000_i64,
        Just(i64::MAX),
        Just(i64::MIN),
    ];
    let nanos = prop_oneof![Just(0_u32), Just(500_000_000), Just(120_000_000), 0..1_000_000_000_u32];
    (secs, nanos).prop_map(|(secs, nanos)| Time { secs, nanos })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Every form in which the program prints a time, typed back, names that time; and another time only if it is in
    /// the same second.
    #[test]
    fn what_is_printed_can_be_typed_back(
        mut all in prop::collection::vec(any_time(), 1..8),
        which in any::<prop::sample::Index>(),
        zone_name in prop::sample::select(ZONES.to_vec()),
        offset in -50_000..50_000_i32,
    ) {
        let near = all[0];
        all.push(Time { nanos: (near.nanos + 1) % 1_000_000_000, ..near });
        let local = zone(zone_name);
        let index = which.index(all.len());
        let time = all[index];
        let name = time_name(time);
        let nth = all[..=index].iter().filter(|other| time_name(**other) == name).count();
        let folder = if nth == 1 { name } else { format!("{name}-{nth}") };
        let mut forms = vec![time_local_in(time, &local), time_json(time)];
        if let Some(moment) = timestamp(time) {
            let east = Offset::from_seconds(offset / 60 * 60).unwrap();
            forms.push(moment.display_with_offset(east).to_string());
            forms.push(time_local_in(time, &local).replace(' ', "T"));
            prop_assert_eq!(folder.parse::<TimePattern>().unwrap().find(&all, &local), [index], "{}", folder);
        }
        for form in forms {
            let found = form.parse::<TimePattern>().unwrap_or_else(|()| panic!("{form} is a time")).find(&all, &local);
            prop_assert!(found.contains(&index), "{} finds {:?}", form, found);
            prop_assert!(found.iter().all(|other| all[*other].secs == time.secs), "{} finds {:?}", form, found);
        }
    }

    #[test]
    fn no_text_panics(text in "[-0-9TZ:.+@ ]{0,30}", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        let all = [at("2026-11-20T09:00:00Z")];
        for bytes in [text.as_bytes(), &bytes] {
            if let Some((pattern, rest)) = TimePattern::parse_prefix(bytes) {
                prop_assert!(bytes.ends_with(rest));
                pattern.find(&all, &TimeZone::UTC);
            }
        }
    }
}
