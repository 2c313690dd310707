//! Tests that push into a fake store in memory.

mod alarming;
mod changes;
pub(super) mod fake;
mod following;
mod images;
mod links;
mod lost;
mod reading;
mod rotated;
mod streams;
mod watched;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use bkfs_store::{
    access::OpenRequest,
    base::time::Time,
    format::{
        snapshot::PushStats,
        tree::{Content, Extent},
    },
};

use self::fake::{ChunkId, Fake};
use super::{pipeline::BUDGET_BYTES, record::root_key, *};
use crate::walk::{Observer, Roots};

/// A clock so far ahead that no change counts as recent: the next push trusts what was pushed.
fn late() -> Time {
    let now = clock::now();
    Time { secs: now.secs + 100, ..now }
}

struct Case {
    source: tempfile::TempDir,
    cache: tempfile::TempDir,
    store: Arc<Fake>,
    options: PushOptions,
    clock: Clock,
    progress: Arc<PushProgress>,
}

impl Case {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let options = PushOptions {
            target: "t".into(),
            base: Some(source.path().into()),
            paths: vec![".".into()],
            host: "h".into(),
            user: "u".into(),
            program: "test".into(),
            keeps_known_set: true,
            ..Default::default()
        };
        let cache = tempfile::tempdir().unwrap();
        Self { source, cache, store: Fake::new(), options, clock: late, progress: Arc::default() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.source.path().join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    fn push(&mut self) -> PushReport {
        self.try_push().unwrap()
    }

    fn try_push(&mut self) -> Result<PushReport> {
        self.push_after(None, None)
    }

    fn push_after(&mut self, follow: Option<Follow<'_>>, observer: Option<Arc<dyn Observer>>) -> Result<PushReport> {
        self.progress = Arc::default();
        let access: Arc<dyn access::Push> = self.store.clone();
        let seen = last_seen(self.cache.path(), self.store.client.repo, self.store.client.client_id());
        let opened = access.open(&OpenRequest { client: Some(self.store.client.client_id()), seen })?;
        let (config, key) = (&self.store.config, &self.store.client);
        let repository = OpenedRepository { access: access.clone(), opened: &opened, config, key };
        let mut push =
            Push::new(repository, self.cache.path(), &self.options).progress(&self.progress).clock(self.clock);
        if let Some(observer) = observer {
            push = push.observer(observer);
        }
        match follow {
            Some(follow) => push.follow(follow).run(),
            None => push.run(),
        }
    }

    fn root(&self) -> bkfs_store::format::tree::Subtree {
        self.store.newest().root.subtree.unwrap()
    }

    /// The root tree of a push that remembers nothing, into a new store.
    fn fresh_root(&self) -> bkfs_store::format::tree::Subtree {
        let mut other = Self { store: Fake::with(self.store.full.clone()), ..Self::new() };
        other.options = self.options.clone();
        other.push();
        other.root()
    }

    fn puts(&self) -> u64 {
        self.store.puts.load(Relaxed)
    }
}

/// Bytes that do not repeat.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_push_without_changes_reads_asks_and_stores_nothing() {
    let mut case = Case::new();
    for i in 0..50 {
        case.write(&format!("d{}/f{i}", i % 7), &noise(i, 1000 * i as usize));
    }
    case.write("tiny", b"in its node");
    case.write("empty", b"");
    case.write("large", &noise(99, 3_000_000));
    std::os::unix::fs::symlink("tiny", case.at("link")).unwrap();
    let report = case.push();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!((report.stats.files_new, report.totals.files, report.totals.dirs, report.totals.others), (53, 53, 7, 1));
    let (root, puts) = (case.root(), case.puts());
    assert_eq!(puts, 2);
    assert!(report.stats.bytes_new > 4_000_000 && report.stats.bytes_stored > 3_000_000);
    case.store.asked.store(0, Relaxed);
    let report = case.push();
    assert_eq!((report.stats.files_unchanged, report.stats.bytes_read, report.stats.chunks_new), (53, 0, 0));
    assert_eq!((case.root(), case.puts()), (root, puts));
    assert_eq!(case.store.asked.load(Relaxed), 1, "the push asks only about the root page");
    assert_eq!(case.store.newest().sequence, 2);
    // Reading everything again gives the same tree and sends nothing.
    case.options.force = true;
    let report = case.push();
    assert_eq!((report.stats.files_read(), report.stats.chunks_new, case.puts()), (0, 0, puts));
    assert_eq!((report.stats.files_unchanged, report.stats.bytes_read > 4_000_000), (53, true));
    assert_eq!(case.root(), root);
}

