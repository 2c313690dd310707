//! Folders in which packs were found that this process did not put. Such packs may not be durable, because the process
//! that put them may have died before it synced the folder. That does not matter to readers. But before anything is
//! acknowledged that relies on these packs, their folders are settled.
//!
//! Each folder carries a count, so that packs that are found while the folder is being settled wait for the next time.

use super::{meta, packs::PackIndex};
use crate::base::error::Result;

/// First byte of the packs' ids, and a count.
const ENTRY: usize = 5;

/// A folder, by the first byte of its packs' ids, and how often packs were found in it.
pub type Unsettled = (u8, u32);

impl PackIndex<'_> {
    /// The folders that are not settled.
    pub fn unsettled(self) -> Result<Vec<Unsettled>> {
        self.0.read(|txn| Ok(decode(self.0.tables.meta.get(txn, meta::UNSETTLED)?.unwrap_or_default())))
    }

    /// Adds a folder. Call this before its packs are added.
    pub fn add_unsettled(self, first: u8) -> Result<()> {
        self.change_unsettled(|list| match list.iter_mut().find(|(byte, _)| *byte == first) {
            Some((_, count)) => *count = count.wrapping_add(1),
            None => list.push((first, 0)),
        })
    }

    /// Removes folders that have been settled, except those in which more packs were found since.
    pub fn remove_unsettled(self, settled: &[Unsettled]) -> Result<()> {
        self.change_unsettled(|list| list.retain(|entry| !settled.contains(entry)))
    }

    fn change_unsettled(self, change: impl FnOnce(&mut Vec<Unsettled>)) -> Result<()> {
        let table = &self.0.tables.meta;
        self.0.write(|txn| {
            let mut list = decode(table.get(txn, meta::UNSETTLED)?.unwrap_or_default());
            change(&mut list);
            let bytes: Vec<u8> =
                list.iter().flat_map(|(first, count)| [&[*first][..], &count.to_le_bytes()].concat()).collect();
            table.put(txn, meta::UNSETTLED, &bytes)
        })
    }
}

fn decode(bytes: &[u8]) -> Vec<Unsettled> {
    let entries = bytes.as_chunks::<ENTRY>().0.iter();
    entries.map(|[first, count @ ..]| (*first, u32::from_le_bytes(*count))).collect()
}
