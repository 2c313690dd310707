//! The alarm: what it must tell of, and a month of ordinary work that it must not.

use std::fs;

use bkfs_store::format::snapshot::SUSPICIOUS;

use super::{Case, noise};
use crate::{
    changes::Scope,
    push::{Alarm, AlarmLimits, PushReport, tests::following::Series},
};

/// Something that a person wrote, and that differs with `seed`.
fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = ["backup", "snapshot", "the", "of", "a", "chunk", "folder", "is", "restore", "and", "key"];
    let numbers = noise(seed, len / 4 + 1);
    let mut text: Vec<u8> =
        numbers.iter().flat_map(|n| words[usize::from(*n) % words.len()].bytes().chain(*b" ")).collect();
    text.truncate(len);
    text
}

fn with_documents(count: u64) -> Case {
    let mut case = Case::new();
    case.options.alarm = Some(AlarmLimits::default());
    for i in 0..count {
        case.write(&format!("docs/{}/{i}", i % 10), &text(i, 3000 + i as usize * 10));
    }
    case
}

fn is_marked(case: &Case) -> bool {
    case.store.newest().tags.iter().any(|tag| tag == SUSPICIOUS)
}

/// Encrypts the first documents in place.
fn encrypt(case: &Case, which: std::ops::Range<u64>) {
    for i in which {
        case.write(&format!("docs/{}/{i}", i % 10), &noise(1000 + i, 3000 + i as usize * 10));
    }
}

#[test]
fn files_that_are_encrypted_in_place_raise_an_alarm() {
    let mut case = with_documents(200);
    assert_eq!(case.push().alarm, None);
    encrypt(&case, 0..40);
    assert_eq!(case.push().alarm, Some(Alarm { files: 40, of: 200 }));
    assert!(is_marked(&case));
    // It is over with the next push, in which nothing becomes unreadable.
    case.write("docs/0/new", &text(7, 5000));
    assert_eq!(case.push().alarm, None);
    assert!(!is_marked(&case));
    case.options.alarm = None;
    encrypt(&case, 40..100);
    assert_eq!(case.push().alarm, None, "the alarm is off");
}

#[test]
fn files_that_are_encrypted_under_other_names_raise_an_alarm() {
    let mut case = with_documents(100);
    case.push();
    for i in 0..30 {
        let path = format!("docs/{}/{i}", i % 10);
        fs::remove_file(case.at(&path)).unwrap();
        case.write(&format!("{path}.locked"), &noise(i, 3000));
    }
    assert_eq!(case.push().alarm, Some(Alarm { files: 30, of: 100 }));
}

#[test]
fn what_a_watch_pushes_bit_by_bit_counts_together() {
    let (mut case, mut series) = (with_documents(200), Series::default());
    series.push(&mut case);
    let mut alarms = 0;
    for step in 0..8 {
        super::following::tick();
        encrypt(&case, step * 5..step * 5 + 5);
        for i in step * 5..step * 5 + 5 {
            series.changes.note(format!("docs/{}/{i}", i % 10).as_bytes(), Scope::Named);
        }
        alarms += u32::from(series.push(&mut case).alarm.is_some());
    }
    assert_eq!(alarms, 5, "from the twentieth file on");
}

#[test]
fn a_month_of_ordinary_work_raises_none() {
    let mut case = with_documents(300);
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let part = |i: u64| {
        let at = (i as usize * 40_000) % (program.len() - 50_000);
        program[at..at + 20_000].to_vec()
    };
    for i in 0..100 {
        case.write(&format!("usr/bin/{i}"), &part(i));
        case.write(&format!("usr/share/{i}.gz"), &noise(5000 + i, 4000));
        case.write(&format!("var/log/{i}"), &text(300 + i, 20_000));
    }
    case.push();
    let check = |report: PushReport, what: &str| assert_eq!(report.alarm, None, "{what}");
    for day in 0..30 {
        // An old project is deleted, and photos are imported.
        for i in 0..50 {
            case.write(&format!("project-{}/{i}", day + 1), &text(70_000 + day * 100 + i, 2000));
        }
        let _ = fs::remove_dir_all(case.at(&format!("project-{day}")));
        for i in 0..(day % 3) * 40 {
            let _ = fs::remove_file(case.at(&format!("docs/{}/{}", i % 10, 60 + (day * 7 + i) % 240)));
        }
        for i in 0..40 {
            case.write(&format!("photos/{day}/{i}.jpg"), &noise(10_000 + day * 100 + i, 20_000));
        }
        check(case.push(), "photos");
        // Sources are edited and committed: small noise comes, and is packed every week.
        for i in 0..60 {
            case.write(&format!("docs/{}/{i}", i % 10), &text(20_000 + day * 100 + i, 4000));
            case.write(&format!("git/objects/{day}-{i}"), &noise(30_000 + day * 100 + i, 900));
        }
        if day % 7 == 6 {
            fs::remove_dir_all(case.at("git/objects")).unwrap();
            case.write(&format!("git/pack-{day}"), &noise(40_000 + day, 300_000));
        }
        check(case.push(), "commits");
        // Packages are upgraded: all programs and their compressed pages change.
        if day % 5 == 0 {
            for i in 0..100 {
                case.write(&format!("usr/bin/{i}"), &part(1000 + day * 100 + i));
                case.write(&format!("usr/share/{i}.gz"), &noise(50_000 + day * 100 + i, 4000));
            }
        }
        check(case.push(), "packages");
        // Logs are rotated and compressed.
        for i in 0..5 {
            let log = case.at(&format!("var/log/{}", (day * 3 + i) % 100));
            let _ = fs::remove_file(log);
            case.write(&format!("var/log/{day}-{i}.gz"), &noise(60_000 + day * 10 + i, 5000));
        }
        check(case.push(), "logs");
    }
}
