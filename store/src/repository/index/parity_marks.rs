//! Marks of packs whose parity has still to be made. They outlive a crash.
//!
//! A pack is added together with its mark, in one transaction. The mark is removed some time after the parity is
//! durable. So a mark may be out of date (the parity exists already), but none is ever missing.

use super::{
    packs::{self, PackIndex},
    rows::Pin,
};
use crate::{
    base::{error::Result, id::PackId},
    format::pack::PackTable,
};

impl PackIndex<'_> {
    /// Adds a pack whose parity has still to be made, and removes the marks of packs whose parity has been made.
    pub fn add_without_parity(self, table: &PackTable, len: u64, pin: Option<Pin>, made: &[PackId]) -> Result<()> {
        let tables = &self.0.tables;
        self.0.write(|txn| {
            packs::put(tables, txn, table, len, pin)?;
            tables.without_parity.put(txn, &table.id.0, &())?;
            made.iter().try_for_each(|id| tables.without_parity.delete(txn, &id.0).map(drop))
        })?;
        self.settle_chunks()
    }

    /// Removes the marks of packs whose parity has been made.
    pub fn remove_parity_marks(self, made: &[PackId]) -> Result<()> {
        let marks = &self.0.tables.without_parity;
        match made {
            [] => Ok(()),
            made => self.0.write(|txn| made.iter().try_for_each(|id| marks.delete(txn, &id.0).map(drop))),
        }
    }

    /// All marked packs.
    pub fn without_parity(self) -> Result<Vec<PackId>> {
        self.0.read(|txn| {
            let mut found = Vec::new();
            for row in self.0.tables.without_parity.iter(txn)? {
                found.extend(PackId::from_slice(row?.0));
            }
            Ok(found)
        })
    }
}
