//! The power fails at any moment of any operation that changes a repository, and what is not yet durable is lost with
//! it.
//!
//! A step (`init`, a push, a change of keys, ...) runs once on a backend that records every write, sync and rename.
//! Then, for every prefix of the record, the test makes folders as they could be found after a crash (`crash/disk.rs`):
//! with all unsynced writes, with none, and with some of them, torn. Each folder must open, with the index missing,
//! older or as it was; show every snapshot, chunk and key slot that had been acknowledged before, and none that had
//! been removed; pass a check that reads everything; and accept the next push.
//!
//! With a floor, all that prunes have taken must come back when the operator says so, at every one of these points,
//! until its time is over.
//!
//! In other runs, the step's process dies at every point, another process does the step again, and then the power
//! fails. The second process must not take for durable what the first one left behind, not yet durable.
//!
//! Packs are damaged, too, and the power fails while that is found, repaired or healed (`crash/hurt.rs`).
//!
//! The seed alone decides which folders are made. A failure prints it, and `BKFS_CRASH_SEED` sets it. (Names of packs
//! and nonces differ from run to run; nothing depends on them except where a pack is.) `BKFS_CRASH_ROUNDS` sets how
//! many folders with some of the writes are made at each point: 2 by default.

#![allow(clippy::unwrap_used)]

#[path = "crash/checked.rs"]
mod checked;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/hurt.rs"]
mod hurt;
#[path = "crash/recorder.rs"]
mod recorder;
#[path = "crash/story.rs"]
mod story;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use bkfs_store::{
    access::Seen,
    base::id::{ChunkId, SlotId, SnapshotId},
    repository::backend::{Backend, LocalBackend},
};

use checked::Checked;
use disk::{Disk, Image, Keep, Random};
use hurt::ExpectedDamage;
use recorder::{Event, Fault, Recorder};
use story::{FLOOR, Promise, Story};
use support::world::Files;

/// Everything that was promised before the crash.
#[derive(Debug, Default, Clone)]
struct Promised {
    initialised: bool,
    snapshots: BTreeMap<SnapshotId, Files>,
    forgotten: BTreeSet<SnapshotId>,
    chunks: Vec<ChunkId>,
    slots: BTreeSet<SlotId>,
    slots_gone: BTreeSet<SlotId>,
    roster: u64,
    /// How many seal keys there are at least; 0 if they are not looked at.
    seal_keys: u32,
    seen: Option<Seen>,
    count: usize,
    /// What a prune may have taken. If there is a floor, it must come back.
    buried: Vec<ChunkId>,
    is_purged: bool,
    is_reframed: bool,
    clock: i64,
    /// What is damaged beyond mending.
    hurt: Option<ExpectedDamage>,
}

impl Promised {
    fn add(&mut self, promise: &Promise) {
        self.count += 1;
        match promise {
            Promise::Initialised(slots) => {
                self.initialised = true;
                self.slots.extend(slots);
                self.roster = 1;
            }
            Promise::Chunks(ids) => self.chunks.extend(ids),
            Promise::Snapshot(receipt, files) => {
                self.snapshots.insert(receipt.snapshot, files.clone());
                self.seen = Some(receipt.now);
            }
            Promise::Slot(id) => drop(self.slots.insert(*id)),
            Promise::SlotGoing(id) => drop(self.slots.remove(id)),
            Promise::SlotGone(id) => drop(self.slots_gone.insert(*id)),
            Promise::Rotating => {
                self.slots.clear();
                self.seal_keys = self.seal_keys.max(1);
            }
            Promise::Rotated(number) => self.seal_keys = *number,
            Promise::Roster(number) => self.roster = *number,
            Promise::Moving(id) => {
                self.snapshots.remove(id);
                self.forgotten.remove(id);
            }
            Promise::Reframing => self.is_reframed = true,
            Promise::Pruning => self.buried.append(&mut self.chunks),
            Promise::Revived => self.chunks.append(&mut self.buried),
            Promise::Burying => self.buried.clear(),
            Promise::Purged => self.is_purged = true,
            Promise::Clock(secs) => self.clock = *secs,
            Promise::Hurting(hurt) => {
                self.chunks.retain(|id| !hurt.lost.contains(id) && !hurt.denied.contains(id));
                self.hurt = Some(hurt.clone());
            }
            Promise::Noticed => self.hurt.iter_mut().for_each(|hurt| hurt.is_unnoticed = false),
            Promise::Healing => self.hurt.iter_mut().for_each(ExpectedDamage::healing),
            Promise::Repaired => self.chunks.extend(self.hurt.iter().flat_map(|hurt| &hurt.denied)),
            Promise::Healed => {
                self.chunks.extend(self.hurt.iter().flat_map(|hurt| hurt.denied.iter().chain(&hurt.lost)));
                self.hurt.iter_mut().for_each(|hurt| hurt.files_lost.clear());
            }
            Promise::Forgotten(id) => drop(self.forgotten.insert(*id)),
            Promise::Back(id, files) => drop(self.snapshots.insert(*id, files.clone())),
        }
    }
}

