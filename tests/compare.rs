//! Tests of the comparisons that the fidelity tests use: they find no difference between a tree and its exact copy, and
//! they find every kind of difference.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use common::{
    compare,
    odd_tree::{self, Size},
};

fn pair(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (source, copy) = (dir.join("source"), dir.join("copy"));
    fs::create_dir(&source).unwrap();
    odd_tree::make(&source, Size { folder_entries: 20, sparse_bytes: 8 << 20, deep: false });
    let output = Command::new("cp").args(["-a", "--sparse=always"]).args([&source, &copy]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (source, copy)
}

/// A change to a tree that a comparison must find.
type Change = Box<dyn Fn(&Path)>;

#[test]
fn an_exact_copy_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (source, copy) = pair(dir.path());
    assert_eq!(compare::walk(&source, &copy), Vec::<String>::new());
    if compare::have_rsync() {
        assert_eq!(compare::rsync(&source, &[], &copy), "");
        assert_eq!(compare::rsync(&source, &["names".into(), "modes".into()], &copy), "");
    }
    odd_tree::unlock(dir.path());
}

#[test]
fn every_difference_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (source, copy) = pair(dir.path());
    let mut changes: Vec<(&str, Change)> = vec![
        ("mode", Box::new(|p| fs::set_permissions(p, fs::Permissions::from_mode(0o604)).unwrap())),
        (
            "ns of mtime",
            Box::new(|p| {
                let file = fs::File::options().write(true).open(p).unwrap();
                let time = file.metadata().unwrap().modified().unwrap();
                file.set_modified(time + std::time::Duration::from_nanos(1)).unwrap();
            }),
        ),
        ("size", Box::new(|p| fs::write(p, "longer than it was, by a good deal").unwrap())),
        (
            "contents",
            Box::new(|p| {
                let time = p.metadata().unwrap().modified().unwrap();
                let mut bytes = fs::read(p).unwrap();
                bytes[0] ^= 1;
                fs::write(p, bytes).unwrap();
                fs::File::options().write(true).open(p).unwrap().set_modified(time).unwrap();
            }),
        ),
        ("missing", Box::new(|p| fs::remove_file(p).unwrap())),
        ("extra entry", Box::new(|p| fs::write(p.with_file_name("more"), "x").unwrap())),
        ("links", Box::new(|p| fs::hard_link(p, p.with_file_name("another")).unwrap())),
    ];
    if odd_tree::has_attributes(&copy).unwrap() {
        changes.push(("attributes", Box::new(|p| xattr::set(p, "user.more", b"1").unwrap())));
    }
    for (i, (what, change)) in changes.iter().enumerate() {
        // One file for each change, so that no change hides another.
        let name = format!("many/entry {:07}", i * 2);
        for place in [&source, &copy] {
            let path = place.join(&name);
            fs::write(&path, "before").unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        change(&copy.join(&name));
        let found = compare::walk(&source, &copy).join("\n");
        assert!(found.contains(what), "{what} was not found:\n{found}");
    }
    fs::remove_file(copy.join("links/relative")).unwrap();
    symlink("a/second", copy.join("links/relative")).unwrap();
    assert!(compare::walk(&source, &copy).join("\n").contains("points elsewhere"));
    odd_tree::unlock(dir.path());
}
