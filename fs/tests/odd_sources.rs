//! Pushes of file systems that prove little by what they say of their files: the bytes must be right all the same.
//! Without the right to mount, the tests are skipped, and print why.

#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command, sync::Arc};

use bkfs_fs::{
    mount::{Mount, MountOptions, mount},
    restore::{RestoreOptions, RestoreProgress, restore},
};
use bkfs_store::{format::tree::Node, owner::reader::Reader};
use common::{
    Owner,
    odd_fs::{self, OddFile},
};
use parking_lot::Mutex;

/// Something that was mounted by mount(8). It is unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(args: &[&str], place: &'a Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let output = Command::new("mount").args(args).arg(place).output().unwrap();
        if output.status.success() {
            return Some(Self(place));
        }
        println!("skipped: mount {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        None
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn newest_root(reader: &Reader) -> Node {
    reader.snapshots().unwrap().pop().unwrap().snapshot.root
}

/// What the newest snapshot holds of a file.
fn stored(owner: &Owner, path: &str) -> String {
    let reader = owner.reader();
    let node = reader.resolve(&newest_root(&reader), path.as_bytes()).unwrap();
    String::from_utf8(reader.file(&node).read_at(0, 1 << 20).unwrap().to_vec()).unwrap()
}

/// Mounts the newest snapshot.
fn shown(reader: &Arc<Reader>, place: &Path) -> Mount {
    fs::create_dir_all(place).unwrap();
    let id = reader.snapshots().unwrap().pop().unwrap().id;
    mount(reader, place, &MountOptions { snapshot: Some(id), ..MountOptions::default() }).unwrap()
}

fn linked(ino: u64, text: &str) -> OddFile {
    OddFile { links: 2, ..OddFile::new(ino, text) }
}

#[test]
fn inodes_of_several_layers_with_one_number_are_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // No birth times here: only the device tells the inodes apart, and an overlay's folders have another one.
    let layers = [
        odd_fs::tree([("a/f", linked(7, "one")), ("c/f", linked(7, "one"))]),
        odd_fs::tree([("b/f", linked(7, "two")), ("d/f", linked(7, "two"))]),
        odd_fs::tree([("e/f", OddFile::new(8, "other"))]),
    ];
    let places = ["one", "two", "three"].map(at);
    let mut sessions = Vec::new();
    for (tree, place) in layers.iter().zip(&places) {
        let Some(session) = odd_fs::mount(tree, place) else { return };
        sessions.push(session);
    }
    let lower = places.each_ref().map(|place| place.display().to_string()).join(":");
    let source = at("source");
    let options = format!("lowerdir={lower}");
    let Some(_overlay) = Mounted::new(&["-t", "overlay", "overlay", "-o", &options], &source) else { return };

    let owner = Owner::new(dir.path());
    let check = |cache: &str, read: u64, expected: &[(&str, &str)]| {
        let report = owner.push(&source, &at(cache));
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.stats.bytes_read, read);
        let (reader, dest, place) = (owner.reader(), tempfile::tempdir().unwrap(), at("mount"));
        let options = RestoreOptions { privileged: true, verify: true, ..RestoreOptions::default() };
        let root = newest_root(&reader);
        let restored = restore(&reader, &root, None, dest.path(), &options, &RestoreProgress::default()).unwrap();
        assert!(restored.problems.is_empty(), "{:?}", restored.problems);
        let mounted = shown(&reader, &place);
        let inode = |folder: &Path, name: &str| fs::metadata(folder.join(name)).unwrap().ino();
        for (path, text) in expected {
            assert_eq!(stored(&owner, path), *text, "{path}");
            for folder in [dest.path(), &place] {
                assert_eq!(fs::read_to_string(folder.join(path)).unwrap(), *text, "{path} in {}", folder.display());
                // Names are one file if they are in one layer, which the text shows.
                for (other, other_text) in expected {
                    let is_one = inode(folder, path) == inode(folder, other);
                    assert_eq!(is_one, text == other_text, "{path} and {other} in {}", folder.display());
                }
            }
        }
        mounted.unmount().unwrap();
        root.subtree.unwrap()
    };
    let all = [("a/f", "one"), ("b/f", "two"), ("c/f", "one"), ("d/f", "two"), ("e/f", "other")];
    let first = check("cache", 11, &all);
    // The next push keeps the groups, and one that remembers nothing makes the same ones.
    assert_eq!(check("cache", 0, &all), first);
    assert_eq!(check("another cache", 11, &all), first);
    // Another inode of the same number comes, and its names are before all others. The group that it takes was that of
    // unchanged files, which are read again.
    layers[2].lock().extend([("0/f".into(), linked(7, "three")), ("0/g".into(), linked(7, "three"))]);
    let more: Vec<_> = [("0/f", "three"), ("0/g", "three")].into_iter().chain(all).collect();
    let third = check("cache", 11, &more);
    assert_eq!(check("cache", 0, &more), third);
    // It goes again: what is there keeps its groups.
    layers[2].lock().retain(|path, _| !path.starts_with("0/"));
    check("cache", 0, &all);
}

