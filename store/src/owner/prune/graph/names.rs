//! Which number a page or snapshot has: sorted tables in blocks, searched by one read, and what is new in memory.
//!
//! An id is known by its first half. What is new goes into a table of its own when it is much; all are merged into one when
//! they are kept. In memory are sixteen bytes of every block of 170 names, and half a million new names at most.

use std::{
    collections::HashMap,
    iter::Peekable,
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use super::{
    super::blocks::{Blocks, List},
    Half,
};
use crate::base::error::Result;

const ROW: usize = 24;
/// Names in a block: about what the disk reads at once.
const ROWS: usize = 170;
/// New names in memory; more are sorted and put aside.
const FRESH: usize = 1 << 19;

/// All names.
pub(super) struct Names {
    folder: PathBuf,
    fresh: HashMap<Half, u64>,
    tables: Vec<Table>,
}

/// A sorted table of names.
struct Table {
    blocks: Blocks,
    /// The first name of each block.
    firsts: Vec<Half>,
}

/// A table as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct TableList {
    #[n(0)]
    blocks: List,
    #[cbor(n(1), with = "minicbor::bytes")]
    firsts: Vec<u8>,
}

impl Names {
    /// No names; `folder` is for what does not fit into memory.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), fresh: HashMap::new(), tables: Vec::new() }
    }

    /// The names in a file.
    pub fn open(folder: &Path, file: &Path, list: &TableList) -> Result<Self> {
        let table = Table::open(file, list)?;
        Ok(Self { tables: vec![table], ..Self::new(folder) })
    }

    /// The number of a name.
    pub fn get(&self, half: &Half) -> Result<Option<u64>> {
        if let Some(number) = self.fresh.get(half) {
            return Ok(Some(*number));
        }
        for table in &self.tables {
            if let Some(number) = table.get(half)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Adds a name.
    pub fn add(&mut self, half: Half, number: u64) -> Result<()> {
        self.fresh.insert(half, number);
        if self.fresh.len() >= FRESH { self.put_aside() } else { Ok(()) }
    }

    /// Makes a table of what is new.
    pub fn put_aside(&mut self) -> Result<()> {
        let rows = sorted(std::mem::take(&mut self.fresh));
        self.tables.push(Table::build(&self.folder, rows.into_iter().map(Ok))?);
        Ok(())
    }

    /// Merges all into one table in a file. Of each number, `renumber` says what becomes of it; none drops the name.
    pub fn merge_into(&mut self, file: &Path, renumber: impl Fn(u64) -> Option<u64>) -> Result<TableList> {
        let fresh = sorted(std::mem::take(&mut self.fresh));
        let mut sources: Vec<Peekable<Box<dyn Iterator<Item = Result<Row>> + '_>>> = Vec::new();
        for table in &self.tables {
            sources.push((Box::new(table.rows()) as Box<dyn Iterator<Item = _>>).peekable());
        }
        sources.push((Box::new(fresh.into_iter().map(Ok)) as Box<dyn Iterator<Item = _>>).peekable());
        let rows = Merge { sources }.filter_map(|row| match row {
            Ok((half, number)) => renumber(number).map(|number| Ok((half, number))),
            Err(error) => Some(Err(error)),
        });
        let mut table = Table::build(file, rows)?;
        table.blocks.write()?;
        let list = TableList { blocks: table.blocks.list(), firsts: table.firsts.concat() };
        self.tables = vec![table];
        Ok(list)
    }
}

type Row = (Half, u64);

fn sorted(fresh: HashMap<Half, u64>) -> Vec<Row> {
    let mut rows: Vec<Row> = fresh.into_iter().collect();
    rows.sort_unstable();
    rows
}

/// Sorted sources as one; no name is in two of them.
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

impl Table {
    fn build(path: &Path, rows: impl Iterator<Item = Result<Row>>) -> Result<Self> {
        let (mut blocks, mut firsts, mut open) = (Blocks::new(path), Vec::new(), Vec::with_capacity(ROWS * ROW));
        for row in rows {
            let (half, number) = row?;
            if open.is_empty() {
                firsts.push(half);
            }
            open.extend_from_slice(&half);
            open.extend_from_slice(&number.to_le_bytes());
            if open.len() == ROWS * ROW {
                blocks.add(std::mem::replace(&mut open, Vec::with_capacity(ROWS * ROW)))?;
            }
        }
        if !open.is_empty() {
            blocks.add(open)?;
        }
        Ok(Self { blocks, firsts })
    }

    fn open(file: &Path, list: &TableList) -> Result<Self> {
        let blocks = Blocks::open(file, &list.blocks)?;
        let (firsts, rest) = list.firsts.as_chunks::<16>();
        if firsts.len() != blocks.count() || !rest.is_empty() {
            return Err(super::damaged(file, "its first names do not fit its blocks"));
        }
        Ok(Self { blocks, firsts: firsts.to_vec() })
    }

    fn get(&self, half: &Half) -> Result<Option<u64>> {
        let Some(block) = self.firsts.partition_point(|first| first <= half).checked_sub(1) else { return Ok(None) };
        let bytes = self.blocks.read(block)?;
        let rows = bytes.as_chunks::<ROW>().0;
        let found = rows.binary_search_by(|row| row[..16].cmp(half));
        Ok(found.ok().map(|at| row_of(&rows[at]).1))
    }

    fn rows(&self) -> impl Iterator<Item = Result<Row>> + '_ {
        (0..self.blocks.count()).flat_map(|block| {
            let read = self.blocks.read(block);
            let rows: Vec<Result<Row>> = match read {
                Ok(bytes) => bytes.as_chunks::<ROW>().0.iter().map(|row| Ok(row_of(row))).collect(),
                Err(error) => vec![Err(error)],
            };
            rows
        })
    }
}

fn row_of(row: &[u8; ROW]) -> Row {
    let (mut half, mut number) = ([0; 16], [0; 8]);
    half.copy_from_slice(&row[..16]);
    number.copy_from_slice(&row[16..]);
    (half, u64::from_le_bytes(number))
}
