//! What is done to a repository before and while the power fails: one function for each step, which promises what was
//! acknowledged.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error, Result,
    access::{
        ForgetRequest, Lease, Maintain, Manage, Open, OpenRequest, PruneReply, PruneRequest, PruneStats, Push, Read,
        Receipt, SignedTombstone,
    },
    base::{
        id::{ChunkId, DomainId, SlotId, SnapshotId},
        time::Time,
    },
    format::{
        erasure::Parity,
        keys::{
            SealKeys,
            slot::{self, SlotParams},
        },
        roster::Roster,
        tombstone::Tombstone,
    },
    owner::{
        prune::{self, PruneOptions, PruneReport, Pruner},
        reader::Reader,
        rotation::{self, Rotation},
    },
    repository::{Repository, backend::LocalBackend},
};

use crate::{
    hurt::{self, ExpectedDamage},
    recorder::{Fault, Recorder},
    support::{
        fuse::Fuse,
        world::{Files, Packed, World},
    },
};

pub const DAY: u64 = 86_400;
const BEGIN: i64 = 1_790_000_000;
/// The floor of the stories that have one.
pub const FLOOR: u64 = 14 * DAY;

thread_local! {
    // Threads that are started here begin at this time, too.
    static CLOCK: Cell<i64> = const { Cell::new(BEGIN) };
}

/// The time in the story.
pub fn clock() -> Time {
    Time { secs: CLOCK.get(), nanos: 0 }
}

pub fn set_clock(secs: i64) {
    CLOCK.set(secs);
}

/// What the repository has acknowledged that it holds, or no longer holds.
#[derive(Debug, Clone)]
pub enum Promise {
    /// There is a repository, with these key slots.
    Initialised(Vec<SlotId>),
    /// These chunks are stored.
    Chunks(Vec<ChunkId>),
    /// A snapshot is committed.
    Snapshot(Receipt, Files),
    /// A key slot is stored.
    Slot(SlotId),
    /// A key slot is about to be removed, and may be gone.
    SlotGoing(SlotId),
    /// A key slot is removed.
    SlotGone(SlotId),
    /// The seal key is being rotated: one slot stays.
    Rotating,
    /// The seal key was rotated, and there are so many.
    Rotated(u32),
    /// A roster of this number is in force.
    Roster(u64),
    /// A snapshot is about to go to the trash, or to come back from it.
    Moving(SnapshotId),
    /// A snapshot no longer counts.
    Forgotten(SnapshotId),
    /// A snapshot counts again.
    Back(SnapshotId, Files),
    /// Frames are rewritten. Whatever ends that early, the next prune completes it.
    Reframing,
    /// What no snapshot needs may be removed, or go to the grave if there is a floor.
    Pruning,
    /// All that was pruned is there again.
    Revived,
    /// What was pruned longer ago than the floor may be removed for good.
    Burying,
    /// The operator purges a snapshot.
    Purged,
    /// It is now this time.
    Clock(i64),
    /// Part of a pack is about to be damaged beyond mending.
    Hurting(ExpectedDamage),
    /// It is known that the pack's file is gone.
    Noticed,
    /// What could be saved of the pack is stored.
    Repaired,
    /// The pack's contents may be stored again.
    Healing,
    /// What was lost with the pack is stored again.
    Healed,
}

/// A repository that is recorded while it is used.
pub struct Story {
    pub folder: tempfile::TempDir,
    pub world: World,
    pub recorder: Recorder<Promise>,
    repo: Option<Arc<Repository>>,
    floor: u64,
    pushes: u64,
    pruned: Option<PruneStats>,
    /// What an expired snapshot needed. Another snapshot needs some of it.
    shared: Option<(Files, Packed)>,
    /// A push that has not been completed.
    begun: Option<(Files, Packed)>,
    /// The push that is damaged.
    pub noise: Option<hurt::Noise>,
}

/// A folder in memory, if possible: nothing here has to survive this process.
pub fn folder() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap()
}

