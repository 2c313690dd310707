//! The pages of an LMDB data file, read without trusting them. The layout is that of LMDB 0.9 on machines of 64 bits,
//! in the machine's byte order.
//!
//! ```text
//! page       number u64 | key size u16 | flags u16 | lower u16, upper u16 (or length of an overflow u32)
//!            | offset of each node u16 ... free ... nodes
//! meta page  header 16 | magic u32 | version u32 | address u64 | map size u64 | free tree 48 | main tree 48
//!            | last page u64 | transaction u64
//! tree       key size or page size u32 | flags u16 | depth u16 | branch, leaf and overflow pages u64 | entries u64
//!            | root u64
//! node       in a branch: child u48 | key size u16 | key
//!            in a leaf: data size u32 | flags u16 | key size u16 | key | data
//! ```

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::error::EnvError;
use crate::base::error::Error;

pub(super) const HEADER: usize = 16;
const NODE_HEADER: usize = 8;
/// Length of a tree's description.
pub(super) const TREE: usize = 48;
/// The root of an empty tree.
pub(super) const NO_ROOT: u64 = u64::MAX;
/// LMDB's cursors hold this many levels.
const DEPTH_MAX: u16 = 32;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const OVERFLOW: u16 = 0x04;
const META: u16 = 0x08;
pub(super) const DIRTY: u16 = 0x10;
pub(super) const FIXED: u16 = 0x20;
pub(super) const SUB_PAGE: u16 = 0x40;

pub(super) const BIG_DATA: u16 = 0x01;
pub(super) const SUB_TREE: u16 = 0x02;
pub(super) const DUPLICATES: u16 = 0x04;

/// Flags of a tree: several values of one length for each key.
pub(super) const TREE_DUPLICATES: u16 = 0x14;
/// Flags of the tree of such values.
pub(super) const TREE_FIXED: u16 = 0x10;
/// Flags of the free tree: its keys are numbers.
const TREE_NUMBERS: u16 = 0x08;
/// Flags that neither tree of a meta page has: a fixed address, other orders of keys and values, several values.
const TREE_OTHERS: u16 = 0x77;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    Damage(String),
    Io(io::Error),
    Lmdb(heed::Error),
}

impl Fault {
    /// Sorts the fault. What cannot be read counts as damage.
    pub fn sort(self, folder: &Path) -> EnvError {
        match self {
            Fault::Damage(reason) => EnvError::Damage(reason),
            Fault::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                EnvError::Damage("it is cut off".into())
            }
            Fault::Io(error) => match Error::io(folder, error) {
                error if error.is_unreadable() => EnvError::Damage(error.to_string()),
                error => EnvError::Other(error),
            },
            Fault::Lmdb(error) => EnvError::new(folder, error),
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

pub(super) fn damage<T>(reason: impl Into<String>) -> Result<T> {
    Err(Fault::Damage(reason.into()))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    number(bytes, at).map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    number(bytes, at).map(u32::from_ne_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    number(bytes, at).map(u64::from_ne_bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map_or_else(|| damage("a number in it is cut off"), Ok)
}

/// A tree, as a meta page or a node describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub pad: u32,
    pub flags: u16,
    pub depth: u16,
    pub entries: u64,
    pub root: u64,
}

impl Tree {
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let tree = Tree {
            pad: u32_at(bytes, 0)?,
            flags: u16_at(bytes, 4)?,
            depth: u16_at(bytes, 6)?,
            entries: u64_at(bytes, 32)?,
            root: u64_at(bytes, 40)?,
        };
        let is_empty = (tree.root == NO_ROOT, tree.depth == 0, tree.entries == 0);
        match is_empty {
            (true, true, true) => Ok(tree),
            (false, false, false) if tree.depth < DEPTH_MAX => Ok(tree),
            _ => damage("a tree in it has a wrong description"),
        }
    }
}

/// A meta page: where one of the two newest transactions left everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub page_bytes: usize,
    pub free: Tree,
    pub main: Tree,
    /// How many pages are in use or free. The file may be shorter if the last ones are free.
    pub pages: u64,
    pub transaction: u64,
}

impl Meta {
    fn parse(bytes: &[u8], map_bytes: usize) -> Result<Self> {
        if u16_at(bytes, 10)? != META || u32_at(bytes, 16)? != MAGIC || u32_at(bytes, 20)? != VERSION {
            return damage("it is not an LMDB file");
        }
        let tree = |at: usize| Tree::parse(&bytes[at..at + TREE]);
        let (free, main) = (tree(40)?, tree(88)?);
        let (last, transaction) = (u64_at(bytes, 136)?, u64_at(bytes, 144)?);
        let page_bytes = free.pad as usize;
        let is_page = page_bytes.is_power_of_two() && (4096..=32768).contains(&page_bytes);
        let is_in_map = last.checked_add(1).is_some_and(|n| n <= (map_bytes / page_bytes.max(1)) as u64);
        let is_fixed = u64_at(bytes, 24)? != 0;
        let are_flags_right = free.flags & (TREE_NUMBERS | TREE_OTHERS) == TREE_NUMBERS
            && main.flags & (TREE_NUMBERS | TREE_OTHERS) == 0
            && main.pad == 0;
        if !is_page || !is_in_map || last < 1 || is_fixed || !are_flags_right || transaction > u64::MAX >> 2 {
            return damage("a page at its beginning is wrong");
        }
        Ok(Meta { page_bytes, free, main, pages: last + 1, transaction })
    }
}

/// Reads both meta pages. LMDB reads and believes them when it opens the file.
pub(super) fn check_metas(file: &File, map_bytes: usize) -> Result<()> {
    let first = meta(file, 0, map_bytes)?;
    let second = meta(file, first.page_bytes as u64, map_bytes)?;
    if first.page_bytes != second.page_bytes {
        return damage("the pages at its beginning differ");
    }
    // LMDB maps both whole.
    file.read_exact_at(&mut [0], 2 * first.page_bytes as u64 - 1).map_err(Fault::Io)
}

/// Reads the meta page that a transaction wrote.
pub(super) fn meta_of(file: &File, transaction: u64, map_bytes: usize) -> Result<Meta> {
    let first = meta(file, 0, map_bytes)?;
    if transaction.is_multiple_of(2) { Ok(first) } else { meta(file, first.page_bytes as u64, map_bytes) }
}

fn meta(file: &File, offset: u64, map_bytes: usize) -> Result<Meta> {
    let (mut bytes, mut again) = ([0; 152], [0; 152]);
    loop {
        file.read_exact_at(&mut bytes, offset).map_err(Fault::Io)?;
        file.read_exact_at(&mut again, offset).map_err(Fault::Io)?;
        // Another process may be writing it.
        if bytes == again {
            return Meta::parse(&bytes, map_bytes);
        }
    }
}

/// A node of a branch or leaf page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub key: &'a [u8],
    /// In a leaf: its flags, the length of its data, and the data itself or, if they are [`BIG_DATA`], the number of
    /// the page where they begin.
    pub flags: u16,
    pub data_len: usize,
    pub data: &'a [u8],
    /// In a branch: the page below.
    pub child: u64,
}

