//! Random changes between pushes, compared with pushes that remember nothing.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use proptest::prelude::*;

use super::{Case, noise};

/// A change to the source. Numbers stand for names.
#[derive(Debug, Clone)]
enum Change {
    Write(u8, u8, u16),
    Remove(u8),
    Rename(u8, u8),
    Link(u8, u8),
    Folder(u8),
    RemoveFolder(u8),
    Symlink(u8),
    Mode(u8, bool),
    Touch(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<u8>(), any::<u8>(), 0..2000u16).prop_map(|(p, s, l)| Change::Write(p, s, l)),
        2 => any::<u8>().prop_map(Change::Remove),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Change::Rename(a, b)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Change::Link(a, b)),
        1 => any::<u8>().prop_map(Change::Folder),
        1 => any::<u8>().prop_map(Change::RemoveFolder),
        1 => any::<u8>().prop_map(Change::Symlink),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(p, m)| Change::Mode(p, m)),
        1 => any::<u8>().prop_map(Change::Touch),
    ]
}

/// There are few names, so that changes affect each other: folders `0` to `3` hold folders `0` to `1`, which hold files
/// `0` to `3`.
fn path(number: u8) -> String {
    let (a, b, c) = (number & 3, number >> 2 & 1, number >> 3 & 3);
    match number >> 5 {
        0 => format!("{c}.f"),
        1 | 2 => format!("{a}/{c}.f"),
        _ => format!("{a}/{b}/{c}.f"),
    }
}

fn folder(number: u8) -> String {
    let (a, b) = (number & 3, number >> 2 & 1);
    if number & 8 == 0 { format!("{a}") } else { format!("{a}/{b}") }
}

fn apply(case: &Case, change: &Change) {
    // A change that is impossible (a name that is a folder, a missing file) has no effect.
    let at = |p: String| case.at(&p);
    let _ = match change {
        Change::Write(p, seed, len) => {
            let path = at(path(*p));
            let _ = fs::create_dir_all(path.parent().unwrap());
            fs::write(path, noise(u64::from(*seed), usize::from(*len)))
        }
        Change::Remove(p) => fs::remove_file(at(path(*p))),
        Change::Rename(a, b) if a & 1 == 0 => fs::rename(at(folder(*a)), at(folder(*b))),
        Change::Rename(a, b) => fs::rename(at(path(*a)), at(path(*b))),
        Change::Link(a, b) => fs::hard_link(at(path(*a)), at(path(*b))),
        Change::Folder(p) => fs::create_dir_all(at(folder(*p))),
        Change::RemoveFolder(p) => fs::remove_dir_all(at(folder(*p))),
        Change::Symlink(p) => std::os::unix::fs::symlink("somewhere", at(path(*p))),
        Change::Mode(p, m) => {
            let mode = if *m { 0o700 } else { 0o755 };
            let path = if *p & 1 == 0 { at(folder(*p)) } else { at(path(*p)) };
            match fs::symlink_metadata(&path) {
                Ok(meta) if !meta.is_symlink() => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
                _ => Ok(()),
            }
        }
        Change::Touch(p) => match fs::symlink_metadata(at(path(*p))) {
            Ok(meta) if meta.is_file() => {
                let file = fs::File::options().write(true).open(at(path(*p))).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(meta.size())).map(|_| ())
            }
            _ => Ok(()),
        },
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_push_with_a_cache_makes_the_same_tree_as_one_without(
        rounds in prop::collection::vec(prop::collection::vec(change(), 1..12), 1..6),
    ) {
        let mut case = Case::new();
        for changes in rounds {
            // Wait for longer than a tick of the file system's clock. The clock of the push is ahead, so a change in
            // the same tick as a push would not be noticed.
            std::thread::sleep(Duration::from_millis(12));
            changes.iter().for_each(|change| apply(&case, change));
            let report = case.push();
            prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
            prop_assert_eq!(case.root(), case.fresh_root(), "{:?}", changes);
            prop_assert_eq!(case.push().stats.bytes_read, 0);
        }
    }
}
