//! Restoring into an empty folder, in the order in which contents are stored.

use std::{collections::HashSet, fs};

use bkfs_store::format::tree::{Content, Extent};

use super::{fake::*, *};
use crate::restore::source::RestoreSource;

/// Nested folders with files between them, 24 MB in all: more than is read ahead at a time. Returns the root, and the
/// chunks in the order of a push.
fn tree(fake: &mut Fake) -> (Node, Vec<bkfs_store::base::id::ChunkId>) {
    let mut order = Vec::new();
    let mut top = Vec::new();
    for a in 0..20 {
        let mut nodes = Vec::new();
        for b in 0..10 {
            // 0, 1, ... are files, with a folder in the middle.
            if b == 5 {
                let inner = (0..50).map(|c| small(fake, &format!("{c:02}"), &mut order)).collect();
                nodes.push(fake.folder("5", inner));
            } else {
                nodes.push(small(fake, &b.to_string(), &mut order));
            }
        }
        nodes.push(fake.folder("empty", vec![]));
        nodes.push(inline("inline", b"in its node"));
        top.push(fake.folder(format!("{a:02}"), nodes));
    }
    (fake.folder("", top), order)
}

fn small(fake: &mut Fake, name: &str, order: &mut Vec<bkfs_store::base::id::ChunkId>) -> Node {
    let file = fake.file(name, &[Piece::Data(vec![order.len() as u8; 20_000])]);
    if let Some(Content::Extents(extents)) = &file.content {
        order.extend(extents.iter().filter_map(|e| if let Extent::Data { id, .. } = e { Some(*id) } else { None }));
    }
    file
}

#[test]
fn contents_are_read_in_push_order_with_large_requests() {
    let mut fake = Fake::default();
    let (root, order) = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    assert_eq!((report.files, report.problems_total), (20 * 60, 0));
    let mut reads = fake.reads.lock().clone();
    // Two threads fetch, so requests may be recorded in another order than they were made in.
    reads.sort_by_key(|ids| order.iter().position(|other| *other == ids[0]));
    assert!(reads.len() <= 4, "{} requests", reads.len());
    assert_eq!(reads.concat(), order, "each chunk is read once");
    assert_eq!(fs::read(dir.path().join("03/5/07")).unwrap().len(), 20_000);
    assert_eq!(fs::read(dir.path().join("19/inline")).unwrap(), b"in its node");
    assert!(dir.path().join("07/empty").is_dir());
}

#[test]
fn contents_stored_together_are_read_together() {
    let mut fake = Fake::default();
    fake.is_scattered = true;
    let (root, order) = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    assert_eq!((report.files, report.problems_total), (20 * 60, 0));
    let reads = fake.reads.lock().clone();
    let mut all = reads.concat();
    assert_eq!(all.len(), order.len(), "each chunk is read once");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), order.len());
    // The first request is made immediately, for the files that come first in the tree.
    let (first, rest): (Vec<_>, Vec<_>) = reads.into_iter().partition(|ids| ids.contains(&order[0]));
    assert_eq!(first[0], order[..first[0].len()]);
    assert!(rest.len() > 1);
    let mut frames = HashSet::new();
    for ids in rest {
        let keys = fake.storage_order(&ids).unwrap();
        assert!(keys.is_sorted());
        assert!(
            keys.iter().collect::<HashSet<_>>().into_iter().all(|frame| frames.insert(*frame)),
            "a frame was read twice"
        );
    }
}

#[test]
fn a_folder_that_is_not_empty_is_restored_into() {
    let mut fake = Fake::default();
    let (root, _) = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine"), "").unwrap();
    let report = restore(&fake, &root, dir.path());
    assert_eq!((report.files, report.problems_total), (20 * 60, 0));
}

#[test]
fn a_request_that_fails_is_repeated_file_by_file() {
    let mut fake = Fake::default();
    fake.many_fail = true;
    let (root, _) = tree(&mut fake);
    let dir = tempfile::tempdir().unwrap();
    let report = restore(&fake, &root, dir.path());
    assert_eq!((report.files, report.problems_total), (20 * 60, 0));
}
