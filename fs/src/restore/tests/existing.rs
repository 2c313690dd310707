//! Entries that exist already.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use bkfs_store::format::tree::NodeKind;

use super::{fake::*, *};
use crate::restore::Reason;

fn touch(path: &Path, bytes: &[u8], like: &Node) {
    fs::write(path, bytes).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(like.mtime.secs as u64, like.mtime.nanos);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn entries_that_look_the_same_are_left_and_others_are_reported() {
    let mut fake = Fake::default();
    let pieces: Vec<Piece> = (0..40).map(|i| Piece::Data(vec![i; 200_000])).collect();
    let large = fake.file("large", &pieces);
    let folder = fake.folder("sub", vec![inline("new", b"n")]);
    let nodes = vec![
        inline("same", b"stored"),
        inline("size", b"stored"),
        inline("time", b"stored"),
        inline("rotten", b"stored"),
        large.clone(),
        symlink("link", "target"),
        symlink("other link", "target"),
        node("fifo", NodeKind::Fifo),
        inline("folder", b"stored"),
        folder,
    ];
    let same = nodes[0].clone();
    let root = fake.folder("", nodes);

    let prepare = |dest: &Path| {
        touch(&dest.join("same"), b"stored", &same);
        touch(&dest.join("size"), b"longer", &same);
        fs::write(dest.join("size"), b"another length").unwrap();
        fs::write(dest.join("time"), b"stored").unwrap();
        touch(&dest.join("rotten"), b"sTored", &same);
        touch(&dest.join("large"), &vec![9; large.size as usize], &large);
        std::os::unix::fs::symlink("target", dest.join("link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dest.join("other link")).unwrap();
        fs::write(dest.join("fifo"), "a file").unwrap();
        fs::create_dir(dest.join("folder")).unwrap();
        fs::write(dest.join("folder/inside"), "kept").unwrap();
        fs::create_dir(dest.join("sub")).unwrap();
        fs::write(dest.join("sub/mine"), "kept").unwrap();
    };
    let run = |overwrite, verify| {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let report = try_restore(&fake, &root, dir.path(), &RestoreOptions { overwrite, verify, ..options() }).unwrap();
        let bad: Vec<String> = report.problems.iter().map(|p| p.path.display().to_string()).collect();
        assert_eq!(report.problems_total as usize, bad.len());
        assert_eq!(fs::read(dir.path().join("folder/inside")).unwrap(), b"kept");
        assert_eq!(fs::read(dir.path().join("sub/mine")).unwrap(), b"kept");
        assert_eq!(fs::read(dir.path().join("sub/new")).unwrap(), b"n");
        assert_eq!(fs::metadata(dir.path().join("sub")).unwrap().mtime(), 1_000_000_000);
        let dest_time = fs::metadata(dir.path()).unwrap().mtime();
        assert_eq!(dest_time == 1_000_000_000, overwrite, "a destination that was not empty keeps its own attributes");
        (dir, bad)
    };

    let (dir, bad) = run(false, false);
    assert_eq!(bad, ["fifo", "folder", "other link", "size", "time"]);
    assert_eq!(fs::read(dir.path().join("size")).unwrap(), b"another length");
    assert_eq!(fs::read(dir.path().join("rotten")).unwrap(), b"sTored");

    let (dir, bad) = run(false, true);
    assert_eq!(bad, ["fifo", "folder", "large", "other link", "rotten", "size", "time"]);
    assert_eq!(fs::read(dir.path().join("rotten")).unwrap(), b"sTored");

    let (dir, bad) = run(true, false);
    assert_eq!(bad, ["folder"]);
    assert_eq!(fs::read(dir.path().join("size")).unwrap(), b"stored");
    assert_eq!(fs::read(dir.path().join("rotten")).unwrap(), b"sTored");
    assert_eq!(fs::read_link(dir.path().join("other link")).unwrap(), Path::new("target"));

    let (dir, bad) = run(true, true);
    assert_eq!(bad, ["folder"]);
    assert_eq!(fs::read(dir.path().join("rotten")).unwrap(), b"stored");
    let restored = fs::read(dir.path().join("large")).unwrap();
    assert!(restored.chunks(200_000).enumerate().all(|(i, chunk)| chunk.iter().all(|b| *b == i as u8)));
    let report = try_restore(&fake, &root, dir.path(), &RestoreOptions { verify: true, ..options() }).unwrap();
    assert!(matches!(report.problems[..], [crate::restore::Problem { reason: Reason::IsFolder { .. }, .. }]));
}

#[test]
fn overwriting_sets_attributes_of_entries_that_are_left() {
    let mut fake = Fake::default();
    let root = fake.folder("", vec![Node { mode: 0o640, ..inline("f", b"stored") }]);
    let dir = tempfile::tempdir().unwrap();
    restore(&fake, &root, dir.path());
    let path = dir.path().join("f");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    restore(&fake, &root, dir.path());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
    let report = try_restore(&fake, &root, dir.path(), &RestoreOptions { overwrite: true, ..options() }).unwrap();
    assert_eq!((report.kept, report.files), (1, 0));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_default_acl_of_the_destination_is_not_inherited() {
    // user::rwx user:1:rwx group::r-x mask::rwx other::r-x, as the kernel encodes it.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in [(1u16, 7u16, u32::MAX), (2, 7, 1), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let mut fake = Fake::default();
    let stored =
        Node { xattrs: Some(vec![xattr("system.posix_acl_access", &acl)]), mode: 0o775, ..inline("acl", b"a") };
    let nested = fake.folder("nested", vec![inline("h", b"h")]);
    let folder = fake.folder("sub", vec![inline("g", b"g"), nested]);
    let root = fake.folder("", vec![inline("f", b"f"), stored, folder, node("p", NodeKind::Fifo)]);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("d");
    fs::create_dir(&dest).unwrap();
    if xattr::set(&dest, "system.posix_acl_default", &acl).is_err() {
        println!("skipped: no ACLs in {}", dir.path().display());
        return;
    }
    let report = restore(&fake, &root, &dest);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    for name in ["f", "p", "sub", "sub/g", "sub/nested", "sub/nested/h", ""] {
        let list: Vec<_> = xattr::list(dest.join(name)).unwrap().collect();
        assert!(list.is_empty(), "{name}: {list:?}");
    }
    assert_eq!(xattr::get(dest.join("acl"), "system.posix_acl_access").unwrap().unwrap(), acl);
}
