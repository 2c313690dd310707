//! Pages of directory trees and content trees, and single nodes, as the file cache stores them.

#![no_main]

use bkfs_fuzz::encodes_back;
use bkfs_store::{
    base::{codec, id::ChunkId},
    format::tree::{Node, Page},
};
use minicbor::Encode;

fn encode<T: Encode<()>>(kind: u8, level: u8, entries: &[T]) -> Vec<u8> {
    let mut bytes = vec![kind, 1, level];
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| bytes.extend(codec::encode(entry)));
    bytes
}

/// Asserts that no length or count of entries is zero, and that their sum does not overflow.
fn counted(lens: impl Iterator<Item = u64>) {
    let sum = lens.map(|len| (len > 0).then_some(len)).try_fold(0u64, |sum, len| sum.checked_add(len?));
    assert!(sum.is_some(), "lengths out of bounds");
}

fn in_order<T>(entries: &[T], name: impl Fn(&T) -> &[u8]) {
    assert!(entries.is_sorted_by(|a, b| name(a) < name(b)));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(node) = codec::decode::<Node>("a node", data) {
        encodes_back(&node);
        let _ = (node.validate(false), node.validate(true));
    }
    let Ok(page) = Page::decode(ChunkId([0; 32]), data) else { return };
    assert!(data.len() <= 4 << 20 && page.level() <= 12);
    let (count, again) = match &page {
        Page::Nodes(nodes) => {
            nodes.iter().for_each(|node| node.validate(false).expect("a good node"));
            in_order(nodes, |node| &node.name);
            (nodes.len(), encode(b'D', 0, nodes))
        }
        Page::Dirs(level, children) => {
            counted(children.iter().map(|child| child.entries));
            in_order(children, |child| &child.first);
            (children.len(), encode(b'D', *level, children))
        }
        Page::Extents(extents) => {
            counted(extents.iter().map(|extent| extent.len()));
            (extents.len(), encode(b'F', 0, extents))
        }
        Page::Spans(level, children) => {
            counted(children.iter().map(|child| child.len));
            (children.len(), encode(b'F', *level, children))
        }
    };
    assert!(count <= 65_536);
    assert!(count > 0 || matches!(page, Page::Nodes(_)), "only the root of an empty directory has no entries");
    assert_eq!(Page::decode(ChunkId([0; 32]), &again).expect("what was encoded"), page);
});
