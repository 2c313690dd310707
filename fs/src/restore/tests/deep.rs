//! Trees as deep as a modified client can make them.

use std::{fs, path::Path};

use super::{fake::*, *};

/// How many folders are in each other.
const DEPTH: usize = 100_000;

/// Removes folders that are in each other, without a path or a stack as deep as they are.
fn remove(top: &Path) {
    let (first, second) = (top.join("d"), top.join("next"));
    while first.exists() {
        let has_more = fs::rename(first.join("d"), &second).is_ok();
        fs::remove_dir_all(&first).unwrap();
        if has_more {
            fs::rename(&second, &first).unwrap();
        }
    }
}

/// With one open folder for each step from the top, this would take five billion calls.
#[test]
fn a_very_deep_tree_is_restored() {
    let mut fake = Fake::default();
    let mut at = fake.folder("d", vec![inline("deepest", b"here\n")]);
    for _ in 1..DEPTH {
        at = fake.folder("d", vec![at]);
    }
    let root = fake.folder("", vec![at]);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    let (dirs, files, problems) = (report.dirs, report.files, report.problems_total);
    remove(dir.path());
    assert_eq!((dirs, files, problems), (DEPTH as u64, 1, 0));
}
