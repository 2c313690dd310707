//! Real mounts of a real repository: they show what was pushed. Without FUSE they are skipped, and print why.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bkfs_fs::mount::{Error, Mount, MountOptions, mount};
use bkfs_store::owner::reader::Reader;
use common::{Owner, compare, odd_tree};

/// Mounts at `place`, a folder that is created here. Returns none if this machine cannot mount.
fn mounted(owner: &Owner, place: &Path, options: &MountOptions) -> Option<Mount> {
    fs::create_dir(place).unwrap();
    mounted_reader(&owner.reader(), place, options)
}

/// Mounts a reader at an existing folder. Returns none if this machine cannot mount.
fn mounted_reader(reader: &Arc<Reader>, place: &Path, options: &MountOptions) -> Option<Mount> {
    match mount(reader, place, options) {
        Ok(mount) => Some(mount),
        Err(error @ (Error::NoDevice | Error::DeviceRefused(_) | Error::NoFusermount | Error::Refused { .. })) => {
            println!("skipped: no /dev/fuse or no right to use it ({error})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn all_kinds_of_odd_files_are_shown() {
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
        // Again, from the kernel's cache.
        assert_eq!(compare::walk(&source, &latest), Vec::<String>::new());
        // And without its cache: a second mount, of this snapshot alone.
        let id = owner.reader().snapshots().unwrap()[0].id;
        let options = MountOptions { snapshot: Some(id), threads: 1, ..MountOptions::default() };
        let one = mounted(&owner, &dir.path().join("one"), &options).unwrap();
        assert_eq!(compare::walk(&source, one.mountpoint()), Vec::<String>::new());
        one.unmount().unwrap();
        mount.unmount().unwrap();
    }
    odd_tree::unlock(dir.path());
}

/// What the readers of [`different_readers_at_the_same_time`] read, and how far each has come.
struct Readers<'a> {
    latest: &'a Path,
    large: &'a [Vec<u8>],
    rounds: [AtomicUsize; 8],
}

impl Readers<'_> {
    /// Reads a large file from beginning to end.
    fn whole(&self, n: usize) {
        assert!(fs::read(self.latest.join(format!("large{n}"))).unwrap() == self.large[n]);
    }

    /// Reads a large file at random offsets, through one descriptor.
    fn scattered(&self, n: usize, seed: &mut u64) {
        let (file, bytes) = (File::open(self.latest.join(format!("large{n}"))).unwrap(), &self.large[n]);
        for _ in 0..50 {
            let mut buffer = vec![0; 1 + random(seed) % 9000];
            let from = random(seed) % (bytes.len() - buffer.len());
            file.read_exact_at(&mut buffer, from as u64).unwrap();
            assert!(buffer == bytes[from..from + buffer.len()]);
        }
    }

    /// Reads a small file.
    fn small(&self, n: usize) {
        let bytes = fs::read(self.latest.join(format!("small/{n}"))).unwrap();
        assert!(bytes == self.large[0][small(n)], "small file {n}");
    }

    /// Lists the folder of small files.
    fn listing(&self) {
        let mut seen: Vec<usize> = fs::read_dir(self.latest.join("small"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..SMALL));
    }

    /// Runs one of the eight readers: reads its share repeatedly, until all others have read theirs. If one of them
    /// were never served while others are, this would not end.
    fn run(&self, reader: usize) {
        let (mut seed, _done) = (reader as u64, Done(&self.rounds[reader]));
        let deadline = Instant::now() + Duration::from_secs(300);
        while self.rounds.iter().any(|rounds| rounds.load(Ordering::Relaxed) < 3) {
            assert!(Instant::now() < deadline, "a reader is not served: {:?}", self.rounds);
            match reader {
                0 | 1 => self.whole(reader),
                2 | 3 => self.scattered(reader - 2, &mut seed),
                4 => (0..SMALL).for_each(|n| self.small(n)),
                5 => (0..SMALL).rev().for_each(|n| self.small(n)),
                6 => (0..SMALL).for_each(|_| self.small(random(&mut seed) % SMALL)),
                _ => {
                    self.listing();
                    self.whole(random(&mut seed) % 2);
                    self.scattered(random(&mut seed) % 2, &mut seed);
                    (0..50).for_each(|_| self.small(random(&mut seed) % SMALL));
                }
            }
            self.rounds[reader].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// When a reader ends, even by a panic, the others no longer wait for it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX / 2, Ordering::Relaxed);
    }
}

/// Number of small files.
const SMALL: usize = 500;

/// Returns which part of the first large file is in the small file `n`.
fn small(n: usize) -> std::ops::Range<usize> {
    n * 100..n * 107
}

fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

#[test]
fn different_readers_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("small")).unwrap();
    let large: Vec<Vec<u8>> = (0..2).map(|n| odd_tree::noise(20_000_000 + n, n as u64)).collect();
    for (n, bytes) in large.iter().enumerate() {
        fs::write(source.join(format!("large{n}")), bytes).unwrap();
    }
    for n in 0..SMALL {
        fs::write(source.join(format!("small/{n}")), &large[0][small(n)]).unwrap();
    }
    let owner = Owner::new(dir.path());
    owner.push(&source, &dir.path().join("cache"));
    let place = dir.path().join("mnt");
    fs::create_dir(&place).unwrap();
    // Fewer threads than readers, and a cache that holds a tenth of what they read.
    let reader = Reader::new(owner.access.clone(), owner.full.clone(), &owner.config, 4 << 20);
    let Some(mount) = mounted_reader(&reader, &place, &MountOptions { threads: 4, ..MountOptions::default() }) else {
        return;
    };
    let latest = fs::canonicalize(place.join("latest")).unwrap();
    let readers = Readers { latest: &latest, large: &large, rounds: Default::default() };
    std::thread::scope(|scope| {
        for reader in 0..readers.rounds.len() {
            let readers = &readers;
            scope.spawn(move || readers.run(reader));
        }
    });
    mount.unmount().unwrap();
}

#[test]
fn a_push_appears_and_damage_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (source, cache, place) = (dir.path().join("source"), dir.path().join("cache"), dir.path().join("mnt"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "first").unwrap();
    let owner = Owner::with_parity(dir.path(), None);
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

    // Flip a byte in the middle of the largest pack.
    let mut largest = (0, dir.path().to_owned());
    let mut folders = vec![dir.path().join("repo/packs")];
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
    assert!((1..=70).contains(&bad), "only the pages of one chunk are lost, not the file: {bad}");
    drop(file);
    mount.unmount().unwrap();
}

#[test]
fn errors_say_why_a_mount_is_impossible() {
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
    // Nothing remains mounted.
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}
