//! What the index knows for a prune: which frames are condemned, which packs were swept, and which are pinned; and which
//! frames are not live, for whatever reason.

use heed::{RoTxn, RwTxn, WithoutTls};

use super::{Index, PackRow, chunk_row, place};
use crate::{
    base::{
        error::Result,
        id::{ChunkId, Hash, PackId},
    },
    format::{
        filter::filter_key,
        loss::{FrameBits, Lost, Quarantined},
        pack::PackTable,
    },
    repository::prune::condemned::Condemned,
};

const GENERATION: &[u8] = b"generation";

/// What the log says of prunes.
#[derive(Debug)]
pub enum PruneStep {
    /// Frames were condemned.
    Condemn {
        /// The record.
        row: CondemnRow,
        /// The generation that began with it.
        generation: u64,
        /// The set; none if it cannot be read: then nothing is condemned, which only keeps too much.
        set: Option<Condemned>,
    },
    /// Packs were swept.
    Sweep {
        /// The packs, with their tables if those can be read.
        packs: Vec<(PackId, Option<PackTable>)>,
        /// When, in seconds.
        secs: i64,
    },
    /// Packs are live again.
    Revive {
        /// The packs.
        packs: Vec<PackId>,
    },
    /// All that is condemned is live again.
    Abort,
    /// Frames went into quarantine.
    Quarantine {
        /// Place of the record in the log.
        seq: u64,
        /// The generation that began with it.
        generation: u64,
        /// The frames.
        packs: Vec<Quarantined>,
        /// What lost its last live copy.
        lost: Lost,
    },
    /// Packs are out of quarantine.
    Release {
        /// The packs.
        packs: Vec<PackId>,
    },
}

/// The claim of a session on a pack that it has stored.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// The session.
    pub session: u64,
    /// When, in seconds.
    pub secs: i64,
}

/// A condemnation in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CondemnRow {
    /// Its place in the log.
    pub seq: u64,
    /// Hash of the set.
    pub set: Hash,
    /// When, in seconds.
    pub secs: i64,
}

impl CondemnRow {
    fn encode(&self) -> [u8; 40] {
        let mut row = [0; 40];
        row[..32].copy_from_slice(&self.set.0);
        row[32..].copy_from_slice(&self.secs.to_le_bytes());
        row
    }

    fn decode(seq: u64, row: &[u8]) -> Self {
        let set = row.first_chunk().map(|hash| Hash(*hash)).unwrap_or_default();
        Self { seq, set, secs: row.last_chunk().map_or(0, |secs| i64::from_le_bytes(*secs)) }
    }
}

/// When a pack was swept, and whether its file was moved.
fn swept_row(secs: i64, is_moved: bool) -> [u8; 9] {
    let mut row = [0; 9];
    row[..8].copy_from_slice(&secs.to_le_bytes());
    row[8] = u8::from(is_moved);
    row
}

fn swept_secs(row: &[u8]) -> i64 {
    row.first_chunk().map_or(0, |secs| i64::from_le_bytes(*secs))
}

impl Index {
    /// Whether nothing is condemned and nothing in quarantine.
    pub(super) fn are_all_live(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<bool> {
        Ok(self.tables.dead.is_empty(txn)? && self.tables.hurt.is_empty(txn)?)
    }

    /// Whether a frame is condemned, or in quarantine.
    pub(super) fn is_dead(&self, txn: &RoTxn<'_, WithoutTls>, pack: u32, frame: u32) -> heed::Result<bool> {
        let Some(row) = self.tables.packs.get(txn, &pack)? else { return Ok(true) };
        let Some(id) = row.get(..PackId::LEN) else { return Ok(true) };
        let is_in = |bits: &[u8]| bits.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1);
        Ok(self.tables.dead.get(txn, id)?.is_some_and(is_in) || self.is_hurt(txn, id, frame)?)
    }

    /// Takes the steps of prunes in: part of [`Index::apply`].
    pub(super) fn apply_prunes(&self, txn: &mut RwTxn<'_>, steps: &[PruneStep]) -> heed::Result<()> {
        for step in steps {
            match step {
                PruneStep::Condemn { row, generation, set } => {
                    self.tables.condemns.put(txn, &row.seq, &row.encode())?;
                    self.tables.meta.put(txn, GENERATION, &generation.to_le_bytes())?;
                    self.tables.dead.clear(txn)?;
                    for pack in set.iter().flat_map(|set| &set.packs) {
                        self.tables.dead.put(txn, &pack.pack.0, pack.frames.as_bytes())?;
                    }
                }
                PruneStep::Sweep { packs, secs } => {
                    for (pack, table) in packs {
                        self.take_out(txn, pack, table.as_ref())?;
                        self.tables.dead.delete(txn, &pack.0)?;
                        self.tables.swept.put(txn, &pack.0, &swept_row(*secs, false))?;
                    }
                }
                PruneStep::Revive { packs } => {
                    for pack in packs {
                        self.tables.dead.delete(txn, &pack.0)?;
                        self.tables.swept.delete(txn, &pack.0)?;
                    }
                }
                PruneStep::Abort => self.tables.dead.clear(txn)?,
                PruneStep::Quarantine { seq, generation, packs, lost } => {
                    self.tables.meta.put(txn, GENERATION, &generation.to_le_bytes())?;
                    self.apply_quarantine(txn, *seq, packs, lost)?;
                }
                PruneStep::Release { packs } => {
                    packs.iter().try_for_each(|pack| self.tables.hurt.delete(txn, &pack.0).map(drop))?;
                }
            }
        }
        Ok(())
    }

