//! Pruning: everything that counts stays readable, whatever happens in between, and what is dead is removed.

#![allow(clippy::unwrap_used)]

#[path = "pruning/beside.rs"]
mod beside;
#[path = "pruning/broken.rs"]
mod broken;
#[path = "pruning/copies.rs"]
mod copies;
#[path = "pruning/grave.rs"]
mod grave;
#[path = "pruning/marks.rs"]
mod marks;
#[path = "pruning/reclaim.rs"]
mod reclaim;
#[path = "pruning/reframe.rs"]
mod reframe;
#[path = "pruning/sets.rs"]
mod sets;
mod support;
#[path = "pruning/together.rs"]
mod together;
#[path = "pruning/trash.rs"]
mod trash;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bkfs_store::{
    Error,
    access::{Push as _, *},
    base::{id::*, time::Time},
    crypto::DataKey,
    format::{
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder},
        keys::PushKey,
        loss::Lost,
        pack::PackWriter,
        snapshot,
        tombstone::Tombstone,
        tree::*,
    },
    owner::{
        prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
        reader::Reader,
    },
    repository::Repository,
};
use grave::begin;
use proptest::prelude::*;
use support::{fuse::Fuse, *};

const DAY: u64 = 86_400;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(1_790_000_000) };
}

fn clock() -> Time {
    Time { secs: CLOCK.get(), nanos: 0 }
}

/// Lets days pass for a store that looks at its clock every day, as a server does.
fn pass(repo: &Repository, days: u64) {
    for _ in 0..days {
        CLOCK.set(CLOCK.get() + DAY as i64);
        repo.forget(&ForgetRequest::default()).unwrap();
    }
}

/// A repository in a folder.
struct Place {
    folder: tempfile::TempDir,
    floor: u64,
    opened: Cell<u32>,
}

impl Place {
    fn new(floor: u64) -> (Self, Arc<Repository>) {
        let place = Self { folder: tempfile::tempdir().unwrap(), floor, opened: Cell::new(0) };
        let repo = place.open();
        let roster = full_key().sign_roster(&roster());
        repo.init(&InitRequest { config: config(), roster, slots: vec![] }).unwrap();
        (place, repo)
    }

    /// Another handle, whose index is built from nothing.
    fn open(&self) -> Arc<Repository> {
        self.opened.set(self.opened.get() + 1);
        let index = self.folder.path().join(format!("index{}", self.opened.get()));
        self.open_at(index)
    }

    fn open_at(&self, index: PathBuf) -> Arc<Repository> {
        let repo = Repository::local(&self.folder.path().join("repo"), &index).unwrap();
        Arc::new(repo.with_floor(self.floor).with_clock(clock))
    }

    fn files(&self, folder: &str) -> usize {
        fn count(path: PathBuf) -> usize {
            let Ok(entries) = std::fs::read_dir(path) else { return 0 };
            entries.map(|e| e.unwrap()).map(|e| if e.path().is_dir() { count(e.path()) } else { 1 }).sum()
        }
        count(self.folder.path().join("repo").join(folder))
    }

    fn prune(&self, repo: &Arc<Repository>) -> PruneReport {
        self.prune_with(repo, &PruneOptions { is_confirmed: true, reframe_bytes: 1 << 30, ..PruneOptions::default() })
    }

    fn prune_with(&self, repo: &Arc<Repository>, options: &PruneOptions) -> PruneReport {
        prune_as(repo.clone(), Some(&push_key()), self.folder.path(), options).unwrap()
    }
}

fn reader(repo: &Arc<Repository>) -> Arc<Reader> {
    Reader::new(repo.clone(), full_key(), &config_record(), 1 << 20)
}

fn prune(access: Arc<dyn Access>, cache: &Path, options: &PruneOptions) -> Result<PruneReport, Error> {
    prune_as(access, None, cache, options)
}