#[test]
fn recent_changes_are_distrusted() {
    let mut case = Case::new();
    case.clock = clock::now;
    case.write("f", &noise(1, 5000));
    case.push();
    let root = case.root();
    let report = case.push();
    // It is read again, but it is the same.
    assert_eq!((report.stats.bytes_read, report.stats.files_unchanged, report.stats.chunks_new), (5000, 1, 0));
    assert_eq!(case.root(), root);
}

#[test]
fn one_changed_file_costs_itself_and_the_trees_above() {
    let mut case = Case::new();
    for d in 0..10 {
        for f in 0..10 {
            case.write(&format!("d{d}/e/f{f}"), &noise(d * 10 + f, 3000));
        }
    }
    case.push();
    case.write("d3/e/f5", &noise(1000, 3001));
    fs::remove_file(case.at("d4/e/f0")).unwrap();
    let report = case.push();
    assert_eq!((report.stats.files_changed, report.stats.files_unchanged), (1, 98));
    assert_eq!((report.stats.bytes_read, report.stats.chunks_new), (3001, 1 + 5));
    assert_eq!(case.root(), case.fresh_root());
    // A folder that is removed and comes back is pushed again.
    fs::remove_dir_all(case.at("d5")).unwrap();
    case.push();
    assert_eq!(case.root(), case.fresh_root());
    for f in 0..10 {
        case.write(&format!("d5/e/f{f}"), &noise(50 + f, 3000));
    }
    let report = case.push();
    assert_eq!((report.stats.files_new, report.totals.files), (10, 99));
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn contents_are_read_back() {
    let mut case = Case::new();
    for len in [0usize, 1, 256, 257, 100_000, 128 * 1024, 128 * 1024 + 1, 300_000, 20_000_000] {
        case.write("f", &noise(len as u64, len));
        case.options.paths = vec!["f".into()];
        case.push();
        let node = read_back(&case, "f", &noise(len as u64, len));
        assert_eq!(matches!(node.content, Some(Content::Inline(_))), len <= 256);
        assert!(len < 5_000_000 || matches!(node.content, Some(Content::Tree(_))));
    }
    // A change in the middle sends only the chunks around it.
    let mut bytes = noise(20_000_000, 20_000_000);
    bytes.splice(9_000_000..9_000_010, *b"something else");
    case.write("f", &bytes);
    let report = case.push();
    read_back(&case, "f", &bytes);
    assert!((1..8).contains(&report.stats.chunks_new) && report.stats.bytes_new < 600_000, "{:?}", report.stats);
}

/// Reads a file of the newest snapshot with the full key, and compares.
fn read_back(case: &Case, path: &str, expected: &[u8]) -> bkfs_store::format::tree::Node {
    let store = &case.store;
    let reader = bkfs_store::owner::reader::Reader::new(store.clone(), store.full.clone(), &store.config, 64 << 20);
    let node = reader.resolve(&store.newest().root, path.as_bytes()).unwrap();
    let file = reader.file(&node);
    assert_eq!(file.len(), expected.len() as u64);
    let mut bytes = Vec::new();
    while bytes.len() < expected.len() {
        bytes.extend_from_slice(&file.read_at(bytes.len() as u64, 1 << 20).unwrap());
    }
    // A comparison that fails must not print megabytes.
    assert!(bytes == expected, "{path}, {} bytes", expected.len());
    node
}

/// The node of the only entry of the root directory.
fn only_node(case: &Case) -> bkfs_store::format::tree::Node {
    let cache = Cache::open(case.cache.path(), case.store.client.repo, case.store.client.client_id()).unwrap();
    let mut found = Vec::new();
    let roots = Roots::new(case.options.base.as_deref(), &case.options.paths).unwrap();
    let key = root_key(&case.store.client.ids(), &case.options.target, &roots);
    let mut cursor = crate::cache::Cursor::new(&cache, key);
    while let Some(entry) = cursor.entry() {
        found.push(entry.decode().unwrap());
        cursor.advance();
    }
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[test]
fn sparse_files_cost_what_they_hold() {
    let mut case = Case::new();
    let file = fs::File::create(case.at("sparse")).unwrap();
    file.set_len(5 << 30).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&noise(1, 10_000), 2 << 30).unwrap();
    drop(file);
    let report = case.push();
    assert!(report.stats.bytes_read < 100_000, "{}", report.stats.bytes_read);
    assert_eq!(report.totals.bytes, 5 << 30);
    let node = only_node(&case);
    let Some(Content::Extents(extents)) = &node.content else { panic!("{node:?}") };
    assert!(matches!(extents[0], Extent::Hole { len } if len == 2 << 30), "{extents:?}");
    assert!(matches!(extents.last(), Some(Extent::Hole { .. })));
}

#[test]
fn an_inode_with_several_names_is_read_once() {
    let mut case = Case::new();
    case.write("a/one", &noise(1, 300_000));
    case.write("b/other", b"other");
    fs::hard_link(case.at("a/one"), case.at("b/two")).unwrap();
    fs::hard_link(case.at("a/one"), case.at("c")).unwrap();
    let report = case.push();
    assert_eq!((report.stats.bytes_read, report.totals.files), (300_005, 4));
    assert_eq!(case.root(), case.fresh_root());
    // A further name changes the inode: all its names are read again, and no contents are sent.
    fs::hard_link(case.at("a/one"), case.at("d")).unwrap();
    let report = case.push();
    assert_eq!((report.stats.bytes_read, report.totals.files), (300_000, 5));
    assert_eq!(case.root(), case.fresh_root());
}

#[test]
fn an_unreadable_entry_is_reported_and_the_rest_is_pushed() {
    let mut case = Case::new();
    case.write("closed/in", b"x");
    case.write("good", b"x");
    case.write("secret", b"x");
    for (path, mode) in [("closed", 0o000), ("secret", 0o000), (".", 0o755)] {
        fs::set_permissions(case.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(case.cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Root may read everything. A thread that gives up its privileges gives them up for the threads that it starts,
    // too.
    let (mut case, first, second) = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            // SAFETY: the raw calls take plain numbers and change only the credentials of this thread.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setresgid, -1, 65534, -1), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, -1, 65534, -1), 0);
            }
        }
        let first = case.push();
        let second = case.push();
        (case, first, second)
    })
    .join()
    .unwrap();
    for report in [first, second] {
        let mut paths: Vec<_> = report.problems.iter().map(|(path, _)| path.clone()).collect();
        paths.sort();
        assert_eq!(paths, [case.at("closed"), case.at("secret")]);
        assert_eq!((report.stats.errors, report.totals.files, report.totals.dirs), (2, 1, 1));
    }
    fs::set_permissions(case.at("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    // As root, the next push reads everything.
    if rustix::process::geteuid().is_root() {
        let report = case.push();
        assert_eq!((report.stats.errors, report.totals.files), (0, 3));
        assert_eq!(case.root(), case.fresh_root());
    }
}

#[test]
fn a_missing_path_is_a_problem_but_not_an_error() {
    let mut case = Case::new();
    case.write("here", b"x");
    case.options.paths = vec!["here".into(), "missing".into()];
    let report = case.push();
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].0.ends_with("missing"));
    assert_eq!(report.totals.files, 1);
    // But a push is an error if none of its paths exists.
    case.options.paths = vec!["missing".into()];
    assert!(matches!(case.try_push(), Err(Error::Invalid(_))));
}

