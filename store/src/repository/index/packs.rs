//! Packs in the index: their rows, the rows of their chunks, and the pins of sessions.
//!
//! A pack's rows follow from its table alone, so they can be compared with it and corrected.

use std::ops::Bound::{Excluded, Unbounded};

use heed::{RoTxn, RwTxn, WithoutTls};

use super::{
    chunk_tables::{self, Row, STEP, chunk_row},
    environment::Index,
    meta,
    rows::{PackRow, Pin, wrap_key},
    tables::Tables,
};
use crate::{
    base::{
        codec,
        error::{ErrorKind, Result},
        id::PackId,
    },
    format::pack::PackTable,
    repository::layout,
};

/// Packs, by id and by number.
#[derive(Debug, Clone, Copy)]
pub struct PackIndex<'i>(pub(super) &'i Index);

impl Index {
    /// Packs, by id and by number.
    pub fn packs(&self) -> PackIndex<'_> {
        PackIndex(self)
    }
}

impl PackIndex<'_> {
    /// Whether a pack is in the index.
    pub fn has(self, id: &PackId) -> Result<bool> {
        self.0.read(|txn| Ok(self.0.tables.pack_numbers.get(txn, &id.0)?.is_some()))
    }

    /// The number of a pack.
    pub fn number_of(self, id: &PackId) -> Result<Option<u32>> {
        self.0.read(|txn| self.0.tables.pack_numbers.get(txn, &id.0))
    }

    /// The row of the pack with a number.
    pub fn row(self, number: u32) -> Result<Option<PackRow>> {
        self.0.read(|txn| Ok(self.0.tables.packs.get(txn, &number)?.and_then(PackRow::decode)))
    }

    /// The row of a pack.
    pub fn row_of(self, id: &PackId) -> Result<Option<PackRow>> {
        let tables = &self.0.tables;
        self.0.read(|txn| match tables.pack_numbers.get(txn, &id.0)? {
            Some(number) => Ok(tables.packs.get(txn, &number)?.and_then(PackRow::decode)),
            None => Ok(None),
        })
    }

    /// Ids and lengths of packs, in the order of the ids.
    pub fn list(self, after: Option<PackId>, limit: usize) -> Result<Vec<(PackId, u64)>> {
        let tables = &self.0.tables;
        let from = after.map(|id| id.0);
        let start = from.as_ref().map_or(Unbounded, |id| Excluded(&id[..]));
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in tables.pack_numbers.range(txn, &(start, Unbounded))?.take(limit) {
                let (id, number) = row?;
                let len = tables.packs.get(txn, &number)?.and_then(PackRow::decode).map_or(0, |row| row.len);
                found.extend(PackId::from_slice(id).map(|id| (id, len)));
            }
            Ok(found)
        })
    }

    /// The packs whose ids begin with a byte.
    pub fn of_folder(self, first: u8) -> Result<Vec<PackId>> {
        self.0.read(|txn| {
            let rows = self.0.tables.pack_numbers.prefix_iter(txn, &[first])?;
            rows.filter_map(|row| row.map(|(id, _)| PackId::from_slice(id)).transpose()).collect()
        })
    }

    /// Calls `each` for all packs, in the order of their numbers.
    pub fn each(self, each: &mut dyn FnMut(u32, PackRow)) -> Result<()> {
        self.0.read(|txn| {
            for row in self.0.tables.packs.iter(txn)? {
                let (number, row) = row?;
                if let Some(row) = PackRow::decode(row) {
                    each(number, row);
                }
            }
            Ok(())
        })
    }

    /// Bytes of all packs.
    pub fn bytes(self) -> Result<u64> {
        self.0.read(|txn| bytes(&self.0.tables, txn))
    }

    /// The number that the next pack will get.
    pub fn next_number(self) -> Result<u32> {
        self.0.read(|txn| next_number(&self.0.tables, txn))
    }

    /// Adds a pack, and pins it for a session. A swept pack is not added until the log revives it.
    pub fn add(self, table: &PackTable, len: u64, pin: Option<Pin>) -> Result<()> {
        self.0.write(|txn| put(&self.0.tables, txn, table, len, pin))?;
        self.settle_chunks()
    }

    /// Makes the rows of a pack what its table says. Returns whether they differed. A pack that was swept after it was
    /// looked at is not added.
    pub fn correct(self, table: &PackTable, len: u64) -> Result<bool> {
        let tables = &self.0.tables;
        if self.0.read(|txn| agrees(tables, txn, table, len))? {
            return Ok(false);
        }
        let is_changed = self.0.write(|txn| match tables.pack_numbers.get(txn, &table.id.0)? {
            None if tables.swept.get(txn, &table.id.0)?.is_some() => Ok(false),
            None => put(tables, txn, table, len, None).map(|()| true),
            Some(number) => put_rows(tables, txn, number, table, len).map(|()| true),
        })?;
        self.settle_chunks()?;
        Ok(is_changed)
    }

    /// Removes packs whose files are gone.
    pub fn remove(self, packs: &[PackId]) -> Result<()> {
        self.0.write(|txn| packs.iter().try_for_each(|pack| remove(&self.0.tables, txn, pack, None)))
    }

    /// Moves rows of chunks to the large table if enough of them wait.
    pub(super) fn settle_chunks(self) -> Result<()> {
        let chunks = self.0.tables.chunks();
        let mut is_more = self.0.read(|txn| chunks.is_full(txn))?;
        while is_more {
            is_more = match self.0.write(|txn| chunks.settle_some(txn, STEP)) {
                // They only cost time where they are.
                Err(error) if error.kind() == ErrorKind::Full => false,
                moved => moved?,
            }
        }
        Ok(())
    }

    /// Pins a pack that is in the index.
    pub fn pin(self, id: &PackId, pin: Pin) -> Result<()> {
        let tables = &self.0.tables;
        self.0.write(|txn| match tables.pack_numbers.get(txn, &id.0)? {
            Some(number) => tables.pins.put(txn, &number, &pin.encode()),
            None => Ok(()),
        })
    }

    /// Removes the pins of a session.
    pub fn unpin(self, session: u64) -> Result<()> {
        let pins = &self.0.tables.pins;
        let is_of_session = |row: &[u8]| Pin::decode(row).is_some_and(|pin| pin.session == session);
        let numbers = self.0.read(|txn| {
            let rows = pins.iter(txn)?.filter(|row| row.as_ref().map_or(true, |(_, row)| is_of_session(row)));
            rows.map(|row| Ok(row?.0)).collect::<heed::Result<Vec<_>>>()
        })?;
        // A push that stored nothing pinned nothing, and does not have to wait for the disk.
        if numbers.is_empty() {
            return Ok(());
        }
        self.0.write(|txn| {
            for number in &numbers {
                // Another session may have pinned the pack since.
                if pins.get(txn, number)?.is_some_and(is_of_session) {
                    pins.delete(txn, number)?;
                }
            }
            Ok(())
        })
    }

    /// The numbers of the packs that are pinned, with their pins.
    pub fn pins(self) -> Result<Vec<(u32, Pin)>> {
        self.0.read(|txn| {
            let mut numbers = Vec::new();
            for row in self.0.tables.pins.iter(txn)? {
                let (number, row) = row?;
                if let Some(pin) = Pin::decode(row) {
                    numbers.push((number, pin));
                }
            }
            Ok(numbers)
        })
    }

    /// The stamp that a folder of packs had when it was last read.
    pub fn folder_stamp(self, first: u8) -> Result<Option<Vec<u8>>> {
        self.0.meta(layout::pack_folder(first).as_bytes())
    }

    /// Notes the stamps of folders that have been read.
    pub fn set_folder_stamps(self, stamps: &[(u8, Vec<u8>)]) -> Result<()> {
        self.0.write(|txn| {
            let meta = &self.0.tables.meta;
            stamps.iter().try_for_each(|(first, stamp)| meta.put(txn, layout::pack_folder(*first).as_bytes(), stamp))
        })
    }

    /// Forgets all stamps, so that all folders are read again.
    pub fn forget_folder_stamps(self) -> Result<()> {
        let stamps: Vec<_> = (0..=u8::MAX).map(|first| (first, Vec::new())).collect();
        self.set_folder_stamps(&stamps)
    }
}

