//! A log that is damaged at the same place in both its files: repair assembles what is left, and the repository opens
//! again.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error, Result,
    access::{Manage, Open, OpenRequest},
    base::id::SnapshotId,
    format::{
        log::{file as log_file, file::Position},
        loss::Lost,
    },
    repository::{
        LogReport, Repository,
        backend::{Backend, Listed, LocalBackend, Lock, Room},
    },
};
use bytes::Bytes;
use support::world::{Files, World, problems};

struct Scene {
    folder: tempfile::TempDir,
    world: World,
    snapshots: BTreeMap<SnapshotId, Files>,
    /// Where each record begins; the last entry is where the log ends.
    starts: Vec<usize>,
}

impl Scene {
    /// Init, incarnation, roster and three commits.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new();
        let repo = Repository::local(&folder.path().join("repo"), &folder.path().join("index")).unwrap();
        repo.init(&world.request).unwrap();
        let mut snapshots = BTreeMap::new();
        for seed in 1..=3 {
            let files = World::files(seed);
            snapshots.insert(world.push(&repo, &files).unwrap().snapshot, files);
        }
        drop(repo);
        let log = fs::read(folder.path().join("repo/log")).unwrap();
        let (mut at, mut starts) = (Position::default(), vec![0]);
        while let Some((_, next)) = log_file::next_record(at, &log[at.offset as usize..]).unwrap() {
            starts.push(next.offset as usize);
            at = next;
        }
        assert_eq!(starts.len(), 7);
        Self { folder, world, snapshots, starts }
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn flip_both(&self, at: usize) {
        for name in ["log", "log.2"] {
            flip(&self.place().join(name), at);
        }
    }

    fn open(&self) -> Result<Arc<Repository>> {
        Ok(Arc::new(Repository::local(&self.place(), &self.folder.path().join("index"))?))
    }

    fn repair(&self, dry_run: bool) -> Result<LogReport> {
        bkfs_store::repository::log::repair_log(&self.place(), dry_run)
    }

