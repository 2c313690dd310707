//! A source in memory that accepts any tree.

use std::collections::HashMap;

use bkfs_store::{
    Error, Result,
    base::{
        id::{ChunkId, HardLinkGroup},
        time::Time,
    },
    format::tree::{Content, Device, Extent, Node, NodeKind, Subtree, Totals, Xattr},
};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::restore::source::RestoreSource;

/// Called before chunks are returned.
type Hook = Box<dyn Fn(&[ChunkId]) -> Result<()> + Send + Sync>;

#[derive(Default)]
pub struct Fake {
    folders: HashMap<ChunkId, Vec<Node>>,
    contents: HashMap<ChunkId, Vec<Extent>>,
    pub chunks: HashMap<ChunkId, Bytes>,
    pub hook: Option<Hook>,
    /// The ids of each request.
    pub reads: Mutex<Vec<Vec<ChunkId>>>,
    /// Requests for more than one chunk fail.
    pub many_fail: bool,
    /// Contents are stored in an order unrelated to that of the tree.
    pub is_scattered: bool,
    next: u64,
}

/// Part of a file.
pub enum Piece {
    Data(Vec<u8>),
    Hole(u64),
}

pub fn node(name: impl AsRef<[u8]>, kind: NodeKind) -> Node {
    Node {
        mode: if kind == NodeKind::Directory { 0o755 } else { 0o644 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Time { secs: 1_000_000_000, nanos: 123_456_789 },
        ..Node::new(name.as_ref(), kind)
    }
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Node {
    Node { target: Some(target.as_ref().to_vec()), ..node(name, NodeKind::Symlink) }
}

pub fn device(name: &str, kind: NodeKind, major: u32, minor: u32) -> Node {
    Node { device: Some(Device { major, minor }), ..node(name, kind) }
}

pub fn inline(name: impl AsRef<[u8]>, bytes: &[u8]) -> Node {
    Node { size: bytes.len() as u64, content: Some(Content::Inline(bytes.to_vec())), ..node(name, NodeKind::File) }
}

pub fn linked(node: Node, group: u8, links: u32) -> Node {
    Node {
        hard_link: Some(HardLinkGroup::from_slice(&[group; HardLinkGroup::LEN]).unwrap()),
        links: Some(links),
        ..node
    }
}

pub fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.to_vec() }
}

impl Fake {
    fn id(&mut self) -> ChunkId {
        self.next += 1;
        let mut id = ChunkId::default();
        id.0[..8].copy_from_slice(&self.next.to_be_bytes());
        id
    }

    pub fn folder(&mut self, name: impl AsRef<[u8]>, nodes: Vec<Node>) -> Node {
        let id = self.id();
        let mut totals = Totals::default();
        nodes.iter().for_each(|node| totals.add(node));
        let entries = nodes.len() as u64;
        self.folders.insert(id, nodes);
        Node { subtree: Some(Subtree { id, entries, totals }), ..node(name, NodeKind::Directory) }
    }

    /// Adds a file with these extents, in a content tree if there are many.
    pub fn file(&mut self, name: impl AsRef<[u8]>, pieces: &[Piece]) -> Node {
        let mut extents = Vec::new();
        for piece in pieces {
            extents.push(match piece {
                Piece::Hole(len) => Extent::Hole { len: *len },
                Piece::Data(bytes) => {
                    let id = self.id();
                    self.chunks.insert(id, Bytes::from(bytes.clone()));
                    Extent::Data { id, len: bytes.len() as u32 }
                }
            });
        }
        let size = extents.iter().map(Extent::len).sum();
        let content = if extents.len() <= Content::EXTENTS_MAX {
            Content::Extents(extents)
        } else {
            let id = self.id();
            self.contents.insert(id, extents);
            Content::Tree(id)
        };
        Node { size, content: Some(content), ..node(name, NodeKind::File) }
    }
}

impl RestoreSource for Fake {
    fn nodes(&self, subtree: &Subtree, from: u64, limit: usize) -> Result<Vec<Node>> {
        let nodes = self.folders.get(&subtree.id).ok_or(Error::ChunkMissing { id: subtree.id })?;
        Ok(nodes.iter().skip(from as usize).take(limit).cloned().collect())
    }

    fn lookup(&self, subtree: &Subtree, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.folders.get(&subtree.id).and_then(|nodes| nodes.iter().find(|node| node.name == name)).cloned())
    }

    fn extents(&self, node: &Node, offset: u64, len: u64) -> Result<Vec<(u64, Extent)>> {
        let extents = match &node.content {
            Some(Content::Extents(extents)) => extents,
            Some(Content::Tree(id)) => self.contents.get(id).ok_or(Error::ChunkMissing { id: *id })?,
            _ => return Ok(Vec::new()),
        };
        let mut start = 0;
        let mut found = Vec::new();
        for extent in extents {
            if start + extent.len() > offset && start < offset + len {
                found.push((start, *extent));
            }
            start += extent.len();
        }
        Ok(found)
    }

    /// Four chunks to a frame.
    fn storage_order(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        let number = |id: &ChunkId| u64::from_be_bytes(*id.0.first_chunk().unwrap());
        Ok(ids.iter().map(|id| if self.is_scattered { number(id) * 7919 % 101 } else { number(id) / 4 }).collect())
    }

    fn data(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        if let Some(hook) = &self.hook {
            hook(ids)?;
        }
        if self.many_fail && ids.len() > 1 {
            return Err(Error::Invalid("too much".into()));
        }
        self.reads.lock().push(ids.to_vec());
        ids.iter().map(|id| self.chunks.get(id).cloned().ok_or(Error::ChunkMissing { id: *id })).collect()
    }
}