impl Story {
    pub fn begin(floor: u64) -> Self {
        let folder = folder();
        let (base, index) = (folder.path().join("disk"), folder.path().join("index"));
        std::fs::create_dir(&base).unwrap();
        let recorder = Recorder::new(&base, &index);
        let world = World::new();
        let (pushes, pruned, shared, begun, noise) = (0, None, None, None, None);
        let mut story = Self { folder, world, recorder, repo: None, floor, pushes, pruned, shared, begun, noise };
        story.later(BEGIN);
        reopen(&mut story);
        story
    }

    /// Moves the clock on by `secs`, or to `secs` if that is a time.
    fn later(&self, secs: i64) {
        let now = if secs < 1_000_000_000 { CLOCK.get() + secs } else { secs };
        set_clock(now);
        self.recorder.mark(Promise::Clock(now));
    }

    /// Lets more time pass than the floor protects, for a store that looks at its clock every second day.
    fn outlive_the_floor(&self) -> Result<()> {
        for _ in 0..8 {
            self.later(2 * DAY as i64);
            self.repo().forget(&ForgetRequest::default())?;
        }
        Ok(())
    }

    pub fn end(self) -> World {
        self.world
    }

    pub fn repo(&self) -> &Repository {
        self.repo.as_ref().unwrap()
    }

    pub fn reader(&self) -> Arc<Reader> {
        self.world.reader(self.repo.clone().unwrap())
    }

    /// A file of the repository.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("disk/repo").join(name)
    }
}

/// Another process opens the repository.
pub fn reopen(story: &mut Story) {
    reopen_with(story, Some(Parity::default()));
}

fn reopen_with(story: &mut Story, parity: Option<Parity>) {
    story.repo = None;
    let backend = LocalBackend::with_files(&story.file(""), story.recorder.clone());
    let repo = Repository::with_backend(Box::new(backend), &story.folder.path().join("index")).unwrap();
    story.repo = Some(Arc::new(repo.with_floor(story.floor).with_clock(clock).with_parity(parity)));
}

/// A repository whose packs have no parity.
pub fn init_bare(story: &mut Story) -> Result<()> {
    reopen_with(story, None);
    init(story)
}

pub fn init(story: &mut Story) -> Result<()> {
    match story.repo().init(&story.world.request) {
        // A process died in the last steps. What counts as a repository must be one from now on.
        Err(Error::RepositoryExists { .. }) => {}
        made => made?,
    }
    let slots = story.world.request.slots.iter().map(|slot| slot.id).collect();
    story.recorder.mark(Promise::Initialised(slots));
    Ok(())
}

/// A push: the packs of the last one that was not completed, or new ones.
pub fn push(story: &mut Story) -> Result<()> {
    put_packs(story)?;
    let (files, packed) = story.begun.as_ref().unwrap();
    let receipt = story.world.commit(story.repo(), packed)?;
    story.recorder.mark(Promise::Snapshot(receipt, files.clone()));
    story.begun = None;
    Ok(())
}

fn put_packs(story: &mut Story) -> Result<()> {
    if story.begun.is_none() {
        story.pushes += 1;
        let files = World::files(story.pushes);
        story.begun = Some((files.clone(), story.world.packs(&files)));
    }
    for (upload, chunks) in &story.begun.as_ref().unwrap().1.uploads {
        story.repo().put_pack(Lease::default(), upload)?;
        story.recorder.mark(Promise::Chunks(chunks.clone()));
    }
    Ok(())
}

/// The oldest snapshot goes to the trash, comes back, and expires.
pub fn forget(story: &mut Story) -> Result<()> {
    let (repo, full) = (story.repo(), &story.world.full);
    let oldest = repo.snapshots(0, 1)?.remove(0).id;
    let forget = |now| {
        let log_len = repo.open(&OpenRequest::default())?.now.log_len;
        let tombstone = Tombstone { repo: full.repo, snapshot: oldest, log_len, is_broken: false };
        let tombstones = vec![SignedTombstone(tombstone.sign(full))];
        story.recorder.mark(Promise::Moving(oldest));
        repo.forget(&ForgetRequest { tombstones, now, empty_trash: false })?;
        story.recorder.mark(Promise::Forgotten(oldest));
        Ok::<_, Error>(())
    };
    forget(false)?;
    story.recorder.mark(Promise::Moving(oldest));
    repo.unforget(&[oldest])?;
    story.recorder.mark(Promise::Back(oldest, World::files(1)));
    forget(true)
}