    /// Asserts that everything is there, and that the next push works.
    fn expect_whole(&self, name: &str) {
        for with_index in [true, false] {
            if !with_index {
                fs::remove_dir_all(self.folder.path().join("index")).unwrap();
            }
            let repo = self.open().unwrap_or_else(|error| panic!("{name}: {error}"));
            let reader = self.world.reader(repo.clone());
            let all = self.world.read_all(&reader).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(self.snapshots.iter().all(|(id, files)| all.get(id) == Some(files)), "{name}: {}", all.len());
            assert_eq!(problems(&reader, &*repo, true).unwrap(), Vec::<String>::new(), "{name}");
            self.world.push(&*repo, &World::files(9)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let (one, two) = (fs::read(self.place().join("log")).unwrap(), fs::read(self.place().join("log.2")).unwrap());
        assert!(one == two, "{name}");
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_that_is_damaged_at_different_places_is_mended_without_loss() {
    let scene = Scene::new();
    let whole = fs::read(scene.place().join("log")).unwrap();
    assert_eq!(scene.repair(false).unwrap(), LogReport { records: 6, ..LogReport::default() });
    for (record, start) in scene.starts[..6].iter().enumerate() {
        // In the same record, and in different ones.
        flip(&scene.place().join("log"), start + 8);
        flip(&scene.place().join("log.2"), start + 40);
        flip(&scene.place().join("log.2"), scene.starts[(record + 3) % 6] + 20);
        let dry = scene.repair(true).unwrap();
        assert_eq!(scene.repair(false).unwrap(), dry);
        assert_eq!(dry, LogReport { records: 6, is_mended: true, ..LogReport::default() }, "record {record}");
        for name in ["log", "log.2"] {
            assert!(fs::read(scene.place().join(name)).unwrap() == whole, "record {record}");
        }
    }
    scene.expect_whole("mended");
}

#[test]
fn a_lost_record_costs_no_snapshot() {
    for record in 0..6usize {
        let scene = Scene::new();
        let seen = scene.open().unwrap().open(&OpenRequest::default()).unwrap();
        scene.flip_both(scene.starts[record] + 10);
        fs::remove_dir_all(scene.folder.path().join("index")).unwrap();
        let damaged = fs::read(scene.place().join("log")).unwrap();
        let error = scene.open().unwrap_err();
        assert!(error.to_string().contains("log"), "{error}");
        let dry = scene.repair(true);
        assert!(fs::read(scene.place().join("log")).unwrap() == damaged, "dry run");
        if record == 2 {
            // Record 2 is the roster. Only the roster tells whose snapshots count.
            assert!(dry.unwrap_err().to_string().contains("no roster"));
            assert!(scene.repair(false).is_err());
            assert!(fs::read(scene.place().join("log")).unwrap() == damaged);
            continue;
        }
        let report = scene.repair(false).unwrap();
        assert_eq!(dry.unwrap(), report);
        assert!(report.is_rewritten, "record {record}");
        assert_eq!(report.recovered.len(), usize::from(record >= 3), "record {record}");
        assert_eq!(report.lost, if record == 1 { vec![1] } else { vec![] });
        assert!(fs::read(scene.place().join("log.damaged")).unwrap() == damaged, "kept");
        // A client that was here before learns that the history has changed, and that it must ask about everything
        // again.
        let repo = scene.open().unwrap();
        let opened = repo.open(&OpenRequest { client: None, seen: Some(seen.now) }).unwrap();
        assert_ne!(opened.now.incarnation, seen.now.incarnation);
        assert_ne!(opened.head_at_seen, Some(seen.now.log_head));
        assert_eq!(opened.lost, Lost::Everything);
        assert!(opened.lease.generation > seen.lease.generation);
        drop(repo);
        scene.expect_whole(&format!("record {record}"));
        // A second repair does nothing.
        assert!(!scene.repair(false).unwrap().is_rewritten);
    }
}

#[test]
fn records_lost_at_the_end_are_recovered_from_the_snapshots() {
    let scene = Scene::new();
    let log = fs::read(scene.place().join("log")).unwrap();
    let mut bytes = log.clone();
    bytes[scene.starts[4] + 4..].fill(0);
    for name in ["log", "log.2"] {
        fs::write(scene.place().join(name), &bytes).unwrap();
    }
    let report = scene.repair(false).unwrap();
    assert_eq!((report.recovered.len(), report.is_rewritten), (2, true));
    assert!(report.cut > 0);
    scene.expect_whole("the end");
    // If both files are gone, there is nothing to rebuild the log from.
    for name in ["log", "log.2"] {
        fs::remove_file(scene.place().join(name)).unwrap();
    }
    assert!(scene.repair(false).unwrap_err().to_string().contains("both its files"));
}

/// A disk that fails after `left` writes.
struct Dying {
    disk: LocalBackend,
    left: AtomicUsize,
}

impl Backend for Dying {
    fn place(&self) -> String {
        self.disk.place()
    }
    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()> {
        let allowed = self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        allowed.map_err(|_| Error::Interrupted)?;
        self.disk.put_all(objects)
    }
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.disk.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        self.disk.get_range(name, offset, len)
    }
    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.disk.len(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.disk.rename(from, to)
    }
    fn delete(&self, name: &str) -> Result<()> {
        self.disk.delete(name)
    }
    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.disk.list(folder)
    }
    fn settle(&self, folder: &str) -> Result<()> {
        self.disk.settle(folder)
    }
    fn stamp(&self, folder: &str) -> Result<Option<u64>> {
        self.disk.stamp(folder)
    }

    fn room(&self) -> Option<Room> {
        self.disk.room()
    }
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        self.disk.append(name, offset, bytes)
    }
    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.disk.lock()
    }
}

#[test]
fn an_interrupted_repair_leaves_a_log_that_opens_or_can_be_repaired_again() {
    let mut opened = 0;
    for writes in 0..4 {
        let scene = Scene::new();
        scene.flip_both(scene.starts[4] + 10);
        fs::remove_dir_all(scene.folder.path().join("index")).unwrap();
        let disk = Dying { disk: LocalBackend::new(&scene.place()), left: AtomicUsize::new(writes) };
        assert!(bkfs_store::repository::log::repair_log_on(&disk, false).is_err(), "{writes} writes");
        match scene.open() {
            // From the write that replaces the second file on, the log opens.
            Ok(_) => opened += 1,
            Err(_) => assert!(scene.repair(false).unwrap().is_rewritten),
        }
        scene.expect_whole(&format!("{writes} writes"));
    }
    assert_eq!(opened, 1);
}