/// Adds a pack.
pub(super) fn put(
    tables: &Tables<'static>,
    txn: &mut RwTxn<'_>,
    table: &PackTable,
    len: u64,
    pin: Option<Pin>,
) -> heed::Result<()> {
    let known = tables.pack_numbers.get(txn, &table.id.0)?;
    if known.is_none() && tables.swept.get(txn, &table.id.0)?.is_some() {
        // It was found or stored before it was swept: its file is about to be moved away.
        return Ok(());
    }
    let number = match known {
        Some(number) => number,
        None => next_number(tables, txn)?,
    };
    if let Some(pin) = pin {
        tables.pins.put(txn, &number, &pin.encode())?;
    }
    if known.is_some() {
        return Ok(());
    }
    tables.meta.put(txn, meta::NEXT_NUMBER, &(number + 1).to_le_bytes())?;
    tables.pack_numbers.put(txn, &table.id.0, &number)?;
    put_rows(tables, txn, number, table, len)
}

/// Writes the rows that follow from a pack's table.
fn put_rows(
    tables: &Tables<'static>,
    txn: &mut RwTxn<'_>,
    number: u32,
    table: &PackTable,
    len: u64,
) -> heed::Result<()> {
    count_bytes(tables, txn, number, len)?;
    tables.packs.put(txn, &number, &PackRow::encode(table, len))?;
    for wrap in &table.wraps {
        tables.wraps.put(txn, &wrap_key(&wrap.key, &table.client), &codec::encode(wrap))?;
    }
    tables.chunks().put_all(txn, &mut chunk_rows(number, table))
}

