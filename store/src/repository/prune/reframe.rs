//! Frames in which some chunks are dead and others live. The store cannot open them. It counts chunks, and tells a key
//! holder which frames are worth writing again. The key holder reports what it wrote into other packs.
//!
//! Whether a frame counts as dead does not depend on the counts: it follows from what the key holder says of each
//! chunk, and from the copies of each chunk in the index ([`Marker::moved_frames`]).

use std::collections::{HashMap, HashSet};

use super::{
    caller::Caller,
    marking::{Marker, marks_of},
    marks::{Frames, Marks},
    moved::{FrameRanges, MovedFrames},
    plan::choose,
};
use crate::{
    access::{IDS_MAX, MixedFrame, MovedFrame, PruneLimits, PruneReply},
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::loss::FrameBits,
    repository::{index::LostChunks, limits},
};

impl Marker {
    /// Frames of those packs that are worth writing again once the live chunks of these frames are in other packs.
    pub fn mixed_frames(
        &self,
        prune: u64,
        limits: &PruneLimits,
        bytes: u64,
        caller: Caller<'_>,
    ) -> Result<Vec<MixedFrame>> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        let (pinned, condemned) = (self.pinned_packs(marks)?, self.condemned()?);
        let moved = self.moved_frames(marks, caller)?;
        let mut uses = Vec::new();
        self.index.packs().each(&mut |number, row| {
            let is_kept = pinned.contains_key(&number) || condemned.contains_key(&row.id);
            if number < marks.next_number && !is_kept {
                let mut used = marks.usage(number, &row, &moved, &moved);
                for (frame, len) in marks.worth_opening(number, &row, &moved) {
                    used.reframed += len;
                    used.mixed += marks.dead_bytes(number, frame, len);
                }
                uses.push(used);
            }
        })?;
        let chosen: HashSet<u32> = choose(&uses, limits, bytes).repack.into_iter().collect();
        let (mut frames, mut chunks) = (Vec::new(), 0);
        for used in uses.iter().filter(|used| used.reframed > 0 && chosen.contains(&used.number)) {
            caller.expect_there()?;
            let Some(row) = self.index.packs().row(used.number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else { continue };
            for (frame, _) in marks.worth_opening(used.number, &row, &moved) {
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

    /// Notes what a key holder has written into other packs. Refuses the request if it names a frame or a chunk that
    /// does not exist. The table of each pack is read for that.
    pub fn note_moved(&self, prune: u64, frames: &[MovedFrame], caller: Caller<'_>) -> Result<PruneReply> {
        limits::check_count(frames.len(), IDS_MAX)?;
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        // However the request mixes packs, each table is read once. What is said last of a frame still counts.
        let mut frames: Vec<&MovedFrame> = frames.iter().collect();
        frames.sort_by_key(|claim| claim.pack);
        for frames in frames.chunk_by(|a, b| a.pack == b.pack) {
            caller.expect_there()?;
            let pack = frames[0].pack;
            let number = self.index.packs().number_of(&pack)?.filter(|number| *number < marks.next_number);
            let known = number.map(|number| Ok((number, self.index.packs().row(number)?))).transpose()?;
            let Some((number, Some(row))) = known else {
                return Err(Error::Invalid(format!("pack {pack} did not exist when the prune began, or is gone")));
            };
            if let Some(claim) = frames.iter().find(|claim| claim.frame >= row.frames()) {
                let (frame, count) = (claim.frame, row.frames());
                return Err(Error::Invalid(format!("pack {pack} has {count} frames, and no frame {frame}")));
            }
            let Ok(table) = self.files.table(row.id, row.len) else {
                tracing::warn!(%pack, "frames of a damaged pack do not count as moved");
                continue;
            };
            let ranges = FrameRanges::of(&table);
            frames.iter().try_for_each(|claim| MovedFrames::check(claim, &ranges))?;
            frames.iter().for_each(|claim| marks.moved.note(number, claim, &ranges));
        }
        Ok(PruneReply::Done)
    }

    /// Those of the moved frames in which each live chunk has another copy, on which everybody may rely who may rely on
    /// the frame, in a pack that came after the prune began and so is not touched by it.
    pub(super) fn moved_frames(&self, marks: &Marks, caller: Caller<'_>) -> Result<Frames> {
        let (mut found, mut remembered, domains) = (HashMap::new(), LostChunks::default(), self.log.domains()?);
        let is_taken = |pack: u32, _: u32| pack < marks.next_number;
        for number in marks.moved.packs() {
            caller.expect_there()?;
            let Some(row) = self.index.packs().row(number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else { continue };
            let (mut bits, ranges) = (FrameBits::none(table.frames.len()), FrameRanges::of(&table));
            for (frame, live) in marks.moved.of_pack(number, &ranges) {
                let Some(entry) = table.frames.get(frame as usize) else { continue };
                let live: Vec<ChunkId> = live.iter().filter_map(|n| entry.ids.get(*n)).copied().collect();
                let is_lost = self.index.chunks().lost(&live, &is_taken, &domains, &mut remembered)?;
                // A key holder that names no live chunk of a live frame has not looked at the frame.
                if !live.is_empty() && !is_lost.contains(&true) {
                    bits.set(frame);
                }
            }
            found.insert(number, bits);
        }
        Ok(found)
    }
}
