//! Restores that end early, and are run again.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicUsize, Ordering},
};

use bkfs_store::Error;

use super::{fake::*, *};
use crate::restore::temp::{MARK, is_temp};

fn tree(fake: &mut Fake) -> Node {
    let mut folders = Vec::new();
    for f in 0..10u8 {
        let pieces: Vec<Piece> = (0..20).map(|i| Piece::Data(vec![i ^ f; 200_000])).collect();
        let mut nodes: Vec<Node> =
            (0..20).map(|i| fake.file(format!("{i:02}"), &[Piece::Data(vec![i; 3000])])).collect();
        nodes.push(linked(fake.file("large", &pieces), f, 2));
        nodes.push(linked(Node { name: b"linked".to_vec(), ..nodes.last().cloned().unwrap() }, f, 2));
        folders.push(fake.folder(format!("folder {f}"), nodes));
    }
    fake.folder("", folders)
}

#[test]
fn the_next_run_completes_a_restore_that_lost_its_server() {
    let mut fake = Fake::default();
    let root = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let dest = dir.path().join("d");
    let calls = AtomicUsize::new(0);
    fake.hook = Some(Box::new(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        15.. => Err(Error::Unreachable("the server went away".into())),
        _ => Ok(()),
    }));
    let error = try_restore(&fake, &root, &dest, &options()).unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)));
    assert!(names(&dest).contains(&String::from_utf8(MARK.to_vec()).unwrap()));
    fake.hook = None;
    // Leftovers of a killed run.
    let some = dest.join(names(&dest).iter().find(|n| n.starts_with("folder")).unwrap());
    for folder in [&dest, &some] {
        fs::write(folder.join(".bkfs-0123456789abcdef.partial"), "half").unwrap();
        fs::write(folder.join(".bkfs-mine.partial"), "not ours").unwrap();
    }
    let report = try_restore(&fake, &root, &dest, &options()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.kept > 0);
    assert_eq!(fs::metadata(&dest).unwrap().mtime(), 1_000_000_000, "the destination gets its attributes in the end");
    for f in 0..10u8 {
        let folder = dest.join(format!("folder {f}"));
        assert!(!names(&folder).iter().any(|n| is_temp(n.as_bytes())));
        let large = fs::read(folder.join("large")).unwrap();
        assert!(large.chunks(200_000).enumerate().all(|(i, c)| c.iter().all(|b| *b == i as u8 ^ f)));
        assert_eq!(
            fs::metadata(folder.join("large")).unwrap().ino(),
            fs::metadata(folder.join("linked")).unwrap().ino()
        );
    }
    assert!(!names(&dest).iter().any(|n| is_temp(n.as_bytes())));
    assert!(dest.join(".bkfs-mine.partial").exists());
}

#[test]
fn stopping_leaves_no_partial_files() {
    let mut fake = Fake::default();
    let root = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let progress = std::sync::Arc::new(RestoreProgress::default());
    let (calls, stopper) = (AtomicUsize::new(0), progress.clone());
    fake.hook = Some(Box::new(move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == 20 {
            stopper.stop();
        }
        Ok(())
    }));
    let error = run::run(&fake, root, dir.path(), &options(), &progress).unwrap_err();
    assert!(matches!(error, Error::Interrupted));
    for folder in names(dir.path()).iter().filter(|n| n.starts_with("folder")) {
        assert!(!names(&dir.path().join(folder)).iter().any(|n| is_temp(n.as_bytes())));
    }
}

#[test]
fn leftovers_are_removed_beside_a_single_file_too() {
    let fake = Fake::default();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(".bkfs-0123456789abcdef.partial"), "half").unwrap();
    std::os::unix::fs::symlink("x", dir.path().join(".bkfs-0123456789abcde0.partial")).unwrap();
    fs::write(dir.path().join(".bkfs-mine.partial"), "not ours").unwrap();
    restore(&fake, &inline("file", b"stored"), dir.path());
    assert_eq!(names(dir.path()), [".bkfs-mine.partial", "file"]);
}

#[test]
fn what_another_restore_is_writing_in_a_folder_below_is_no_leftover() {
    let mut outer = Fake::default();
    let sub = outer.folder("sub", vec![inline("of outer", b"o")]);
    let outer_root = outer.folder("", vec![sub]);
    let mut inner = Fake::default();
    let pieces: Vec<Piece> = (0..40).map(|i| Piece::Data(vec![i; 200_000])).collect();
    let large = inner.file("large", &pieces);
    let inner_root = inner.folder("", vec![large]);
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("sub");
    fs::create_dir(&below).unwrap();
    fs::write(below.join(".bkfs-0123456789abcdef.partial"), "left by a killed restore").unwrap();
    // While the inner restore reads its large file, the outer one walks through the same folder.
    let (first, dest) = (AtomicUsize::new(0), dir.path().to_owned());
    let seen = std::sync::Arc::new(AtomicUsize::new(0));
    let partial = seen.clone();
    inner.hook = Some(Box::new(move |_| {
        if first.fetch_add(1, Ordering::Relaxed) == 0 {
            assert!(restore(&outer, &outer_root, &dest).problems.is_empty());
            let count = names(&dest.join("sub")).iter().filter(|n| is_temp(n.as_bytes())).count();
            partial.store(count, Ordering::Relaxed);
        }
        Ok(())
    }));
    let report = restore(&inner, &inner_root, &below);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(seen.load(Ordering::Relaxed), 1, "the file that is being written, but not the leftover");
    assert_eq!(names(&below), ["large", "of outer"]);
}

#[test]
fn one_restore_at_a_time() {
    let mut fake = Fake::default();
    let root = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::open(dir.path()).unwrap();
    lock.lock().unwrap();
    assert!(matches!(try_restore(&fake, &root, dir.path(), &options()).unwrap_err(), Error::Locked { .. }));
    drop(lock);
    restore(&fake, &root, dir.path());
}

#[test]
fn stored_entries_with_temporary_names_are_kept() {
    let mut fake = Fake::default();
    let sub = fake.folder("sub", vec![inline(".bkfs-00000000deadbeef.partial", b"kept")]);
    let root = fake.folder("", vec![inline(MARK, b"m"), inline(".bkfs-0123456789abcdef.partial", b"kept"), sub]);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let report = restore(&fake, &root, dir.path());
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(names(dir.path()).len(), 3);
        assert_eq!(names(&dir.path().join("sub")).len(), 1);
    }
}
