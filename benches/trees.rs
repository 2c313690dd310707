//! Trees: encoding the nodes of a directory into pages, and decoding the pages.

use bkfs_store::{
    base::{id::ChunkId, time::Time},
    crypto::Secret,
    format::{
        keys::IdKeys,
        tree::{Content, Extent, Node, NodeKind, Page, TreeBuilder},
    },
};
use divan::{Bencher, counter::ItemsCount};

use crate::material::noise;

fn nodes(count: usize) -> Vec<Node> {
    let dice = noise(count * 32, 1);
    let node = |(n, id): (usize, &[u8; 32])| {
        let mtime = Time { secs: 1_700_000_000 + n as i64, nanos: 123_456_789 };
        Node {
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            user: Some("alice".into()),
            group: Some("alice".into()),
            mtime,
            ctime: Some(mtime),
            btime: Some(mtime),
            size: 5000,
            content: Some(Content::Extents(vec![Extent::Data { id: ChunkId(*id), len: 5000 }])),
            ..Node::new(format!("some-file-{n:06}.rs").into_bytes(), NodeKind::File)
        }
    };
    dice.as_chunks::<32>().0.iter().enumerate().map(node).collect()
}

fn pages(nodes: &[Node]) -> Vec<(ChunkId, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut builder = TreeBuilder::new(&IdKeys::new(Secret::new([1; 32])));
    let mut out = |id, bytes| pages.push((id, bytes));
    nodes.iter().for_each(|node| builder.add(node, &mut out).unwrap());
    builder.finish(&mut out).unwrap();
    pages
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let nodes = nodes(10_000);
    bencher.counter(ItemsCount::new(nodes.len())).bench(|| pages(&nodes));
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let nodes = nodes(10_000);
    let pages = pages(&nodes);
    bencher
        .counter(ItemsCount::new(nodes.len()))
        .bench(|| pages.iter().map(|(id, bytes)| Page::decode(*id, bytes).unwrap()).collect::<Vec<_>>());
}
