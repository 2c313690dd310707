//! Finds the entry of a page or snapshot by its id: sorted tables in blocks, and new names in memory.
//!
//! A search in a table reads one block. When there are many new names, they become a table of their own; all tables are
//! merged into one when the names are saved. In memory are sixteen bytes for every block of 170 names, and at most name
//! a million new names.

use std::{
    collections::HashMap,
    iter::Peekable,
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use super::super::blocks::{BlockFile, BlockList};
use crate::{base::error::Result, owner::references::IdPrefix};

/// Length of a row in bytes: a name and a number.
const ROW_LEN: usize = 24;
/// Rows in a block: 4 KiB, about what a disk reads at a time.
const ROWS_PER_BLOCK: usize = 170;
/// New names in memory at most. When there are that many, they become a table.
const NEW_MAX: usize = 1 << 19;

/// All names.
pub(super) struct NameIndex {
    folder: PathBuf,
    new: HashMap<IdPrefix, u64>,
    tables: Vec<NameTable>,
}

/// A sorted table of names.
struct NameTable {
    blocks: BlockFile,
    /// The first name of each block.
    firsts: Vec<IdPrefix>,
}

/// What the head stores of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct StoredTable {
    #[n(0)]
    blocks: BlockList,
    #[cbor(n(1), with = "minicbor::bytes")]
    firsts: Vec<u8>,
}

impl NameIndex {
    /// No names yet. `folder` is for what does not fit into memory.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), new: HashMap::new(), tables: Vec::new() }
    }

    /// Opens the names in a file.
    pub fn open(folder: &Path, file: &Path, stored: &StoredTable) -> Result<Self> {
        let table = NameTable::open(file, stored)?;
        Ok(Self { tables: vec![table], ..Self::new(folder) })
    }

    /// Returns the number of a name.
    pub fn get(&self, name: &IdPrefix) -> Result<Option<u64>> {
        if let Some(number) = self.new.get(name) {
            return Ok(Some(*number));
        }
        for table in &self.tables {
            if let Some(number) = table.get(name)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Adds a name.
    pub fn add(&mut self, name: IdPrefix, number: u64) -> Result<()> {
        self.new.insert(name, number);
        if self.new.len() >= NEW_MAX { self.flush() } else { Ok(()) }
    }

    /// Makes a table of the new names.
    pub fn flush(&mut self) -> Result<()> {
        let rows = sorted(std::mem::take(&mut self.new));
        self.tables.push(NameTable::build(&self.folder, rows.into_iter().map(Ok))?);
        Ok(())
    }

    /// Merges all names into one table in a file. `renumber` returns the new number for each number; none drops the
    /// name.
    pub fn merge_into(&mut self, file: &Path, renumber: impl Fn(u64) -> Option<u64>) -> Result<StoredTable> {
        let new = sorted(std::mem::take(&mut self.new));
        let mut sources: Vec<Peekable<Box<dyn Iterator<Item = Result<Row>> + '_>>> = Vec::new();
        for table in &self.tables {
            sources.push((Box::new(table.rows()) as Box<dyn Iterator<Item = _>>).peekable());
        }
        sources.push((Box::new(new.into_iter().map(Ok)) as Box<dyn Iterator<Item = _>>).peekable());
        let rows = Merge { sources }.filter_map(|row| match row {
            Ok((name, number)) => renumber(number).map(|number| Ok((name, number))),
            Err(error) => Some(Err(error)),
        });
        let mut table = NameTable::build(file, rows)?;
        table.blocks.write()?;
        let stored = StoredTable { blocks: table.blocks.list(), firsts: table.firsts.concat() };
        self.tables = vec![table];
        Ok(stored)
    }
}

type Row = (IdPrefix, u64);

fn sorted(new: HashMap<IdPrefix, u64>) -> Vec<Row> {
    let mut rows: Vec<Row> = new.into_iter().collect();
    rows.sort_unstable();
    rows
}

/// Merges sorted sources. No name is in two of them.
struct Merge<'a> {
    sources: Vec<Peekable<Box<dyn Iterator<Item = Result<Row>> + 'a>>>,
}

impl Iterator for Merge<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut least: Option<(usize, Row)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            match source.peek() {
                Some(Ok(row)) if least.is_none_or(|(_, found)| *row < found) => least = Some((at, *row)),
                Some(Err(_)) => return source.next(),
                _ => {}
            }
        }
        self.sources[least?.0].next()
    }
}

impl NameTable {
    fn build(path: &Path, rows: impl Iterator<Item = Result<Row>>) -> Result<Self> {
        let (mut blocks, mut firsts, mut open) =
            (BlockFile::new(path), Vec::new(), Vec::with_capacity(ROWS_PER_BLOCK * ROW_LEN));
        for row in rows {
            let (name, number) = row?;
            if open.is_empty() {
                firsts.push(name);
            }
            open.extend_from_slice(&name);
            open.extend_from_slice(&number.to_le_bytes());
            if open.len() == ROWS_PER_BLOCK * ROW_LEN {
                blocks.add(std::mem::replace(&mut open, Vec::with_capacity(ROWS_PER_BLOCK * ROW_LEN)))?;
            }
        }
        if !open.is_empty() {
            blocks.add(open)?;
        }
        Ok(Self { blocks, firsts })
    }

    fn open(file: &Path, stored: &StoredTable) -> Result<Self> {
        let blocks = BlockFile::open(file, &stored.blocks)?;
        let (firsts, rest) = stored.firsts.as_chunks::<16>();
        if firsts.len() != blocks.count() || !rest.is_empty() {
            return Err(blocks.damaged("its first names do not fit its blocks"));
        }
        Ok(Self { blocks, firsts: firsts.to_vec() })
    }

    fn get(&self, name: &IdPrefix) -> Result<Option<u64>> {
        let Some(block) = self.firsts.partition_point(|first| first <= name).checked_sub(1) else { return Ok(None) };
        let bytes = self.blocks.read(block)?;
        let rows = bytes.as_chunks::<ROW_LEN>().0;
        let found = rows.binary_search_by(|row| row[..16].cmp(name));
        Ok(found.ok().map(|at| row_of(&rows[at]).1))
    }

    fn rows(&self) -> impl Iterator<Item = Result<Row>> + '_ {
        (0..self.blocks.count()).flat_map(|block| {
            let read = self.blocks.read(block);
            let rows: Vec<Result<Row>> = match read {
                Ok(bytes) => bytes.as_chunks::<ROW_LEN>().0.iter().map(|row| Ok(row_of(row))).collect(),
                Err(error) => vec![Err(error)],
            };
            rows
        })
    }
}

fn row_of(row: &[u8; ROW_LEN]) -> Row {
    let (mut name, mut number) = ([0; 16], [0; 8]);
    name.copy_from_slice(&row[..16]);
    number.copy_from_slice(&row[16..]);
    (name, u64::from_le_bytes(number))
}