/// What is left of the index.
#[derive(Debug, Clone, Copy)]
enum IndexFile {
    Missing,
    /// As it was when the step began.
    Old,
    /// As it was at the crash.
    Current,
}

const INDEX_FILES: [IndexFile; 3] = [IndexFile::Missing, IndexFile::Old, IndexFile::Current];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

type Step = fn(&mut Story) -> bkfs_store::Result<()>;

/// Runs steps, and crashes at every point of the last one.
#[track_caller]
fn crash_in(steps: &[Step]) {
    crash_in_above(0, steps);
}

/// The same with a floor.
#[track_caller]
fn crash_in_above(floor: u64, steps: &[Step]) {
    let mut story = Story::begin(floor);
    let (last, before) = steps.split_last().unwrap();
    before.iter().for_each(|step| step(&mut story).unwrap());
    let begin = story.recorder.events().len();
    last(&mut story).unwrap();
    crash_from(story, floor, begin);
}

/// Runs steps. A process dies in the last one, another one does it again, and the power fails when that is done. This
/// is repeated for each point at which the first process can die.
#[track_caller]
fn crash_after_death_in(steps: &[Step]) {
    crash_after_death_in_above(0, steps);
}

/// The same with a floor.
#[track_caller]
fn crash_after_death_in_above(floor: u64, steps: &[Step]) {
    let (last, before) = steps.split_last().unwrap();
    for after in 0.. {
        let mut story = Story::begin(floor);
        before.iter().for_each(|step| step(&mut story).unwrap());
        let ops = story.recorder.ops();
        let came_to_its_end = story::died_and_again(&mut story, after, last);
        assert!(came_to_its_end || story.recorder.ops() > ops);
        let begin = story.recorder.events().len() - 1;
        crash_from(story, floor, begin);
        if came_to_its_end {
            assert!(after > 3, "the step did something");
            return;
        }
    }
}

/// Crashes after each event of a story, from event number `begin` on.
#[track_caller]
fn crash_from(story: Story, floor: u64, begin: usize) {
    let (seed, rounds) = (number("BKFS_CRASH_SEED", 1), number("BKFS_CRASH_ROUNDS", 2));
    let told_at = std::panic::Location::caller().line();
    let events = story.recorder.events();
    let world = story.end();
    let (mut disk, mut promised) = (Disk::new(), Promised::default());
    let (mut old, mut current) = (Arc::default(), Arc::default());
    let mut checked = Checked { world: &world, floor, seen: BTreeSet::new(), images: 0 };
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Op(op) => disk.apply(op),
            Event::Mark(promise) => promised.add(promise),
            Event::Index(bytes) => current = bytes.clone(),
        }
        if number < begin {
            old = current.clone();
            continue;
        }
        let place = format!("story at line {told_at}, seed {seed}, event {number}: {event:?}")
            .chars()
            .take(300)
            .collect::<String>();
        let mut look = |image: Image, index, what: &str| {
            let bytes = match index {
                IndexFile::Missing => None,
                IndexFile::Old => Some(&old),
                IndexFile::Current => Some(&current),
            };
            if let Err(problem) = checked.check(&image, bytes.map(|b| &b[..]), &promised) {
                panic!("{place}, {what}, index {index:?}: {problem}\n{}", image.listing());
            }
        };
        for index in INDEX_FILES {
            look(disk.image(&mut Keep::Everything), index, "everything kept");
            look(disk.image(&mut Keep::Nothing), index, "nothing kept");
        }
        for round in 0..rounds {
            let mut random = Random(seed ^ (number as u64) << 20 ^ round << 40);
            let chance = [20, 50, 80, 95][random.below(4) as usize];
            let index = INDEX_FILES[random.below(3) as usize];
            look(disk.image(&mut Keep::Some(chance, &mut random)), index, "some kept");
        }
    }
    let points = events.len() - begin;
    println!("{points} points, {} different folders", checked.images);
    assert!(checked.images >= points as u64 / 2, "the step did something");
}

