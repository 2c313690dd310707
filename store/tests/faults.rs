//! A full disk and a failing disk. Every file operation of a step fails once, and so do all that follow, until there is
//! room again or the disk is replaced. The error says what happened to what. Nothing that was acknowledged is lost, in
//! the same process or after a new opening. The same step, done again, completes.

#![allow(clippy::unwrap_used)]

#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/recorder.rs"]
mod recorder;
mod support;

use std::{cell::Cell, collections::BTreeMap, fs, path::Path, sync::Arc};

use bkfs_store::{
    Error, ErrorKind, Result,
    access::{ForgetRequest, Manage, Open, OpenRequest, Push, SignedTombstone},
    base::{
        id::{ChunkId, SnapshotId},
        time::Time,
    },
    format::{
        keys::slot::{self, SlotParams},
        tombstone::Tombstone,
    },
    owner::prune::{PruneOptions, PruneProgress, Pruner},
    repository::{Repository, backend::LocalBackend},
};

use recorder::{Fault, Plan, Recorder};
use support::world::{Files, World, problems};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const DAY: u64 = 86_400;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_790_000_000) };
}

fn clock() -> Time {
    Time { secs: CLOCK.get(), nanos: 0 }
}

/// A repository whose disk can fail.
struct Place {
    folder: tempfile::TempDir,
    recorder: Recorder<()>,
    world: World,
    floor: u64,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path(), &folder.path().join("index"));
        Self { folder, recorder, world: World::new(), floor: 0 }
    }

    fn open(&self) -> Result<Arc<Repository>> {
        let backend = LocalBackend::with_files(&self.folder.path().join("repo"), self.recorder.clone());
        let repo = Repository::with_backend(Box::new(backend), &self.folder.path().join("index"))?;
        Ok(Arc::new(repo.with_floor(self.floor).with_clock(clock)))
    }

    /// The same, with an index that is built from nothing.
    fn open_anew(&self) -> Result<Arc<Repository>> {
        let _ = fs::remove_dir_all(self.folder.path().join("index"));
        self.open()
    }

    /// Everything in a repository, which must be sound.
    #[track_caller]
    fn read(&self, repo: &Arc<Repository>) -> BTreeMap<SnapshotId, Files> {
        let reader = self.world.reader(repo.clone());
        let all = self.world.read_all(&reader).unwrap();
        assert_eq!(problems(&reader, &**repo, true).unwrap(), Vec::<String>::new());
        all
    }
}

/// A disk without room: an operation that needs room fails after writing a part; one that needs none succeeds.
fn full(after: usize) -> Plan {
    let mut left = after;
    Box::new(move |what, _| {
        if !matches!(what, "make_folder" | "create" | "link" | "write" | "sync") {
            return None;
        }
        left = left.checked_sub(1).unwrap_or(usize::MAX);
        (left == usize::MAX).then(|| {
            left = 0;
            Fault { errno: ENOSPC, written: 100 }
        })
    })
}

/// A disk that accepts nothing more. It can still be read.
fn broken(after: usize) -> Plan {
    let mut left = after;
    Box::new(move |what, _| {
        if what == "read" {
            return None;
        }
        match left {
            0 => Some(Fault { errno: EIO, written: 10 }),
            _ => {
                left -= 1;
                None
            }
        }
    })
}

/// A step, which may be repeated if it failed.
type Step = fn(&Place, &Arc<Repository>) -> Result<()>;

fn init(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    match repo.init(&place.world.request) {
        Err(Error::RepositoryExists { .. }) => Ok(()),
        made => made,
    }
}

fn push(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    place.world.push(&**repo, &World::files(2)).map(drop)
}

/// Two snapshots that share a pack. The larger one expires, so that a prune has something to copy and something to
/// remove.
fn share_and_expire(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    let (few, mut many) = (World::files(34), Files::new());
    (31..=34).for_each(|seed| many.extend(World::files(seed)));
    let receipt = place.world.push(&**repo, &many)?;
    let mut packed = place.world.packs(&few);
    packed.uploads.remove(0);
    place.world.push_packs(&**repo, &packed)?;
    for _ in 0..8 {
        CLOCK.set(CLOCK.get() + 2 * DAY as i64);
        repo.forget(&ForgetRequest::default())?;
    }
    let full = &place.world.full;
    let tombstone =
        Tombstone { repo: full.repo, snapshot: receipt.snapshot, log_len: receipt.now.log_len, is_broken: false }
            .sign(full);
    let forget = ForgetRequest { tombstones: vec![SignedTombstone(tombstone)], now: true, empty_trash: false };
    repo.forget(&forget).map(drop)
}

fn prune(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    let options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
    let reader = place.world.reader(repo.clone());
    Pruner { reader: &reader, access: &**repo, push_key: None, cache: place.folder.path() }
        .run(&options, &PruneProgress::default())
        .map(drop)
}

/// The same. Afterwards, nothing is left that no snapshot needs.
fn prune_all(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    prune(place, repo)?;
    let files = files_of(&place.folder.path().join("repo"));
    let ids = place.world.push.ids();
    let gone: Vec<ChunkId> = World::files(31).values().map(|bytes| ids.data_id(bytes)).collect();
    assert_eq!(repo.has(None, &gone)?, vec![false; gone.len()], "it is pruned");
    let grave = files.iter().filter(|file| file.starts_with("grave/")).count();
    assert_eq!(grave > 0, place.floor > 0, "{files:?}");
    Ok(())
}

fn change_keys(place: &Place, repo: &Arc<Repository>) -> Result<()> {
    let new = slot::seal_slot(&place.world.full, b"second", SlotParams::LEAST, &Default::default())?;
    repo.put_slot(&new)?;
    for slot in repo.open(&OpenRequest::default())?.slots {
        if slot.id != new.id {
            repo.remove_slot(slot.id)?;
        }
    }
    Ok(())
}