#[test]
fn a_dry_run_counts_and_leaves_no_trace() {
    let mut case = Case::new();
    case.write("f", &noise(1, 500_000));
    case.options.dry_run = true;
    for _ in 0..2 {
        let report = case.push();
        assert!(report.snapshot.is_none() && report.stats.bytes_new > 500_000 && report.stats.files_new == 1);
        assert!(report.stats.bytes_stored > 500_000, "it says what would be sent: {:?}", report.stats);
        assert_eq!((case.puts(), case.store.commits.load(Relaxed)), (0, 0));
    }
}

#[test]
fn a_commit_whose_reply_is_lost_is_made_once() {
    let mut case = Case::new();
    case.write("f", b"x");
    case.store.deaf.store(1, Relaxed);
    let report = case.push();
    assert_eq!(case.store.state.lock().snapshots.len(), 1);
    assert_eq!(report.snapshot, Some(case.store.state.lock().snapshots[0].0));
}

#[test]
fn a_commit_that_takes_effect_after_it_was_given_up_is_made_once() {
    // The last of these commits is refused in the last attempt.
    for slow in 1..=4 {
        let mut case = Case::new();
        case.write("f", b"x");
        case.store.slow.store(slow, Relaxed);
        let report = case.push();
        assert_eq!(case.store.state.lock().snapshots.len(), 1, "{slow}");
        assert_eq!(report.snapshot, Some(case.store.state.lock().snapshots[0].0));
    }
}

