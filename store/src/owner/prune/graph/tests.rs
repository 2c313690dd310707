//! The graph is compared with a model that keeps everything in memory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{base::id::RepoId, owner::references::id_prefix};

fn full() -> FullKey {
    FullKey {
        seal: crate::crypto::SealSecret::from_seed(Secret::new([1; 32]), Default::default()),
        ..FullKey::random(RepoId([2; 16]))
    }
}

fn name(n: usize) -> IdPrefix {
    id_prefix(blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// For each page, what it names: chunks, and pages with lower numbers.
type Model = Vec<(Vec<u8>, Vec<usize>)>;

fn model() -> impl Strategy<Value = Model> {
    let page = (proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec(any::<usize>(), 0..4));
    proptest::collection::vec(page, 1..80).prop_map(|mut model: Model| {
        for (n, (_, pages)) in model.iter_mut().enumerate() {
            pages.iter_mut().for_each(|page| *page %= n.max(1));
            pages.retain(|page| *page < n);
        }
        model
    })
}

fn key(page: usize, chunk: u8) -> ChunkKey {
    (chunk, (page as u64) << 32 | u64::from(chunk))
}

fn add(graph: &mut PageGraph, model: &Model, n: usize) -> u64 {
    if let Some(number) = graph.find(name(n)).unwrap() {
        return number;
    }
    let pages = model[n].1.iter().map(|page| add(graph, model, *page)).collect();
    let keys = model[n].0.iter().map(|chunk| key(n, *chunk)).collect();
    graph.add(name(n), &Entry { keys, pages }).unwrap()
}

fn below(model: &Model, n: usize, found: &mut BTreeSet<usize>) {
    if found.insert(n) {
        model[n].1.iter().for_each(|page| below(model, *page, found));
    }
}

fn visited(graph: &mut PageGraph) -> Vec<ChunkKey> {
    let mut visited = Vec::new();
    graph
        .visit_new(&mut |key| {
            visited.push(key);
            Ok(())
        })
        .unwrap();
    visited.sort_unstable();
    visited
}

fn keys(model: &Model, pages: &BTreeSet<usize>) -> Vec<ChunkKey> {
    let mut keys: Vec<ChunkKey> = pages.iter().flat_map(|n| model[*n].0.iter().map(|chunk| key(*n, *chunk))).collect();
    keys.sort_unstable();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Roots are reached in several rounds. The graph may be saved and opened again in between.
    #[test]
    fn reached_entries_are_visited_once(
        model in model(),
        rounds in proptest::collection::vec(
            (proptest::collection::vec(any::<usize>(), 0..5), any::<bool>(), any::<bool>()),
            1..5,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let full = full();
        let mut graph = PageGraph::open(folder.path(), &full);
        let (mut reached, mut added, mut kept) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (roots, is_saved, is_reopened) in rounds {
            let before: BTreeSet<usize> = reached.clone();
            for root in roots {
                let root = root % model.len();
                let number = add(&mut graph, &model, root);
                graph.reach(number);
                below(&model, root, &mut reached);
                below(&model, root, &mut added);
            }
            let new: BTreeSet<usize> = reached.difference(&before).copied().collect();
            prop_assert_eq!(visited(&mut graph), keys(&model, &new));
            if is_saved {
                graph.save(true);
                kept = added.clone();
            }
            if is_reopened {
                drop(graph);
                graph = PageGraph::open(folder.path(), &full);
                reached.clear();
                added = kept.clone();
                for n in 0..model.len() {
                    prop_assert_eq!(graph.find(name(n)).unwrap().is_some(), kept.contains(&n));
                }
            }
        }
    }
}

/// A chain long enough for several blocks of entries and of names.
const LONG: usize = 5_000;

fn chain(graph: &mut PageGraph, from: usize, to: usize) -> u64 {
    let mut last = None;
    for n in from..to {
        let entry = Entry { keys: vec![key(n, n as u8), key(n, 1)], pages: last.into_iter().collect() };
        last = Some(graph.add(name(n), &entry).unwrap());
    }
    last.unwrap()
}

#[test]
fn unreached_entries_are_dropped_when_most_are_unreached() {
    let (folder, full) = (tempfile::tempdir().unwrap(), full());
    let mut graph = PageGraph::open(folder.path(), &full);
    let (old, new) = (chain(&mut graph, 0, LONG), chain(&mut graph, LONG, LONG + 3000));
    graph.reach(old);
    graph.reach(new);
    assert_eq!(visited(&mut graph).len(), 2 * (LONG + 3000));
    graph.save(true);
    let size = |folder: &Path| fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
    let whole = size(folder.path());
    drop(graph);
    for _ in 0..2 {
        let mut graph = PageGraph::open(folder.path(), &full);
        let new = graph.find(name(LONG + 2999)).unwrap().unwrap();
        graph.reach(new);
        let found = visited(&mut graph);
        assert_eq!(found.len(), 6000);
        assert!(found.contains(&key(LONG, LONG as u8)));
        graph.save(true);
        assert!(size(folder.path()) < whole / 2, "{} of {whole}", size(folder.path()));
        assert!(graph.find(name(0)).unwrap().is_none() && graph.find(name(LONG)).unwrap() == Some(0));
        // Entries that are added afterwards refer to the new numbers.
        let number = graph.find(name(LONG + 5)).unwrap().unwrap();
        let more = graph.add(name(1_000_000), &Entry { keys: vec![], pages: vec![number] }).unwrap();
        graph.reach(more);
        assert_eq!(visited(&mut graph).len(), 0);
    }
}

#[test]
fn a_walk_that_was_cut_short_drops_nothing() {
    let (folder, full) = (tempfile::tempdir().unwrap(), full());
    let mut graph = PageGraph::open(folder.path(), &full);
    chain(&mut graph, 0, LONG);
    graph.save(false);
    drop(graph);
    assert!(PageGraph::open(folder.path(), &full).find(name(0)).unwrap().is_some());
}

#[test]
fn names_in_several_tables_are_found_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = NameIndex::new(folder.path());
    let rows: BTreeMap<IdPrefix, u64> = (0..2000).map(|n| (name(n), n as u64)).collect();
    for (name, number) in &rows {
        names.add(*name, *number).unwrap();
        if number % 700 == 0 {
            names.flush().unwrap();
        }
    }
    for _ in 0..2 {
        assert!(rows.iter().all(|(name, number)| names.get(name).unwrap() == Some(*number)));
        assert_eq!(names.get(&name(2000)).unwrap(), None);
        let file = folder.path().join(format!("{}.names", random_number()));
        let list = names.merge_into(&file, |number| (number % 2 == 0).then_some(number)).unwrap();
        names = NameIndex::open(folder.path(), &file, &list).unwrap();
        assert!((0..2000).all(|n| names.get(&name(n)).unwrap() == (n % 2 == 0).then_some(n as u64)));
        for (name, number) in rows.iter().filter(|(_, number)| *number % 2 == 1) {
            names.add(*name, *number).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_to_an_entry_or_none(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        number in any::<u64>(),
    ) {
        let mut rest = &bytes[..];
        if let Some(entry) = Entry::decode(&mut rest, number) {
            prop_assert!(entry.pages.iter().all(|page| *page < number));
        }
    }
}