/// Two snapshots share a pack, and the larger one expires: no snapshot needs most of the pack any more.
pub fn share_and_expire(story: &mut Story) -> Result<()> {
    let (repo, full) = (story.repo(), &story.world.full);
    let (few, mut many) = (World::files(34), Files::new());
    (31..=34).for_each(|seed| many.extend(World::files(seed)));
    let all = story.world.packs(&many);
    let receipt = story.world.push_packs(repo, &all)?;
    all.uploads.iter().for_each(|(_, chunks)| story.recorder.mark(Promise::Chunks(chunks.clone())));
    let (larger, log_len) = (receipt.snapshot, receipt.now.log_len);
    story.recorder.mark(Promise::Snapshot(receipt, many.clone()));
    // Its files are stored; its tree is not.
    let mut packed = story.world.packs(&few);
    packed.uploads.remove(0);
    let receipt = story.world.push_packs(repo, &packed)?;
    story.recorder.mark(Promise::Snapshot(receipt, few));
    let tombstones =
        vec![SignedTombstone(Tombstone { repo: full.repo, snapshot: larger, log_len, is_broken: false }.sign(full))];
    story.outlive_the_floor()?;
    story.recorder.mark(Promise::Moving(larger));
    repo.forget(&ForgetRequest { tombstones, now: true, empty_trash: false })?;
    story.recorder.mark(Promise::Forgotten(larger));
    story.shared = Some((many, all));
    Ok(())
}

/// Two snapshots share frames, and the larger one expires. The other one needs one file in eight.
pub fn share_frames_and_expire(story: &mut Story) -> Result<()> {
    let (repo, full) = (story.repo(), &story.world.full);
    let mut many = Files::new();
    (31..=34).for_each(|seed| many.extend(World::files(seed)));
    let few: Files = ["31-0", "33-1"].map(|name| (name.to_owned(), many[name].clone())).into();
    let packed = story.world.packs_of(&many, 8, &|_| true);
    let receipt = story.world.push_packs(repo, &packed)?;
    packed.uploads.iter().for_each(|(_, chunks)| story.recorder.mark(Promise::Chunks(chunks.clone())));
    let (larger, log_len) = (receipt.snapshot, receipt.now.log_len);
    story.recorder.mark(Promise::Snapshot(receipt, many));
    let packed = story.world.packs_lacking(repo, &few, 8)?;
    let receipt = story.world.push_packs(repo, &packed)?;
    assert_eq!(packed.uploads.len(), 1, "only its trees");
    story.recorder.mark(Promise::Snapshot(receipt, few));
    let tombstones =
        vec![SignedTombstone(Tombstone { repo: full.repo, snapshot: larger, log_len, is_broken: false }.sign(full))];
    story.outlive_the_floor()?;
    story.recorder.mark(Promise::Moving(larger));
    repo.forget(&ForgetRequest { tombstones, now: true, empty_trash: false })?;
    story.recorder.mark(Promise::Forgotten(larger));
    Ok(())
}

/// A prune by a client that may push, too: frames that are mostly dead are rewritten.
pub fn reframe(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Reframing);
    story.recorder.mark(Promise::Pruning);
    reframe_with(story.repo(), &story.reader(), &story.world, story.folder.path()).map(drop)
}

/// The same, if no process has begun it before.
pub fn reframe_some(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Reframing);
    story.recorder.mark(Promise::Pruning);
    let report = reframe_with(story.repo(), &story.reader(), &story.world, story.folder.path())?;
    assert!(report.reframed == 2 && report.stats.dropped > 0, "{report:?}");
    Ok(())
}

