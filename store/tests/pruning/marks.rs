//! What is remembered from one mark to the next. A mark that remembers finds the same as one that walks everything,
//! whatever happened in between and whatever became of the files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use bkfs_store::{access::PruneRequest, owner::prune::*, repository::Repository};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{Arc, BTreeSet, Fuse, Place, contents, forget, prune, push, push_key, verify};

/// What a mark finds, and how often it has to fetch something.
fn mark(repo: &Arc<Repository>, cache: &Path) -> (Vec<(u8, Vec<u8>)>, PruneReport, usize) {
    let (filters, fetched) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (sent, calls) = (filters.clone(), fetched.clone());
    let fuse = Fuse::new(repo.clone(), move |request| {
        if let PruneRequest::Live { filters, .. } = request {
            sent.lock().extend(filters.iter().map(|filter| (filter.first, filter.bytes.clone())));
        }
        true
    });
    let fuse = fuse.watched(move |name| {
        calls.fetch_add(usize::from(matches!(name, "read" | "snapshots")), SeqCst);
    });
    let options = PruneOptions { dry_run: true, ..PruneOptions::default() };
    let report = prune(Arc::new(fuse), cache, &options).unwrap();
    let filters = filters.lock().clone();
    (filters, report, fetched.load(SeqCst))
}

#[track_caller]
fn same_as_anew(repo: &Arc<Repository>, cache: &Path) -> PruneReport {
    let (found, report, _) = mark(repo, cache);
    let empty = tempfile::tempdir().unwrap();
    let (wanted, anew, _) = mark(repo, empty.path());
    assert!(found == wanted, "different filters: {} and {}", found.len(), wanted.len());
    assert_eq!((report.pages, report.chunks, report.stats), (anew.pages, anew.chunks, anew.stats));
    assert_eq!(anew.pages_fetched, anew.pages);
    report
}

/// The files in which marks are remembered.
fn files(cache: &Path) -> Vec<PathBuf> {
    let folder = cache.join(push_key().repo.to_string()).join("marks");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap() != "lock");
    files.sort();
    files
}

#[test]
fn trees_that_were_walked_are_not_fetched_again() {
    let (place, repo) = Place::new(0);
    let first = push(&*repo, 0..100);
    push(&*repo, 8..100);
    let cache = place.folder.path().join("cache");
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 13 + 2);
    assert_eq!(files(&cache).len(), 3);
    let (_, report, fetched) = mark(&repo, &cache);
    assert_eq!((report.pages, report.pages_fetched, fetched), (15, 0, 0), "not one byte");
    // One more folder and the root are new.
    push(&*repo, 0..104);
    let report = same_as_anew(&repo, &cache);
    assert_eq!((report.pages, report.pages_fetched), (17, 2));
    forget(&*repo, first, true);
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 0);
    assert_eq!(mark(&place.open(), &cache).2, 0, "nor by another process");
}

#[test]
fn concurrent_prunes_do_not_share_what_they_remember() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..30);
    let cache = place.folder.path().join("cache");
    mark(&repo, &cache);
    let before = files(&cache);
    let lock = fs::File::open(cache.join(push_key().repo.to_string()).join("marks/lock")).unwrap();
    lock.lock().unwrap();
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 5);
    assert_eq!(files(&cache), before);
    lock.unlock().unwrap();
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 0);
}

#[test]
fn what_another_key_has_remembered_is_not_believed() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..30);
    let cache = place.folder.path().join("cache");
    mark(&repo, &cache);
    // A client with a push key may write into the folder, but must not be able to say what is dead.
    let head = files(&cache).into_iter().find(|path| path.ends_with("head")).unwrap();
    let mut bytes = fs::read(&head).unwrap();
    let sealed = bytes.len() - 32;
    let tag = blake3::keyed_hash(push_key().id_key.bytes(), &bytes[..sealed]);
    bytes[sealed..].copy_from_slice(tag.as_bytes());
    fs::write(&head, bytes).unwrap();
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 5);
}

#[test]
fn it_is_not_an_error_if_nothing_can_be_remembered() {
    let (place, repo) = Place::new(0);
    push(&*repo, 0..30);
    let cache = place.folder.path().join("cache");
    fs::write(&cache, b"no folder").unwrap();
    assert_eq!(same_as_anew(&repo, &cache).pages_fetched, 5);
}

#[derive(Debug, Clone)]
enum Step {
    Push(BTreeSet<u8>),
    Forget(usize),
    Prune,
    /// Which file, what is done to it, and where.
    Damage(usize, u8, usize),
    /// Files of an earlier moment come back, all or some of them.
    PutBack(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => proptest::collection::btree_set(0..60u8, 0..12).prop_map(Step::Push),
        3 => any::<usize>().prop_map(Step::Forget),
        2 => Just(Step::Prune),
        2 => (any::<usize>(), 0..4u8, any::<usize>()).prop_map(|(file, how, at)| Step::Damage(file, how, at)),
        1 => any::<usize>().prop_map(Step::PutBack),
    ]
}

fn damage(path: &Path, how: u8, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len().max(1);
    match how {
        0 => return fs::remove_file(path).unwrap(),
        1 => bytes.truncate(at),
        2 => bytes.extend_from_slice(&contents(7)[..at.min(100)]),
        _ => bytes[at] ^= 1 << (at % 8),
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_mark_that_remembers_finds_the_same(steps in proptest::collection::vec(step(), 1..25)) {
        let (place, repo) = Place::new(0);
        let cache = place.folder.path().join("cache");
        let (mut counts, mut copies) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(files) => counts.push((push(&*repo, files.clone()), files)),
                Step::Forget(n) if !counts.is_empty() => {
                    forget(&*repo, counts.remove(n % counts.len()).0, true);
                }
                Step::Prune => {
                    let options = PruneOptions { is_confirmed: true, ..PruneOptions::default() };
                    prune(repo.clone(), &cache, &options).unwrap();
                }
                Step::Damage(file, how, at) => {
                    let files = files(&cache);
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
                _ => {}
            }
            same_as_anew(&repo, &cache);
            copies.push(files(&cache).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect());
        }
        for (id, files) in &counts {
            verify(&repo, *id, files);
        }
    }
}
