//! The words in which log, index, prunes and repairs say what is lost.
//!
//! **Quarantine** is where frames are that are damaged beyond mending. They are not live: nobody is told that they are stored, clients hear
//! that they are lost, and whoever has the same chunks stores them anew. Their bytes stay where they are, as the last hope of
//! those who read, until somebody has them dropped (`bkfs repair packs`). Only what the store has found by itself goes into quarantine: spans
//! of a pack that do not have the hashes which the pack's id vouches for. Whoever reads can ask it to look
//! (`Access::mend`), and cannot tell it what to find.

use minicbor::{Decode, Encode};

use crate::base::id::{ChunkId, PackId};

/// Some frames of a pack, a bit each, the first in the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct FrameBits(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl FrameBits {
    /// No frame, of so many.
    pub fn none(frames: usize) -> Self {
        Self(vec![0; frames.div_ceil(8)])
    }

    /// From stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The bytes to be stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a frame is in it.
    pub fn has(&self, frame: u32) -> bool {
        self.0.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1)
    }

    /// Puts a frame in, if there is room for it.
    pub fn set(&mut self, frame: u32) {
        if let Some(byte) = self.0.get_mut(frame as usize / 8) {
            *byte |= 1 << (frame % 8);
        }
    }

    /// How many frames are in it.
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// The frames in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.0.len() as u32 * 8).filter(|frame| self.has(*frame))
    }

    /// The frames of both.
    pub fn with(mut self, other: &Self) -> Self {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(one, other)| *one |= other);
        self
    }

    /// Whether no frame is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// Chunks that lost their last live copy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Lost {
    /// Just these; none if empty.
    #[n(0)]
    Ids(#[n(0)] Vec<ChunkId>),
    /// Nobody can tell: whatever a client believes to be stored must be asked again.
    #[n(1)]
    Everything,
}

/// The frames of one pack that are in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Quarantined {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Which of its frames.
    #[n(1)]
    pub frames: DamagedFrames,
}

/// Some frames of a pack, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum DamagedFrames {
    /// All, or nobody can tell which: there is no parity by which damage could be placed.
    #[n(0)]
    All,
    /// Just these.
    #[n(1)]
    Frames(#[n(0)] FrameBits),
}

impl DamagedFrames {
    /// Whether a frame is among them.
    pub fn has(&self, frame: u32) -> bool {
        match self {
            DamagedFrames::All => true,
            DamagedFrames::Frames(frames) => frames.has(frame),
        }
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        matches!(self, DamagedFrames::Frames(frames) if frames.is_empty())
    }

    /// These and others.
    pub fn with(self, others: &Self) -> Self {
        match (self, others) {
            (DamagedFrames::Frames(one), DamagedFrames::Frames(other)) => DamagedFrames::Frames(one.with(other)),
            _ => DamagedFrames::All,
        }
    }

    /// How many frames of so many.
    pub fn count(&self, frames: u32) -> u32 {
        (0..frames).filter(|frame| self.has(*frame)).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(frames: &[u32]) -> DamagedFrames {
        let mut bits = FrameBits::none(12);
        frames.iter().for_each(|frame| bits.set(*frame));
        DamagedFrames::Frames(bits)
    }

    #[test]
    fn frames_are_joined_and_counted() {
        let both = some(&[1, 9]).with(&some(&[2]));
        assert_eq!((both.count(12), both.has(9), both.has(3), both.is_empty()), (3, true, false, false));
        assert_eq!(both.with(&DamagedFrames::All), DamagedFrames::All);
        assert_eq!(DamagedFrames::All.with(&some(&[])), DamagedFrames::All);
        assert!(some(&[]).is_empty() && !DamagedFrames::All.is_empty() && DamagedFrames::All.has(70_000));
        // Of different lengths, as where a frame's number is beyond what was known before.
        let short = DamagedFrames::Frames(FrameBits::none(1));
        assert_eq!(short.with(&some(&[11])).count(12), 1);
    }

    #[test]
    fn bits_beyond_the_end_are_not_there() {
        let mut bits = FrameBits::none(9);
        bits.set(8);
        bits.set(400);
        assert!(bits.has(8) && !bits.has(0) && !bits.has(400) && !bits.is_empty());
        assert_eq!(bits.as_bytes(), [0, 1]);
    }
}
