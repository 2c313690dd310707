//! What readers remember of snapshots from one process to the next. A list that is made from it equals the list of a
//! reader that remembers nothing, whatever happened in between and whatever became of the files.

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
    access::*,
    base::{codec, id::*, time::Time},
    crypto::{AeadKey, DataKey},
    format::{
        keys::{FullKey, PushKey},
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        snapshot::{self, Snapshot},
        tombstone::Tombstone,
    },
    owner::{
        check::{CheckOptions, CheckProgress, check},
        reader::{Reader, SnapshotInfo, SnapshotList},
    },
    repository::Repository,
};
use proptest::prelude::*;
use support::{fuse::Fuse, *};

/// A repository in a folder, and a cache beside it.
struct Place {
    folder: tempfile::TempDir,
    opened: std::cell::Cell<u32>,
}

impl Place {
    fn new() -> (Self, Arc<Repository>) {
        let place = Self { folder: tempfile::tempdir().unwrap(), opened: Default::default() };
        let repo = place.open();
        let roster = full_key().sign_roster(&roster());
        repo.init(&InitRequest { config: config(), roster, slots: vec![] }).unwrap();
        (place, repo)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    /// Opens another handle, whose index is built from nothing.
    fn open(&self) -> Arc<Repository> {
        self.opened.set(self.opened.get() + 1);
        let index = self.path(&format!("index{}", self.opened.get()));
        Arc::new(Repository::local(&self.path("repo"), &index).unwrap())
    }

    /// The files in which snapshots are remembered.
    fn files(&self) -> Vec<PathBuf> {
        let folder = self.cache().join(push_key().repo.to_string()).join("snapshots");
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.file_name().unwrap() != "lock");
        files.sort();
        files
    }
}

fn push_as(push: &PushKey, repo: &dyn Access, target: &str) -> SnapshotId {
    let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
    let (last, now) = (opened.last, opened.now);
    let record = Snapshot {
        target: target.into(),
        time: time(1_763_000_000 + now.log_len as i64),
        log_len: now.log_len,
        log_head: now.log_head,
        ..snapshot(last.map_or(1, |last| last.sequence + 1), last.map(|last| last.id))
    };
    let key = DataKey::random();
    let bytes = snapshot::seal(&record, push, &push.ids(), &key, &push.seal().unwrap().wrap(push.repo, &key));
    repo.commit(opened.lease, &bytes).unwrap().snapshot
}

fn push(repo: &dyn Access, target: &str) -> SnapshotId {
    push_as(&push_key(), repo, target)
}

fn forget(repo: &dyn Access, ids: &[SnapshotId], now: bool) {
    let log_len = repo.open(&OpenRequest::default()).unwrap().now.log_len;
    let sign = |snapshot: &SnapshotId| {
        SignedTombstone(
            Tombstone { repo: full_key().repo, snapshot: *snapshot, log_len, is_broken: false }.sign(&full_key()),
        )
    };
    let tombstones = ids.iter().map(sign).collect();
    repo.forget(&ForgetRequest { tombstones, now, empty_trash: false }).unwrap();
}

/// What a list shows, to be compared.
#[derive(Debug, PartialEq)]
struct View {
    snapshots: Vec<SnapshotInfo>,
    trash: Vec<(SnapshotInfo, Time, bool)>,
    others: Vec<String>,
    log_len: u64,
}

fn view(list: &SnapshotList) -> View {
    let others = (list.purged.iter().map(|purged| format!("{purged:?}")))
        .chain(list.broken.iter().map(|broken| format!("{broken:?}")))
        .chain(list.contradictions.iter().map(|found| format!("{found:?}")))
        .chain(list.problems.iter().map(|problem| format!("{problem:?}")));
    View {
        snapshots: list.snapshots.clone(),
        trash: list.trash.iter().map(|t| (t.info.clone(), t.since, t.is_broken)).collect(),
        others: others.collect(),
        log_len: list.log_len,
    }
}

