//! Where chunks are: a row for each copy, in two tables.
//!
//! Ids are random, so the rows of one pack go all over a table. A pack of many small chunks would change every page of
//! a large table, and writing it down would cost more the larger the repository is. So new rows go to a small table
//! first. When that is full, its rows move to the large table in the order of their keys, some at a time, and each page
//! changes once for many packs. A row is in one of the two tables, and every look-up looks into both.

use heed::{
    Database, RoTxn, RwTxn, WithoutTls,
    types::{Bytes, Unit},
};

use super::tables::Tables;
use crate::base::id::ChunkId;

/// How many rows may wait in the small table: about 10 MB, and as many as a few packs of very small chunks have.
const FRESH_MAX: u64 = 256 * 1024;
/// How many rows move in one transaction, which holds at worst a page of the large table for each of them: 32 MB.
pub(super) const STEP: usize = 8 * 1024;
/// How many bytes of an id a row holds.
const ID_LEN: usize = 16;
/// Length of a row: the id's first bytes, pack u32, frame u24, all in big-endian order.
const ROW_LEN: usize = ID_LEN + 7;

/// A copy of a chunk: the id's first bytes, and where the copy is. All of a row is its key, so a look-up positions on
/// all that is known of it: clients choose ids, and no choice of ids makes other look-ups slow.
pub(super) type Row = [u8; ROW_LEN];
/// The number of a pack, and of a frame in it.
pub type FrameAddress = (u32, u32);

/// Both tables.
#[derive(Clone, Copy)]
pub(super) struct ChunkTables {
    fresh: Database<'static, Bytes, Unit>,
    settled: Database<'static, Bytes, Unit>,
}

impl Tables<'static> {
    /// Where chunks are.
    pub fn chunks(&self) -> ChunkTables {
        ChunkTables { fresh: self.fresh_chunks, settled: self.settled_chunks }
    }
}