    /// The packs whose ids begin with a byte.
    pub fn packs_of(&self, first: u8) -> Result<Vec<PackId>> {
        self.read(|txn| {
            let rows = self.tables.pack_numbers.prefix_iter(txn, &[first])?;
            rows.filter_map(|row| row.map(|(id, _)| PackId::from_slice(id)).transpose()).collect()
        })
    }

    /// The number that a pack has here.
    pub fn number_of(&self, pack: &PackId) -> Result<Option<u32>> {
        self.read(|txn| self.tables.pack_numbers.get(txn, &pack.0))
    }

    /// Takes packs out whose files are gone.
    pub fn take_out_packs(&self, packs: &[PackId]) -> Result<()> {
        self.write(|txn| packs.iter().try_for_each(|pack| self.take_out(txn, pack, None)))
    }

    /// The swept packs whose files may still lie among the others.
    pub fn unmoved(&self) -> Result<Vec<PackId>> {
        self.read(|txn| {
            let mut found = Vec::new();
            for row in self.tables.swept.iter(txn)? {
                let (id, row) = row?;
                if row.last() == Some(&0) {
                    found.extend(PackId::from_slice(id));
                }
            }
            Ok(found)
        })
    }

    /// Remembers that the files of swept packs were moved.
    pub fn set_moved(&self, packs: &[PackId]) -> Result<()> {
        self.write(|txn| {
            for pack in packs {
                let Some(row) = self.tables.swept.get(txn, &pack.0)? else { continue };
                let row = swept_row(swept_secs(row), true);
                self.tables.swept.put(txn, &pack.0, &row)?;
            }
            Ok(())
        })
    }