/// A reader, as each command makes one, and how often it asks for snapshots and for the log.
fn reader_as(full: FullKey, repo: Arc<dyn Access>, cache: Option<&Path>) -> (Arc<Reader>, Arc<[AtomicUsize; 2]>) {
    let asked: Arc<[AtomicUsize; 2]> = Arc::default();
    let count = asked.clone();
    let fuse = Fuse::new(repo, |_| true).watched(move |name| {
        count[0].fetch_add(usize::from(name == "snapshots"), SeqCst);
        count[1].fetch_add(usize::from(name == "log"), SeqCst);
    });
    let opened = fuse.open(&OpenRequest::default()).unwrap();
    let reader = Reader::new(Arc::new(fuse), full, &config_record(), 1 << 20);
    cache.into_iter().for_each(|cache| reader.remember(cache));
    reader.announce_log(opened.now);
    reader.accept_roster(&opened.roster).unwrap();
    (reader, asked)
}

fn list(repo: &Arc<Repository>, cache: Option<&Path>) -> (View, [usize; 2]) {
    let (reader, asked) = reader_as(full_key(), repo.clone(), cache);
    let view = reader.with_snapshots(view).unwrap();
    (view, [asked[0].load(SeqCst), asked[1].load(SeqCst)])
}

fn newest(repo: &Arc<Repository>, cache: Option<&Path>) -> (View, [usize; 2]) {
    let (reader, asked) = reader_as(full_key(), repo.clone(), cache);
    let view = reader.with_newest_snapshots(view).unwrap();
    (view, [asked[0].load(SeqCst), asked[1].load(SeqCst)])
}

/// The list is that of a reader that remembers nothing. Returns how often it asked for snapshots and for the log.
#[track_caller]
fn same_as_anew(place: &Place, repo: &Arc<Repository>) -> [usize; 2] {
    let (anew, _) = list(repo, None);
    let (found, asked) = list(repo, Some(&place.cache()));
    assert_eq!(found, anew);
    let mut series: BTreeMap<(ClientId, String), SnapshotInfo> = BTreeMap::new();
    for info in anew.snapshots {
        series.insert((info.client, info.snapshot.target.clone()), info);
    }
    let mut latest: Vec<SnapshotInfo> = series.into_values().collect();
    latest.sort_by_key(|info| info.log_seq);
    for cache in [Some(&*place.cache()), None] {
        let (found, _) = newest(repo, cache);
        assert_eq!((found.snapshots, found.others, found.log_len), (latest.clone(), anew.others.clone(), anew.log_len));
    }
    asked
}

#[test]
fn snapshots_that_were_opened_are_not_fetched_again() {
    let (place, repo) = Place::new();
    let ids: Vec<SnapshotId> = (0..20).map(|n| push(&*repo, if n % 3 == 0 { "home" } else { "srv" })).collect();
    assert_eq!(same_as_anew(&place, &repo), [1, 1]);
    assert_eq!(same_as_anew(&place, &repo), [0, 0], "neither snapshots nor the log");
    push(&*repo, "home");
    assert_eq!(same_as_anew(&place, &repo), [1, 1]);
    assert_eq!(same_as_anew(&place, &place.open()), [0, 1], "a log that has grown by little is not written again");
    forget(&*repo, &ids[..5], false);
    assert_eq!(same_as_anew(&place, &repo)[0], 0);
    repo.unforget(&ids[..2]).unwrap();
    forget(&*repo, &ids[2..4], true);
    repo.operator().purge(&[ids[9].to_string()]).unwrap();
    assert_eq!(same_as_anew(&place, &repo)[0], 0);
}

#[test]
fn what_was_purged_is_listed_from_a_remembered_log() {
    let (place, repo) = Place::new();
    let ids: Vec<SnapshotId> = (0..20).map(|_| push(&*repo, "home")).collect();
    repo.operator().purge(&[ids[7].to_string()]).unwrap();
    same_as_anew(&place, &repo);
    assert_eq!(same_as_anew(&place, &repo), [0, 0]);
    assert_eq!(newest(&repo, Some(&place.cache())).0.others.len(), 1);
    // Nothing is left of which a record could be read.
    repo.operator()
        .purge(&ids.iter().filter(|id| **id != ids[7]).map(ToString::to_string).collect::<Vec<_>>())
        .unwrap();
    same_as_anew(&place, &repo);
    assert_eq!(same_as_anew(&place, &repo), [0, 0]);
}