pub fn reframe_with(repo: &Repository, reader: &Reader, world: &World, cache: &Path) -> Result<PruneReport> {
    let options = PruneOptions { is_confirmed: true, reframe_bytes: 1 << 30, ..PruneOptions::default() };
    let pruner = Pruner { reader, access: repo, push_key: Some(&world.push), cache };
    pruner.run(&options, &prune::PruneProgress::default())
}

/// A push of what a prune has taken or condemned: the same packs.
pub fn put_again(story: &mut Story) -> Result<()> {
    let (files, packed) = story.shared.as_ref().unwrap();
    for (upload, chunks) in &packed.uploads {
        story.repo().put_pack(Lease::default(), upload)?;
        story.recorder.mark(Promise::Chunks(chunks.clone()));
    }
    let receipt = story.world.commit(story.repo(), packed)?;
    story.recorder.mark(Promise::Snapshot(receipt, files.clone()));
    Ok(())
}

/// The same, and the new snapshot expires.
pub fn put_and_forget(story: &mut Story) -> Result<()> {
    put_again(story)?;
    story.outlive_the_floor()?;
    let (repo, full) = (story.repo(), &story.world.full);
    let (newest, log_len) =
        (repo.snapshots(0, 100)?.pop().unwrap().id, repo.open(&OpenRequest::default())?.now.log_len);
    let tombstones =
        vec![SignedTombstone(Tombstone { repo: full.repo, snapshot: newest, log_len, is_broken: false }.sign(full))];
    story.recorder.mark(Promise::Moving(newest));
    repo.forget(&ForgetRequest { tombstones, now: true, empty_trash: false })?;
    story.recorder.mark(Promise::Forgotten(newest));
    Ok(())
}

/// What no snapshot needs is swept, and what is left of a pack is copied.
pub fn prune(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Pruning);
    let reader = story.reader();
    let options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
    let pruner = Pruner { reader: &reader, access: story.repo(), push_key: None, cache: story.folder.path() };
    let report = pruner.run(&options, &prune::PruneProgress::default())?;
    story.pruned = Some(report.stats);
    Ok(())
}

/// A prune that ends once it has condemned.
pub fn condemn(story: &mut Story) -> Result<()> {
    story.recorder.mark(Promise::Pruning);
    let repo = story.repo.clone().unwrap();
    let before = repo.open(&OpenRequest::default())?.lease.generation;
    let has_condemned = AtomicBool::new(false);
    let allows = move |request: &PruneRequest| {
        has_condemned.fetch_or(matches!(request, PruneRequest::Condemn { .. }), SeqCst);
        !matches!(request, PruneRequest::Sweep) || !has_condemned.load(SeqCst)
    };
    let fuse = Arc::new(Fuse::new(repo.clone(), allows));
    let reader = story.world.reader(fuse.clone());
    let options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
    let pruner = Pruner { reader: &reader, access: &*fuse, push_key: None, cache: story.folder.path() };
    let ended = pruner.run(&options, &prune::PruneProgress::default());
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert_eq!(repo.open(&OpenRequest::default())?.lease.generation, before + 1, "the prune has condemned");
    Ok(())
}

/// The prune is aborted.
pub fn abort(story: &mut Story) -> Result<()> {
    assert!(matches!(story.repo().prune(&PruneRequest::Abort)?, PruneReply::Done));
    story.recorder.mark(Promise::Revived);
    Ok(())
}

/// The operator revives what prunes have taken.
pub fn revive(story: &mut Story) -> Result<()> {
    story.repo().operator().revive_all()?;
    story.recorder.mark(Promise::Revived);
    Ok(())
}

/// Its time in the grave is over.
pub fn bury(story: &mut Story) -> Result<()> {
    story.outlive_the_floor()?;
    push(story)?;
    story.recorder.mark(Promise::Burying);
    story.repo().operator().tidy().map(drop)
}