fn prune_as(
    access: Arc<dyn Access>,
    push_key: Option<&PushKey>,
    cache: &Path,
    options: &PruneOptions,
) -> Result<PruneReport, Error> {
    let reader = Reader::new(access.clone(), full_key(), &config_record(), 1 << 20);
    Pruner { reader: &reader, access: &*access, push_key, cache }.run(options, &PruneProgress::default())
}

/// The contents of file number `n`. They do not compress, so that packs have a size.
fn contents(n: u8) -> Vec<u8> {
    let mut bytes = vec![0; 20_000];
    blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Eight files share a folder.
fn folder(n: u8) -> String {
    format!("folder{:02}", n / 8)
}

fn name(n: u8) -> String {
    format!("file{n:03}")
}

/// A push that has stored what it must, but has not committed yet.
struct Push {
    opened: Opened,
    files: BTreeSet<u8>,
    chunks: Vec<(ChunkKind, ChunkId, Vec<u8>)>,
    key: DataKey,
    root: Node,
    /// How many chunks share a frame.
    sharing: usize,
}

impl Push {
    /// Opens, asks what is stored, and stores the rest.
    fn begin(repo: &dyn Access, files: &BTreeSet<u8>) -> Self {
        Self::begin_sharing(repo, files, 1)
    }

    /// The same with `sharing` chunks in a frame.
    fn begin_sharing(repo: &dyn Access, files: &BTreeSet<u8>, sharing: usize) -> Self {
        let push = push_key();
        let ids = push.ids();
        let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
        let mut chunks = Vec::new();
        let mut tree = TreeBuilder::new(&ids);
        let mut folders: BTreeMap<String, TreeBuilder> = BTreeMap::new();
        for n in files {
            let tree = folders.entry(folder(*n)).or_insert_with(|| TreeBuilder::new(&ids));
            let bytes = contents(*n);
            let id = ids.data_id(&bytes);
            let mut pages = Vec::new();
            let mut content = ContentBuilder::new(&ids);
            content.add(Extent::Data { id, len: bytes.len() as u32 }, &mut |id, page| pages.push((id, page))).unwrap();
            let mut file = node(name(*n).as_bytes(), NodeKind::File);
            file.size = bytes.len() as u64;
            file.content = Some(content.finish(&mut |id, page| pages.push((id, page))).unwrap());
            tree.add(&file, &mut |id, page| pages.push((id, page))).unwrap();
            chunks.push((ChunkKind::Data, id, bytes));
            chunks.extend(pages.into_iter().map(|(id, page)| (ChunkKind::Tree, id, page)));
        }
        for (name, folder) in folders {
            let subtree = folder.finish(&mut |id, page| chunks.push((ChunkKind::Tree, id, page))).unwrap();
            let folder = Node { subtree: Some(subtree), ..node(name.as_bytes(), NodeKind::Directory) };
            tree.add(&folder, &mut |id, page| chunks.push((ChunkKind::Tree, id, page))).unwrap();
        }
        let subtree = tree.finish(&mut |id, page| chunks.push((ChunkKind::Tree, id, page))).unwrap();
        let root = Node { subtree: Some(subtree), ..node(b"", NodeKind::Directory) };
        let push = Self { opened, files: files.clone(), chunks, key: DataKey::random(), root, sharing };
        push.store(repo);
        push
    }

    fn store(&self, repo: &dyn Access) {
        let push = push_key();
        let all: Vec<ChunkId> = self.chunks.iter().map(|(_, id, _)| *id).collect();
        let has = repo.has(None, &all).unwrap();
        let wrap = push.seal().unwrap().wrap(push.repo, &self.key);
        for kind in [ChunkKind::Data, ChunkKind::Tree] {
            let mut pack = PackWriter::new(kind, push.repo, &push.signing);
            pack.add_wrap(&wrap);
            let mut sent = BTreeSet::new();
            let wanted = self.chunks.iter().zip(&has).filter(|((of, _, _), has)| *of == kind && !**has);
            let new: Vec<_> = wanted.map(|(chunk, _)| chunk).filter(|(_, id, _)| sent.insert(*id)).collect();
            for chunks in new.chunks(self.sharing) {
                let mut frame = FrameBuilder::new();
                chunks.iter().for_each(|(_, _, bytes)| frame.push(bytes));
                let ids: Vec<ChunkId> = chunks.iter().map(|(_, id, _)| *id).collect();
                pack.add(&frame.seal(push.repo, kind, &self.key, 1), &ids);
            }
            if !pack.is_empty() {
                repo.put_pack(self.opened.lease, &pack.finish()).unwrap();
            }
        }
    }

    fn commit(&self, repo: &dyn Access) -> Result<SnapshotId, Error> {
        let push = push_key();
        let last = self.opened.last;
        let record = snapshot::Snapshot {
            root: self.root.clone(),
            log_len: self.opened.now.log_len,
            log_head: self.opened.now.log_head,
            ..support::snapshot(last.map_or(1, |last| last.sequence + 1), last.map(|last| last.id))
        };
        let wrap = push.seal().unwrap().wrap(push.repo, &self.key);
        let bytes = snapshot::seal(&record, &push, &push.ids(), &self.key, &wrap);
        Ok(repo.commit(self.opened.lease, &bytes)?.snapshot)
    }

    /// Commits. If something was lost in the meantime, stores that again first.
    fn finish(mut self, repo: &dyn Access) -> SnapshotId {
        for _ in 0..5 {
            match self.commit(repo) {
                Ok(id) => return id,
                Err(Error::LeaseRefused { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let session = self.opened.lease.session;
            let seen = Some(self.opened.now);
            let opened = repo.open(&OpenRequest { client: Some(push_key().client_id()), seen }).unwrap();
            let lost = match &opened.lost {
                Lost::Ids(ids) => self.chunks.iter().any(|(_, id, _)| ids.contains(id)),
                Lost::Everything => true,
            };
            self.opened = opened;
            self.opened.lease.session = session;
            if lost {
                self.store(repo);
            }
        }
        panic!("refused again and again")
    }
}

fn push_sharing(repo: &dyn Access, files: impl IntoIterator<Item = u8>, sharing: usize) -> SnapshotId {
    Push::begin_sharing(repo, &files.into_iter().collect(), sharing).finish(repo)
}

fn push(repo: &dyn Access, files: impl IntoIterator<Item = u8>) -> SnapshotId {
    Push::begin(repo, &files.into_iter().collect()).finish(repo)
}

fn forget(repo: &dyn Access, id: SnapshotId, now: bool) {
    let log_len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    let tombstone = Tombstone { repo: full_key().repo, snapshot: id, log_len, is_broken: false }.sign(&full_key());
    repo.forget(&ForgetRequest { tombstones: vec![SignedTombstone(tombstone)], now, empty_trash: false }).unwrap();
}

/// Reads every file of a snapshot, with all caches empty.
fn verify(repo: &Arc<Repository>, snapshot: SnapshotId, files: &BTreeSet<u8>) {
    let reader = reader(repo);
    let info = reader.snapshots().unwrap().into_iter().find(|info| info.id == snapshot).expect("the snapshot counts");
    for n in files {
        let path = format!("{}/{}", folder(*n), name(*n));
        let node = reader.resolve(&info.snapshot.root, path.as_bytes()).unwrap();
        let Some(Content::Extents(extents)) = &node.content else { panic!("one chunk") };
        let Extent::Data { id, .. } = extents[0] else { panic!("data") };
        assert!(reader.data(id).unwrap() == contents(*n), "file {n}");
    }
    assert_eq!(info.snapshot.root.subtree.unwrap().totals.files, files.len() as u64);
}

#[test]
fn what_no_snapshot_reaches_is_removed_and_the_rest_stays() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..50);
    let second = push(&*repo, 50..60);
    let before = reframe::pack_bytes(&repo);
    forget(&*repo, first, true);
    let report = place.prune(&repo);
    assert_eq!((report.stats.dropped, report.stats.repacked, report.swept.left), (2, 0, 0));
    assert!(reframe::pack_bytes(&repo) < before / 4);
    assert_eq!((place.files("packs"), place.files("grave")), (2, 0));
    verify(&repo, second, &(50..60).collect());
    // A reader with its own index agrees.
    verify(&place.open(), second, &(50..60).collect());
    let again = place.prune(&repo);
    assert_eq!((again.stats.dropped, again.stats.freed_bytes, again.swept.packs), (0, 0, 0));
}

#[test]
fn data_of_snapshots_in_the_trash_is_kept() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..20);
    forget(&*repo, first, false);
    assert_eq!(place.prune(&repo).stats.freed_bytes, 0);
    repo.unforget(&[first]).unwrap();
    verify(&repo, first, &(0..20).collect());
}