#[test]
fn another_program_that_shows_files_at_the_same_place_is_asked_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
    let owner = Owner::new(dir.path());
    // The same inode, length and times.
    for text in ["one", "two"] {
        let tree = odd_fs::tree([("f", OddFile::new(7, text))]);
        let Some(session) = odd_fs::mount(&tree, &source) else { return };
        for read in [3, 0] {
            assert_eq!(owner.push(&source, &cache).stats.bytes_read, read);
            assert_eq!(stored(&owner, "f"), text);
        }
        session.umount_and_join().unwrap();
    }
}

fn says(ino: u64, size: u64, bytes: impl AsRef<[u8]>) -> OddFile {
    OddFile { says: Some(size), ..OddFile::new(ino, bytes) }
}

#[test]
fn files_that_say_they_are_empty_are_read_to_their_end_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
    let large = "0123456789".repeat(60_000);
    let tree = odd_fs::tree([
        ("empty", says(2, 0, "")),
        ("small", says(3, 0, "some text")),
        ("large", says(4, 0, &large)),
        ("honest", OddFile::new(5, "honest")),
    ]);
    let Some(_session) = odd_fs::mount(&tree, &source) else { return };
    let owner = Owner::new(dir.path());
    let push = |read| {
        let report = owner.push(&source, &cache);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.stats.bytes_read, read);
    };
    push(9 + 600_000 + 6);
    assert_eq!((stored(&owner, "empty"), stored(&owner, "small")), (String::new(), "some text".into()));
    assert!(stored(&owner, "large") == large);
    // What such a file says does not show that it changed. The others count as unchanged.
    let change = |path: &str, file| tree.lock().insert(path.to_owned(), file);
    change("small", says(3, 0, "other words"));
    change("empty", says(2, 0, "not any more"));
    push(11 + 12 + 600_000);
    assert_eq!((stored(&owner, "empty"), stored(&owner, "small")), ("not any more".into(), "other words".into()));
}

#[test]
fn a_file_without_an_end_is_reported_and_the_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let gate = Arc::new(Mutex::new(()));
    let tree = odd_fs::tree([
        ("a good one", OddFile::new(2, "kept")),
        ("endless", says(3, 0, vec![0; 65 << 20])),
        ("short", says(4, 4096, "twenty bytes are here")),
        ("stuck", OddFile { gate: Some(gate.clone()), ..says(5, 0, "") }),
        ("the last one", says(6, 0, "kept, too")),
    ]);
    let Some(_session) = odd_fs::mount(&tree, &source) else { return };
    let owner = Owner::new(dir.path());
    let report = {
        let _closed = gate.lock();
        owner.push(&source, &dir.path().join("cache"))
    };
    let mut problems: Vec<_> = report.problems.iter().map(|(path, error)| (path.clone(), error.to_string())).collect();
    problems.sort();
    let path = |name: &str| source.join(name);
    assert_eq!(
        problems,
        [
            (path("endless"), "it does not say how long it is, and has no end within 64 MiB".into()),
            (path("short"), "it changed while it was read".into()),
            (path("stuck"), "reading it did not end within 5 seconds".into()),
        ]
    );
    assert_eq!(report.totals.files, 3);
    for (name, text) in [("a good one", "kept"), ("the last one", "kept, too"), ("short", "twenty bytes are here")] {
        assert_eq!(stored(&owner, name), text);
    }
}