    /// The prune counter; none before the first prune.
    pub fn generation(&self) -> Result<Option<u64>> {
        let raw = self.read(|txn| Ok(self.tables.meta.get(txn, GENERATION)?.map(<[u8]>::to_vec)))?;
        Ok(raw.and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes))
    }

    /// What was condemned at `from` or later in the log, oldest first.
    pub fn condemns_from(&self, from: u64) -> Result<Vec<CondemnRow>> {
        self.read(|txn| {
            let rows = self.tables.condemns.range(txn, &(from..))?;
            rows.map(|found| found.map(|(seq, row)| CondemnRow::decode(seq, row))).collect()
        })
    }

    /// Place in the log of the record that last condemned something.
    pub fn newest_condemn(&self) -> Result<Option<u64>> {
        self.read(|txn| Ok(self.tables.condemns.last(txn)?.map(|(seq, _)| seq)))
    }

    /// The packs that are condemned and not yet swept, with their dead frames; at most `limit`.
    pub fn condemned(&self, limit: usize) -> Result<Vec<(PackId, FrameBits)>> {
        self.read(|txn| {
            let mut found = Vec::new();
            for row in self.tables.dead.iter(txn)?.take(limit) {
                let (id, bits) = row?;
                found.extend(PackId::from_slice(id).map(|id| (id, FrameBits::from_bytes(bits))));
            }
            Ok(found)
        })
    }

    /// How many packs are condemned and not yet swept.
    pub fn condemned_count(&self) -> Result<u64> {
        self.read(|txn| self.tables.dead.len(txn))
    }

    /// The dead frames of a pack, if it is condemned.
    pub fn dead_frames(&self, pack: &PackId) -> Result<Option<FrameBits>> {
        self.read(|txn| Ok(self.tables.dead.get(txn, &pack.0)?.map(FrameBits::from_bytes)))
    }

    /// When a pack was swept, in seconds; none if it is not swept.
    pub fn swept_at(&self, pack: &PackId) -> Result<Option<i64>> {
        self.read(|txn| Ok(self.tables.swept.get(txn, &pack.0)?.map(swept_secs)))
    }

    /// Which of the ids have a live copy in a frame that is not taken.
    pub fn live_elsewhere(&self, ids: &[ChunkId], is_taken: &dyn Fn(u32, u32) -> bool) -> Result<Vec<bool>> {
        self.read(|txn| {
            let all_live = self.are_all_live(txn)?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let mut is_live = false;
                for copy in self.tables.chunks.copies(txn, id)? {
                    let (pack, frame) = copy?;
                    is_live |= !is_taken(pack, frame) && (all_live || !self.is_dead(txn, pack, frame)?);
                }
                found.push(is_live);
            }
            Ok(found)
        })
    }

    /// All copies of chunks whose ids begin with a byte: calls `each` with the id's [key](filter_key), pack and frame.
    pub fn scan(&self, first: u8, each: &mut dyn FnMut(u64, u32, u32)) -> Result<()> {
        self.read(|txn| {
            self.tables.chunks.each(txn, Some(first), &mut |key, value| {
                let mut id = ChunkId::default();
                id.0[..3].copy_from_slice(&key);
                id.0[3..16].copy_from_slice(&value[..13]);
                let (pack, frame) = place(&value);
                each(filter_key(&id), pack, frame);
            })
        })
    }

    /// All packs, in the order of their numbers.
    pub fn each_pack(&self, each: &mut dyn FnMut(u32, PackRow)) -> Result<()> {
        self.read(|txn| {
            for row in self.tables.packs.iter(txn)? {
                let (number, row) = row?;
                if let Some(row) = PackRow::decode(row) {
                    each(number, row);
                }
            }
            Ok(())
        })
    }

    /// The number that the next pack will get.
    pub fn next_number(&self) -> Result<u32> {
        self.read(|txn| self.next(txn))
    }

    /// Takes a pack out. Its wraps stay: other packs may use the same data keys.
    fn take_out(&self, txn: &mut RwTxn<'_>, id: &PackId, table: Option<&PackTable>) -> heed::Result<()> {
        let Some(number) = self.tables.pack_numbers.get(txn, &id.0)? else { return Ok(()) };
        let mut rows = Vec::new();
        match table {
            Some(table) => {
                for (frame, entry) in table.frames.iter().enumerate() {
                    rows.extend(entry.ids.iter().map(|id| chunk_row(id, number, frame as u32)));
                }
            }
            // Another process has removed the file already: look for its rows one by one.
            None => {
                self.tables.chunks.each(txn, None, &mut |key, value| {
                    if place(&value).0 == number {
                        rows.push((key, value));
                    }
                })?;
            }
        }
        for (key, value) in rows {
            self.tables.chunks.delete(txn, &key, &value)?;
        }
        self.count_bytes(txn, number, 0)?;
        self.tables.packs.delete(txn, &number)?;
        self.tables.pins.delete(txn, &number)?;
        self.tables.pack_numbers.delete(txn, &id.0).map(drop)
    }

    /// Pins a pack: part of [`Index::add_pack`].
    pub(super) fn put_pin(&self, txn: &mut RwTxn<'_>, number: u32, pin: Pin) -> heed::Result<()> {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&pin.session.to_le_bytes());
        row[8..].copy_from_slice(&pin.secs.to_le_bytes());
        self.tables.pins.put(txn, &number, &row)
    }

    /// Pins a pack that is there.
    pub fn pin(&self, id: &PackId, pin: Pin) -> Result<()> {
        self.write(|txn| match self.tables.pack_numbers.get(txn, &id.0)? {
            Some(number) => self.put_pin(txn, number, pin),
            None => Ok(()),
        })
    }

    /// Ends the pins of a session.
    pub fn unpin(&self, session: u64) -> Result<()> {
        let is_ours = |row: &[u8]| row.first_chunk::<8>() == Some(&session.to_le_bytes());
        let numbers = self.read(|txn| {
            let rows = self.tables.pins.iter(txn)?.filter(|row| row.as_ref().map_or(true, |(_, row)| is_ours(row)));
            rows.map(|row| Ok(row?.0)).collect::<Result<Vec<_>, heed::Error>>()
        })?;
        // A push that stored nothing pinned nothing, and need not wait for the disk.
        if numbers.is_empty() {
            return Ok(());
        }
        self.write(|txn| {
            for number in &numbers {
                // Another session may have pinned it since.
                if self.tables.pins.get(txn, number)?.is_some_and(is_ours) {
                    self.tables.pins.delete(txn, number)?;
                }
            }
            Ok(())
        })
    }

    /// The numbers of packs that were pinned later than `after`, in seconds.
    pub fn pinned(&self, after: i64) -> Result<Vec<u32>> {
        self.read(|txn| {
            let mut numbers = Vec::new();
            for row in self.tables.pins.iter(txn)? {
                let (number, row) = row?;
                if row.last_chunk::<8>().is_some_and(|secs| i64::from_le_bytes(*secs) > after) {
                    numbers.push(number);
                }
            }
            Ok(numbers)
        })
    }
}