#[test]
fn live_frames_of_a_mostly_dead_pack_are_copied() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..50);
    let second = push(&*repo, [7, 33]);
    forget(&*repo, first, true);
    let report = place.prune(&repo);
    assert_eq!((report.stats.dropped, report.stats.repacked), (1, 1));
    assert!(report.swept.written_bytes < 50_000, "{report:?}");
    for repo in [repo.clone(), place.open()] {
        verify(&repo, second, &[7, 33].into());
        let names: Vec<_> = [7, 33].map(|n| push_key().ids().data_id(&contents(n))).into();
        assert_eq!(repo.has(None, &names).unwrap(), [true, true]);
    }
    // Dead chunks are not there any more, and are stored again when a push needs them.
    let third = push(&*repo, 0..50);
    verify(&repo, third, &(0..50).collect());
    verify(&place.open(), third, &(0..50).collect());
}

#[test]
fn a_dry_run_changes_nothing_and_reports_the_same() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..50);
    push(&*repo, [7]);
    forget(&*repo, first, true);
    let before = (repo.open(&OpenRequest::default()).unwrap().now, place.files("packs"));
    let dry = place.prune_with(&repo, &PruneOptions { dry_run: true, ..PruneOptions::default() });
    assert_eq!((repo.open(&OpenRequest::default()).unwrap().now, place.files("packs")), before);
    assert_eq!(place.prune(&repo).stats, dry.stats);
}

