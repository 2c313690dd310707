//! The frames that a key holder says to have moved, until the store checks that at condemning.
//!
//! Claims cost their sender nothing, so what is kept of them does not grow with their number. A pack takes one bit for
//! each of its frames and one for each of its chunks, in the order of its table, whatever is said of it and however
//! often. All packs together take an eighth of a byte for each stored frame and each stored copy of a chunk at most.

use std::{collections::HashMap, ops::Range};

use crate::{
    access::MovedFrame,
    base::error::{Error, Result},
    format::{loss::FrameBits, pack::PackTable},
};

/// Claims about frames, by the numbers of their packs.
#[derive(Debug, Default)]
pub(super) struct MovedFrames(HashMap<u32, MovedPack>);

/// Claims about the frames of one pack.
#[derive(Debug)]
struct MovedPack {
    /// The frames that have moved.
    frames: FrameBits,
    /// The live chunks of those frames, counted through the pack.
    chunks: FrameBits,
}

/// Which chunks the frames of a pack hold, counted through the pack.
pub(super) struct FrameRanges(Vec<u32>);

impl FrameRanges {
    pub fn of(table: &PackTable) -> Self {
        let mut ends = Vec::with_capacity(table.frames.len() + 1);
        let mut end = 0;
        ends.push(end);
        for frame in &table.frames {
            // A pack holds at most 262,144 chunks.
            end += frame.ids.len() as u32;
            ends.push(end);
        }
        Self(ends)
    }

    fn frames(&self) -> usize {
        self.0.len() - 1
    }

    fn chunks(&self) -> u32 {
        self.0.last().copied().unwrap_or(0)
    }

    /// The chunks of a frame; none if the pack has no such frame.
    fn range(&self, frame: u32) -> Option<Range<u32>> {
        let at = frame as usize;
        Some(*self.0.get(at)?..*self.0.get(at + 1)?)
    }
}

impl MovedFrames {
    /// Fails unless the pack has the frame and the frame has the chunks that a claim names.
    pub fn check(claim: &MovedFrame, ranges: &FrameRanges) -> Result<()> {
        let MovedFrame { pack, frame, chunks } = claim;
        let refuse =
            |why: String| Err(Error::Invalid(format!("frame {frame} of pack {pack} cannot have moved: {why}")));
        let Some(range) = ranges.range(*frame) else {
            return refuse(format!("the pack has {} frames, counted from 0", ranges.frames()));
        };
        let (count, bytes) = (range.end - range.start, chunks.as_bytes());
        let is_beyond = bytes.len() > (count as usize).div_ceil(8)
            || bytes.get(count as usize / 8).is_some_and(|last| u32::from(*last) >> (count % 8) != 0);
        match is_beyond {
            true => refuse(format!("the frame holds {count} chunks, and the request names others")),
            false => Ok(()),
        }
    }

    /// Notes a claim that was [checked](MovedFrames::check), in place of an earlier one about the same frame.
    pub fn note(&mut self, number: u32, claim: &MovedFrame, ranges: &FrameRanges) {
        let Some(range) = ranges.range(claim.frame) else { return };
        let pack = self.0.entry(number).or_insert_with(|| MovedPack {
            frames: FrameBits::none(ranges.frames()),
            chunks: FrameBits::none(ranges.chunks() as usize),
        });
        pack.frames.set(claim.frame);
        for (n, chunk) in (0..).zip(range) {
            match claim.chunks.has(n) {
                true => pack.chunks.set(chunk),
                false => pack.chunks.unset(chunk),
            }
        }
    }

    /// Forgets what was said of a frame.
    pub fn forget(&mut self, number: u32, frame: u32) {
        if let Some(pack) = self.0.get_mut(&number) {
            pack.frames.unset(frame);
        }
    }

    /// The numbers of the packs in which frames are said to have moved.
    pub fn packs(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().filter(|(_, pack)| !pack.frames.is_empty()).map(|(number, _)| *number)
    }

    /// The frames of a pack that are said to have moved, each with the places of its live chunks in the frame.
    pub fn of_pack<'a>(&'a self, number: u32, ranges: &'a FrameRanges) -> impl Iterator<Item = (u32, Vec<usize>)> + 'a {
        let pack = self.0.get(&number);
        pack.into_iter().flat_map(move |pack| {
            pack.frames.iter().filter_map(move |frame| {
                let range = ranges.range(frame)?;
                let live = (0..).zip(range).filter(|(_, chunk)| pack.chunks.has(*chunk)).map(|(n, _)| n).collect();
                Some((frame, live))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::PackId;

    /// Frames with these numbers of chunks.
    fn ranges(counts: &[u32]) -> FrameRanges {
        let ends = counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        FrameRanges([0].into_iter().chain(ends).collect())
    }

    fn claim(frame: u32, bytes: &[u8]) -> MovedFrame {
        MovedFrame { pack: PackId([7; 32]), frame, chunks: FrameBits::from_bytes(bytes) }
    }

    /// Bytes of all bits that are kept.
    fn held(moved: &MovedFrames) -> usize {
        moved.0.values().map(|pack| pack.frames.as_bytes().len() + pack.chunks.as_bytes().len()).sum()
    }

    #[test]
    fn claims_take_no_more_memory_than_the_bits_of_the_packs_own_frames_and_chunks() {
        let (ranges, mut moved) = (ranges(&[9; 1000]), MovedFrames::default());
        for round in 0..100u32 {
            for frame in 0..1000 {
                let claim = claim(frame, &[round as u8, (round % 2) as u8]);
                MovedFrames::check(&claim, &ranges).unwrap();
                moved.note(3, &claim, &ranges);
            }
        }
        // An honest sender never names these, and a check before refuses them.
        (1000..100_000).for_each(|frame| moved.note(3, &claim(frame, &[255; 80]), &ranges));
        assert_eq!(held(&moved), 1000usize.div_ceil(8) + 9000usize.div_ceil(8));
    }

    #[test]
    fn claims_about_frames_and_chunks_that_do_not_exist_are_refused() {
        let ranges = ranges(&[1, 9, 16]);
        let check = |frame, bytes: &[u8]| MovedFrames::check(&claim(frame, bytes), &ranges);
        for (frame, bytes) in [(0, &[][..]), (0, &[1]), (1, &[255]), (1, &[255, 1]), (2, &[255, 255])] {
            check(frame, bytes).unwrap();
        }
        for (frame, bytes) in [(0, &[2][..]), (0, &[1, 0]), (1, &[0, 2]), (2, &[0, 0, 0]), (3, &[]), (u32::MAX, &[1])] {
            assert!(matches!(check(frame, bytes), Err(Error::Invalid(_))), "{frame} {bytes:?}");
        }
    }

    #[test]
    fn what_is_said_last_of_a_frame_counts() {
        let (ranges, mut moved) = (ranges(&[1, 9, 16]), MovedFrames::default());
        moved.note(5, &claim(1, &[0b1010_0001, 1]), &ranges);
        moved.note(5, &claim(2, &[255, 255]), &ranges);
        let found: Vec<_> = moved.of_pack(5, &ranges).collect();
        assert_eq!(found, [(1, vec![0, 5, 7, 8]), (2, (0..16).collect())]);
        moved.note(5, &claim(1, &[2]), &ranges);
        moved.forget(5, 2);
        assert_eq!(moved.of_pack(5, &ranges).collect::<Vec<_>>(), [(1, vec![1])]);
        assert_eq!(moved.packs().collect::<Vec<_>>(), [5]);
        moved.forget(5, 1);
        assert_eq!(moved.packs().count(), 0);
    }
}
