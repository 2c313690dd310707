//! Comparing the index with a pack's own table, and putting it right.

use heed::{RoTxn, RwTxn, WithoutTls};

use super::{Index, PackRow, VALUE_LEN, chunk_row, codec, wrap_row};
use crate::{
    base::{error::Result, id::PackId},
    format::pack::PackTable,
};

impl Index {
    /// What is known of a pack.
    pub fn row_of(&self, id: &PackId) -> Result<Option<PackRow>> {
        self.read(|txn| match self.tables.pack_numbers.get(txn, &id.0)? {
            Some(number) => Ok(self.tables.packs.get(txn, &number)?.and_then(PackRow::decode)),
            None => Ok(None),
        })
    }

    /// Makes the index say of a pack what its table says. Returns whether it did not. A pack that was swept since it was looked at stays out.
    pub fn take_again(&self, table: &PackTable, len: u64) -> Result<bool> {
        if self.read(|txn| self.agrees(txn, table, len))? {
            return Ok(false);
        }
        let is_changed = self.write(|txn| match self.tables.pack_numbers.get(txn, &table.id.0)? {
            None if self.tables.swept.get(txn, &table.id.0)?.is_some() => Ok(false),
            None => self.put_pack(txn, table, len, None).map(|()| true),
            Some(number) => self.put_rows(txn, number, table, len).map(|()| true),
        })?;
        self.settle_chunks()?;
        Ok(is_changed)
    }

    /// Writes what follows from a pack's table.
    pub(super) fn put_rows(&self, txn: &mut RwTxn<'_>, number: u32, table: &PackTable, len: u64) -> heed::Result<()> {
        self.count_bytes(txn, number, len)?;
        self.tables.packs.put(txn, &number, &PackRow::encode(table, len))?;
        for wrap in &table.wraps {
            self.tables.wraps.put(txn, &wrap_row(&wrap.key, &table.client), &codec::encode(wrap))?;
        }
        self.tables.chunks.put_all(txn, &mut entries(number, table))
    }

    fn agrees(&self, txn: &RoTxn<'_, WithoutTls>, table: &PackTable, len: u64) -> heed::Result<bool> {
        let Some(number) = self.tables.pack_numbers.get(txn, &table.id.0)? else { return Ok(false) };
        if self.tables.packs.get(txn, &number)? != Some(&PackRow::encode(table, len)[..]) {
            return Ok(false);
        }
        for (key, value) in entries(number, table) {
            if !self.tables.chunks.holds(txn, &key, &value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The rows of a pack's chunks.
fn entries(number: u32, table: &PackTable) -> Vec<([u8; 3], [u8; VALUE_LEN])> {
    let mut entries = Vec::with_capacity(table.chunks());
    for (frame, entry) in table.frames.iter().enumerate() {
        entries.extend(entry.ids.iter().map(|id| chunk_row(id, number, frame as u32)));
    }
    entries
}