/// The operator purges the oldest snapshot.
pub fn purge(story: &mut Story) -> Result<()> {
    let oldest = story.repo().snapshots(0, 1)?.remove(0).id;
    story.recorder.mark(Promise::Moving(oldest));
    story.recorder.mark(Promise::Purged);
    story.repo().operator().purge(&[oldest.to_string()])?;
    story.recorder.mark(Promise::Forgotten(oldest));
    Ok(())
}

/// The same, with something to remove and something to copy.
pub fn prune_some(story: &mut Story) -> Result<()> {
    prune(story)?;
    let stats = story.pruned.unwrap();
    assert!(stats.dropped > 0 && stats.repacked > 0, "{stats:?}");
    Ok(())
}

/// A push that never commits, and later another one of the same files.
pub fn interrupted_push(story: &mut Story) -> Result<()> {
    put_packs(story)?;
    story.pushes -= 1;
    story.begun = None;
    reopen(story);
    push(story)
}

/// A process dies after `after` operations and does nothing more. Another process does the same again, to the end.
/// Returns whether the first one completed, too.
pub fn died_and_again(story: &mut Story, after: usize, run: impl Fn(&mut Story) -> Result<()>) -> bool {
    let mut left = after;
    let dead = move |_: &str, _: &str| match left {
        0 => Some(Fault { errno: 5, written: 0 }),
        _ => {
            left -= 1;
            None
        }
    };
    story.recorder.fail(Some(Box::new(dead)));
    let done = run(story).is_ok();
    story.recorder.fail(None);
    if !done {
        reopen(story);
        run(story).unwrap();
    }
    done
}

/// Rotates the seal key, or finishes the rotation of a process that died.
pub fn rotate(story: &mut Story) -> Result<()> {
    let repo = story.repo();
    let opened = repo.open(&OpenRequest::default())?;
    let seal_keys = SealKeys::verify(&opened.seal_keys, &story.world.config)?;
    let (_, full) = slot::open_any(&opened.slots, b"first", &seal_keys)?;
    story.recorder.mark(Promise::Rotating);
    let left: Vec<SlotId> = rotation::outdated(&full, &opened.slots).iter().map(|slot| slot.id).collect();
    let (params, info) = (SlotParams::LEAST, &Default::default());
    match left.is_empty() {
        true => {
            let rotation = Rotation { opened: &opened, full: &full, passphrase: b"first", params, info };
            let made = rotation.run(repo)?;
            story.recorder.mark(Promise::Slot(made.slot));
        }
        false => rotation::finish(repo, &left)?,
    }
    opened.slots.iter().filter(|slot| left.is_empty() || left.contains(&slot.id)).for_each(|slot| {
        story.recorder.mark(Promise::SlotGone(slot.id));
    });
    story.recorder.mark(Promise::Rotated(2));
    Ok(())
}

/// Adds a passphrase, removes the old one, and adds a client.
pub fn change_keys(story: &mut Story) -> Result<()> {
    let repo = story.repo();
    let new = slot::seal_slot(&story.world.full, b"second", SlotParams::LEAST, &Default::default())?;
    repo.put_slot(&new)?;
    story.recorder.mark(Promise::Slot(new.id));
    let opened = repo.open(&OpenRequest::default())?;
    let old = story.world.request.slots[0].id;
    story.recorder.mark(Promise::SlotGoing(old));
    // A process that died before may have come this far.
    if opened.slots.iter().any(|slot| slot.id == old) {
        repo.remove_slot(old)?;
    }
    story.recorder.mark(Promise::SlotGone(old));
    let admin = story.world.full.admin.verifying_key();
    let roster = bkfs_store::format::roster::verify_roster(&opened.roster, &admin, story.world.full.repo).unwrap();
    let (_, client) = story.world.full.new_client("beta", None, DomainId::OWNER, story.world.config.created);
    let clients = [roster.clients, vec![client]].concat();
    let roster = Roster { number: roster.number + 1, clients, ..roster };
    repo.put_roster(&story.world.full.sign_roster(&roster))?;
    story.recorder.mark(Promise::Roster(roster.number));
    Ok(())
}