#[test]
fn more_than_half_of_a_repository_is_removed_only_if_confirmed() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..50);
    forget(&*repo, first, true);
    let report = place.prune_with(&repo, &PruneOptions::default());
    assert!(report.is_unconfirmed && report.stats.freed_bytes > 1_000_000);
    assert_eq!(place.files("packs"), 2);
    assert!(!place.prune(&repo).is_unconfirmed);
    assert_eq!(place.files("packs"), 0);
}

#[test]
fn a_push_that_began_before_a_prune_is_told_what_was_lost() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    push(&*repo, 40..80);
    forget(&*repo, first, true);
    // It relies on files that no snapshot reaches, and adds others.
    let running = Push::begin(&*repo, &(0..35).collect());
    place.prune(&repo);
    assert!(matches!(running.commit(&*repo), Err(Error::LeaseRefused { .. })));
    let opened = repo.open(&OpenRequest { client: None, seen: Some(running.opened.now) }).unwrap();
    let Lost::Ids(lost) = opened.lost else { panic!("the lost chunks are not named") };
    assert!(lost.contains(&push_key().ids().data_id(&contents(3))));
    assert!(!lost.contains(&push_key().ids().data_id(&contents(33))), "its own packs are pinned");
    let files = running.files.clone();
    let second = running.finish(&*repo);
    verify(&repo, second, &files);
    verify(&place.open(), second, &files);
}

#[test]
fn a_snapshot_committed_while_a_prune_marks_is_marked_too() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    push(&*repo, 40..80);
    forget(&*repo, first, true);
    let (prune, log_len) = begin(&*repo);
    let late = push(&*repo, 0..10);
    for first in 0..=255 {
        let filter = vec![64];
        repo.prune(&PruneRequest::Live { prune, filters: vec![Filter { first, bytes: filter }] }).unwrap();
    }
    let limits = PruneLimits::default();
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    let reply = repo.prune(&condemn).unwrap();
    assert!(matches!(reply, PruneReply::Grown { log_len: now } if now > log_len), "{reply:?}");
    place.prune(&repo);
    verify(&repo, late, &(0..10).collect());
}

