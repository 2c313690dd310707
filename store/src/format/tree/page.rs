//! Pages: the parts of directory trees and content trees.
//!
//! ```text
//! page := kind u8 | version u8 | level u8 | entry count u32, little-endian | the entries, CBOR, one after another
//! ```
//!
//! | kind | level 0 | levels above |
//! |---|---|---|
//! | `D`, a directory | nodes, in ascending order of their names | [`DirChild`], in ascending order of first names |
//! | `F`, a file's contents | extents, in their order | [`SpanChild`], in their order |
//!
//! Decoding checks everything that readers rely on. A page that breaks a rule is an error, not a panic.

use minicbor::{Decode, Decoder, Encode, Encoder};

use super::node::{Extent, Node};
use crate::base::{
    error::{Error, Result},
    id::ChunkId,
};

/// The largest page in bytes. Builders cut far below it, but a single node with large attributes may need this much.
pub const PAGE_MAX: usize = 4 * 1024 * 1024;
/// The highest level of a page. With at least 16 entries per page, it spans 16^12 entries.
pub const LEVEL_MAX: u8 = 12;
/// Maximum number of entries in a page.
pub const ENTRIES_MAX: u32 = 1 << 16;

const HEADER: usize = 7;
const VERSION: u8 = 1;

/// The kind of tree that a page is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// A directory tree.
    Directory,
    /// A content tree.
    File,
}

/// A child of an index page of a directory tree.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DirChild {
    /// The name of the first node below it.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub first: Vec<u8>,
    /// The page.
    #[n(1)]
    pub id: ChunkId,
    /// The number of nodes below it.
    #[n(2)]
    pub entries: u64,
}

/// A child of an index page of a content tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SpanChild {
    /// The page.
    #[n(0)]
    pub id: ChunkId,
    /// The number of bytes of the file below it.
    #[n(1)]
    pub len: u64,
}

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Nodes of a directory.
    Nodes(Vec<Node>),
    /// Children of an index page of a directory tree. The level is at least 1.
    Dirs(u8, Vec<DirChild>),
    /// Extents of a file.
    Extents(Vec<Extent>),
    /// Children of an index page of a content tree. The level is at least 1.
    Spans(u8, Vec<SpanChild>),
}

impl Page {
    /// Decodes a page and checks its rules.
    pub fn decode(id: ChunkId, bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).map_err(|reason| Error::damaged(format!("tree page {id}"), reason))
    }

    /// Returns the page's level: 0 for leaves.
    pub fn level(&self) -> u8 {
        match self {
            Page::Nodes(_) | Page::Extents(_) => 0,
            Page::Dirs(level, _) | Page::Spans(level, _) => *level,
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (header, body) = bytes.split_at_checked(HEADER).ok_or("it is shorter than its header")?;
        if bytes.len() > PAGE_MAX {
            return Err("it is too large".into());
        }
        if header[1] != VERSION {
            return Err(format!("its version is {}, but this program reads version {VERSION}", header[1]));
        }
        let (level, count) = (header[2], u32::from_le_bytes([header[3], header[4], header[5], header[6]]));
        let may_be_empty = (header[0], level) == (b'D', 0);
        if level > LEVEL_MAX || count > ENTRIES_MAX || (count == 0 && !may_be_empty) {
            return Err("its level or count is out of bounds".into());
        }
        match (header[0], level) {
            (b'D', 0) => {
                let nodes: Vec<Node> = entries(body, count)?;
                nodes.iter().try_for_each(|n| n.validate(false))?;
                ascending(nodes.iter().map(|n| &n.name))?;
                Ok(Page::Nodes(nodes))
            }
            (b'D', _) => {
                let children: Vec<DirChild> = entries(body, count)?;
                ascending(children.iter().map(|c| &c.first))?;
                sum(children.iter().map(|c| c.entries))?;
                Ok(Page::Dirs(level, children))
            }
            (b'F', 0) => {
                let extents: Vec<Extent> = entries(body, count)?;
                sum(extents.iter().map(Extent::len))?;
                Ok(Page::Extents(extents))
            }
            (b'F', _) => {
                let children: Vec<SpanChild> = entries(body, count)?;
                sum(children.iter().map(|c| c.len))?;
                Ok(Page::Spans(level, children))
            }
            _ => Err("its kind is unknown".into()),
        }
    }
}

fn entries<'b, T: Decode<'b, ()>>(body: &'b [u8], count: u32) -> Result<Vec<T>, String> {
    let mut decoder = Decoder::new(body);
    // The capacity is only a hint, and stays small if the count is wrong.
    let mut entries = Vec::with_capacity((count as usize).min(body.len() / 16 + 1));
    for _ in 0..count {
        entries.push(decoder.decode().map_err(|e| e.to_string())?);
    }
    if decoder.position() == body.len() { Ok(entries) } else { Err("bytes follow its last entry".into()) }
}

fn ascending<'a>(names: impl Iterator<Item = &'a Vec<u8>>) -> Result<(), String> {
    if names.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err("its names are out of order".into()) }
}

fn sum(mut lens: impl Iterator<Item = u64>) -> Result<u64, String> {
    lens.try_fold(0u64, |sum, len| sum.checked_add(len).filter(|_| len > 0))
        .ok_or_else(|| "its lengths are out of bounds".to_owned())
}

/// Writes one page, entry by entry.
#[derive(Debug)]
pub(crate) struct PageWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl PageWriter {
    /// Returns a page without entries.
    pub fn new(kind: PageKind, level: u8) -> Self {
        let kind = match kind {
            PageKind::Directory => b'D',
            PageKind::File => b'F',
        };
        Self { bytes: vec![kind, VERSION, level, 0, 0, 0, 0], count: 0 }
    }

    /// Adds an entry.
    pub fn add<T: Encode<()>>(&mut self, entry: &T) {
        Encoder::new(&mut self.bytes).encode(entry).expect("encoding into memory");
        self.count += 1;
    }

    /// Returns the number of entries.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the page's bytes, and begins another page of the same kind and level.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(HEADER));
        self.bytes.extend_from_slice(&bytes[..HEADER]);
        bytes[3..HEADER].copy_from_slice(&self.count.to_le_bytes());
        self.count = 0;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_with_a_wrong_count_is_refused() {
        let mut page = PageWriter::new(PageKind::File, 0);
        page.add(&Extent::Hole { len: 5 });
        let mut bytes = page.take();
        assert_eq!(Page::parse(&bytes), Ok(Page::Extents(vec![Extent::Hole { len: 5 }])));
        for count in [0u8, 2, 255] {
            bytes[3] = count;
            assert!(Page::parse(&bytes).is_err(), "{count}");
        }
    }

    #[test]
    fn only_an_empty_directory_has_a_page_without_entries() {
        assert_eq!(Page::parse(&PageWriter::new(PageKind::Directory, 0).take()), Ok(Page::Nodes(vec![])));
        for (kind, level) in [(PageKind::Directory, 1), (PageKind::File, 0), (PageKind::File, 1)] {
            assert!(Page::parse(&PageWriter::new(kind, level).take()).is_err(), "{kind:?} {level}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            kind in prop::sample::select(vec![b'D', b'F', b'X']), level in 0u8..3, rest: Vec<u8>,
        ) {
            let mut bytes = vec![kind, VERSION, level];
            bytes.extend(rest);
            let _ = Page::parse(&bytes);
        }
    }
}