impl Image {
    fn listing(&self) -> String {
        self.files.iter().map(|(name, bytes)| format!("  {name} {}\n", bytes.len())).collect()
    }

    fn write(&self, folder: &Path) {
        for name in &self.folders {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

/// What the backend has acknowledged is there after a crash, whichever process began it.
#[test]
fn what_the_backend_acknowledged_is_there_after_a_crash() {
    let folder = story::folder();
    let recorder = Recorder::<()>::new(folder.path(), &folder.path().join("index"));
    let backend = || LocalBackend::with_files(&folder.path().join("repo"), recorder.clone());
    let there = |name: &str| {
        let mut disk = Disk::new();
        for event in recorder.events() {
            if let Event::Op(op) = event {
                disk.apply(&op);
            }
        }
        disk.image(&mut Keep::Nothing).files.get(&format!("repo/{name}")).cloned()
    };
    let one = backend();
    one.append("log", 0, b"one").unwrap();
    assert_eq!(there("log").as_deref(), Some(&b"one"[..]));
    one.append("log", 3, b"two").unwrap();
    assert_eq!(there("log").as_deref(), Some(&b"onetwo"[..]));
    backend().append("log", 2, b"").unwrap();
    assert_eq!(there("log").as_deref(), Some(&b"on"[..]));
    for (name, bytes) in [("config", &b"a"[..]), ("packs/00/x", b"b"), ("packs/00/x", b"c"), ("packs/01/y", b"d")] {
        backend().put(name, bytes).unwrap();
        assert_eq!(there(name).as_deref(), Some(bytes), "{name}");
    }
    backend().delete("packs/00/x").unwrap();
    assert_eq!(there("packs/00/x"), None);
    // A process died before the last step.
    let dies_after = |what: &'static str, at: &'static str| {
        let mut dead = false;
        recorder.fail(Some(Box::new(move |now, path| {
            let fault = dead.then_some(Fault { errno: 5, written: 0 });
            dead |= now == what && path.starts_with(at);
            fault
        })));
    };
    for (what, at) in [("make_folder", "repo/packs/02"), ("rename", "repo/packs/02"), ("create", "repo/second")] {
        dies_after(what, at);
        let put = |backend: LocalBackend<_>| match what {
            "create" => backend.append("second", 0, b"e"),
            _ => backend.put("packs/02/z", b"e"),
        };
        assert!(put(backend()).is_err(), "{what}");
        recorder.fail(None);
        if what == "rename" {
            backend().settle("packs/02").unwrap();
        } else {
            put(backend()).unwrap();
        }
        let name = if what == "create" { "second" } else { "packs/02/z" };
        assert_eq!(there(name).as_deref(), Some(&b"e"[..]), "{what}");
    }
    // Renamed into another folder, by a process that dies at each step.
    backend().put("packs/00/x", b"c").unwrap();
    for what in ["make_folder", "link", "remove"] {
        let folder = if what == "make_folder" { "repo/grave" } else { "repo" };
        dies_after(what, folder);
        assert!(backend().rename("packs/00/x", "grave/x").is_err(), "{what}");
        recorder.fail(None);
    }
    backend().rename("packs/00/x", "grave/x").unwrap();
    assert_eq!((there("packs/00/x"), there("grave/x").as_deref()), (None, Some(&b"c"[..])));
    backend().rename("grave/x", "packs/00/x").unwrap();
    backend().put("grave/x", b"in its place").unwrap();
    backend().rename("packs/00/x", "grave/x").unwrap();
    assert_eq!((there("packs/00/x"), there("grave/x").as_deref()), (None, Some(&b"c"[..])));
    backend().rename("grave/x", "packs/00/x").unwrap();
    // On a file system without links.
    recorder.fail(Some(Box::new(|what, _| (what == "link").then_some(Fault { errno: 1, written: 0 }))));
    backend().rename("packs/00/x", "grave/x").unwrap();
    assert_eq!((there("packs/00/x"), there("grave/x").as_deref()), (None, Some(&b"c"[..])));
    backend().rename("grave/x", "packs/00/x").unwrap();
    recorder.fail(None);
    assert_eq!((there("packs/00/x").as_deref(), there("grave/x")), (Some(&b"c"[..]), None));
    dies_after("remove", "repo/packs/01");
    assert!(backend().delete("packs/01/y").is_err());
    recorder.fail(None);
    assert!(there("packs/01/y").is_some());
    backend().delete("packs/01/y").unwrap();
    assert_eq!(there("packs/01/y"), None);
}

#[test]
fn a_crash_in_init() {
    crash_in(&[story::init]);
    crash_after_death_in(&[story::init]);
}

#[test]
fn a_crash_in_the_first_push() {
    crash_in(&[story::init, story::push]);
    crash_after_death_in(&[story::init, story::push]);
}

#[test]
fn a_crash_in_a_later_push() {
    crash_in(&[story::init, story::push, story::push]);
    crash_after_death_in(&[story::init, story::push, story::push]);
}

#[test]
fn a_crash_after_an_interrupted_push() {
    crash_in(&[story::init, story::push, story::interrupted_push]);
}

#[test]
fn a_crash_in_forgetting() {
    crash_in(&[story::init, story::push, story::push, story::forget]);
}

#[test]
fn a_crash_in_a_prune() {
    crash_in(&[story::init, story::push, story::share_and_expire, story::prune_some]);
    crash_after_death_in(&[story::init, story::share_and_expire, story::prune]);
}

/// A pack is in the grave or among the others, whatever becomes of its rename.
#[test]
fn a_crash_in_a_prune_above_a_floor() {
    let steps: &[Step] = &[story::init, story::push, story::share_and_expire, story::prune_some];
    crash_in_above(FLOOR, steps);
    crash_after_death_in_above(FLOOR, &[story::init, story::share_and_expire, story::prune]);
}

#[test]
fn a_crash_while_frames_are_rewritten() {
    crash_in(&[story::init, story::push, story::share_frames_and_expire, story::reframe_some]);
    crash_in_above(FLOOR, &[story::init, story::push, story::share_frames_and_expire, story::reframe_some]);
    crash_after_death_in(&[story::init, story::share_frames_and_expire, story::reframe]);
}

#[test]
fn a_crash_while_an_operator_revives_pruned_data() {
    let steps: &[Step] = &[story::init, story::share_and_expire, story::prune_some, story::revive];
    crash_in_above(FLOOR, steps);
    crash_after_death_in_above(FLOOR, steps);
}

#[test]
fn a_crash_while_pruned_data_is_pushed_again() {
    let steps: &[Step] = &[story::init, story::share_and_expire, story::prune_some, story::put_again];
    crash_in(steps);
    crash_in_above(FLOOR, steps);
    crash_after_death_in_above(FLOOR, steps);
    // Then it is pruned once more, while its place in the grave is taken.
    crash_in_above(
        FLOOR,
        &[story::init, story::share_and_expire, story::prune_some, story::put_and_forget, story::prune],
    );
}

#[test]
fn a_crash_when_the_time_in_the_grave_is_over() {
    let steps: &[Step] = &[story::init, story::share_and_expire, story::prune_some, story::bury];
    crash_in_above(FLOOR, steps);
    crash_after_death_in_above(FLOOR, steps);
}

#[test]
fn a_crash_after_a_prune_has_condemned() {
    for last in [story::put_again, story::push, story::abort, story::prune, story::change_keys] {
        crash_in_above(FLOOR, &[story::init, story::push, story::share_and_expire, story::condemn, last]);
    }
    crash_in(&[story::init, story::push, story::share_and_expire, story::condemn, story::put_again]);
    crash_after_death_in(&[story::init, story::share_and_expire, story::condemn, story::put_again]);
}

#[test]
fn a_crash_in_an_operators_purge() {
    crash_in_above(FLOOR, &[story::init, story::push, story::push, story::purge]);
    crash_in_above(FLOOR, &[story::init, story::push, story::push, story::purge, story::prune]);
}

#[test]
fn a_crash_in_a_change_of_keys() {
    crash_in(&[story::init, story::push, story::change_keys]);
    crash_after_death_in(&[story::init, story::push, story::change_keys]);
}

/// The passphrase always opens a slot with the newest seal key: what is pushed can be read.
#[test]
fn a_crash_in_a_rotation_of_the_seal_key() {
    crash_in(&[story::init, story::push, story::rotate]);
    crash_after_death_in(&[story::init, story::push, story::rotate]);
}
