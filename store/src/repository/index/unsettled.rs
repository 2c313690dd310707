//! Folders of packs that were found, not put: that their packs are there may not be durable, because who put them may have
//! died before syncing the folder. Whoever reads need not care; before anything is acknowledged that relies on them, they
//! are settled.
//!
//! Each carries a count, so that what was found while a folder was being settled waits for the next time.

use super::Index;
use crate::base::error::Result;

const KEY: &[u8] = b"unsettled";
/// First byte of the packs' ids, and a count.
const ENTRY: usize = 5;

/// A folder, by the first byte of its packs' ids, and how often something was found in it.
pub type Unsettled = (u8, u32);

impl Index {
    /// The folders.
    pub fn unsettled(&self) -> Result<Vec<Unsettled>> {
        self.read(|txn| Ok(decode(self.tables.meta.get(txn, KEY)?.unwrap_or_default())))
    }

    /// Adds a folder: to be called before its packs are taken in.
    pub fn add_unsettled(&self, first: u8) -> Result<()> {
        self.change_unsettled(|list| match list.iter_mut().find(|(byte, _)| *byte == first) {
            Some((_, count)) => *count = count.wrapping_add(1),
            None => list.push((first, 0)),
        })
    }

    /// Removes folders that were settled, unless something was found in them meanwhile.
    pub fn remove_unsettled(&self, settled: &[Unsettled]) -> Result<()> {
        self.change_unsettled(|list| list.retain(|entry| !settled.contains(entry)))
    }

    fn change_unsettled(&self, change: impl FnOnce(&mut Vec<Unsettled>)) -> Result<()> {
        self.write(|txn| {
            let mut list = decode(self.tables.meta.get(txn, KEY)?.unwrap_or_default());
            change(&mut list);
            let bytes: Vec<u8> =
                list.iter().flat_map(|(first, count)| [&[*first][..], &count.to_le_bytes()].concat()).collect();
            self.tables.meta.put(txn, KEY, &bytes)
        })
    }
}

fn decode(bytes: &[u8]) -> Vec<Unsettled> {
    let entries = bytes.as_chunks::<ENTRY>().0.iter();
    entries.map(|[first, count @ ..]| (*first, u32::from_le_bytes(*count))).collect()
}
