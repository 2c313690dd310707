//! Tests of losses: chunks that the store lost, and chunks that a prune takes while a push runs.

use super::*;

#[test]
fn lost_chunks_are_read_and_stored_again() {
    let mut case = Case::new();
    for i in 0..20 {
        case.write(&format!("d{}/f{i}", i % 3), &noise(i, 2000));
    }
    case.push();
    let root = case.root();
    let lost = case.store.client.ids().data_id(&noise(7, 2000));
    {
        let mut state = case.store.state.lock();
        assert!(state.chunks.remove(&lost).is_some());
        state.lost = vec![lost];
    }
    let report = case.push();
    assert_eq!((report.stats.files_changed, report.stats.bytes_read, report.stats.chunks_new), (0, 2000, 1));
    assert_eq!(case.root(), root);
    // Afterwards everything is remembered again.
    assert_eq!(case.push().stats.bytes_read, 0);
}

#[test]
fn after_a_new_incarnation_the_repository_is_asked_about_everything() {
    let mut case = Case::new();
    for i in 0..20 {
        case.write(&format!("d{}/f{i}", i % 3), &noise(i, 2000));
    }
    case.push();
    let root = case.root();
    let lost: Vec<ChunkId> = (3..6).map(|i| case.store.client.ids().data_id(&noise(i, 2000))).collect();
    {
        let mut state = case.store.state.lock();
        state.chunks.retain(|id, _| !lost.contains(id) && *id != root.id);
        state.incarnation = 1;
    }
    let report = case.push();
    assert_eq!((report.stats.bytes_read, report.stats.chunks_new), (6000, 4));
    assert_eq!(case.root(), root);
    assert!(case.store.state.lock().chunks.contains_key(&root.id));
}

#[test]
fn a_lost_tree_that_was_not_reported_is_noticed() {
    let mut case = Case::new();
    case.write("d/f", &noise(1, 2000));
    case.push();
    let root = case.root();
    case.store.state.lock().chunks.clear();
    let report = case.push();
    assert_eq!((report.stats.bytes_read, case.root()), (2000, root));
    assert_eq!(case.store.state.lock().chunks.len(), 3);
    // It is noticed also if only one of the reused trees is lost, and the tree above it changes for another reason.
    case.write("e/f", &noise(2, 2000));
    case.push();
    let lost = {
        let cache = Cache::open(case.cache.path(), case.store.client.repo, case.store.client.client_id()).unwrap();
        let roots = Roots::new(case.options.base.as_deref(), &case.options.paths).unwrap();
        let key = root_key(&case.store.client.ids(), "t", &roots);
        let mut cursor = crate::cache::Cursor::new(&cache, crate::walk::child_key(&key, b"d"));
        cursor.advance();
        cursor.subtree().unwrap().id
    };
    assert!(case.store.state.lock().chunks.remove(&lost).is_some());
    case.write("e/f", &noise(3, 2001));
    case.push();
    assert!(case.store.state.lock().chunks.contains_key(&lost));
}

/// Pushes ten files, the first with the contents of a stored chunk. A prune takes chunks just before the commit.
fn push_through_a_prune(takes: impl Fn(&Case) -> Vec<ChunkId>) -> (Case, PushReport) {
    let mut case = Case::new();
    case.write("old", &noise(0, 2000));
    case.push();
    fs::remove_file(case.at("old")).unwrap();
    for i in 0..10 {
        case.write(&format!("f{i}"), &noise(i, 2000));
    }
    let takes = takes(&case);
    case.store.state.lock().condemned = Some(takes);
    let report = case.push();
    assert_eq!(case.root(), case.fresh_root());
    let ids = case.store.client.ids();
    for i in 0..10 {
        assert!(case.store.state.lock().chunks.contains_key(&ids.data_id(&noise(i, 2000))), "file {i}");
    }
    assert!(case.store.commits.load(Relaxed) >= 3, "one commit was refused");
    (case, report)
}

#[test]
fn a_stored_chunk_that_a_prune_takes_is_sent_again() {
    let (case, _) = push_through_a_prune(|case| vec![case.store.client.ids().data_id(&noise(0, 2000))]);
    assert_eq!(case.progress.bytes_read.load(Relaxed), 2 * 20_000, "the source was gone through twice");
}

#[test]
fn a_sent_chunk_that_a_prune_takes_is_sent_again() {
    push_through_a_prune(|case| vec![case.store.client.ids().data_id(&noise(7, 2000))]);
}

#[test]
fn a_prune_that_takes_no_needed_chunk_costs_the_push_nothing() {
    let (case, _) = push_through_a_prune(|case| vec![case.store.client.ids().data_id(b"other")]);
    assert_eq!(case.progress.bytes_read.load(Relaxed), 20_000);
}
