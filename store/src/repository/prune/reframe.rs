//! Frames in which some chunks are dead and others live. The store cannot open them: it counts, tells a key holder which of them are
//! worth it, and is told what was written into other packs.
//!
//! Counts are of chunks, so what they say of bytes is an estimate, and only what is to be done is chosen by them. That a frame counts as dead
//! follows from what the key holder says of each chunk and the index has of each copy ([`Repository::moved_frames`]).

use std::collections::{HashMap, HashSet};

use crate::{
    access::{IDS_MAX, MixedFrame, MovedFrame, PruneLimits, PruneReply},
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::loss::FrameBits,
    repository::prune::plan::choose,
    repository::{Repository, index::PackRow, prune::marking::Marking},
};

/// How many chunks of frames are live and dead, of those packs in which that is more than a bit can say.
#[derive(Default)]
pub(in crate::repository) struct Counts {
    /// Live ones beyond the first.
    more: HashMap<u32, Vec<u16>>,
    dead: HashMap<u32, Vec<u16>>,
}

impl Counts {
    /// Another chunk of a live frame is live.
    pub fn live(&mut self, pack: u32, frame: u32) {
        add(&mut self.more, pack, frame);
    }

    /// A chunk is dead.
    pub fn dead(&mut self, pack: u32, frame: u32) {
        add(&mut self.dead, pack, frame);
    }

    /// A chunk that had been called dead, by a filter that did not hold all, is not.
    pub fn not_dead(&mut self, pack: u32, frame: u32) {
        if let Some(count) = self.dead.get_mut(&pack).and_then(|counts| counts.get_mut(frame as usize)) {
            *count = count.saturating_sub(1);
        }
    }

    /// How many chunks of a live frame are live, and how many dead.
    fn of(&self, pack: u32, frame: u32) -> (u64, u64) {
        let count = |counts: &HashMap<u32, Vec<u16>>| {
            counts.get(&pack).and_then(|counts| counts.get(frame as usize)).map_or(0, |count| u64::from(*count))
        };
        (1 + count(&self.more), count(&self.dead))
    }

    /// About how many bytes of a live frame are dead.
    pub fn dead_bytes(&self, pack: u32, frame: u32, len: u64) -> u64 {
        let (live, dead) = self.of(pack, frame);
        len * dead / (live + dead)
    }

    /// Whether a frame is worth opening: half of it is dead at least. All of it is fetched, and what is live sent again, so of frames of
    /// which more is live much would be moved for little.
    fn is_worth(&self, pack: u32, frame: u32) -> bool {
        let (live, dead) = self.of(pack, frame);
        dead >= live
    }
}

fn add(counts: &mut HashMap<u32, Vec<u16>>, pack: u32, frame: u32) {
    let counts = counts.entry(pack).or_default();
    if counts.len() <= frame as usize {
        counts.resize(frame as usize + 1, 0);
    }
    counts[frame as usize] = counts[frame as usize].saturating_add(1);
}

/// The frames of each pack of which a key holder says that what is live in them is elsewhere, with the chunks that are.
pub(in crate::repository) type Moved = HashMap<u32, HashMap<u32, FrameBits>>;

impl Repository {
    /// Frames of packs that are worth writing again if what is live in those frames is written into others.
    pub(in crate::repository) fn mixed_frames(
        &self,
        prune: u64,
        limits: &PruneLimits,
        bytes: u64,
    ) -> Result<Vec<MixedFrame>> {
        let mut slot = self.marking.lock();
        let marking = super::marking::known(&mut slot, prune)?;
        marking.expect_marked()?;
        let pinned = self.pinned_packs()?;
        let moved = self.moved_frames(marking)?;
        let mut uses = Vec::new();
        self.index.packs().each(&mut |number, row| {
            if number < marking.next_number && !pinned.contains(&number) {
                let mut used = marking.usage(number, &row, &moved);
                for (frame, len) in mixed(marking, number, &row, &moved) {
                    used.reframed += len;
                    used.mixed += marking.counts.dead_bytes(number, frame, len);
                }
                uses.push(used);
            }
        })?;
        let chosen: HashSet<u32> = choose(&uses, limits, bytes).repack.into_iter().collect();
        let (mut frames, mut chunks) = (Vec::new(), 0);
        for used in uses.iter().filter(|used| used.reframed > 0 && chosen.contains(&used.number)) {
            let Some(row) = self.index.packs().row(used.number)? else { continue };
            let Ok(table) = self.table_of(row.id, row.len) else { continue };
            for (frame, _) in mixed(marking, used.number, &row, &moved) {
                let Some(entry) = table.frames.get(frame as usize) else { continue };
                chunks += entry.ids.len();
                if chunks > IDS_MAX && !frames.is_empty() {
                    return Ok(frames);
                }
                let ids = entry.ids.clone();
                frames.push(MixedFrame { pack: row.id, frame, kind: table.kind, len: entry.len, ids });
            }
        }
        Ok(frames)
    }

    /// Takes note of what a key holder has written into other packs.
    pub(in crate::repository) fn note_moved(&self, prune: u64, frames: &[MovedFrame]) -> Result<PruneReply> {
        crate::repository::packs::read::bounded(frames.len())?;
        let mut slot = self.marking.lock();
        let marking = super::marking::known(&mut slot, prune)?;
        marking.expect_marked()?;
        for frame in frames {
            let number = self.index.packs().number_of(&frame.pack)?.filter(|number| *number < marking.next_number);
            let number = number.ok_or_else(|| {
                Error::Invalid(format!("pack {} was not there when the prune began, or is gone", frame.pack))
            })?;
            marking.moved.entry(number).or_default().insert(frame.frame, frame.chunks.clone());
        }
        Ok(PruneReply::Done)
    }

    /// Of the frames that are said to have moved those of which each live chunk has another copy in a pack that came since the
    /// prune began, and so is not touched by it.
    pub(in crate::repository) fn moved_frames(&self, marking: &Marking) -> Result<HashMap<u32, FrameBits>> {
        let mut found = HashMap::new();
        for (number, frames) in &marking.moved {
            let Some(row) = self.index.packs().row(*number)? else { continue };
            let Ok(table) = self.table_of(row.id, row.len) else { continue };
            let mut bits = FrameBits::none(table.frames.len());
            for (frame, chunks) in frames {
                let Some(entry) = table.frames.get(*frame as usize) else { continue };
                let live: Vec<ChunkId> =
                    (0u32..).zip(&entry.ids).filter(|(n, _)| chunks.has(*n)).map(|(_, id)| *id).collect();
                let copied = self.index.chunks().live_elsewhere(&live, &|pack, _| pack < marking.next_number)?;
                // Who says of a live frame that nothing in it is live has not looked at it.
                if !live.is_empty() && !copied.contains(&false) {
                    bits.set(*frame);
                }
            }
            found.insert(*number, bits);
        }
        Ok(found)
    }
}

/// The live frames of a pack that are worth opening, with their lengths.
fn mixed<'a>(
    marking: &'a Marking,
    number: u32,
    row: &'a PackRow,
    moved: &'a HashMap<u32, FrameBits>,
) -> impl Iterator<Item = (u32, u64)> + 'a {
    (0..row.frames())
        .filter(move |frame| marking.is_live(number, *frame, moved) && marking.counts.is_worth(number, *frame))
        .map(|frame| (frame, row.frame(frame).map_or(0, |(_, len)| u64::from(len))))
}