#[test]
fn what_is_gone_leaves_the_files() {
    let (place, repo) = Place::new();
    let ids: Vec<SnapshotId> = (0..40).map(|_| push(&*repo, "home")).collect();
    same_as_anew(&place, &repo);
    let size = |place: &Place| {
        place.files().iter().filter(|p| p.extension().is_some()).map(|p| fs::metadata(p).unwrap().len()).sum::<u64>()
    };
    let before = size(&place);
    forget(&*repo, &ids[..30], true);
    assert_eq!(same_as_anew(&place, &repo)[0], 0);
    assert!(size(&place) < before / 2, "{} of {before} bytes", size(&place));
    // Many small additions do not become many files.
    for _ in 0..40 {
        push(&*repo, "home");
        assert_eq!(same_as_anew(&place, &repo)[0], 1);
    }
    assert!(place.files().len() <= 8, "{:?}", place.files());
    // Several at once.
    let cache = place.cache();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| drop(list(&repo, Some(&cache)))));
            push(&*repo, "home");
        }
    });
    same_as_anew(&place, &repo);
    assert_eq!(same_as_anew(&place, &repo)[0], 0);
}

#[test]
fn a_log_with_another_past_is_read_anew() {
    let (place, repo) = Place::new();
    (0..30).for_each(|_| _ = push(&*repo, "home"));
    copy(&place.path("repo"), &place.path("older"));
    let one = push(&*repo, "home");
    same_as_anew(&place, &repo);
    assert_eq!(same_as_anew(&place, &repo), [0, 0]);
    // An older state of the repository goes on by itself.
    drop(repo);
    fs::remove_dir_all(place.path("repo")).unwrap();
    copy(&place.path("older"), &place.path("repo"));
    let repo = place.open();
    assert_eq!(same_as_anew(&place, &repo)[0], 0);
    let other = push(&*repo, "srv");
    assert_ne!(one, other);
    let (found, _) = list(&repo, Some(&place.cache()));
    assert!(found.snapshots.iter().any(|info| info.id == other) && found.snapshots.iter().all(|info| info.id != one));
    (0..20).for_each(|_| _ = push(&*repo, "home"));
    same_as_anew(&place, &repo);
    assert_eq!(same_as_anew(&place, &repo), [0, 0]);
}

#[test]
fn a_client_that_has_ended_ends_for_what_is_remembered() {
    let (place, repo) = Place::new();
    (0..3).for_each(|_| _ = push(&*repo, "home"));
    assert_eq!(list(&repo, Some(&place.cache())).0.snapshots.len(), 3);
    let mut next = roster();
    (next.number, next.clients[0].until) = (2, Some(time(1)));
    repo.put_roster(&full_key().sign_roster(&next)).unwrap();
    let (found, _) = list(&repo, Some(&place.cache()));
    assert_eq!((found.snapshots.len(), found.others.len()), (0, 3), "{found:?}");
    same_as_anew(&place, &repo);
}

#[test]
fn a_check_notices_that_a_remembered_snapshot_is_gone() {
    let (place, repo) = Place::new();
    let ids: Vec<SnapshotId> = (0..3).map(|_| push(&*repo, "home")).collect();
    same_as_anew(&place, &repo);
    for copies in ["snapshots", "snapshots.2"] {
        fs::remove_file(place.path("repo").join(format!("{copies}/{}", ids[1]))).unwrap();
    }
    let (reader, _) = reader_as(full_key(), repo.clone(), Some(&place.cache()));
    assert_eq!(reader.snapshots().unwrap().len(), 3, "it is remembered");
    let opened = repo.open(&OpenRequest::default()).unwrap();
    let report = check(&reader, &*repo, &opened, &CheckOptions::default(), &CheckProgress::default()).unwrap();
    let problems: Vec<String> = report.problems.iter().map(|problem| problem.error.to_string()).collect();
    assert!(problems.iter().any(|text| text.contains(&ids[1].short())), "{problems:?}");
    assert_eq!(report.snapshots, 2);
}

