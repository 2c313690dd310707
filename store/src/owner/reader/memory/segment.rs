//! A file of opened snapshots. It is written once.
//!
//! ```text
//! magic, 10 | random number, 16 | length of the sealed table, u64 | sealed table | sealed block ...
//! table := count, u64 | row ...
//! row   := id, 32 | facts | length of the record, u32
//! block := the records of 64 rows, one after another
//! ```
//!
//! The table is read when the file is opened, and a block when one of its records is needed. All of them are sealed
//! with the repository's id, the random number and their place, so that parts of two files do not fit together.

use std::{
    collections::HashSet,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::super::{facts::Facts, fields::Fields};
use crate::{
    base::{
        codec,
        id::{RepoId, SnapshotId},
    },
    crypto::{self, AeadKey, NONCE_LEN, TAG_LEN},
    format::snapshot::{Snapshot, StoredSnapshot},
};

/// Magic and version of both kinds of files. The version goes up whenever a snapshot's record has something new, or the
/// log means something new: what was remembered before lacks it.
pub(super) const MAGIC: [u8; 10] = *b"bkfsseen\x01\0";
/// The longest file that is read.
pub(super) const FILE_MAX: u64 = 1 << 32;
/// Rows to a block: to read one record opens about 30 KB, and 50,000 snapshots have 800 blocks.
const ROWS_PER_BLOCK: usize = 64;
/// Length of an encoded row in bytes.
const ROW_LEN: usize = 32 + Facts::LEN + 4;
/// Length of what precedes the table.
const HEAD_LEN: usize = MAGIC.len() + NUMBER_LEN + 8;
const NUMBER_LEN: usize = 16;
/// Bytes that a seal adds.
const SEAL_LEN: usize = NONCE_LEN + TAG_LEN;

/// A file of opened snapshots.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    number: [u8; NUMBER_LEN],
    repo: RepoId,
    rows: Vec<Row>,
    /// Where each block begins, and where the last one ends.
    blocks: Vec<u64>,
}

#[derive(Debug)]
struct Row {
    id: SnapshotId,
    facts: Facts,
    len: u32,
}

/// The records of a block.
pub(super) struct Records<'a> {
    rows: &'a [Row],
    first: usize,
    bytes: Vec<u8>,
}

impl Segment {
    /// Opens a file; none if it is not a whole file that was written with this key.
    pub fn open(path: &Path, key: &AeadKey, repo: RepoId) -> Option<Self> {
        let file = File::open(path).ok()?;
        let file_len = file.metadata().ok()?.len();
        let mut head = [0; HEAD_LEN];
        file.read_exact_at(&mut head, 0).ok()?;
        let mut fields = Fields::new(head.strip_prefix(&MAGIC)?);
        let (number, table_len) = (fields.array()?, fields.u64()?);
        let after_table = (HEAD_LEN as u64).checked_add(table_len)?;
        if file_len > FILE_MAX || after_table > file_len {
            return None;
        }
        let mut sealed = vec![0; usize::try_from(table_len).ok()?];
        file.read_exact_at(&mut sealed, HEAD_LEN as u64).ok()?;
        let rows = read_rows(&key.open(&sealed, &aad(repo, &number, None))?)?;
        let mut blocks = vec![after_table];
        for block in rows.chunks(ROWS_PER_BLOCK) {
            let len: u64 = block.iter().map(|row| u64::from(row.len)).sum();
            blocks.push(blocks.last()? + len + SEAL_LEN as u64);
        }
        let segment = Self { path: path.to_owned(), file, number, repo, rows, blocks };
        (segment.blocks.last() == Some(&file_len)).then_some(segment)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its file, after the last use.
    pub fn into_path(self) -> PathBuf {
        self.path
    }

    /// How many snapshots it holds.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The snapshots, in the order of their rows.
    pub fn ids(&self) -> impl Iterator<Item = SnapshotId> {
        self.rows.iter().map(|row| row.id)
    }

    /// What is remembered of the snapshot in a row.
    pub fn facts(&self, row: usize) -> &Facts {
        &self.rows[row].facts
    }

    /// The block that holds the record of a row.
    pub fn block_of(row: usize) -> usize {
        row / ROWS_PER_BLOCK
    }

    /// Reads and opens a block; none if it was damaged.
    pub fn block(&self, block: usize, key: &AeadKey) -> Option<Records<'_>> {
        let (start, end) = (*self.blocks.get(block)?, *self.blocks.get(block + 1)?);
        let mut sealed = vec![0; usize::try_from(end - start).ok()?];
        self.file.read_exact_at(&mut sealed, start).ok()?;
        let bytes = key.open(&sealed, &aad(self.repo, &self.number, Some(block)))?;
        let first = block * ROWS_PER_BLOCK;
        let rows = self.rows.get(first..)?;
        Some(Records { rows: &rows[..rows.len().min(ROWS_PER_BLOCK)], first, bytes })
    }

