//! A walk through everything that LMDB can reach in a data file.
//!
//! It finds whatever could make LMDB read or write where it must not: pages that are beyond the end of the file, in use
//! twice or of the wrong kind, nodes that leave their page, trees of a wrong depth, and free pages that are in use. It
//! also finds keys that are out of order, which a search would not find, and trees that lost entries. It does not know
//! what values mean.
//!
//! The walk reads the file, not the map, so no page can surprise it. It sees what one transaction sees: others may
//! write meanwhile.

use std::{fs::File, os::unix::fs::FileExt};

use heed::{Env, WithoutTls};
use rustix::fs::Advice;

use super::pages::{
    self, BIG_DATA, BRANCH, DIRTY, DUPLICATES, FIXED, Fault, HEADER, LEAF, Meta, NO_ROOT, Node, OVERFLOW, Result,
    SUB_PAGE, SUB_TREE, TREE, TREE_DUPLICATES, TREE_FIXED, Tree, damage, fixed_values, nodes, u16_at, u32_at, u64_at,
};

/// A table of an environment.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Whether a key has several values, all of one length.
    pub has_duplicates: bool,
}

/// What the values of a tree are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Lists of free pages.
    Free,
    /// Tables.
    Tables,
    /// Bytes.
    Plain,
    /// Several of one length.
    Duplicates,
    /// None: its keys are the values of a key of a table with duplicates.
    None,
}