#[test]
fn a_commit_is_tried_again_while_others_with_the_same_key_are_faster() {
    let mut case = Case::new();
    case.write("f", b"x");
    case.store.rivals.store(12, Relaxed);
    case.push();
    assert_eq!(case.store.state.lock().snapshots.len(), 1);
}

#[test]
fn a_full_store_ends_the_push_and_the_next_push_continues() {
    let mut case = Case::new();
    for i in 0..6 {
        case.write(&format!("f{i}"), &noise(i, 8 << 20));
    }
    case.store.full_at.store(1, Relaxed);
    assert!(matches!(case.try_push(), Err(Error::Full { .. })));
    assert!(case.store.state.lock().snapshots.is_empty());
    let kept = case.store.state.lock().chunks.len() as u64;
    assert!(kept > 0);
    case.store.full_at.store(u64::MAX, Relaxed);
    let report = case.push();
    // What had been stored is not sent again (the store would notice).
    assert_eq!(report.stats.bytes_read, 48 << 20);
    assert_eq!(case.root(), case.fresh_root());
    assert!(case.progress.bytes_held_max.load(Relaxed) <= (BUDGET_BYTES as u64) + (2 << 20));
}

#[test]
fn a_push_can_be_stopped() {
    let mut case = Case::new();
    case.write("f", &noise(1, 1 << 20));
    let access: Arc<dyn access::Push> = case.store.clone();
    let opened = access.open(&OpenRequest::default()).unwrap();
    let progress: Arc<PushProgress> = Arc::default();
    progress.stop.store(true, Relaxed);
    let (config, key) = (&case.store.config, &case.store.client);
    let repository = OpenedRepository { access: access.clone(), opened: &opened, config, key };
    let stopped = Push::new(repository, case.cache.path(), &case.options).progress(&progress).run();
    assert!(matches!(stopped, Err(Error::Interrupted)));
    case.push();
}

#[test]
fn a_folder_of_very_many_entries_is_pushed_and_compared() {
    let mut case = Case::new();
    fs::create_dir(case.at("many")).unwrap();
    let many = case.at("many");
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Relaxed);
                    if i >= 100_000 {
                        return;
                    }
                    fs::File::create(many.join(format!("{i:06}"))).unwrap();
                }
            });
        }
    });
    let report = case.push();
    assert_eq!((report.totals.files, report.stats.files_new), (100_000, 100_000));
    let root = case.root();
    let report = case.push();
    assert_eq!((report.stats.files_unchanged, report.stats.files_read()), (100_000, 0));
    assert_eq!(case.root(), root);
    case.write("many/050000x", b"new");
    let report = case.push();
    assert_eq!((report.stats.files_unchanged, report.stats.files_new), (100_000, 1));
}

trait FilesRead {
    fn files_read(&self) -> u64;
}

impl FilesRead for PushStats {
    fn files_read(&self) -> u64 {
        self.files_new + self.files_changed
    }
}