#[test]
fn of_two_prunes_the_first_to_condemn_wins() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    push(&*repo, 40..80);
    forget(&*repo, first, true);
    // Two processes, each with its own index.
    let other = place.open();
    let (prune, log_len) = begin(&*other);
    for first in 0..=255 {
        other.prune(&PruneRequest::Live { prune, filters: vec![Filter { first, bytes: vec![64] }] }).unwrap();
    }
    place.prune(&repo);
    let limits = PruneLimits::default();
    let late = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    assert!(matches!(other.prune(&late), Err(Error::LeaseRefused { .. })));
}

#[test]
fn a_condemned_pack_that_is_put_again_becomes_live() {
    let (place, repo) = Place::new(0);
    let key = push_key();
    let mut pack = PackWriter::new(ChunkKind::Data, key.repo, &key.signing);
    let data_key = DataKey::random();
    pack.add_wrap(&key.seal().unwrap().wrap(key.repo, &data_key));
    let mut frame = FrameBuilder::new();
    frame.push(b"contents");
    let id = key.ids().data_id(b"contents");
    pack.add(&frame.seal(key.repo, ChunkKind::Data, &data_key, 1), &[id]);
    let pack = pack.finish();
    let put = || repo.put_pack(Lease::default(), &pack).unwrap();
    let late = || pass(&repo, 8);
    put();
    assert_eq!(place.prune(&repo).stats.freed_bytes, 0, "the pack is pinned");
    late();
    let (prune, log_len) = begin(&*repo);
    for first in 0..=255 {
        repo.prune(&PruneRequest::Live { prune, filters: vec![Filter { first, bytes: vec![64] }] }).unwrap();
    }
    let limits = PruneLimits::default();
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    assert!(matches!(repo.prune(&condemn).unwrap(), PruneReply::Condemned(_)));
    assert_eq!(repo.has(None, &[id]).unwrap(), [false], "nobody can rely on it any more");
    assert_eq!(repo.read(&ReadRequest { ids: vec![id], neighbour_bytes: 0, avoid: vec![] }).unwrap().frames.len(), 1);
    put();
    assert_eq!(repo.has(None, &[id]).unwrap(), [true]);
    assert!(matches!(repo.prune(&PruneRequest::Sweep).unwrap(), PruneReply::Swept(Swept { packs: 0, left: 0, .. })));
    for repo in [repo.clone(), place.open()] {
        assert_eq!(repo.has(None, &[id]).unwrap(), [true]);
    }
    // Swept, and then put again.
    late();
    assert_eq!(place.prune(&repo).stats.dropped, 1);
    assert_eq!(repo.has(None, &[id]).unwrap(), [false]);
    put();
    for repo in [repo.clone(), place.open()] {
        assert_eq!(repo.has(None, &[id]).unwrap(), [true]);
    }
}