impl ChunkTables {
    /// How many rows there are.
    pub fn len(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u64> {
        Ok(self.fresh.len(txn)? + self.settled.len(txn)?)
    }

    /// The copies of a chunk.
    pub fn copies<'t>(
        &self,
        txn: &'t RoTxn<'_, WithoutTls>,
        id: &ChunkId,
    ) -> heed::Result<impl Iterator<Item = heed::Result<FrameAddress>> + use<'t>> {
        let settled = self.settled.prefix_iter(txn, &id.0[..ID_LEN])?;
        let fresh = self.fresh.prefix_iter(txn, &id.0[..ID_LEN])?;
        Ok(settled.chain(fresh).filter_map(|row| match row {
            Ok((row, ())) => row.try_into().ok().map(|row| Ok(address(row))),
            Err(error) => Some(Err(error)),
        }))
    }

    /// Calls `each` with all rows of ids that begin with a byte, or with all rows.
    pub fn each(&self, txn: &RoTxn<'_, WithoutTls>, first: Option<u8>, each: &mut dyn FnMut(&Row)) -> heed::Result<()> {
        self.each_while(txn, first, &mut |row| {
            each(row);
            true
        })
    }

    /// The same, until `each` returns false.
    pub fn each_while(
        &self,
        txn: &RoTxn<'_, WithoutTls>,
        first: Option<u8>,
        each: &mut dyn FnMut(&Row) -> bool,
    ) -> heed::Result<()> {
        // A row of another length is damaged, and is skipped.
        let mut is_wanted = |(row, ()): (&[u8], ())| row.try_into().map_or(true, &mut *each);
        for table in [self.settled, self.fresh] {
            match first {
                Some(first) => {
                    for row in table.prefix_iter(txn, &[first])? {
                        if !is_wanted(row?) {
                            return Ok(());
                        }
                    }
                }
                None => {
                    for row in table.iter(txn)? {
                        if !is_wanted(row?) {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a row exists.
    pub fn has(&self, txn: &RoTxn<'_, WithoutTls>, row: &Row) -> heed::Result<bool> {
        Ok(self.settled.get(txn, row)?.is_some() || self.fresh.get(txn, row)?.is_some())
    }

    /// Adds rows; sorts them.
    pub fn put_all(&self, txn: &mut RwTxn<'_>, rows: &mut [Row]) -> heed::Result<()> {
        rows.sort_unstable();
        rows.iter().try_for_each(|row| self.fresh.put(txn, row, &()))
    }

    /// Removes a row.
    pub fn delete(&self, txn: &mut RwTxn<'_>, row: &Row) -> heed::Result<()> {
        // A row that was put again is in both tables.
        self.fresh.delete(txn, row)?;
        self.settled.delete(txn, row).map(drop)
    }

    /// Whether the small table is full.
    pub fn is_full(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<bool> {
        Ok(self.fresh.len(txn)? > FRESH_MAX)
    }

    /// Moves some rows to the large table. Returns whether rows are left in the small one.
    pub fn settle_some(&self, txn: &mut RwTxn<'_>, step: usize) -> heed::Result<bool> {
        let rows: Vec<Vec<u8>> = self
            .fresh
            .iter(txn)?
            .take(step)
            .map(|row| row.map(|(row, ())| row.to_vec()))
            .collect::<heed::Result<_>>()?;
        for row in &rows {
            self.settled.put(txn, row, &())?;
            self.fresh.delete(txn, row)?;
        }
        Ok(!self.fresh.is_empty(txn)?)
    }
}

/// The row of a copy of a chunk.
pub(super) fn chunk_row(id: &ChunkId, (pack, frame): FrameAddress) -> Row {
    let mut row = [0; ROW_LEN];
    row[..ID_LEN].copy_from_slice(&id.0[..ID_LEN]);
    row[ID_LEN..ID_LEN + 4].copy_from_slice(&pack.to_be_bytes());
    row[ID_LEN + 4..].copy_from_slice(&frame.to_be_bytes()[1..]);
    row
}

/// The part of an id that its row holds; the rest is zeros.
pub(super) fn id_of(row: &Row) -> ChunkId {
    let mut id = ChunkId::default();
    id.0[..ID_LEN].copy_from_slice(&row[..ID_LEN]);
    id
}

/// Pack and frame of a row.
pub(super) fn address(row: &Row) -> FrameAddress {
    let four = |at: usize| u32::from_be_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
    (four(ID_LEN), four(ID_LEN + 3) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::repository::index::Index;

    #[derive(Debug, Clone)]
    enum Op {
        Put(Vec<(u8, u8)>),
        Delete(u8, u8),
        Settle(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            prop::collection::vec((0..20u8, 0..4u8), 1..12).prop_map(Op::Put),
            (0..20u8, 0..4u8).prop_map(|(id, pack)| Op::Delete(id, pack)),
            (1..9usize).prop_map(Op::Settle),
        ]
    }

    /// Some ids begin with the same bytes.
    fn id(number: u8) -> ChunkId {
        let mut id = ChunkId([number; 32]);
        id.0[..3].fill(number / 3);
        id
    }

    fn row(number: u8, pack: u8) -> Row {
        chunk_row(&id(number), (u32::from(pack), u32::from(number)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        #[test]
        fn a_row_is_found_once_in_whichever_table_it_is(ops in prop::collection::vec(op(), 1..30)) {
            let folder = tempfile::tempdir().unwrap();
            let index = Index::open(folder.path()).unwrap();
            let (chunks, mut model) = (index.tables.chunks(), BTreeSet::new());
            for op in ops {
                index.write(|txn| match &op {
                    Op::Put(rows) => {
                        // As in use: a row is put once.
                        let new: BTreeSet<_> = rows.iter().copied().filter(|row| model.insert(*row)).collect();
                        let mut rows: Vec<_> = new.into_iter().map(|(id, pack)| row(id, pack)).collect();
                        chunks.put_all(txn, &mut rows)
                    }
                    Op::Delete(id, pack) => {
                        model.remove(&(*id, *pack));
                        chunks.delete(txn, &row(*id, *pack))
                    }
                    Op::Settle(step) => chunks.settle_some(txn, *step).map(drop),
                }).unwrap();
                index.read(|txn| {
                    assert_eq!(chunks.len(txn)?, model.len() as u64);
                    let mut all = Vec::new();
                    for first in 0..7 {
                        chunks.each(txn, Some(first), &mut |row| all.push(*row))?;
                    }
                    let mut also = Vec::new();
                    chunks.each(txn, None, &mut |row| also.push(*row))?;
                    all.sort_unstable();
                    also.sort_unstable();
                    assert_eq!(all, also);
                    let mut expected: Vec<_> = model.iter().map(|(id, pack)| row(*id, *pack)).collect();
                    expected.sort_unstable();
                    assert_eq!(all, expected);
                    for number in 0..20 {
                        let mut copies = chunks.copies(txn, &id(number))?.collect::<heed::Result<Vec<_>>>()?;
                        copies.sort_unstable();
                        let packs = (0..4).filter(|pack| model.contains(&(number, *pack)));
                        assert_eq!(copies, packs.map(|pack| (u32::from(pack), u32::from(number))).collect::<Vec<_>>());
                        for pack in 0..4 {
                            assert_eq!(chunks.has(txn, &row(number, pack))?, model.contains(&(number, pack)));
                        }
                    }
                    Ok(())
                }).unwrap();
            }
        }
    }
}
