//! What is remembered of trees is compared with a model that knows all of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::id::RepoId;

fn full() -> FullKey {
    FullKey { seal: crate::crypto::SealSecret::from_seed(Secret([1; 32])), ..FullKey::random(RepoId([2; 16])) }
}

fn name(n: usize) -> Half {
    half(blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// What page `n` names: chunks, and pages with lower numbers.
type Graph = Vec<(Vec<u8>, Vec<usize>)>;

fn graph() -> impl Strategy<Value = Graph> {
    let page = (proptest::collection::vec(any::<u8>(), 0..6), proptest::collection::vec(any::<usize>(), 0..4));
    proptest::collection::vec(page, 1..80).prop_map(|mut graph: Graph| {
        for (n, (_, pages)) in graph.iter_mut().enumerate() {
            pages.iter_mut().for_each(|page| *page %= n.max(1));
            pages.retain(|page| *page < n);
        }
        graph
    })
}

fn key(page: usize, chunk: u8) -> Key {
    (chunk, (page as u64) << 32 | u64::from(chunk))
}

fn add(reach: &mut Reach, graph: &Graph, n: usize) -> u64 {
    if let Some(number) = reach.find(name(n)).unwrap() {
        return number;
    }
    let pages = graph[n].1.iter().map(|page| add(reach, graph, *page)).collect();
    let keys = graph[n].0.iter().map(|chunk| key(n, *chunk)).collect();
    reach.add(name(n), &Entry { keys, pages }).unwrap()
}

fn below(graph: &Graph, n: usize, found: &mut BTreeSet<usize>) {
    if found.insert(n) {
        graph[n].1.iter().for_each(|page| below(graph, *page, found));
    }
}

fn told(reach: &mut Reach) -> Vec<Key> {
    let mut told = Vec::new();
    reach
        .tell(&mut |key| {
            told.push(key);
            Ok(())
        })
        .unwrap();
    told.sort_unstable();
    told
}

fn keys(graph: &Graph, pages: &BTreeSet<usize>) -> Vec<Key> {
    let mut keys: Vec<Key> = pages.iter().flat_map(|n| graph[*n].0.iter().map(|chunk| key(*n, *chunk))).collect();
    keys.sort_unstable();
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Some roots after others, with a save and an opening between.
    #[test]
    fn what_is_reached_is_told_once(graph in graph(), rounds in proptest::collection::vec((proptest::collection::vec(any::<usize>(), 0..5), any::<bool>(), any::<bool>()), 1..5)) {
        let folder = tempfile::tempdir().unwrap();
        let full = full();
        let mut reach = Reach::open(folder.path(), &full);
        let (mut reached, mut added, mut kept) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (roots, is_saved, is_reopened) in rounds {
            let before: BTreeSet<usize> = reached.clone();
            for root in roots {
                let root = root % graph.len();
                let number = add(&mut reach, &graph, root);
                reach.root(number);
                below(&graph, root, &mut reached);
                below(&graph, root, &mut added);
            }
            let new: BTreeSet<usize> = reached.difference(&before).copied().collect();
            prop_assert_eq!(told(&mut reach), keys(&graph, &new));
            if is_saved {
                reach.save(true);
                kept = added.clone();
            }
            if is_reopened {
                drop(reach);
                reach = Reach::open(folder.path(), &full);
                reached.clear();
                added = kept.clone();
                for n in 0..graph.len() {
                    prop_assert_eq!(reach.find(name(n)).unwrap().is_some(), kept.contains(&n));
                }
            }
        }
    }
}

/// A chain long enough for several blocks of entries and of names.
const LONG: usize = 5_000;

fn chain(reach: &mut Reach, from: usize, to: usize) -> u64 {
    let mut last = None;
    for n in from..to {
        let entry = Entry { keys: vec![key(n, n as u8), key(n, 1)], pages: last.into_iter().collect() };
        last = Some(reach.add(name(n), &entry).unwrap());
    }
    last.unwrap()
}

#[test]
fn what_is_not_reached_is_dropped_when_it_is_the_most() {
    let (folder, full) = (tempfile::tempdir().unwrap(), full());
    let mut reach = Reach::open(folder.path(), &full);
    let (old, new) = (chain(&mut reach, 0, LONG), chain(&mut reach, LONG, LONG + 3000));
    reach.root(old);
    reach.root(new);
    assert_eq!(told(&mut reach).len(), 2 * (LONG + 3000));
    reach.save(true);
    let size = |folder: &Path| fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum::<u64>();
    let whole = size(folder.path());
    drop(reach);
    for _ in 0..2 {
        let mut reach = Reach::open(folder.path(), &full);
        let new = reach.find(name(LONG + 2999)).unwrap().unwrap();
        reach.root(new);
        let found = told(&mut reach);
        assert_eq!(found.len(), 6000);
        assert!(found.contains(&key(LONG, LONG as u8)));
        reach.save(true);
        assert!(size(folder.path()) < whole / 2, "{} of {whole}", size(folder.path()));
        assert!(reach.find(name(0)).unwrap().is_none() && reach.find(name(LONG)).unwrap() == Some(0));
        // What is added afterwards refers to the new numbers.
        let number = reach.find(name(LONG + 5)).unwrap().unwrap();
        let more = reach.add(name(1_000_000), &Entry { keys: vec![], pages: vec![number] }).unwrap();
        reach.root(more);
        assert_eq!(told(&mut reach).len(), 0);
    }
}

#[test]
fn a_walk_that_was_cut_short_drops_nothing() {
    let (folder, full) = (tempfile::tempdir().unwrap(), full());
    let mut reach = Reach::open(folder.path(), &full);
    chain(&mut reach, 0, LONG);
    reach.save(false);
    drop(reach);
    assert!(Reach::open(folder.path(), &full).find(name(0)).unwrap().is_some());
}

#[test]
fn names_put_aside_are_found_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    let mut names = Names::new(folder.path());
    let rows: BTreeMap<Half, u64> = (0..2000).map(|n| (name(n), n as u64)).collect();
    for (half, number) in &rows {
        names.add(*half, *number).unwrap();
        if number % 700 == 0 {
            names.put_aside().unwrap();
        }
    }
    for _ in 0..2 {
        assert!(rows.iter().all(|(half, number)| names.get(half).unwrap() == Some(*number)));
        assert_eq!(names.get(&name(2000)).unwrap(), None);
        let file = folder.path().join(format!("{}.names", random_number()));
        let list = names.merge_into(&file, |number| (number % 2 == 0).then_some(number)).unwrap();
        names = Names::open(folder.path(), &file, &list).unwrap();
        assert!((0..2000).all(|n| names.get(&name(n)).unwrap() == (n % 2 == 0).then_some(n as u64)));
        for (half, number) in rows.iter().filter(|(_, number)| *number % 2 == 1) {
            names.add(*half, *number).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_entries_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), number in any::<u64>()) {
        let mut rest = &bytes[..];
        if let Some(entry) = take_entry(&mut rest, number) {
            prop_assert!(entry.pages.iter().all(|page| *page < number));
        }
    }
}