#[test]
fn a_push_key_neither_reads_nor_writes_it() {
    let (place, repo) = Place::new();
    (0..20).for_each(|_| _ = push(&*repo, "a-very-secret-target"));
    same_as_anew(&place, &repo);
    let whole: Vec<(PathBuf, Vec<u8>)> =
        place.files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(whole.len(), 2);
    let ids = push_key().ids();
    for (path, bytes) in &whole {
        for secret in [&b"a-very-secret"[..], b"alpha", &ids.target_tag("a-very-secret-target").0] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{path:?}");
        }
    }
    // What somebody seals with the keys that a push key holds, in the right place, is not believed.
    let (path, bytes) = whole.iter().find(|(path, _)| path.ends_with("log")).unwrap();
    let (magic, sealed) = bytes.split_at(10);
    let aad = [magic, b"log", &push_key().repo.0].concat();
    let label = "bkfs v1 memory of snapshots";
    let right = AeadKey::new(&full_key().seal.seed().derive(label));
    let log = right.open(sealed, &aad).unwrap();
    for (key, asked) in [(right, [0, 0]), (AeadKey::new(&push_key().id_key.derive(label)), [0, 1])] {
        fs::write(path, [magic, &key.seal(&log, &aad)].concat()).unwrap();
        assert_eq!(same_as_anew(&place, &repo), asked);
    }
    // Another full key of the same repository id sees nothing of it.
    let (other, _) =
        reader_as(FullKey { seal: FullKey::random(full_key().repo).seal, ..full_key() }, repo, Some(&place.cache()));
    let (shown, broken) = other.with_snapshots(|list| (list.snapshots.len(), list.broken.len())).unwrap();
    assert_eq!((shown, broken), (0, 20));
}

#[test]
fn on_a_bare_machine_only_the_newest_of_each_series_are_fetched() {
    let (place, repo) = Place::new();
    let mut last = BTreeMap::new();
    for n in 0..300 {
        let target = if n < 20 { "old".to_owned() } else { format!("series {}", n % 3) };
        last.insert(target.clone(), push(&*repo, &target));
    }
    let (found, asked) = newest(&repo, Some(&place.cache()));
    let ids: Vec<SnapshotId> = found.snapshots.iter().map(|info| info.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(last.values().all(|id| ids.contains(id)));
    assert_eq!(asked[0], 2, "one request for the series that ended long ago, and one for the others");
    assert_eq!(newest(&repo, Some(&place.cache())).1, [0, 0]);
    // If the newest cannot be shown, the next older one is.
    let series = last["series 2"];
    for copies in ["snapshots", "snapshots.2"] {
        fs::remove_file(place.path("repo").join(format!("{copies}/{series}"))).unwrap();
    }
    let (found, _) = newest(&repo, None);
    assert_eq!((found.snapshots.len(), found.others.len()), (4, 1), "{found:?}");
    assert!(found.snapshots.iter().all(|info| info.id != series));
}

#[test]
fn a_store_that_names_a_wrong_target_hides_no_snapshot() {
    let (place, repo) = Place::new();
    (0..300).for_each(|n| _ = push(&*repo, if n == 5 { "b" } else { "a" }));
    drop(repo);
    // The newest snapshot of `a` is called one of `b`, whose newest is older.
    let path = place.path("repo").join("log");
    let bytes = fs::read(&path).unwrap();
    let (mut at, mut rest, mut records) = (Position::default(), &bytes[..], Vec::new());
    while let Some((record, next)) = log_file::next_record(at, rest).unwrap() {
        records.push(record.to_vec());
        rest = &rest[(next.offset - at.offset) as usize..];
        at = next;
    }
    let mut last: LogRecord = codec::decode("", records.last().unwrap()).unwrap();
    let Event::Commit { target, .. } = &mut last.event else { panic!("a commit") };
    *target = push_key().ids().target_tag("b");
    *records.last_mut().unwrap() = last.encode();
    let (mut at, mut forged) = (Position::default(), Vec::new());
    for record in &records {
        let record: LogRecord = codec::decode("", record).unwrap();
        let (bytes, next) = log_file::encode(at, &record);
        forged.extend(bytes);
        at = next;
    }
    for copy in ["log", "log.2"] {
        if place.path("repo").join(copy).exists() {
            fs::write(place.path("repo").join(copy), &forged).unwrap();
        }
    }
    let repo = place.open();
    let (all, _) = list(&repo, None);
    assert_eq!(all.others.len(), 1, "{:?}", all.others);
    let (found, _) = newest(&repo, None);
    assert_eq!(found.snapshots.last(), all.snapshots.last());
    assert_eq!(found.others, all.others);
    assert!(found.snapshots.iter().any(|info| info.snapshot.target == "b"));
}

#[derive(Debug, Clone)]
enum Step {
    Push(bool),
    Forget(usize, bool),
    Unforget(usize),
    Purge(usize),
    /// Which file, what is done to it, and where.
    Damage(usize, u8, usize),
    /// Files of an earlier moment come back, all or some of them.
    PutBack(usize),
    /// The store is put back as it was at an earlier moment.
    Rollback(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(Step::Push),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, now)| Step::Forget(which, now)),
        1 => any::<usize>().prop_map(Step::Unforget),
        1 => any::<usize>().prop_map(Step::Purge),
        2 => (any::<usize>(), 0..4u8, any::<usize>()).prop_map(|(file, how, at)| Step::Damage(file, how, at)),
        2 => any::<usize>().prop_map(Step::PutBack),
        1 => any::<usize>().prop_map(Step::Rollback),
    ]
}