/// Makes a step fail at each of its operations.
fn every_operation_fails(before: &[Step], step: Step, plan: fn(usize) -> Plan, errno: i32) {
    every_operation_fails_above(0, before, step, plan, errno);
}

/// The same with a floor.
fn every_operation_fails_above(floor: u64, before: &[Step], step: Step, plan: fn(usize) -> Plan, errno: i32) {
    for after in 0.. {
        let place = Place { floor, ..Place::new() };
        let repo = place.open().unwrap();
        before.iter().for_each(|step| step(&place, &repo).unwrap());
        let kept = if before.is_empty() { BTreeMap::new() } else { place.read(&repo) };
        place.recorder.fail(Some(plan(after)));
        let outcome = step(&place, &repo);
        let error = match outcome {
            Ok(()) => {
                assert!(after > 5, "the step writes something");
                return;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        match errno {
            ENOSPC => assert!(error.kind() == ErrorKind::Full && text.contains("no space left at"), "{after}: {text}"),
            _ => assert!(matches!(error, Error::Io { .. }) && text.contains("repo"), "{after}: {text}"),
        }
        // While the disk fails, everything can be read.
        if !before.is_empty() {
            let found = place.read(&repo);
            assert!(kept.iter().all(|(id, files)| found.get(id) == Some(files)), "{after}");
            let found = place.read(&place.open().unwrap());
            assert!(kept.iter().all(|(id, files)| found.get(id) == Some(files)), "{after}");
        }
        // When the disk works again, the same process goes on.
        place.recorder.fail(None);
        step(&place, &repo).unwrap_or_else(|error| panic!("{after}, again: {error}"));
        place.world.push(&*repo, &World::files(3)).unwrap_or_else(|error| panic!("{after}, a push: {error}"));
        let here = place.read(&repo);
        assert!(kept.iter().all(|(id, files)| here.get(id) == Some(files)), "{after}");
        drop(repo);
        assert_eq!(place.read(&place.open_anew().unwrap()), here, "{after}");
    }
}

#[test]
fn a_full_disk_in_init() {
    every_operation_fails(&[], init, full, ENOSPC);
}

#[test]
fn a_full_disk_in_a_push() {
    every_operation_fails(&[init, push], push, full, ENOSPC);
}

#[test]
fn a_full_disk_in_a_change_of_keys() {
    every_operation_fails(&[init, push], change_keys, full, ENOSPC);
}

/// A prune on a full disk ends with a clear error and removes nothing that is needed. When there is room, it completes
/// and leaves nothing behind.
#[test]
fn a_full_disk_in_a_prune() {
    every_operation_fails(&[init, share_and_expire], prune_all, full, ENOSPC);
    every_operation_fails_above(14 * DAY, &[init, share_and_expire], prune_all, full, ENOSPC);
}

#[test]
fn a_broken_disk_in_a_prune() {
    every_operation_fails(&[init, share_and_expire], prune_all, broken, EIO);
    every_operation_fails_above(14 * DAY, &[init, share_and_expire], prune_all, broken, EIO);
}

#[test]
fn a_broken_disk_in_init() {
    every_operation_fails(&[], init, broken, EIO);
}

#[test]
fn a_broken_disk_in_a_push() {
    every_operation_fails(&[init, push], push, broken, EIO);
}

#[test]
fn a_broken_disk_in_a_change_of_keys() {
    every_operation_fails(&[init, push], change_keys, broken, EIO);
}

/// All files of a repository, by their paths.
fn files_of(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(std::result::Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_unreadable_file_costs_only_what_is_stored_nowhere_else() {
    let place = Place::new();
    let repo = place.open().unwrap();
    [init, push].iter().for_each(|step| step(&place, &repo).unwrap());
    let kept = place.read(&repo);
    drop(repo);
    let mut packs = 0;
    for bad in files_of(&place.folder.path().join("repo")) {
        let path = format!("repo/{bad}");
        let plan =
            move |what: &str, read: &str| (what == "read" && read == path).then_some(Fault { errno: EIO, written: 0 });
        place.recorder.fail(Some(Box::new(plan)));
        let repo = place.open_anew().unwrap_or_else(|error| panic!("{bad}: {error}"));
        let reader = place.world.reader(repo.clone());
        if bad.starts_with("packs/") {
            packs += 1;
            let found = problems(&reader, &*repo, true).unwrap();
            assert!(!found.is_empty(), "{bad}: a pack is stored once");
        } else {
            assert_eq!(place.world.read_all(&reader).unwrap(), kept, "{bad}");
            assert_eq!(problems(&reader, &*repo, true).unwrap(), Vec::<String>::new(), "{bad}");
        }
        assert_eq!(repo.open(&OpenRequest::default()).unwrap().slots.len(), 1, "{bad}");
        drop((reader, repo));
        // The disk is sound again: nothing was given up as lost.
        place.recorder.fail(None);
        let repo = place.open().unwrap();
        assert_eq!(place.read(&repo), kept, "{bad}");
    }
    assert_eq!(packs, 2);
    // The next push works although a pack cannot be read.
    place.recorder.fail(Some(Box::new(|what, path| {
        (what == "read" && path.starts_with("repo/packs")).then_some(Fault { errno: EIO, written: 0 })
    })));
    let repo = place.open_anew().unwrap();
    let receipt = place.world.push(&*repo, &World::files(5)).unwrap();
    place.recorder.fail(None);
    assert_eq!(place.read(&place.open().unwrap())[&receipt.snapshot], World::files(5));
}
