//! A push to a repository in a folder, and a restore from it: the files are the same as before.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, path::Path};

use bkfs_fs::restore::{RestoreOptions, RestoreProgress, RestoreReport, restore};
use bkfs_store::Result;
use common::{Owner, compare, odd_tree};

fn restored(owner: &Owner, path: Option<&[u8]>, dest: &Path) -> Result<RestoreReport> {
    let reader = owner.reader();
    let newest = reader.snapshots()?.pop().unwrap();
    let options = RestoreOptions { privileged: true, verify: true, ..RestoreOptions::default() };
    restore(&reader, &newest.snapshot.root, path, dest, &options, &RestoreProgress::default())
}

#[test]
fn all_kinds_of_odd_files_are_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
    fs::create_dir(&source).unwrap();
    odd_tree::make(&source, odd_tree::Size::SMALL);
    let owner = Owner::new(dir.path());
    // The second push reuses everything from the first, hard links included.
    for round in 1..=2 {
        let report = owner.push(&source, &cache);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let dest = dir.path().join(format!("restored {round}"));
        let report = restored(&owner, None, &dest).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(compare::walk(&source, &dest), Vec::<String>::new());
        let again = restored(&owner, None, &dest).unwrap();
        assert!(again.problems.is_empty(), "{:?}", again.problems);
        assert_eq!((again.files, again.dirs, again.others, again.links, again.bytes), (0, 0, 0, 0, 0));
        assert_eq!(compare::walk(&source, &dest), Vec::<String>::new());
    }
    odd_tree::unlock(dir.path());
}

#[test]
fn one_path_and_a_damaged_pack() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/file"), "in the folder").unwrap();
    fs::write(source.join("a/large"), odd_tree::noise(3_000_000, 1)).unwrap();
    fs::write(source.join("a/other"), odd_tree::noise(500_000, 2)).unwrap();
    let owner = Owner::with_parity(dir.path(), None);
    owner.push(&source, &dir.path().join("cache"));

    let dest = dir.path().join("folder");
    restored(&owner, Some(b"/a/b/"), &dest).unwrap();
    assert_eq!(fs::read(dest.join("file")).unwrap(), b"in the folder");
    let dest = dir.path().join("file");
    restored(&owner, Some(b"a/b/file"), &dest).unwrap();
    assert_eq!(fs::read(&dest).unwrap(), b"in the folder");
    for path in [&b"a/none"[..], b"..", b"a/../a", b"a/b/file/x"] {
        assert!(restored(&owner, Some(path), &dir.path().join("nothing")).is_err());
    }
    assert!(!dir.path().join("nothing").exists());

    // Flip a byte in the middle of the largest pack, which is in a chunk of a large file.
    let mut packs = Vec::new();
    let mut folders = vec![dir.path().join("repo/packs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() { folders.push(entry.path()) } else { packs.push(entry.path()) }
        }
    }
    let pack = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    let dest = dir.path().join("damaged");
    let report = restored(&owner, Some(b"a"), &dest).unwrap();
    assert_eq!((report.problems_total, report.files), (1, 2), "{:?}", report.problems);
    assert!(report.problems[0].to_string().contains("damaged"), "{}", report.problems[0]);
    assert!(dest.join("b/file").exists());
}
