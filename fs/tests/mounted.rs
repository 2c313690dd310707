//! Real mounts of a real repository: what is seen through one is what was pushed. Where the kernel offers no FUSE they are
//! skipped, and say so.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bkfs_fs::mount::{Error, Mount, MountOptions, mount};
use common::{Owner, compare, odd_tree};

/// Mounts at `place`, a folder that is made here; none where that cannot be done.
fn mounted(owner: &Owner, place: &Path, options: &MountOptions) -> Option<Mount> {
    fs::create_dir(place).unwrap();
    match mount(&owner.reader(), place, options) {
        Ok(mount) => Some(mount),
        Err(error @ (Error::NoDevice | Error::DeviceRefused(_) | Error::NoFusermount | Error::Refused { .. })) => {
            println!("skipped: no /dev/fuse or no right to use it ({error})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_odd_thing_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    odd_tree::make(&source, odd_tree::Size::SMALL);
    let owner = Owner::new(dir.path());
    let report = owner.push(&source, &dir.path().join("cache"));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let place = dir.path().join("mnt");
    if let Some(mount) = mounted(&owner, &place, &MountOptions::default()) {
        let latest = place.join("latest/");
        assert_eq!(compare::walk(&source, &latest), Vec::<String>::new());
        // Again, from what the kernel kept.
        assert_eq!(compare::walk(&source, &latest), Vec::<String>::new());
        // And from what it did not keep: a mount of its own, of this snapshot alone.
        let id = owner.reader().snapshots().unwrap()[0].id;
        let options = MountOptions { snapshot: Some(id), threads: 1, ..MountOptions::default() };
        let one = mounted(&owner, &dir.path().join("one"), &options).unwrap();
        assert_eq!(compare::walk(&source, one.mountpoint()), Vec::<String>::new());
        one.unmount().unwrap();
        mount.unmount().unwrap();
    }
    odd_tree::unlock(dir.path());
}

#[test]
fn readers_of_all_sorts_at_once_get_what_was_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let large: Vec<Vec<u8>> = (0..2).map(|n| odd_tree::noise(20_000_000 + n, n as u64)).collect();
    for (n, bytes) in large.iter().enumerate() {
        fs::write(source.join(format!("large{n}")), bytes).unwrap();
    }
    for n in 0..500usize {
        fs::write(source.join(format!("small{n}")), &large[0][n * 100..n * 100 + n * 7]).unwrap();
    }
    let owner = Owner::new(dir.path());
    owner.push(&source, &dir.path().join("cache"));
    let place = dir.path().join("mnt");
    let Some(mount) = mounted(&owner, &place, &MountOptions { threads: 4, ..MountOptions::default() }) else { return };
    let latest = fs::canonicalize(place.join("latest")).unwrap();
    let reads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (n, bytes) in large.iter().enumerate() {
            let (latest, reads) = (&latest, &reads);
            scope.spawn(move || assert!(fs::read(latest.join(format!("large{n}"))).unwrap() == *bytes));
            scope.spawn(move || {
                let file = File::open(latest.join(format!("large{n}"))).unwrap();
                let mut at = 12_345u64;
                for _ in 0..300 {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (from, mut buffer) = ((at >> 20) as usize % (bytes.len() - 5000), [0; 5000]);
                    file.read_exact_at(&mut buffer, from as u64).unwrap();
                    assert!(buffer == bytes[from..from + 5000]);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..500usize {
                    let bytes = fs::read(latest.join(format!("small{n}"))).unwrap();
                    assert!(bytes == large[0][n * 100..n * 100 + n * 7]);
                }
            });
        }
    });
    assert_eq!(reads.into_inner(), 600);
    mount.unmount().unwrap();
}

#[test]
fn a_push_shows_up_and_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (source, cache, place) = (dir.path().join("source"), dir.path().join("cache"), dir.path().join("mnt"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "first").unwrap();
    let owner = Owner::new(dir.path());
    let Some(mount) = mounted(&owner, &place, &MountOptions::default()) else { return };
    assert_eq!(fs::read_dir(place.join("snapshots")).unwrap().count(), 0, "an empty repository can be mounted");
    let appears = |content: &[u8]| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read(place.join("latest/file")).is_ok_and(|bytes| bytes == content) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    owner.push(&source, &cache);
    appears(b"first");
    fs::write(source.join("file"), "second").unwrap();
    let noise = odd_tree::noise(4_000_000, 5);
    fs::write(source.join("large"), &noise).unwrap();
    owner.push(&source, &cache);
    appears(b"second");
    assert_eq!(fs::read_dir(place.join("snapshots")).unwrap().count(), 2);
    mount.unmount().unwrap();

    // A byte in the middle of the largest file of the repository, a pack, is flipped.
    let mut largest = (0, dir.path().to_owned());
    let mut folders = vec![dir.path().join("repo")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if meta.is_dir() { folders.push(path) } else { largest = largest.max((meta.len(), path)) }
        }
    }
    let mut bytes = fs::read(&largest.1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&largest.1).unwrap();
    fs::write(&largest.1, bytes).unwrap();
    let place = dir.path().join("mnt2");
    let mount = mounted(&owner, &place, &MountOptions::default()).unwrap();
    assert!(fs::read(place.join("latest/large")).is_err());
    assert_eq!(fs::read(place.join("latest/file")).unwrap(), b"second");
    let file = File::open(place.join("latest/large")).unwrap();
    let (mut bad, mut page) = (0, [0; 4096]);
    for at in (0..noise.len() - 4096).step_by(4096) {
        match file.read_exact_at(&mut page, at as u64) {
            Ok(()) => assert!(page == noise[at..at + 4096]),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "EIO");
                bad += 1;
            }
        }
    }
    assert!((1..=70).contains(&bad), "{bad} pages of one chunk are lost, not the file");
    drop(file);
    mount.unmount().unwrap();
}

#[test]
fn what_cannot_be_mounted_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Owner::new(dir.path());
    let reader = owner.reader();
    let attempt = |place: &Path, options: &MountOptions| mount(&reader, place, options).map(drop).unwrap_err();
    let plain = MountOptions::default();
    assert!(matches!(attempt(&dir.path().join("none"), &plain), Error::NoMountpoint(_)));
    assert!(matches!(attempt(&dir.path().join("repo"), &plain), Error::NotEmpty(_)));
    let place = dir.path().join("mnt");
    fs::create_dir(&place).unwrap();
    let options = MountOptions { snapshot: Some(Default::default()), ..plain };
    match attempt(&place, &options) {
        Error::Store(error) => assert!(error.to_string().contains("no snapshot"), "{error}"),
        error @ (Error::NoDevice | Error::DeviceRefused(_)) => println!("skipped: no /dev/fuse ({error})"),
        error => panic!("{error}"),
    }
    // Nothing is left mounted.
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