/// The nodes of a branch or leaf page. They lie one after another at the end of the page, without gaps: LMDB moves them
/// about by their sizes.
pub(super) fn nodes(page: &[u8], is_leaf: bool) -> Result<Vec<Node<'_>>> {
    let (lower, upper) = (usize::from(u16_at(page, 12)?), usize::from(u16_at(page, 14)?));
    if lower < HEADER || !lower.is_multiple_of(2) || upper < lower || upper > page.len() {
        return damage("a page has wrong bounds");
    }
    let (mut nodes, mut spans) = (Vec::new(), Vec::new());
    for at in (HEADER..lower).step_by(2) {
        let start = usize::from(u16_at(page, at)?);
        let (low, high, flags) = (u16_at(page, start)?, u16_at(page, start + 2)?, u16_at(page, start + 4)?);
        let key_at = start + NODE_HEADER;
        let data_at = key_at + usize::from(u16_at(page, start + 6)?);
        let data_len = (usize::from(high) << 16) | usize::from(low);
        let len = match (is_leaf, flags & BIG_DATA) {
            (false, _) => 0,
            (true, 0) => data_len,
            (true, _) => 8,
        };
        let (Some(key), Some(data)) = (page.get(key_at..data_at), page.get(data_at..data_at + len)) else {
            return damage("an entry of a page is cut off");
        };
        let child = u64::from(low) | u64::from(high) << 16 | u64::from(flags) << 32;
        nodes.push(Node { key, flags, data_len, data, child });
        spans.push((start, (data_at + len).next_multiple_of(2)));
    }
    spans.sort_unstable();
    let mut at = upper;
    for (start, end) in spans {
        if start != at {
            return damage("entries of a page overlap");
        }
        at = end;
    }
    if at != page.len() { damage("a page has a gap") } else { Ok(nodes) }
}

/// The values of a page or sub-page whose values all have one length.
pub(super) fn fixed_values(page: &[u8]) -> Result<impl Iterator<Item = &[u8]>> {
    let size = usize::from(u16_at(page, 8)?);
    let (lower, upper) = (usize::from(u16_at(page, 12)?), usize::from(u16_at(page, 14)?));
    let count = lower.saturating_sub(HEADER) / 2;
    let end = HEADER + count * size;
    let is_right = size > 0 && lower == HEADER + 2 * count && end <= page.len();
    if !is_right || count == 0 || upper != lower + page.len() - end {
        return damage("a page of values has wrong bounds");
    }
    Ok(page[HEADER..end].chunks_exact(size))
}