/// Whether the rows of a pack are what its table says.
fn agrees(tables: &Tables<'static>, txn: &RoTxn<'_, WithoutTls>, table: &PackTable, len: u64) -> heed::Result<bool> {
    let Some(number) = tables.pack_numbers.get(txn, &table.id.0)? else { return Ok(false) };
    if tables.packs.get(txn, &number)? != Some(&PackRow::encode(table, len)[..]) {
        return Ok(false);
    }
    for wrap in &table.wraps {
        if tables.wraps.get(txn, &wrap_key(&wrap.key, &table.client))? != Some(&codec::encode(wrap)[..]) {
            return Ok(false);
        }
    }
    for row in chunk_rows(number, table) {
        if !tables.chunks().has(txn, &row)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes a pack. Its wraps stay, because other packs may use the same data keys.
pub(super) fn remove(
    tables: &Tables<'static>,
    txn: &mut RwTxn<'_>,
    id: &PackId,
    table: Option<&PackTable>,
) -> heed::Result<()> {
    let Some(number) = tables.pack_numbers.get(txn, &id.0)? else { return Ok(()) };
    let rows = match table {
        Some(table) => chunk_rows(number, table),
        // Another process has removed the file already: look for its rows one by one.
        None => {
            let mut rows = Vec::new();
            tables.chunks().each(txn, None, &mut |row| {
                if chunk_tables::address(row).0 == number {
                    rows.push(*row);
                }
            })?;
            rows
        }
    };
    for row in rows {
        tables.chunks().delete(txn, &row)?;
    }
    count_bytes(tables, txn, number, 0)?;
    tables.packs.delete(txn, &number)?;
    tables.pins.delete(txn, &number)?;
    tables.pack_numbers.delete(txn, &id.0).map(drop)
}

/// The rows of a pack's chunks.
pub(super) fn chunk_rows(number: u32, table: &PackTable) -> Vec<Row> {
    let mut rows = Vec::with_capacity(table.chunks());
    for (frame, entry) in table.frames.iter().enumerate() {
        rows.extend(entry.ids.iter().map(|id| chunk_row(id, (number, frame as u32))));
    }
    rows
}

/// The number of the next pack: never one that another pack has had.
fn next_number(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u32> {
    let after_last = tables.packs.last(txn)?.map_or(0, |(last, _)| last + 1);
    let noted = tables.meta.get(txn, meta::NEXT_NUMBER)?;
    Ok(after_last.max(noted.and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)))
}

fn bytes(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u64> {
    Ok(tables.meta.get(txn, meta::PACK_BYTES)?.and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes))
}

/// Counts the bytes of a pack whose row is about to be put, changed or removed.
fn count_bytes(tables: &Tables<'_>, txn: &mut RwTxn<'_>, number: u32, len: u64) -> heed::Result<()> {
    let before = tables.packs.get(txn, &number)?.and_then(PackRow::decode).map_or(0, |row| row.len);
    let bytes = (bytes(tables, txn)?.saturating_add(len)).saturating_sub(before);
    tables.meta.put(txn, meta::PACK_BYTES, &bytes.to_le_bytes())
}
