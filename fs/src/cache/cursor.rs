//! Reading a record from its first entry to its last, one segment at a time.

use bkfs_store::format::tree::Subtree;

use super::{
    Cache,
    record::{CachedEntry, RecordStamp, Segment},
};

/// A position in the record of a directory.
pub struct Cursor<'c> {
    cache: &'c Cache,
    key: [u8; 16],
    number: u32,
    /// What the record's segments carry; none if there is no record.
    stamp: Option<RecordStamp>,
    /// The segment at the cursor; none past the end of a record that was cut off or damaged.
    segment: Option<Segment>,
    at: usize,
}

impl<'c> Cursor<'c> {
    /// A cursor at the first entry of a directory's record. It is at its end if there is no record.
    pub fn new(cache: &'c Cache, key: [u8; 16]) -> Self {
        let mut cursor = Self { cache, key, number: 0, stamp: None, segment: None, at: 0 };
        cursor.load();
        cursor
    }

    /// Whether there is no record.
    pub fn is_absent(&self) -> bool {
        self.stamp.is_none()
    }

    /// The epoch whose losses the record takes into account.
    pub fn epoch(&self) -> u32 {
        self.stamp.map_or(0, |stamp| stamp.epoch)
    }

    /// The entry at the cursor; none at the end.
    pub fn entry(&self) -> Option<CachedEntry<'_>> {
        let (entry, _) = self.segment.as_ref()?.entry(self.at)?;
        Some(entry)
    }

    /// Moves to the next entry.
    pub fn advance(&mut self) {
        let Some(segment) = &self.segment else { return };
        let Some((_, next)) = segment.entry(self.at) else { return };
        self.at = next;
        if segment.is_end(next) && !segment.is_last() {
            self.number += 1;
            self.load();
        }
    }

    /// What the directory's tree was; none before the end of a whole record.
    pub fn subtree(&self) -> Option<Subtree> {
        self.segment.as_ref().filter(|segment| segment.is_end(self.at))?.subtree()
    }

    fn load(&mut self) {
        let bytes = self.cache.segment(&self.key, self.number);
        let segment = bytes.and_then(|bytes| Segment::decode(&self.key, self.number, bytes));
        // All segments of a record are of one generation.
        let generation = self.stamp.map(|stamp| stamp.generation);
        self.segment = segment.filter(|s| self.number == 0 || generation == Some(s.stamp().generation));
        self.at = Segment::FIRST;
        if let Some(segment) = &self.segment {
            self.stamp = Some(segment.stamp());
        }
    }
}
