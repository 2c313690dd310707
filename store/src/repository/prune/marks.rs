//! What a prune has marked so far.

use std::collections::{HashMap, hash_map::Entry};

use super::{counts::ChunkCounts, moved::MovedFrames, plan::PackUse, scan_budget::ScanBudget};
use crate::{
    base::error::{Error, Result},
    format::loss::FrameBits,
    repository::index::{FrameAddress, PackRow},
};

/// Some frames of packs, by the packs' numbers.
pub(super) type Frames = HashMap<u32, FrameBits>;

/// The marks of one prune.
#[derive(Debug)]
pub(super) struct Marks {
    pub prune: u64,
    pub generation: u64,
    /// Packs with this number or a higher one came later, and stay.
    pub next_number: u32,
    /// The life of the index to which the numbers of packs belong.
    pub life: Option<Vec<u8>>,
    /// Whether packs may go that are kept for pushes which have not ended.
    pub ends_pushes: bool,
    /// Frames that key holders have moved. If a later filter finds something live in a moved frame, the frame counts as
    /// not moved.
    pub moved: MovedFrames,
    /// The live frames of each pack.
    live: Frames,
    /// The first bytes of ids for which filters came, and what these have cost.
    pub scans: ScanBudget,
    counts: ChunkCounts,
}

impl Marks {
    pub fn new(prune: u64, generation: u64, next_number: u32, life: Option<Vec<u8>>, ends_pushes: bool) -> Self {
        Self {
            prune,
            generation,
            next_number,
            life,
            ends_pushes,
            moved: MovedFrames::default(),
            live: HashMap::new(),
            scans: ScanBudget::default(),
            counts: ChunkCounts::default(),
        }
    }

    /// Counts a chunk as dead.
    pub fn count_dead(&mut self, (pack, frame): FrameAddress) {
        self.counts.add_dead(pack, frame);
    }

    /// Marks a frame, because a chunk in it is live. `was_seen` tells whether a filter came before for the chunk's
    /// first byte; that filter called the chunk dead. `frames` returns how many frames the pack has.
    pub fn mark(
        &mut self,
        (pack, frame): FrameAddress,
        was_seen: bool,
        frames: impl FnOnce() -> Result<u32>,
    ) -> Result<()> {
        if was_seen {
            self.counts.remove_dead(pack, frame);
        }
        self.moved.forget(pack, frame);
        let bits = match self.live.entry(pack) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(FrameBits::none(frames()? as usize)),
        };
        if bits.has(frame) {
            self.counts.add_live(pack, frame);
        }
        bits.set(frame);
        Ok(())
    }

    /// Fails unless filters came for all ids.
    pub fn expect_complete(&self) -> Result<()> {
        match self.scans.is_complete() {
            true => Ok(()),
            false => Err(Error::Invalid("a prune must first say of all ids whether they are live".into())),
        }
    }

    /// Whether something in a frame is live that is needed there. `gone` are frames that were moved to other packs or
    /// are not needed for another reason.
    pub fn is_live(&self, pack: u32, frame: u32, gone: &Frames) -> bool {
        let has = |frames: &Frames| frames.get(&pack).is_some_and(|bits| bits.has(frame));
        has(&self.live) && !has(gone)
    }

    /// How much of a pack is live, by its frames. `gone` are the frames that are not needed, `moved` those among them
    /// that a key holder has written again.
    pub fn usage(&self, number: u32, row: &PackRow, gone: &Frames, moved: &Frames) -> PackUse {
        let (client, kind) = (row.client, row.kind);
        let must_rewrite = moved.get(&number).is_some_and(|bits| !bits.is_empty());
        let mut used = PackUse { number, client, kind, live: 0, dead: 0, mixed: 0, reframed: 0, must_rewrite };
        for frame in 0..row.frames() {
            let len = row.frame(frame).map_or(0, |(_, len)| u64::from(len));
            match self.is_live(number, frame, gone) {
                true => used.live += len,
                false => used.dead += len,
            }
        }
        used
    }

    /// About how many bytes of a pack are dead and share frames with live chunks.
    pub fn mixed_bytes(&self, number: u32, row: &PackRow, gone: &Frames) -> u64 {
        let live = (0..row.frames()).filter(|frame| self.is_live(number, *frame, gone));
        live.map(|frame| self.dead_bytes(number, frame, row.frame(frame).map_or(0, |(_, len)| len.into()))).sum()
    }

    /// About how many bytes of a live frame are dead.
    pub fn dead_bytes(&self, pack: u32, frame: u32, len: u64) -> u64 {
        self.counts.dead_bytes(pack, frame, len)
    }

    /// The live frames of a pack that are worth opening, with their lengths.
    pub fn worth_opening<'a>(
        &'a self,
        number: u32,
        row: &'a PackRow,
        moved: &'a Frames,
    ) -> impl Iterator<Item = (u32, u64)> + 'a {
        (0..row.frames())
            .filter(move |frame| self.is_live(number, *frame, moved) && self.counts.is_worth_opening(number, *frame))
            .map(|frame| (frame, row.frame(frame).map_or(0, |(_, len)| u64::from(len))))
    }
}
