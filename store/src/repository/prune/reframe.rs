//! Frames in which some chunks are dead and others live. The store cannot open them. It counts chunks, and tells a key
//! holder which frames are worth writing again. The key holder reports what it wrote into other packs.
//!
//! Whether a frame counts as dead does not depend on the counts: it follows from what the key holder says of each
//! chunk, and from the copies of each chunk in the index ([`Marker::moved_frames`]).

use std::collections::{HashMap, HashSet};

use super::{
    marking::{Marker, marks_of},
    marks::{Frames, Marks},
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
    pub fn mixed_frames(&self, prune: u64, limits: &PruneLimits, bytes: u64) -> Result<Vec<MixedFrame>> {
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        let (pinned, condemned) = (self.pinned_packs(marks)?, self.condemned()?);
        let moved = self.moved_frames(marks)?;
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

    /// Notes what a key holder has written into other packs.
    pub fn note_moved(&self, prune: u64, frames: &[MovedFrame]) -> Result<PruneReply> {
        limits::check_count(frames.len(), IDS_MAX)?;
        let mut slot = self.marks.lock();
        let marks = marks_of(&mut slot, prune)?;
        marks.expect_complete()?;
        for frame in frames {
            let number = self.index.packs().number_of(&frame.pack)?.filter(|number| *number < marks.next_number);
            let number = number.ok_or_else(|| {
                Error::Invalid(format!("pack {} did not exist when the prune began, or is gone", frame.pack))
            })?;
            marks.moved.entry(number).or_default().insert(frame.frame, frame.chunks.clone());
        }
        Ok(PruneReply::Done)
    }

    /// Those of the moved frames in which each live chunk has another copy, on which everybody may rely who may rely on
    /// the frame, in a pack that came after the prune began and so is not touched by it.
    pub(super) fn moved_frames(&self, marks: &Marks) -> Result<Frames> {
        let (mut found, mut remembered, domains) = (HashMap::new(), LostChunks::default(), self.log.domains()?);
        let is_taken = |pack: u32, _: u32| pack < marks.next_number;
        for (number, frames) in &marks.moved {
            let Some(row) = self.index.packs().row(*number)? else { continue };
            let Ok(table) = self.files.table(row.id, row.len) else { continue };
            let mut bits = FrameBits::none(table.frames.len());
            for (frame, chunks) in frames {
                let Some(entry) = table.frames.get(*frame as usize) else { continue };
                let live: Vec<ChunkId> =
                    (0u32..).zip(&entry.ids).filter(|(n, _)| chunks.has(*n)).map(|(_, id)| *id).collect();
                let is_lost = self.index.chunks().lost(&live, &is_taken, &domains, &mut remembered)?;
                // A key holder that names no live chunk of a live frame has not looked at the frame.
                if !live.is_empty() && !is_lost.contains(&true) {
                    bits.set(*frame);
                }
            }
            found.insert(*number, bits);
        }
        Ok(found)
    }
}
