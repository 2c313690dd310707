//! Packs that lack their parity: what is still to be done, in a form that outlives a crash.
//!
//! A pack enters with its mark, in one transaction; the mark is struck some time after the parity is durable. So marks may
//! be out of date (the parity is there already), and none is ever missing.

use super::{Index, Pin};
use crate::{
    base::{error::Result, id::PackId},
    format::pack::PackTable,
};

impl Index {
    /// Takes the table of a pack in whose parity is still to be made, and strikes the marks of others.
    pub fn add_bare_pack(&self, table: &PackTable, len: u64, pin: Option<Pin>, made: &[PackId]) -> Result<()> {
        self.write(|txn| {
            self.put_pack(txn, table, len, pin)?;
            self.tables.bare.put(txn, &table.id.0, &())?;
            made.iter().try_for_each(|id| self.tables.bare.delete(txn, &id.0).map(drop))
        })?;
        self.settle_chunks()
    }

    /// Strikes marks.
    pub fn strike_bare(&self, made: &[PackId]) -> Result<()> {
        match made {
            [] => Ok(()),
            made => self.write(|txn| made.iter().try_for_each(|id| self.tables.bare.delete(txn, &id.0).map(drop))),
        }
    }

    /// All marked packs.
    pub fn bare_packs(&self) -> Result<Vec<PackId>> {
        self.read(|txn| {
            let mut found = Vec::new();
            for row in self.tables.bare.iter(txn)? {
                found.extend(PackId::from_slice(row?.0));
            }
            Ok(found)
        })
    }
}