    /// Copies the snapshots that `is_live` to a new file, except those that cannot be read.
    pub fn copy_to(&self, writer: &mut SegmentWriter<'_>, key: &AeadKey, is_live: &dyn Fn(&SnapshotId) -> bool) {
        for block in (0..self.rows.len()).step_by(ROWS_PER_BLOCK).map(Self::block_of) {
            let Some(records) = self.block(block, key) else { continue };
            for (at, row) in records.rows.iter().enumerate().filter(|(_, row)| is_live(&row.id)) {
                if let Some(record) = records.get(records.first + at) {
                    writer.add(row.id, &row.facts, record);
                }
            }
        }
    }
}

impl Records<'_> {
    fn get(&self, row: usize) -> Option<&[u8]> {
        let (before, this) = self.rows.split_at_checked(row.checked_sub(self.first)?)?;
        let start: usize = before.iter().map(|row| row.len as usize).sum();
        self.bytes.get(start..start + this.first()?.len as usize)
    }

    /// Decodes the record of a row.
    pub fn decode(&self, row: usize) -> Option<Snapshot> {
        codec::decode("a remembered snapshot", self.get(row)?).ok()
    }
}

fn read_rows(table: &[u8]) -> Option<Vec<Row>> {
    let mut fields = Fields::new(table);
    let count = fields.count(ROW_LEN)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, facts, len) = (SnapshotId(fields.array()?), Facts::decode(&mut fields)?, fields.u32()?);
        if len as usize > StoredSnapshot::SIZE_MAX {
            return None;
        }
        rows.push(Row { id, facts, len });
    }
    fields.is_empty().then_some(rows)
}

/// The associated data of the table, or of a block.
fn aad(repo: RepoId, number: &[u8; NUMBER_LEN], block: Option<usize>) -> Vec<u8> {
    let place = block.map_or(u64::MAX, |block| block as u64);
    [&MAGIC[..], b"seen", &repo.0, number, &place.to_le_bytes()].concat()
}

/// Makes the bytes of a file.
pub(super) struct SegmentWriter<'a> {
    key: &'a AeadKey,
    repo: RepoId,
    number: [u8; NUMBER_LEN],
    ids: HashSet<SnapshotId>,
    rows: Vec<u8>,
    blocks: Vec<u8>,
    /// How many blocks are sealed.
    sealed: usize,
    open: Vec<u8>,
}

impl<'a> SegmentWriter<'a> {
    pub fn new(key: &'a AeadKey, repo: RepoId) -> Self {
        let ids = HashSet::new();
        let (rows, blocks, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { key, repo, number: crypto::random(), ids, rows, blocks, sealed: 0, open }
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds a snapshot, unless it was added before.
    pub fn add(&mut self, id: SnapshotId, facts: &Facts, record: &[u8]) {
        let Some(len) = u32::try_from(record.len()).ok().filter(|_| record.len() <= StoredSnapshot::SIZE_MAX) else {
            return;
        };
        if !self.ids.insert(id) {
            return;
        }
        self.rows.extend_from_slice(&id.0);
        facts.encode(&mut self.rows);
        self.rows.extend_from_slice(&len.to_le_bytes());
        self.open.extend_from_slice(record);
        if self.ids.len().is_multiple_of(ROWS_PER_BLOCK) {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let sealed = self.key.seal(&self.open, &aad(self.repo, &self.number, Some(self.sealed)));
        self.blocks.extend_from_slice(&sealed);
        self.sealed += 1;
        self.open.clear();
    }

    /// Returns the bytes of the file.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.ids.len().is_multiple_of(ROWS_PER_BLOCK) {
            self.end_block();
        }
        let table = [&(self.ids.len() as u64).to_le_bytes()[..], &self.rows].concat();
        let table = self.key.seal(&table, &aad(self.repo, &self.number, None));
        let table_len = (table.len() as u64).to_le_bytes();
        [&MAGIC[..], &self.number, &table_len, &table, &self.blocks].concat()
    }
}
