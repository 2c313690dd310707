//! Directory trees and content trees: trees of any nodes and extents are built and read back completely.

#![no_main]

use std::collections::HashMap;

use bkfs_fuzz::{Input, keys};
use bkfs_store::{
    base::{codec, id::ChunkId},
    format::{
        content::ContentBuilder,
        tree::{Content, Extent, Node, Page, TreeBuilder},
    },
};

type Pages = HashMap<ChunkId, Vec<u8>>;

fn page(pages: &Pages, id: ChunkId) -> Page {
    Page::decode(id, pages.get(&id).expect("a page that was built")).expect("a page that decodes")
}

/// Reads a directory and returns its nodes.
fn nodes(pages: &Pages, id: ChunkId, level: Option<u8>) -> Vec<Node> {
    let page = page(pages, id);
    assert!(level.is_none_or(|level| level == page.level()));
    match page {
        Page::Nodes(nodes) => nodes,
        Page::Dirs(level, children) => {
            let below = children.iter().map(|child| {
                let nodes = nodes(pages, child.id, Some(level - 1));
                assert_eq!((nodes.len() as u64, &nodes[0].name), (child.entries, &child.first));
                nodes
            });
            below.collect::<Vec<_>>().concat()
        }
        other => panic!("{other:?} in a directory"),
    }
}

/// Reads a content tree and returns its extents.
fn extents(pages: &Pages, id: ChunkId, level: Option<u8>) -> Vec<Extent> {
    let page = page(pages, id);
    assert!(level.is_none_or(|level| level == page.level()));
    match page {
        Page::Extents(extents) => extents,
        Page::Spans(level, children) => {
            let below = children.iter().map(|child| {
                let extents = extents(pages, child.id, Some(level - 1));
                assert_eq!(extents.iter().map(Extent::len).sum::<u64>(), child.len);
                extents
            });
            below.collect::<Vec<_>>().concat()
        }
        other => panic!("{other:?} in a content tree"),
    }
}

/// Returns the valid nodes, and up to `times` copies of them under other names, in order.
fn directory(found: Vec<Node>, times: u16) -> Vec<Node> {
    let mut nodes: Vec<Node> = found.into_iter().filter(|node| node.validate(false).is_ok()).collect();
    let room = 100_000usize / (1 + codec::encode(&nodes).len());
    for time in 0..usize::from(times).min(room) {
        let Some(node) = nodes.get(time % (nodes.len() / 2 + 1)) else { break };
        let mut node = node.clone();
        node.name.truncate(200);
        node.name.extend(time.to_string().bytes());
        nodes.push(node);
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes.dedup_by(|a, b| a.name == b.name);
    nodes
}

/// Reads extents, five bytes of input each. Their ids repeat, so that pages do.
fn file(input: &mut Input<'_>) -> Vec<Extent> {
    let mut extents = Vec::new();
    while !input.0.is_empty() {
        let (kind, len) = (input.u8(), input.u32());
        match kind {
            0..64 => extents.push(Extent::Hole { len: len.into() }),
            64..200 => extents.push(Extent::Data { id: ChunkId([kind; 32]), len }),
            _ => (0..len % 1024).for_each(|n| {
                let id = ChunkId(*blake3::hash(&[kind, n as u8]).as_bytes());
                extents.push(Extent::Data { id, len: n });
            }),
        }
    }
    extents
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (ids, mut pages) = (&keys().ids, Pages::new());
    let mut keep = |id: ChunkId, bytes: Vec<u8>| {
        assert_eq!(ids.tree_id(&bytes), id);
        pages.insert(id, bytes);
    };
    let mut input = Input(data);
    let times = input.u16();
    if let Ok(found) = codec::decode::<Vec<Node>>("nodes", input.0) {
        let wanted = directory(found, times);
        let mut builder = TreeBuilder::new(ids);
        wanted.iter().for_each(|node| builder.add(node, &mut keep).expect("a good node"));
        let subtree = builder.finish(&mut keep).expect("a tree");
        assert_eq!(subtree.entries, wanted.len() as u64);
        assert_eq!(nodes(&pages, subtree.id, None), wanted);
        return;
    }

    let mut wanted: Vec<Extent> = Vec::new();
    let mut builder = ContentBuilder::new(ids);
    for extent in file(&mut input) {
        builder.add(extent, &mut keep).expect("an extent");
        match (wanted.last_mut(), extent) {
            (_, extent) if extent.is_empty() => {}
            (Some(Extent::Hole { len }), Extent::Hole { len: more }) => *len += more,
            (_, extent) => wanted.push(extent),
        }
    }
    match builder.finish(&mut keep).expect("contents") {
        Content::Extents(few) => assert_eq!(few, wanted),
        Content::Tree(id) => assert_eq!(extents(&pages, id, None), wanted),
        Content::Inline(bytes) => panic!("{} bytes inline", bytes.len()),
    }
});