fn damage(path: &Path, how: u8, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len().max(1);
    match how {
        0 => return fs::remove_file(path).unwrap(),
        1 => bytes.truncate(at),
        2 => bytes.extend_from_slice(&[7; 100][..at.min(100)]),
        _ => bytes[at] ^= 1 << (at % 8),
    }
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_reader_that_remembers_lists_the_same(steps in proptest::collection::vec(step(), 1..20)) {
        let (place, mut repo) = Place::new();
        let (mut pushed, mut copies, mut states) = (Vec::new(), Vec::new(), 0usize);
        for step in steps {
            match step {
                Step::Push(is_home) => pushed.push(push(&*repo, if is_home { "home" } else { "srv" })),
                Step::Forget(n, now) if !pushed.is_empty() => {
                    forget(&*repo, &[pushed[n % pushed.len()]], now);
                }
                Step::Unforget(n) if !pushed.is_empty() => drop(repo.unforget(&[pushed[n % pushed.len()]])),
                Step::Purge(n) if !pushed.is_empty() => {
                    drop(repo.operator().purge(&[pushed[n % pushed.len()].to_string()]));
                }
                Step::Damage(file, how, at) => {
                    let files = place.files();
                    if let Some(path) = files.get(file % files.len().max(1)) {
                        damage(path, how, at);
                    }
                }
                Step::PutBack(n) if !copies.is_empty() => {
                    let copy: &Vec<(PathBuf, Vec<u8>)> = &copies[n % copies.len()];
                    for (at, (path, bytes)) in copy.iter().enumerate() {
                        if n >> (8 + at) & 1 == 0 {
                            fs::write(path, bytes).unwrap();
                        }
                    }
                }
                Step::Rollback(n) if states > 0 => {
                    drop(repo);
                    fs::remove_dir_all(place.path("repo")).unwrap();
                    copy(&place.path(&format!("state{}", n % states)), &place.path("repo"));
                    repo = place.open();
                    let (left, _) = list(&repo, None);
                    let left: Vec<SnapshotId> = left.snapshots.iter().map(|info| info.id).collect();
                    pushed.retain(|id| left.contains(id));
                }
                _ => {}
            }
            same_as_anew(&place, &repo);
            copies.push(place.files().into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect());
            copy(&place.path("repo"), &place.path(&format!("state{states}")));
            states += 1;
        }
    }
}
