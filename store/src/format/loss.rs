//! The types in which log, index, prunes and repairs record what is lost.
//!
//! **Quarantine** holds the frames that are damaged beyond mending. They are not live: the store no longer reports them
//! as stored, it tells clients that they are lost, and the next client that has the same chunks stores them again.
//! Their bytes stay in place, as a last resort for readers, until `bkfs repair packs` drops them. Only damage that the
//! store has found itself leads to quarantine: spans of a pack that do not have the hashes that the pack's id vouches
//! for. A client can ask the store to verify a pack, but it cannot tell the store what is damaged.

use minicbor::{Decode, Encode};

use crate::base::id::{ChunkId, PackId};

/// A set of frames of a pack: one bit each. The first frame is the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct FrameBits(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>);

impl FrameBits {
    /// Returns an empty set for a pack of `frames` frames.
    pub fn none(frames: usize) -> Self {
        Self(vec![0; frames.div_ceil(8)])
    }

    /// Returns the set with these stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the set contains a frame.
    pub fn has(&self, frame: u32) -> bool {
        self.0.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1)
    }

    /// Adds a frame, if its number is within the set's length.
    pub fn set(&mut self, frame: u32) {
        if let Some(byte) = self.0.get_mut(frame as usize / 8) {
            *byte |= 1 << (frame % 8);
        }
    }

    /// Removes a frame.
    pub fn unset(&mut self, frame: u32) {
        if let Some(byte) = self.0.get_mut(frame as usize / 8) {
            *byte &= !(1 << (frame % 8));
        }
    }

    /// Returns how many frames the set contains.
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Returns the frames of the set in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.0.len() as u32 * 8).filter(|frame| self.has(*frame))
    }

    /// Returns the union of both sets.
    pub fn with(mut self, other: &Self) -> Self {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(one, other)| *one |= other);
        self
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

/// Chunks that lost their last live copy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Lost {
    /// Exactly these; possibly none.
    #[n(0)]
    Ids(#[n(0)] Vec<ChunkId>),
    /// It is not known which. Clients must ask again about every chunk that they believe to be stored.
    #[n(1)]
    Everything,
}

/// The frames of one pack that are in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Quarantined {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// The frames.
    #[n(1)]
    pub frames: DamagedFrames,
}

/// The damaged frames of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum DamagedFrames {
    /// All frames, or an unknown part of them: without parity, damage cannot be located.
    #[n(0)]
    All,
    /// Exactly these.
    #[n(1)]
    Frames(#[n(0)] FrameBits),
}

impl DamagedFrames {
    /// Whether a frame is damaged.
    pub fn has(&self, frame: u32) -> bool {
        match self {
            DamagedFrames::All => true,
            DamagedFrames::Frames(frames) => frames.has(frame),
        }
    }

    /// How many bytes the bits of the frames take.
    pub fn bits_len(&self) -> usize {
        match self {
            DamagedFrames::All => 0,
            DamagedFrames::Frames(frames) => frames.as_bytes().len(),
        }
    }

    /// Whether no frame is damaged.
    pub fn is_empty(&self) -> bool {
        matches!(self, DamagedFrames::Frames(frames) if frames.is_empty())
    }

    /// Returns the union of both.
    pub fn with(self, others: &Self) -> Self {
        match (self, others) {
            (DamagedFrames::Frames(one), DamagedFrames::Frames(other)) => DamagedFrames::Frames(one.with(other)),
            _ => DamagedFrames::All,
        }
    }

    /// Returns how many frames are damaged, of a pack of `frames` frames.
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
        // The lengths differ if a frame's number is beyond the length that was known before.
        let short = DamagedFrames::Frames(FrameBits::none(1));
        assert_eq!(short.with(&some(&[11])).count(12), 1);
    }

    #[test]
    fn bits_beyond_the_end_are_not_set() {
        let mut bits = FrameBits::none(9);
        bits.set(8);
        bits.set(400);
        assert!(bits.has(8) && !bits.has(0) && !bits.has(400) && !bits.is_empty());
        assert_eq!(bits.as_bytes(), [0, 1]);
    }
}