/// Visits all that a transaction which begins now can reach.
pub(super) fn walk(file: &File, env: &Env<WithoutTls>, tables: &[Table<'_>]) -> Result<()> {
    loop {
        let txn = env.read_txn().map_err(Fault::Lmdb)?;
        let (transaction, map_bytes) = (txn.id() as u64, env.info().map_size);
        let meta = pages::meta_of(file, transaction, map_bytes)?;
        if meta.transaction == transaction {
            return walk_from(file, &meta, tables);
        }
        // Two commits of another process were faster than the transaction's beginning.
        if meta.transaction < transaction || !(meta.transaction - transaction).is_multiple_of(2) {
            return damage("a page at its beginning is wrong");
        }
        let newer = env.read_txn().map_err(Fault::Lmdb)?;
        if newer.id() as u64 == transaction {
            return damage("a page at its beginning is wrong");
        }
    }
}

fn walk_from(file: &File, meta: &Meta, tables: &[Table<'_>]) -> Result<()> {
    // A disk reads a file faster from end to end than in the order of its keys.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::WillNeed);
    let used = vec![0; (meta.pages as usize).div_ceil(64)];
    let mut walk = Walk { file, page_bytes: meta.page_bytes, pages: meta.pages, used, tables: Vec::new() };
    walk.tree(&meta.free, Values::Free)?;
    walk.tree(&meta.main, Values::Tables)?;
    let found = std::mem::take(&mut walk.tables);
    if found.is_empty() {
        // It was being created.
        return Ok(());
    }
    for table in tables {
        let Some((_, tree)) = found.iter().find(|(name, _)| name == table.name.as_bytes()) else {
            return damage(format!("it has no table {:?}", table.name));
        };
        let (flags, values) = match table.has_duplicates {
            true => (TREE_DUPLICATES, Values::Duplicates),
            false => (0, Values::Plain),
        };
        if tree.flags != flags {
            return damage(format!("its table {:?} is of another kind", table.name));
        }
        walk.tree(tree, values)?;
    }
    if found.len() != tables.len() { damage("it has a table too many") } else { Ok(()) }
}

struct Walk<'a> {
    file: &'a File,
    page_bytes: usize,
    pages: u64,
    /// A bit for each page that is in use or free.
    used: Vec<u64>,
    tables: Vec<(Vec<u8>, Tree)>,
}

impl Walk<'_> {
    fn tree(&mut self, tree: &Tree, values: Values) -> Result<()> {
        if tree.root == NO_ROOT {
            return Ok(());
        }
        let entries = self.page(tree.root, tree.depth, values, (None, None))?;
        if entries == tree.entries { Ok(()) } else { damage("a tree in it has lost entries") }
    }

    /// Visits a page and all below it. Returns how many entries there are. Keys are within the bounds: not below the
    /// first, and below the second.
    fn page(&mut self, number: u64, depth: u16, values: Values, bounds: (Option<&[u8]>, Option<&[u8]>)) -> Result<u64> {
        self.take(number, 1)?;
        let page = self.read(number, self.page_bytes)?;
        if u64_at(&page, 0)? != number {
            return damage("a page is in another's place");
        }
        let mut order = Order { values, last: bounds.0.map(<[u8]>::to_vec), end: bounds.1, is_first: true };
        let mut entries = 0;
        match (u16_at(&page, 10)?, depth) {
            (BRANCH, 2..) => {
                let nodes = nodes(&page, false)?;
                if nodes.len() < 2 {
                    return damage("a page has too few entries");
                }
                for (i, node) in nodes.iter().enumerate() {
                    if i > 0 {
                        order.next(node.key)?;
                    }
                    let low = if i == 0 { bounds.0 } else { Some(node.key) };
                    let high = nodes.get(i + 1).map_or(bounds.1, |next| Some(next.key));
                    entries += self.page(node.child, depth - 1, values, (low, high))?;
                }
            }
            (LEAF, 1) if values != Values::None => {
                for node in nodes(&page, true)? {
                    order.next(node.key)?;
                    entries += self.entry(&node, values)?;
                }
            }
            (kind, 1) if kind == LEAF | FIXED && values == Values::None => {
                for value in fixed_values(&page)? {
                    order.next(value)?;
                    entries += 1;
                }
            }
            _ => return damage("a page is of the wrong kind"),
        }
        if entries == 0 { damage("a page is empty") } else { Ok(entries) }
    }

    /// Visits what belongs to a node of a leaf. Returns how many entries it counts for.
    fn entry(&mut self, node: &Node<'_>, values: Values) -> Result<u64> {
        if node.key.is_empty() || node.key.len() > self.page_bytes / 2 {
            return damage("a key has a wrong length");
        }
        match (values, node.flags) {
            (Values::Free, 0 | BIG_DATA) => {
                let list = self.value(node)?;
                self.free_pages(&list)?;
            }
            (Values::Plain, 0) => {}
            (Values::Plain, BIG_DATA) => drop(self.overflow(node)?),
            (Values::Tables, SUB_TREE) if node.data_len == TREE => {
                self.tables.push((node.key.to_vec(), Tree::parse(node.data)?));
            }
            (Values::Duplicates, 0) => {}
            (Values::Duplicates, DUPLICATES) => {
                if u16_at(node.data, 10)? != LEAF | DIRTY | FIXED | SUB_PAGE {
                    return damage("a page is of the wrong kind");
                }
                let mut order = Order { values: Values::None, last: None, end: None, is_first: true };
                let mut entries = 0;
                for value in fixed_values(node.data)? {
                    order.next(value)?;
                    entries += 1;
                }
                return Ok(entries);
            }
            (Values::Duplicates, flags) if flags == DUPLICATES | SUB_TREE && node.data_len == TREE => {
                let tree = Tree::parse(node.data)?;
                if tree.flags != TREE_FIXED || tree.root == NO_ROOT {
                    return damage("a tree of values is of another kind");
                }
                self.tree(&tree, Values::None)?;
                return Ok(tree.entries);
            }
            _ => return damage("an entry is of the wrong kind"),
        }
        Ok(1)
    }

    /// A node's value, wherever it is.
    fn value(&mut self, node: &Node<'_>) -> Result<Vec<u8>> {
        if node.flags & BIG_DATA == 0 {
            return Ok(node.data.to_vec());
        }
        let first = self.overflow(node)?;
        let mut bytes = self.read(first, HEADER + node.data_len)?;
        Ok(bytes.split_off(HEADER))
    }

    /// Visits the pages of a long value. Returns the first.
    fn overflow(&mut self, node: &Node<'_>) -> Result<u64> {
        let first = u64_at(node.data, 0)?;
        let need = (HEADER + node.data_len).div_ceil(self.page_bytes) as u64;
        self.take(first, 1)?;
        let head = self.read(first, HEADER)?;
        let count = u64::from(u32_at(&head, 12)?);
        if u64_at(&head, 0)? != first || u16_at(&head, 10)? != OVERFLOW || count < need {
            return damage("a long value has a wrong beginning");
        }
        if count > 1 {
            self.take(first + 1, count - 1)?;
        }
        // All of them must be in the file.
        self.file.read_exact_at(&mut [0], (first + need) * self.page_bytes as u64 - 1).map_err(Fault::Io)?;
        Ok(first)
    }

    /// A list of free pages: their count, and their numbers, from the highest.
    fn free_pages(&mut self, list: &[u8]) -> Result<()> {
        let count = u64_at(list, 0)?;
        if count >= (list.len() / 8) as u64 {
            return damage("a list of free pages is cut off");
        }
        let mut before = u64::MAX;
        for at in 1..=count as usize {
            let number = u64_at(list, 8 * at)?;
            if number >= before {
                return damage("a list of free pages is out of order");
            }
            self.take(number, 1)?;
            before = number;
        }
        Ok(())
    }

    /// Notes pages as in use or free.
    fn take(&mut self, first: u64, count: u64) -> Result<()> {
        let end = first.checked_add(count).filter(|end| first >= 2 && *end <= self.pages);
        let Some(end) = end else { return damage("it names a page that it does not have") };
        for number in first..end {
            let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
            if self.used[word] & bit != 0 {
                return damage("a page is in use twice");
            }
            self.used[word] |= bit;
        }
        Ok(())
    }

    fn read(&self, page: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, page * self.page_bytes as u64).map_err(Fault::Io)?;
        Ok(bytes)
    }
}

/// The order of keys.
struct Order<'a> {
    values: Values,
    last: Option<Vec<u8>>,
    end: Option<&'a [u8]>,
    is_first: bool,
}

impl Order<'_> {
    /// The next key. It may equal the lower bound only if it is the first.
    fn next(&mut self, key: &[u8]) -> Result<()> {
        if self.values == Values::Free && key.len() != 8 {
            return damage("a key has a wrong length");
        }
        let is_above = self.last.as_deref().is_none_or(|last| match self.is_first {
            true => !self.is_below(key, last),
            false => self.is_below(last, key),
        });
        if !is_above || self.end.is_some_and(|end| !self.is_below(key, end)) {
            return damage("keys are out of order");
        }
        self.is_first = false;
        match &mut self.last {
            Some(last) => {
                last.clear();
                last.extend_from_slice(key);
            }
            last => *last = Some(key.to_vec()),
        }
        Ok(())
    }

    fn is_below(&self, a: &[u8], b: &[u8]) -> bool {
        match (self.values, a.try_into(), b.try_into()) {
            (Values::Free, Ok(a), Ok(b)) => u64::from_ne_bytes(a) < u64::from_ne_bytes(b),
            _ => a < b,
        }
    }
}

#[cfg(test)]
mod tests;