#[test]
fn an_unreadable_tree_ends_the_prune_before_anything_is_condemned() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..30);
    let second = push(&*repo, 40..80);
    forget(&*repo, first, true);
    let packs = repo.packs(None, 100).unwrap();
    // Without parity, which would mend the packs.
    std::fs::remove_dir_all(place.folder.path().join("repo/parity")).unwrap();
    for pack in packs {
        let path = place.folder.path().join(format!("repo/packs/{:02x}/{}", pack.id.0[0], pack.id));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let report = prune(repo.clone(), place.folder.path(), &PruneOptions::default()).unwrap();
    assert_eq!(report.blocking.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [second]);
    assert_eq!((place.files("packs"), place.files("prunes")), (4, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Push(BTreeSet<u8>, usize),
    Begin(BTreeSet<u8>, usize),
    Finish,
    Forget(usize, bool),
    Prune,
    /// Ends after this many requests to the store.
    CutShort(usize, bool),
    Abort,
    /// Another process, or the same one after a crash. If true, its index is new.
    Reopen(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let files = proptest::collection::btree_set(0..40u8, 0..12);
    prop_oneof![
        4 => (files.clone(), 1..9usize).prop_map(|(files, sharing)| Step::Push(files, sharing)),
        2 => (files, 1..9usize).prop_map(|(files, sharing)| Step::Begin(files, sharing)),
        2 => Just(Step::Finish),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, now)| Step::Forget(n, now)),
        3 => Just(Step::Prune),
        3 => (0..262usize, any::<bool>()).prop_map(|(steps, trash)| Step::CutShort(steps, trash)),
        1 => Just(Step::Abort),
        2 => any::<bool>().prop_map(Step::Reopen),
        1 => (0..10 * DAY).prop_map(Step::Wait),
    ]
}

fn cut_short(place: &Place, repo: &Arc<Repository>, steps: usize, empty_trash: bool) {
    let left = AtomicUsize::new(steps);
    let allows = move |_: &PruneRequest| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
    let fuse = Arc::new(Fuse::new(repo.clone(), allows));
    let options = PruneOptions { is_confirmed: true, empty_trash, reframe_bytes: 200_000, ..PruneOptions::default() };
    let _ = prune_as(fuse, Some(&push_key()), place.folder.path(), &options);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Compares with a model that knows only which snapshots count and what is in them.
    #[test]
    fn everything_that_is_not_expired_can_be_read(
        steps in proptest::collection::vec(step(), 1..40),
        floor in prop_oneof![Just(0), Just(DAY)],
    ) {
        let (place, mut repo) = Place::new(floor);
        let mut counts: BTreeMap<SnapshotId, BTreeSet<u8>> = BTreeMap::new();
        let mut has_trash = false;
        let mut running: Option<Push> = None;
        for step in steps {
            match step {
                Step::Push(files, sharing) => {
                    counts.insert(push_sharing(&*repo, files.clone(), sharing), files);
                }
                Step::Begin(files, sharing) => running = Some(Push::begin_sharing(&*repo, &files, sharing)),
                Step::Finish => {
                    if let Some(push) = running.take() {
                        let files = push.files.clone();
                        counts.insert(push.finish(&*repo), files);
                    }
                }
                Step::Forget(n, now) => {
                    let Some(id) = counts.keys().nth(n % counts.len().max(1)).copied() else { continue };
                    if now && floor > 0 {
                        pass(&repo, 2);
                    }
                    forget(&*repo, id, now);
                    counts.remove(&id);
                    has_trash |= !now;
                }
                Step::Prune => drop(place.prune(&repo)),
                Step::CutShort(steps, trash) => cut_short(&place, &repo, steps, trash),
                Step::Abort => drop(repo.prune(&PruneRequest::Abort).unwrap()),
                Step::Reopen(true) => repo = place.open(),
                Step::Reopen(false) => {
                    let index = place.folder.path().join(format!("index{}", place.opened.get()));
                    drop(repo);
                    repo = place.open_at(index);
                }
                Step::Wait(secs) => {
                    CLOCK.set(CLOCK.get() + (secs % DAY) as i64);
                    pass(&repo, secs / DAY);
                }
            }
            for (id, files) in &counts {
                verify(&repo, *id, files);
            }
        }
        if let Some(push) = running {
            let files = push.files.clone();
            counts.insert(push.finish(&*repo), files);
        }
        // A last prune handles all that earlier ones left behind. A new index must show the same.
        pass(&repo, 10);
        place.prune(&repo);
        for (id, files) in &counts {
            verify(&repo, *id, files);
            verify(&place.open(), *id, files);
        }
        if floor == 0 && counts.is_empty() && !has_trash {
            prop_assert_eq!(place.files("packs"), 0);
        }
    }
}
